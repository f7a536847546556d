//! The GPU inside an NVIDIA Tegra: a platform device, without PCI and without NVML of the usual kind.

use hatrack_api::cluster_node::{DeviceClass, Health, attribute};

use crate::platform;
use crate::root::{Root, Unreadable};
use crate::sighting::{Key, Sighting};

/// Kinds of the platform device: Xavier's has a name of its own.
const KINDS: [&str; 4] = ["gpu", "gv11b", "gp10b", "ga10b"];

/// Device-tree strings and the machines that have them (NVIDIA Jetson Linux, device trees of t210 to t264).
const CHIPS: [(&str, &str); 5] = [
    ("nvidia,gm20b", "Tegra X1"),
    ("nvidia,gp10b", "Tegra X2"),
    ("nvidia,gv11b", "Tegra Xavier"),
    ("nvidia,ga10b", "Tegra Orin"),
    ("nvidia,gb10b", "Tegra Thor"),
];

/// Nodes that CUDA opens on a Tegra.
const NODES: [&str; 4] = ["/dev/nvhost-gpu", "/dev/nvgpu/igpu0/channel", "/dev/nvhost-ctrl-gpu", "/dev/nvmap"];

/// The GPU of a Tegra, if this is one.
pub fn sightings(root: &Root) -> Result<Vec<Sighting>, Unreadable> {
    let mut seen = Vec::new();
    for device in platform::scan(root, &KINDS)? {
        let is_its = |(compatible, _): &&(&str, &str)| device.compatible.iter().any(|known| known == compatible);
        if let Some((compatible, model)) = CHIPS.iter().find(is_its) {
            seen.push(sighting(root, &device, compatible, model)?);
        }
    }
    Ok(seen)
}

fn sighting(root: &Root, device: &platform::Device, ids: &str, model: &str) -> Result<Sighting, Unreadable> {
    let mut nodes = Vec::new();
    for node in NODES {
        if root.exists(node)? {
            nodes.push(node.to_owned());
        }
    }
    let health = match device.driver.as_deref() {
        None => Health::unusable("NoDriver", "no driver is bound: load the kernel module `nvgpu`"),
        Some("nouveau") => Health::unusable("NouveauDriver", "nouveau holds it, which has no CUDA: load `nvgpu`"),
        Some(_) if nodes.is_empty() => {
            Health::unusable("NoDeviceNode", "its driver made no device node: see the kernel log")
        }
        Some(_) => Health::ready("DriverBound"),
    };
    let key = Key { class: DeviceClass::Gpu, slot: device.slot(), ids: ids.to_owned(), serial: None };
    let mut sighting = Sighting::new(key, health)
        .text(attribute::VENDOR, Some("nvidia"))
        .text(attribute::MODEL, Some(model))
        .text(platform::PLATFORM_DEVICE, Some(&device.name))
        .text(attribute::DRIVER, device.driver.as_ref())
        .truth("integrated", Some(true));
    sighting.nodes = nodes;
    Ok(sighting)
}
