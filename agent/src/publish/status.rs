//! The part of the status that is the agent's.

use hatrack_api::ClusterNodeStatus;
use hatrack_api::cluster_node::{ClusterNode, ClusterNodeSpec, Summary, WornHat, condition as kind};
use hatrack_discover::condition::{self, Declared};
use hatrack_discover::inventory::Inventory;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// What the status should say. Times of conditions whose status stays are taken from `node`.
pub fn desired(
    name: &str,
    inventory: &Inventory,
    node: &ClusterNode,
    worn: &[WornHat],
    declared: Declared,
    now: Timestamp,
) -> ClusterNodeStatus {
    let spec: &ClusterNodeSpec = &node.spec;
    let generation = node.metadata.generation;
    let before = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let verdicts = condition::verdicts(name, inventory, spec, Some(declared));
    ClusterNodeStatus {
        identity: Some(inventory.identity.clone()),
        system: Some(inventory.system.clone()),
        devices: Some(inventory.devices.clone()),
        storage: Some(inventory.storage.clone()),
        interfaces: Some(inventory.interfaces.clone()),
        hats: None,
        worn: (!worn.is_empty()).then(|| worn.to_vec()),
        summary: Some(inventory.summary()),
        conditions: Some(condition::timed(verdicts, before, generation, &Time(in_seconds(now)))),
        observed_generation: generation,
    }
}

/// The API server keeps whole seconds.
fn in_seconds(time: Timestamp) -> Timestamp {
    Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// What of a status is the agent's to write.
pub fn ours(status: &ClusterNodeStatus) -> ClusterNodeStatus {
    let is_ours =
        |condition: &&Condition| [kind::DEVICES_HEALTHY, kind::AS_EXPECTED].contains(&condition.type_.as_str());
    let conditions = status.conditions.iter().flatten().filter(is_ours).cloned().collect();
    let summary = status.summary.clone().map(|summary| Summary { hats: None, ..summary });
    ClusterNodeStatus { hats: None, summary, conditions: Some(conditions), ..status.clone() }
}

/// Whether two say the same. An empty list is an absent one, and the order of conditions says nothing.
pub fn same(a: &ClusterNodeStatus, b: &ClusterNodeStatus) -> bool {
    normal(a.clone()) == normal(b.clone())
}

fn normal(mut status: ClusterNodeStatus) -> ClusterNodeStatus {
    fn unless_empty<T>(list: Option<Vec<T>>) -> Option<Vec<T>> {
        list.filter(|list| !list.is_empty())
    }
    status.devices = unless_empty(status.devices);
    status.storage = unless_empty(status.storage);
    status.interfaces = unless_empty(status.interfaces);
    status.worn = unless_empty(status.worn);
    status.conditions = unless_empty(status.conditions);
    if let Some(conditions) = &mut status.conditions {
        conditions.sort_by(|a, b| a.type_.cmp(&b.type_));
    }
    status
}
