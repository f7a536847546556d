//! Hats of an imagined cluster, and who asks for them.

use std::path::Path;

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::samples;

const VERSION: &str = "society.zeta.io/v1alpha1";

/// A time so many hours and a half ago, so that its age in whole hours is the same for as long as a test runs.
fn before(hours: i64) -> String {
    minutes_before(60 * hours + 30)
}

/// The same to come.
fn after(hours: i64) -> String {
    minutes_before(-60 * hours - 30)
}

fn minutes_before(minutes: i64) -> String {
    let time = Timestamp::now().checked_sub(SignedDuration::from_mins(minutes)).unwrap();
    Timestamp::from_second(time.as_second()).unwrap().to_string()
}

pub fn spiffe(account: &str) -> String {
    format!("spiffe://cluster.local/ns/farm/sa/{account}")
}

pub fn hat(name: &str, spec: Value) -> Value {
    let mut whole = json!({"authority": {"rules": [{"verbs": ["get", "list"], "resources": ["pods"]}]}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"apiVersion": VERSION, "kind": "Hat", "metadata": {"name": name}, "spec": whole})
}

pub fn policy() -> Value {
    json!({"apiVersion": VERSION, "kind": "HatPolicy", "metadata": {"name": "default"},
        "spec": {"throttles": {"warmupSeconds": 0, "cooldownSeconds": 0}, "identities": [
            {"user": "ada", "spiffeID": "spiffe://cluster.local/people/ada"},
            {"user": "bob", "spiffeID": "spiffe://cluster.local/people/bob"}]}})
}

pub fn binding(name: &str, hat: &str, account: &str, status: Value) -> Value {
    json!({"apiVersion": VERSION, "kind": "HatBinding",
        "metadata": {"name": name, "namespace": "farm", "uid": format!("uid-of-{name}"), "creationTimestamp": before(34)},
        "spec": {"hat": hat, "wearer": {"spiffeID": spiffe(account)}}, "status": status})
}

pub fn held(reason: &str, message: &str) -> Value {
    json!({"phase": "Pending", "conditions": [{"type": "Admitted", "status": "False", "reason": reason, "message": message,
        "lastTransitionTime": before(33)}]})
}

fn worn(phase: &str, node: Option<&str>, devices: &[&str], expires: Option<i64>) -> Value {
    let mut status = json!({"phase": phase, "transitions": 1, "boundAt": before(20), "devices": devices});
    if let Some(node) = node {
        status["nodeName"] = json!(node);
    }
    if let Some(hours) = expires {
        status["expiresAt"] = json!(after(hours));
    }
    status
}

fn record(number: u32, event: &str, reason: &str, account: &str, at: i64, phase: &str) -> Value {
    json!({"apiVersion": VERSION, "kind": "HatSwap",
        "metadata": {"name": format!("uid-of-{account}-{number}"), "namespace": "society-system"},
        "spec": {"hat": "repair", "wearer": {"spiffeID": spiffe(account)}, "event": event, "reason": reason, "occurredAt": before(at),
            "bindingRef": {"name": format!("repair-{account}"), "namespace": "farm", "uid": format!("uid-of-repair-{account}")},
            "outcome": {"phase": phase, "nodeName": "phones-1", "stickyAttributionEndsAt": minutes_before(60 * at + 20)}}})
}

