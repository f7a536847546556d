//! Machines with an agent each: they wear what they are told, stop by themselves when they are cut off, and lose devices.

use std::collections::BTreeMap;
use std::time::Duration;

use fastrand::Rng;
use hatrack_api::ClusterNode;
use hatrack_api::cluster_node::{Device, HatAssignment, WornHat, WornState};
use hatrack_hats::{Moment, Uid};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use serde_json::json;

use crate::cluster::Cluster;

/// What a machine runs, whatever anybody believes.
pub struct Machine {
    alive: bool,
    connected: bool,
    /// `leaseTransitions` that it knows.
    transitions: i32,
    renewed: Duration,
    pub running: BTreeMap<Uid, HatAssignment>,
    /// What it has reported and not yet forgotten.
    reported: BTreeMap<Uid, WornState>,
    devices: Vec<Device>,
    /// Names of the devices that are unplugged now.
    unplugged: Vec<String>,
}

impl Machine {
    pub fn join(cluster: &mut Cluster, name: &str, rng: &mut Rng) {
        let device = |class: &str, index: u32| -> Device {
            let model = if class == "gpu" { "L4" } else { "SM-F721U" };
            let value = json!({"name": format!("{class}-{index}"), "class": class, "attributes": {"model": {"string": model}},
                "capacity": {"memory": {"value": "8Gi"}}, "health": {"state": "Ready", "reason": "Fine"}});
            serde_json::from_value(value).unwrap()
        };
        let gpus = (0..rng.u32(0..3)).map(|index| device("gpu", index));
        let phones = (0..rng.u32(0..4)).map(|index| device("phone", index));
        let devices: Vec<Device> = gpus.chain(phones).collect();
        let spec = serde_json::from_value(json!({"class": "worker"})).unwrap();
        cluster.put_node(ClusterNode::new(name, spec));
        let machine = Self {
            alive: true,
            connected: true,
            transitions: 0,
            renewed: cluster.now.steady,
            running: BTreeMap::new(),
            reported: BTreeMap::new(),
            devices,
            unplugged: vec![],
        };
        cluster.machines.insert(name.to_owned(), machine);
        work(cluster, name, 0);
    }

    /// Without the API a hat ends at its expiry or after the grace that it came with.
    fn stop_alone(&mut self, now: Moment) {
        let silent = now.steady.saturating_sub(self.renewed);
        self.running.retain(|_, hat| {
            let grace = u64::try_from(hat.grace_seconds.unwrap()).unwrap();
            let expired = hat.expires_at.as_ref().is_some_and(|ends| ends.0 <= now.wall);
            silent.as_secs() < grace && !expired
        });
    }
}

/// Fate, then every agent.
pub fn act(cluster: &mut Cluster, rng: &mut Rng) {
    let names: Vec<String> = cluster.machines.keys().cloned().collect();
    for name in &names {
        strike(cluster, name, rng);
        work(cluster, name, rng.u32(0..100));
    }
}

fn strike(cluster: &mut Cluster, name: &str, rng: &mut Rng) {
    let machine = cluster.machines.get_mut(name).unwrap();
    match rng.u32(0..300) {
        0..4 => {
            machine.alive = false;
            machine.running.clear();
            machine.reported.clear();
        }
        4..10 => machine.connected = false,
        10..50 => {
            machine.alive = true;
            machine.connected = true;
        }
        50..65 => {
            let present: Vec<String> = machine.devices.iter().map(|device| device.name.clone()).collect();
            machine.unplugged.extend(rng.choice(present));
        }
        65..120 => machine.unplugged.clear(),
        120..124 => {
            let cordon = rng.bool();
            cluster.change_node(name, |node| node.spec.unschedulable = Some(cordon));
        }
        124..127 => _ = cluster.guarded.insert(name.to_owned()),
        127..130 => _ = cluster.guarded.remove(name),
        _ => {}
    }
}

/// One round of an agent. `luck` decides what it does not get round to.
fn work(cluster: &mut Cluster, name: &str, luck: u32) {
    let now = cluster.now;
    let transitions = cluster.leases.get(name).and_then(|lease| lease.spec.as_ref()?.lease_transitions).unwrap_or(0);
    let assigned = cluster.nodes[name].status.as_ref().and_then(|status| status.hats.clone()).unwrap_or_default();
    let machine = cluster.machines.get_mut(name).unwrap();
    if !machine.alive {
        return;
    }
    machine.stop_alone(now);
    if !machine.connected || luck >= 97 {
        return;
    }
    if machine.transitions != transitions {
        // The fence: stop every hat, then renew.
        machine.running.clear();
        machine.transitions = transitions;
    }
    machine.renewed = now.steady;
    if luck < 90 {
        follow(machine, &assigned, luck);
    }
    let unplugged = machine.unplugged.clone();
    let devices: Vec<Device> =
        machine.devices.iter().filter(|device| !unplugged.contains(&device.name)).cloned().collect();
    let since = Time("2026-01-01T00:00:00Z".parse().unwrap());
    let worn = machine.reported.iter().map(|(uid, state)| WornHat {
        binding: uid.clone(),
        state: *state,
        since: since.clone(),
        message: String::new(),
    });
    let worn: Vec<WornHat> = worn.collect();
    renew(cluster, name, now);
    let status = cluster.nodes[name].status.clone().unwrap_or_default();
    if status.devices.as_ref() != Some(&devices) || status.worn.as_ref() != Some(&worn) {
        cluster.change_node(name, |node| {
            let status = node.status.get_or_insert_default();
            status.devices = Some(devices);
            status.worn = Some(worn);
        });
    }
}

fn renew(cluster: &mut Cluster, name: &str, now: Moment) {
    let nanos = i128::try_from(now.steady.as_nanos()).unwrap();
    let time = MicroTime(jiff::Timestamp::from_nanosecond(nanos).unwrap());
    cluster.change_lease(name, |lease| lease.spec.get_or_insert_default().renew_time = Some(time));
}

/// Starts what is assigned, stops what is not; a stop may take more than a round.
fn follow(machine: &mut Machine, assigned: &[HatAssignment], luck: u32) {
    for hat in assigned {
        if hat.is_worn() {
            machine.running.insert(hat.binding.clone(), hat.clone());
            machine.reported.insert(hat.binding.clone(), WornState::Running);
        } else if luck < 45 || !machine.running.contains_key(&hat.binding) {
            machine.running.remove(&hat.binding);
            machine.reported.insert(hat.binding.clone(), WornState::Stopped);
        } else {
            machine.reported.insert(hat.binding.clone(), WornState::Stopping);
        }
    }
    let is_assigned = |uid: &Uid| assigned.iter().any(|hat| hat.binding == *uid);
    if luck < 45 {
        machine.running.retain(|uid, _| is_assigned(uid));
    }
    let running: Vec<Uid> = machine.running.keys().cloned().collect();
    machine.reported.retain(|uid, _| is_assigned(uid) || running.contains(uid));
    for uid in running.iter().filter(|uid| !is_assigned(uid)) {
        machine.reported.insert(uid.clone(), WornState::Stopping);
    }
}

/// A calm round: who can, catches up.
pub fn settle(cluster: &mut Cluster) {
    let names: Vec<String> = cluster.machines.keys().cloned().collect();
    for name in names {
        work(cluster, &name, 0);
    }
}

/// Everything is plugged in, on, and connected, and nobody refuses anything.
pub fn heal(cluster: &mut Cluster) {
    cluster.guarded.clear();
    for machine in cluster.machines.values_mut() {
        machine.alive = true;
        machine.connected = true;
        machine.unplugged.clear();
    }
}
