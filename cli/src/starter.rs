//! The hats that `hatrack try` puts into a folder: those that every society starts with, and some for hardware.

use hatrack_api::cluster_node::DeviceClass;
use hatrack_api::hat::{DeviceRequest, Requirements, Succession, SuccessionPolicy};
use hatrack_api::{ClusterNode, Hat, HatPolicy, HatSpec};

const POLICY: &str = include_str!("../../k8s/hats/policy.yaml");
const SEEDS: [&str; 4] = [
    include_str!("../../k8s/hats/observer.yaml"),
    include_str!("../../k8s/hats/executor.yaml"),
    include_str!("../../k8s/hats/hat-designer.yaml"),
    include_str!("../../k8s/hats/policy-admin.yaml"),
];

/// A hat for each class of hardware.
const HARDWARE: [(DeviceClass, &str, &str); 3] = [
    (DeviceClass::Gpu, "trainer", "Trains models on a GPU of its own."),
    (DeviceClass::Phone, "tester", "Tests apps on a phone of its own."),
    (DeviceClass::Accelerator, "lookout", "Watches a camera with an accelerator of its own."),
];

/// Seconds of a working day, and of handing over.
const TERM: i64 = 8 * 3600 + 600;

/// The limits of the whole cluster.
pub fn policy() -> Result<HatPolicy, serde_saphyr::Error> {
    serde_saphyr::from_str(POLICY)
}

/// The hats that every society starts with.
pub fn seeds() -> Result<Vec<Hat>, serde_saphyr::Error> {
    SEEDS.iter().map(|seed| serde_saphyr::from_str(seed)).collect()
}

/// A hat that this machine can wear, and one that it cannot.
pub fn hardware(node: &ClusterNode) -> [Hat; 2] {
    let devices = node.status.as_ref().and_then(|status| status.devices.as_deref()).unwrap_or_default();
    let usable = |class| devices.iter().filter(|device| device.class == class && device.health.is_usable()).count();
    let fits = HARDWARE.iter().find(|(class, ..)| usable(*class) > 0);
    let misses = HARDWARE.iter().find(|(class, ..)| usable(*class) == 0);
    let one = match fits {
        Some((class, name, what)) => of_devices(name, what, *class, 1),
        None => builder(),
    };
    let other = match misses {
        Some((class, name, what)) => of_devices(name, what, *class, 1),
        None => of_devices("cluster-trainer", "Trains models on more GPUs than are here.", DeviceClass::Gpu, 64),
    };
    [one, other]
}

/// For a machine without special hardware.
fn builder() -> Hat {
    let node = vec!["node.cpu.threads >= 1".to_owned()];
    hat("builder", "Builds programs.", Requirements { node, devices: vec![] })
}

fn of_devices(name: &str, description: &str, class: DeviceClass, count: i64) -> Hat {
    let request = DeviceRequest { name: class.as_str().to_owned(), class, count: Some(count), selectors: vec![] };
    hat(name, description, Requirements { node: vec![], devices: vec![request] })
}

fn hat(name: &str, description: &str, requirements: Requirements) -> Hat {
    let throttles = hatrack_api::hat::HatThrottles { warmup_seconds: Some(0), ..Default::default() };
    let spec = HatSpec {
        description: Some(description.to_owned()),
        throttles: Some(throttles),
        requirements: Some(requirements),
        max_wearers: Some(1),
        term_seconds: Some(TERM),
        succession: Some(Succession { policy: SuccessionPolicy::Queue }),
        ..HatSpec::default()
    };
    Hat::new(name, spec)
}
