//! A fleet on paper: machines with 8 GPUs of four sizes, hats that ask for them in CEL, and requests.

use std::time::Duration;

use anyhow::Result;
use hatrack_api::{ClusterNode, Hat, HatBinding, HatPolicy};
use hatrack_hats::{Moment, World};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

/// Models and their memory, in the order in which machines have them.
const SIZES: [(&str, &str); 4] =
    [("NVIDIA A2", "16Gi"), ("NVIDIA L4", "24Gi"), ("NVIDIA L40S", "48Gi"), ("NVIDIA H100", "80Gi")];

/// Names of the hats, and what each asks for.
pub(crate) fn hats() -> [(&'static str, Value); 3] {
    let at_least = |memory: &str| format!("device.capacity.memory.compareTo(quantity('{memory}')) >= 0");
    let gpus = |count: u32, selectors: &[String]| json!([{"name": "gpu", "class": "gpu", "count": count, "selectors": selectors}]);
    let node = ["node.class == 'gpu-worker'", "node.memory.compareTo(quantity('64Gi')) >= 0"];
    [
        ("small", json!({"devices": gpus(1, &[at_least("16Gi")])})),
        (
            "medium",
            json!({"node": node, "devices": gpus(1, &[at_least("24Gi"), "device.attributes.model.startsWith('NVIDIA')".to_owned()])}),
        ),
        (
            "large",
            json!({"node": node, "devices": gpus(2, &[at_least("80Gi"), "device.attributes.driverVersion.isGreaterThan(semver('570.0.0'))".to_owned()])}),
        ),
    ]
}

/// The manifest of a hat without waiting times.
pub(crate) fn hat(name: &str, requirements: &Value) -> Result<Hat> {
    let throttles = json!({"cooldownSeconds": 0, "warmupSeconds": 0});
    let spec = json!({"authority": {}, "requirements": requirements, "throttles": throttles});
    Ok(Hat::new(name, serde_json::from_value(spec)?))
}

/// What the agent of the machine of this number would report.
pub(crate) fn status(number: usize) -> Value {
    let (model, memory) = SIZES[number % SIZES.len()];
    let devices: Vec<Value> = (0..8).map(|slot| gpu(number, slot, model, memory)).collect();
    json!({
        "system": {"architecture": "x86_64", "kernelVersion": "6.12.30", "osImage": "NixOS 26.05", "memory": "256Gi",
            "cpu": {"model": "AMD EPYC 9354", "cores": 32, "threads": 64}},
        "devices": devices,
    })
}

fn gpu(machine: usize, slot: usize, model: &str, memory: &str) -> Value {
    let text = |value: String| json!({"string": value});
    json!({
        "name": format!("gpu-{slot}"), "class": "gpu", "nodes": [format!("/dev/nvidia{slot}")],
        "attributes": {
            "vendor": text("nvidia".to_owned()), "model": text(model.to_owned()), "driver": text("nvidia".to_owned()),
            "uuid": text(format!("GPU-{machine:08x}-{slot}")), "pciID": text("10de:2330".to_owned()),
            "driverVersion": {"version": "580.1.0"}, "numaNode": {"int": slot / 4},
            "resource.kubernetes.io/pciBusID": text(format!("0000:{slot:02x}:00.0")),
            "resource.kubernetes.io/pcieRoot": text(format!("pci0000:{slot:02x}")),
        },
        "capacity": {"memory": {"value": memory}},
        "health": {"state": "Ready", "reason": "NvmlReport", "message": ""},
    })
}

/// Name of the machine of this number.
pub(crate) fn machine(number: usize) -> String {
    format!("machine-{number:05}")
}

/// A world with so many machines, the hats and a policy, and nobody who asks.
pub(crate) fn world(machines: usize) -> Result<(World, Moment)> {
    let now = Moment { wall: Timestamp::now(), steady: Duration::from_secs(1000) };
    let mut world = World::default();
    let spec = json!({"throttles": {"maxBindingsPerWearer": 3}});
    world.observe_policy(HatPolicy::new("default", serde_json::from_value(spec)?));
    for (name, requirements) in hats() {
        world.observe_hat(hat(name, &requirements)?);
    }
    for number in 0..machines {
        let mut node = ClusterNode::new(&machine(number), serde_json::from_value(json!({"class": "gpu-worker"}))?);
        node.status = serde_json::from_value(status(number))?;
        world.observe_node(node, now.steady);
        let lease =
            json!({"metadata": {"name": machine(number)}, "spec": {"renewTime": "2026-01-01T00:00:00.000000Z"}});
        world.observe_lease(&serde_json::from_value::<Lease>(lease)?, now.steady);
    }
    Ok((world, now))
}

/// Lets so many wearers ask, for each hat in turn. UIDs and wearers are counted from `first`.
pub(crate) fn ask(world: &mut World, now: Moment, requests: std::ops::Range<usize>) -> Result<()> {
    let hats = hats();
    for number in requests {
        let (hat, _) = &hats[number % hats.len()];
        let wearer = format!("spiffe://cluster.local/ns/agents/sa/agent-{number}");
        let spec = json!({"hat": hat, "wearer": {"spiffeID": wearer}});
        let mut binding = HatBinding::new(&format!("binding-{number}"), serde_json::from_value(spec)?);
        binding.metadata.namespace = Some("agents".to_owned());
        binding.metadata.uid = Some(format!("00000000-0000-0000-0000-{number:012}"));
        let asked = now.wall.saturating_sub(SignedDuration::from_hours(1))?;
        binding.metadata.creation_timestamp = Some(Time(asked));
        world.observe_binding(binding, now.steady);
    }
    Ok(())
}
