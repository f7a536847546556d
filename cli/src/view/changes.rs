//! What changed about a node, in words that can stand in a log.

use std::collections::BTreeMap;

use hatrack_api::ClusterNode;
use hatrack_api::cluster_node::{Device, Summary};

use super::nodes::{status, trouble};

/// Devices whose changes are told one by one; of more, only how many.
const DEVICES_TOLD: usize = 3;

/// The differences that a person wants to hear of; empty when there are none.
pub fn between(old: &ClusterNode, new: &ClusterNode) -> String {
    let mut changes = Vec::new();
    changes.extend(changed("", &status(old), &status(new)));
    changes.extend(changed("class ", old.spec.class.as_str(), new.spec.class.as_str()));
    let (before, after) = (summary(old), summary(new));
    changes.extend(changed("GPUs ", word(before.gpus.as_ref()), word(after.gpus.as_ref())));
    changes.extend(changed("phones ", word(before.phones.as_ref()), word(after.phones.as_ref())));
    changes.extend(changed("accelerators ", word(before.accelerators.as_ref()), word(after.accelerators.as_ref())));
    changes.extend(changed("hats ", word(before.hats.as_ref()), word(after.hats.as_ref())));
    changes.extend(devices(old, new));
    let trouble_now = trouble(new);
    if changes.is_empty() && trouble(old) != trouble_now {
        changes.push(if trouble_now.is_empty() { "no trouble any more".to_owned() } else { trouble_now });
    }
    changes.join("; ")
}

fn changed(what: &str, old: &str, new: &str) -> Option<String> {
    (old != new).then(|| format!("{what}{old} -> {new}"))
}

fn summary(node: &ClusterNode) -> Summary {
    node.status.as_ref().and_then(|status| status.summary.clone()).unwrap_or_default()
}

fn word(text: Option<&String>) -> &str {
    text.map(String::as_str).filter(|text| !text.is_empty()).unwrap_or("none")
}

fn devices(old: &ClusterNode, new: &ClusterNode) -> Vec<String> {
    let (before, after) = (by_name(old), by_name(new));
    let mut told = Vec::new();
    for (name, device) in &after {
        let now = health(device);
        match before.get(name) {
            None => told.push(format!("new: {name} {now}")),
            Some(was) if was.health.state != device.health.state || was.health.reason != device.health.reason => {
                told.push(format!("{name} {} -> {now}", health(was)));
            }
            Some(_) => {}
        }
    }
    told.extend(before.keys().filter(|name| !after.contains_key(*name)).map(|name| format!("gone: {name}")));
    let more = told.len().saturating_sub(DEVICES_TOLD);
    told.truncate(DEVICES_TOLD);
    if more > 0 {
        told.push(format!("{more} more devices"));
    }
    told
}

fn by_name(node: &ClusterNode) -> BTreeMap<&str, &Device> {
    let devices = node.status.as_ref().and_then(|status| status.devices.as_deref()).unwrap_or_default();
    devices.iter().map(|device| (device.name.as_str(), device)).collect()
}

fn health(device: &Device) -> String {
    format!("{} ({})", device.health.state, device.health.reason)
}
