//! Nodes of an imagined cluster.

use std::path::Path;

use hatrack_api::ClusterNode;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// When a node was made, so that its age is the same whenever a test runs: half a unit more than the age that is shown.
fn made(ago: SignedDuration) -> String {
    Timestamp::now().checked_sub(ago).unwrap().to_string()
}

fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    let time = "2026-01-31T12:00:00Z";
    json!({"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": time})
}

fn phone(number: u32, ports: &str, health: Value) -> Value {
    json!({
        "name": format!("phone-r58m{number:05}"),
        "class": "phone",
        "attributes": {
            "vendor": {"string": "samsung"},
            "model": {"string": "SM-F721U"},
            "serial": {"string": format!("R58M{number:05}")},
            "androidVersion": {"string": "14"},
            "usbPath": {"string": format!("0000:00:14.0/{ports}")},
        },
        "capacity": {"memory": {"value": "8Gi"}},
        "nodes": [format!("/dev/bus/usb/003/{:03}", number + 10)],
        "health": health,
    })
}

fn node(name: &str, class: &str, ago: SignedDuration, status: Value) -> Value {
    json!({
        "apiVersion": "society.zeta.io/v1alpha1",
        "kind": "ClusterNode",
        "metadata": {"name": name, "creationTimestamp": made(ago), "uid": format!("uid-of-{name}"), "generation": 1},
        "spec": {"class": class, "hardwareID": format!("hw-{name}")},
        "status": status,
    })
}

fn system(memory: &str) -> Value {
    json!({
        "architecture": "x86_64", "kernelVersion": "6.18.2", "osImage": "NixOS 26.05 (Yarara)",
        "cpu": {"model": "AMD EPYC 9354P", "cores": 32, "threads": 64}, "memory": memory,
    })
}

/// A well node with eight GPUs, a phone box in trouble, and a Raspberry Pi that was not seen for a while.
pub fn three() -> Vec<Value> {
    let days = |days: i64| SignedDuration::from_hours(24 * days) + SignedDuration::from_mins(90);
    let ready = condition("Ready", "True", "LeaseRenewed", "");
    let gpus = node(
        "gpu-1",
        "gpu-worker",
        days(40),
        json!({
            "identity": {"hostname": "gpu-1", "addresses": ["10.0.0.7"]},
            "system": system("1056Gi"),
            "summary": {"gpus": "8/8", "phones": "0/0", "accelerators": "0/0", "hats": "executor, repair"},
            "conditions": [ready, condition("DevicesHealthy", "True", "AllReady", "8 devices")],
        }),
    );
    let pi = node(
        "pi-1",
        "pi-ai-hat",
        days(3),
        json!({
            "identity": {"hostname": "pi-1", "addresses": ["10.0.0.21"]},
            "summary": {"gpus": "0/0", "phones": "0/0", "accelerators": "1/1"},
            "conditions": [condition("Ready", "Unknown", "LeaseExpired", "no Lease renewal for 4 minutes")],
        }),
    );
    vec![gpus, phone_box(), pi]
}

/// Twenty slots, eighteen phones, and of these one that nobody accepted the key on.
pub fn phone_box() -> Value {
    let ports = |number: u32| format!("{}.{}.{}", 1 + number / 16, 1 + number / 4 % 4, 1 + number % 4);
    let missing = [6, 13];
    let phones: Vec<_> = (0..20)
        .filter(|number| !missing.contains(number))
        .map(|number| {
            let health = match number {
                3 => json!({
                    "state": "Unusable", "reason": "AdbUnauthorized",
                    "message": "the phone does not accept this machine's key: unlock it and allow USB debugging",
                }),
                9 => json!({"state": "Degraded", "reason": "AdbOffline", "message": "replug it"}),
                _ => json!({"state": "Ready", "reason": "AdbDevice"}),
            };
            phone(number, &ports(number), health)
        })
        .collect();
    let mut node = node(
        "phones-1",
        "phone-orchestrator",
        SignedDuration::from_mins(200),
        json!({
            "identity": {"hostname": "phones-1", "addresses": ["10.0.0.11", "fd00::11"]},
            "system": system("32Gi"),
            "devices": phones,
            "summary": {"gpus": "0/0", "phones": "17/18", "accelerators": "0/0", "hats": "phone-farm (17)"},
            "conditions": [
                condition("Ready", "True", "LeaseRenewed", ""),
                condition("AsExpected", "False", "DevicesMissing", "17 of 20 phones usable"),
                condition("DevicesHealthy", "False", "DeviceNotReady",
                    "AdbOffline: phone-r58m00009; AdbUnauthorized: phone-r58m00003"),
            ],
        }),
    );
    node["spec"]["expects"] = json!({"phones": 20});
    node["spec"]["profile"] = json!("home-business");
    node
}

/// Three hundred nodes, of which ten are in trouble.
pub fn three_hundred() -> Vec<Value> {
    let classes = ["gpu-worker", "phone-orchestrator", "pi-ai-hat", "worker", "worker"];
    let sample = |number: usize| {
        let class = classes[number % classes.len()];
        let summary = match class {
            "gpu-worker" => json!({"gpus": "4/4", "phones": "0/0", "accelerators": "0/0"}),
            "phone-orchestrator" => json!({"gpus": "0/0", "phones": "20/20", "accelerators": "0/0"}),
            "pi-ai-hat" => json!({"gpus": "0/0", "phones": "0/0", "accelerators": "1/1"}),
            _ => json!({"gpus": "0/0", "phones": "0/0", "accelerators": "0/0"}),
        };
        let ready = match number {
            17 | 99 | 170 | 171 | 203 | 240 | 288 => {
                condition("Ready", "False", "KubeletStopped", "the node said that it goes down")
            }
            42 | 142 | 242 => condition("Ready", "Unknown", "LeaseExpired", "no Lease renewal for 6 minutes"),
            _ => condition("Ready", "True", "LeaseRenewed", ""),
        };
        let age = SignedDuration::from_hours(24 * 30) + SignedDuration::from_mins(90);
        let status = json!({"summary": summary, "conditions": [ready]});
        let mut node = node(&format!("{class}-{number}"), class, age, status);
        if number == 100 {
            node["spec"]["unschedulable"] = json!(true);
        }
        node
    };
    (1..=300).map(sample).collect()
}

/// Writes nodes as a folder cluster.
pub fn write(nodes: &[Value], folder: &Path) {
    let folder = folder.join("clusternodes");
    std::fs::create_dir_all(&folder).unwrap();
    for node in nodes {
        let typed: ClusterNode = serde_json::from_value(node.clone()).unwrap();
        let name = typed.metadata.name.as_deref().unwrap();
        // As hatrack writes: a reader sees each manifest whole.
        let draft = folder.join(format!(".{name}.new"));
        std::fs::write(&draft, serde_saphyr::to_string(&typed).unwrap()).unwrap();
        std::fs::rename(draft, folder.join(format!("{name}.yaml"))).unwrap();
    }
}
