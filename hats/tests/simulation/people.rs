//! People: they ask, often all at once, vouch, judge, leave, lose statuses, and change the catalogue.

use fastrand::Rng;
use hatrack_api::{Hat, HatBinding};
use hatrack_hats::Uid;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;

use crate::cluster::{Cluster, policy, spiffe};

const WEARERS: u32 = 6;
const MOST_BINDINGS: usize = 40;

pub fn act(cluster: &mut Cluster, rng: &mut Rng) {
    match rng.u32(0..100) {
        0..30 => {
            for _ in 0..rng.u32(1..5) {
                ask(cluster, rng);
            }
        }
        30..50 => on_some(cluster, rng, |cluster, uid, _| delete(cluster, uid)),
        50..75 => on_some(cluster, rng, cosign),
        75..88 => on_some(cluster, rng, judge),
        88..94 => turn_the_supervisors(cluster, rng),
        94 => on_some(cluster, rng, |cluster, uid, _| cluster.change_binding(uid, |binding| binding.status = None)),
        95..97 => {
            if cluster.policy.is_some() {
                cluster.drop_policy();
            } else {
                cluster.put_policy(policy());
            }
        }
        _ => drop_and_restore(cluster, rng),
    }
}

fn on_some(cluster: &mut Cluster, rng: &mut Rng, act: fn(&mut Cluster, &Uid, &mut Rng)) {
    let uids: Vec<Uid> = cluster.bindings.keys().cloned().collect();
    if let Some(uid) = rng.choice(&uids) {
        act(cluster, uid, rng);
    }
}

fn ask(cluster: &mut Cluster, rng: &mut Rng) {
    let hats: Vec<String> = cluster.hats.keys().cloned().collect();
    let Some(hat) = rng.choice(&hats) else { return };
    if cluster.bindings.len() >= MOST_BINDINGS {
        return;
    }
    cluster.asked += 1;
    let uid = format!("uid-{:05}", cluster.asked);
    let name = format!("w{}", rng.u32(0..WEARERS));
    // Now and then somebody claims to be somebody else.
    let account = if rng.u32(0..25) == 0 { "mallory".to_owned() } else { name.clone() };
    let spec = json!({"hat": hat, "wearer": {"spiffeID": spiffe(&name),
        "serviceAccountRef": {"name": account, "namespace": "default"}}});
    let mut binding = HatBinding::new(&uid, serde_json::from_value(spec).unwrap());
    binding.metadata.namespace = Some("default".to_owned());
    binding.metadata.uid = Some(uid.clone());
    binding.metadata.creation_timestamp = Some(Time(cluster.now.wall));
    cluster.put_binding(&uid, binding);
}

fn delete(cluster: &mut Cluster, uid: &Uid) {
    let now = Time(cluster.now.wall);
    cluster.change_binding(uid, |binding| {
        binding.metadata.deletion_timestamp.get_or_insert(now);
    });
}

fn cosign(cluster: &mut Cluster, uid: &Uid, rng: &mut Rng) {
    let signer = spiffe(&format!("w{}", rng.u32(0..WEARERS)));
    let entry = serde_json::from_value(json!({"spiffeID": signer})).unwrap();
    cluster.change_binding(uid, |binding| binding.spec.cosigned_by.push(entry));
}

fn judge(cluster: &mut Cluster, uid: &Uid, rng: &mut Rng) {
    let action = rng.choice(["Probation", "Restore", "Restore", "Revoke"]).unwrap();
    let by = if rng.u32(0..10) == 0 { cluster.bindings[uid].spec.wearer.spiffe_id.clone() } else { spiffe("boss") };
    let verdict = json!({"by": by, "action": action, "at": cluster.now.wall.to_string()});
    let verdict = serde_json::from_value(verdict).unwrap();
    cluster.change_binding(uid, |binding| binding.spec.verdicts.push(verdict));
}

/// `above` supervises `below`, and now and then the other way round too.
fn turn_the_supervisors(cluster: &mut Cluster, rng: &mut Rng) {
    if let Some(mut below) = cluster.hats.get("below").cloned() {
        below.spec.supervises = if rng.bool() { vec!["above".to_owned()] } else { vec![] };
        cluster.put_hat(below);
    }
}

fn drop_and_restore(cluster: &mut Cluster, rng: &mut Rng) {
    let name = rng.choice(["plain", "free"]).unwrap();
    match cluster.drop_hat(name) {
        // It comes back at once or with the next turn, and the operator may never see it gone.
        Some(hat) if rng.bool() => cluster.put_hat(hat),
        Some(_) => {}
        None => {
            let spec = json!({"authority": {"rules": [{"verbs": ["get"], "resources": ["pods"]}]},
                "throttles": {"warmupSeconds": 30, "cooldownSeconds": 600}});
            cluster.put_hat(Hat::new(name, serde_json::from_value(spec).unwrap()));
        }
    }
}

/// Everybody takes everything off.
pub fn leave(cluster: &mut Cluster) {
    if cluster.policy.is_none() {
        cluster.put_policy(policy());
    }
    let uids: Vec<Uid> = cluster.bindings.keys().cloned().collect();
    for uid in uids {
        delete(cluster, &uid);
    }
}