/// What `hats` and `bindings` have to tell apart: worn, waiting, warming up, on probation, ended, and a hat that cannot be worn.
pub fn small(folder: &Path) {
    samples::write(&samples::three(), folder);
    let mut repair = hat(
        "repair",
        json!({"description": "Repairs phones.", "maxWearers": 1, "termSeconds": 28800,
        "requirements": {"devices": [{"name": "phones", "class": "phone", "count": 2, "selectors": ["device.attributes.vendor == 'samsung'"]}]},
        "throttles": {"warmupSeconds": 60, "cooldownSeconds": 300, "conflictsWith": ["trainer"]}}),
    );
    repair["status"] = json!({"reputation": 75, "lifetimeWearers": 4});
    let trainer = hat(
        "trainer",
        json!({"requirements": {"node": ["node.class == 'gpu-worker'"],
        "devices": [{"name": "gpu", "class": "gpu"}]}, "skills": [{"name": "python", "level": "expert", "providedBy": "a model of its own"}, {"name": "soldering"}]}),
    );
    let boss =
        hat("boss", json!({"supervises": ["repair", "trainer"], "throttles": {"quorumGated": true, "quorumSize": 2}}));
    let mut broken = hat("broken", json!({"supervises": ["ghost"]}));
    broken["status"] = json!({"conditions": [{"type": "GraphValid", "status": "False", "reason": "Flawed",
        "message": "it supervises ghost, which does not exist", "lastTransitionTime": before(9)}]});
    let mut judged = binding("trainer-eve", "trainer", "eve", worn("Probation", Some("gpu-1"), &["gpu-0"], None));
    judged["spec"]["verdicts"] =
        json!([{"by": spiffe("ada"), "action": "Probation", "reason": "burnt a GPU", "at": before(9)}]);
    let mut warming = worn("Warmup", None, &[], None);
    warming["warmupEndsAt"] = json!(after(9));
    let mut ended = worn("Expired", None, &[], None);
    ended["endedAt"] = json!(before(12));
    let mut vouched_for = binding(
        "boss-bob",
        "boss",
        "bob",
        held("Quorum", "1 of 2 co-signers: 1 more needed in spec.cosignedBy, where the wearer does not count"),
    );
    vouched_for["spec"]["requestedAt"] = json!(before(34));
    vouched_for["spec"]["cosignedBy"] = json!([
        {"spiffeID": spiffe("ann"), "signedAt": before(9), "attestation": "reviewed:\nchange 4711"}]);
    let bindings = [
        binding(
            "repair-ci",
            "repair",
            "ci",
            worn("Active", Some("phones-1"), &["phone-r58m00001", "phone-r58m00002"], Some(10)),
        ),
        binding("repair-dan", "repair", "dan", held("MaxWearers", "repair has 1 of 1 wearers")),
        binding("boss-ada", "boss", "ada", warming),
        vouched_for,
        judged,
        binding("trainer-old", "trainer", "old", ended),
        binding("trainer-fay", "trainer", "fay", json!({})),
    ];
    let records = [
        record(1, "SwapOn", "Admitted", "old", 30, "Active"),
        record(2, "SwapOff", "TermEnded", "old", 26, "Expired"),
        record(1, "SwapOn", "Succeeded", "ci", 20, "Active"),
    ];
    write(folder, &[&[policy(), repair, trainer, boss, broken][..], &bindings, &records].concat());
}

/// Forty hats and three hundred who ask for them.
pub fn large(folder: &Path) {
    samples::write(&samples::three_hundred(), folder);
    let hats = (0..40).map(|number| hat(&format!("hat-{number}"), json!({"maxWearers": 10})));
    let one = |number: usize| {
        let status = match number % 5 {
            0 => held("MaxWearers", &format!("hat-{} has 10 of 10 wearers", number % 40)),
            1 => worn("Warmup", None, &[], None),
            _ => worn("Active", Some(&format!("worker-{number}")), &[], Some(10)),
        };
        binding(&format!("binding-{number}"), &format!("hat-{}", number % 40), &format!("account-{number}"), status)
    };
    let objects: Vec<Value> = [policy()].into_iter().chain(hats).chain((0..300).map(one)).collect();
    write(folder, &objects);
}

/// Writes objects as a folder cluster.
pub fn write(folder: &Path, objects: &[Value]) {
    for object in objects {
        let plural = match object["kind"].as_str().unwrap() {
            "HatPolicy" => "hatpolicies".to_owned(),
            kind => format!("{}s", kind.to_ascii_lowercase()),
        };
        let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
        let folder = folder.join(plural).join(namespace);
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(format!("{}.yaml", object["metadata"]["name"].as_str().unwrap()));
        std::fs::write(file, serde_saphyr::to_string(object).unwrap()).unwrap();
    }
}
