//! Everything that decisions are about, and the world that they are taken in.
//!
//! Which nodes are there: a cluster's operator says so (the condition `Ready`). In a folder nobody watches Leases, so a node counts
//! as there unless that condition says otherwise; a node whose manifest is gone is lost, and so is what it wore.

use std::collections::BTreeSet;
use std::time::Duration;

use hatrack_api::cluster_node::{WornHat, WornState, condition};
use hatrack_api::{ClusterNode, Hat, HatBinding, HatPolicy, HatPolicySpec, HatSwap};
use hatrack_hats::{Action, Moment, World};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, Time};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::kind::Kind;
use crate::view::nodes::find;

/// The steady clock of a world begins this long before now, so that what is long past has room.
const EPOCH: Duration = Duration::from_hours(24 * 365);

/// Everything that decisions are about, as it was read.
#[derive(Debug, Clone, Default)]
pub struct Society {
    /// The hats.
    pub hats: Vec<Hat>,
    /// The requests for them.
    pub bindings: Vec<HatBinding>,
    /// The records.
    pub swaps: Vec<HatSwap>,
    /// The one policy, if it is there.
    pub policies: Vec<HatPolicy>,
    /// The machines.
    pub nodes: Vec<ClusterNode>,
    /// Whether it is kept in a folder.
    pub is_folder: bool,
}

/// This moment, as worlds count time.
pub fn now() -> Moment {
    Moment { wall: Timestamp::now(), steady: EPOCH }
}

impl Society {
    /// The world at a moment.
    pub fn world(&self, now: Moment) -> World {
        let mut world = World::default();
        for hat in &self.hats {
            world.observe_hat(hat.clone());
        }
        for policy in &self.policies {
            world.observe_policy(policy.clone());
        }
        for swap in &self.swaps {
            world.observe_swap(swap.clone());
        }
        for node in &self.nodes {
            world.observe_node(node.clone(), now.steady.saturating_sub(self.known_for(node, now)));
        }
        for binding in &self.bindings {
            world.observe_binding(accepted(binding.clone()), now.steady);
        }
        self.renew(&mut world, now);
        if self.is_folder {
            self.lose_nodes(&mut world, now);
        }
        world
    }

    /// Every node that is there renews its Lease: time passes in a forecast, and they stay.
    pub fn renew(&self, world: &mut World, now: Moment) {
        for node in self.nodes.iter().filter(|node| self.is_there(node)) {
            world.observe_lease(&renewed(&node.name_any(), now), now.steady);
        }
    }

    /// Whether a node is there.
    fn is_there(&self, node: &ClusterNode) -> bool {
        find(node, condition::READY).map_or(self.is_folder, |ready| ready.status == "True")
    }

    /// For how long a node has been as it is: silence of one that is away; in a folder, where nothing flaps, long enough.
    fn known_for(&self, node: &ClusterNode, now: Moment) -> Duration {
        let ready = find(node, condition::READY).filter(|_| !self.is_there(node));
        match ready {
            Some(ready) => {
                Duration::try_from(now.wall.duration_since(ready.last_transition_time.0)).unwrap_or_default().min(EPOCH)
            }
            None if self.is_folder => EPOCH,
            None => Duration::ZERO,
        }
    }

    fn lose_nodes(&self, world: &mut World, now: Moment) {
        let here: BTreeSet<String> = self.nodes.iter().map(ResourceExt::name_any).collect();
        let carriers = self.bindings.iter().filter_map(|binding| binding.status.as_ref()?.node_name.clone());
        for node in carriers.collect::<BTreeSet<_>>().difference(&here) {
            world.apply(&Action::Fence { node: node.clone(), transitions: 1 }, now.steady);
        }
    }

    /// The limits of the whole cluster.
    pub fn policy(&self) -> Option<&HatPolicySpec> {
        let named = |policy: &&HatPolicy| policy.name_any() == hatrack_api::hat_policy::NAME;
        self.policies.iter().find(named).map(|policy| &policy.spec)
    }
}

/// A manifest that somebody wrote by hand, as an API server would have it: with an identity and a time.
fn accepted(mut binding: HatBinding) -> HatBinding {
    let key = binding.key();
    binding.metadata.uid.get_or_insert(key);
    binding.metadata.creation_timestamp.get_or_insert_with(|| Time(Timestamp::now()));
    binding
}

fn renewed(node: &str, now: Moment) -> Lease {
    let spec = LeaseSpec { renew_time: Some(MicroTime(now.wall)), ..LeaseSpec::default() };
    Lease { metadata: ObjectMeta { name: Some(node.to_owned()), ..ObjectMeta::default() }, spec: Some(spec) }
}

/// What an agent that does at once what it is told reports of a node's hats, except of those that `runs` says still run.
pub fn obeyed(node: &ClusterNode, now: Timestamp, runs: impl Fn(&str) -> bool) -> Vec<WornHat> {
    let status = node.status.as_ref();
    let assigned = status.and_then(|status| status.hats.as_deref()).unwrap_or_default();
    let before = status.and_then(|status| status.worn.as_deref()).unwrap_or_default();
    let report = |hat: &hatrack_api::cluster_node::HatAssignment| {
        let state = match (hat.is_worn(), runs(&hat.binding)) {
            (true, _) => WornState::Running,
            (false, true) => WornState::Stopping,
            (false, false) => WornState::Stopped,
        };
        let same = before.iter().find(|worn| worn.binding == hat.binding && worn.state == state);
        let new = || WornHat { binding: hat.binding.clone(), state, since: Time(now), message: String::new() };
        same.cloned().unwrap_or_else(new)
    };
    assigned.iter().map(report).collect()
}
