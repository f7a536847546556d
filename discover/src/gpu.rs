//! GPUs of all makers: PCI facts first, NVML's merged when they come.
//!
//! A GPU is a function of a display class made by NVIDIA, AMD or Intel, or an AMD Instinct. Other makers' display
//! functions (a server's BMC, a virtual machine's screen) cannot compute and are no devices.

mod nvidia;
mod tegra;

use hatrack_api::cluster_node::{Attribute, Device, DeviceClass, Health, HealthState, attribute};

use crate::nvidia::View;
use crate::pci::{Function, PROCESSING_ACCELERATOR};
use crate::root::{Root, Unreadable};
use crate::sighting::{Key, Sighting};

const NVIDIA: u16 = 0x10de;
const AMD: u16 = 0x1002;
const INTEL: u16 = 0x8086;

/// Class and subclass of VGA, 3D and other display controllers.
const DISPLAYS: [u16; 3] = [0x0300, 0x0302, 0x0380];

/// Attribute of a MIG instance: its GPU instance and compute instance, `1/0`. With the PCI address it is its slot.
pub const MIG_INSTANCE: &str = "migInstance";

/// Attribute of a GPU in MIG mode: the number of its instances.
const MIG_INSTANCES: &str = "migInstances";

/// Whether a PCI function is a GPU.
pub fn is_gpu(function: &Function) -> bool {
    let is_display = DISPLAYS.contains(&function.kind());
    match function.vendor {
        NVIDIA | INTEL => is_display,
        AMD => is_display || function.kind() == PROCESSING_ACCELERATOR,
        _ => false,
    }
}

/// Whether a PCI function is a GPU that NVIDIA's driver holds, so that NVML knows it.
pub fn has_nvidia_driver(function: &Function) -> bool {
    is_gpu(function) && function.driver.as_deref() == Some(nvidia::DRIVER)
}

/// Every GPU, and every MIG instance of one.
pub fn sightings(root: &Root, functions: &[Function], nvml: &View) -> Result<Vec<Sighting>, Unreadable> {
    let driver = nvidia::Driver::read(root, functions)?;
    let mut seen = Vec::new();
    for function in functions.iter().filter(|function| is_gpu(function) && !is_part(function, functions)) {
        match function.vendor {
            NVIDIA => seen.extend(nvidia::sightings(root, function, &driver, nvml)?),
            AMD => seen.push(amd(root, function)?),
            _ => seen.push(intel(root, function)?),
        }
    }
    seen.extend(tegra::sightings(root)?);
    Ok(seen)
}

/// Whether a function is a part of another GPU: a virtual function of a physical one that is here, or the second head
/// of an old card.
fn is_part(function: &Function, functions: &[Function]) -> bool {
    let is_head = |other: &Function| {
        other.slot() == function.slot() && other.vendor == function.vendor && other.kind() != function.kind()
    };
    match &function.physical_function {
        Some(physical) => functions.iter().any(|other| other.address == *physical),
        None => function.kind() == 0x0380 && functions.iter().any(|other| is_gpu(other) && is_head(other)),
    }
}

fn amd(root: &Root, function: &Function) -> Result<Sighting, Unreadable> {
    let mut nodes = render_nodes(root, function)?;
    let trouble = function.access_trouble(&["amdgpu", "radeon"], "`amdgpu`").or_else(|| no_render_node(&nodes));
    if root.exists("dev/kfd")? && function.driver.as_deref() == Some("amdgpu") {
        nodes.insert(0, "/dev/kfd".to_owned());
    }
    let product = root.text(function.path("product_name"))?;
    let mut sighting = described(function, "amd", product.as_deref().filter(|name| !name.is_empty()), trouble)
        .truth("integrated", Some(function.mixed_slot))
        .text(attribute::SERIAL, root.text(function.path("unique_id"))?)
        .memory(root.value(function.path("mem_info_vram_total"))?);
    sighting.nodes = nodes;
    Ok(sighting)
}

fn intel(root: &Root, function: &Function) -> Result<Sighting, Unreadable> {
    let nodes = render_nodes(root, function)?;
    let trouble = function.access_trouble(&["i915", "xe"], "`i915` or `xe`").or_else(|| no_render_node(&nodes));
    // Intel's integrated GPUs sit on the root bus itself; its cards are behind a port.
    let integrated = function.address.split(':').nth(1) == Some("00");
    let mut sighting = described(function, "intel", None, trouble).truth("integrated", Some(integrated));
    sighting.nodes = nodes;
    Ok(sighting)
}

fn described(function: &Function, vendor: &str, model: Option<&str>, trouble: Option<Health>) -> Sighting {
    let health = trouble.or_else(|| function.link_trouble()).unwrap_or_else(|| Health::ready("DriverBound"));
    let sighting = Sighting::new(key(function), health).text(attribute::VENDOR, Some(vendor));
    function.describe(named(sighting, function, model))
}

/// Adds what the driver calls it, else the list, else the ids that a person can search for.
fn named(sighting: Sighting, function: &Function, model: Option<&str>) -> Sighting {
    let model = model.or_else(|| model_of(function));
    let ids = model.is_none().then(|| function.ids());
    sighting.text(attribute::MODEL, model).text(attribute::PCI_ID, ids)
}

fn key(function: &Function) -> Key {
    Key { class: DeviceClass::Gpu, slot: function.address.clone(), ids: function.ids(), serial: None }
}

/// The name of a model by its ids. The list is as `models.ids` says.
fn model_of(function: &Function) -> Option<&'static str> {
    let ids = function.ids();
    include_str!("gpu/models.ids").lines().find_map(|line| line.strip_prefix(ids.as_str())?.strip_prefix(' '))
}

fn render_nodes(root: &Root, function: &Function) -> Result<Vec<String>, Unreadable> {
    let names = root.entries(function.path("drm"))?.unwrap_or_default();
    Ok(names.iter().filter(|name| name.starts_with("renderD")).map(|name| format!("/dev/dri/{name}")).collect())
}

fn no_render_node(nodes: &[String]) -> Option<Health> {
    let message = "its driver made no render node: see the kernel log for what went wrong";
    nodes.is_empty().then(|| Health::unusable("NoDeviceNode", message))
}

/// The worst of some findings, the first of equals.
fn worst(findings: impl IntoIterator<Item = Health>) -> Option<Health> {
    findings.into_iter().reduce(|worst, next| if next.state > worst.state { next } else { worst })
}

/// Whether a device is a GPU that is used only through its MIG instances, which are listed beside it.
pub fn carries_instances(device: &Device) -> bool {
    matches!(device.attributes.get(MIG_INSTANCES), Some(Attribute::Int(number)) if *number > 0)
}

/// Adds what NVML told earlier, while it has not answered yet or cannot: what it alone knows is not absent because it is
/// silent. `previous` are the devices of an earlier look, from this run or an earlier one. A GPU whose own UUID says that
/// it is another one keeps nothing, and none does where nobody asks NVML any more: it would stand for ever.
pub fn recall(devices: &mut Vec<Device>, previous: &[Device], nvml: &View) {
    if matches!(nvml, View::NotAsked | View::Report(_)) {
        return;
    }
    for device in devices.iter_mut().filter(|device| is_silent(device)) {
        if let Some(before) = previous.iter().find(|before| before.name == device.name && is_same(before, device)) {
            recall_facts(device, before, nvml);
        }
    }
    let bound: Vec<_> = devices.iter().filter(|device| carries_instances(device) && is_silent(device)).collect();
    let carried = |instance: &&Device| {
        let of = instance.attributes.get(attribute::PCI_BUS_ID);
        let parent = |device: &&Device| device.attributes.get(attribute::PCI_BUS_ID) == of;
        instance.attributes.contains_key(MIG_INSTANCE) && bound.iter().any(parent)
    };
    let instances: Vec<_> = previous.iter().filter(carried).map(|instance| silent_instance(instance, nvml)).collect();
    devices.extend(instances);
}

/// Whether NVML would tell more of a device.
fn is_silent(device: &Device) -> bool {
    let driver = device.attributes.get(attribute::DRIVER);
    device.class == DeviceClass::Gpu && driver == Some(&Attribute::string(nvidia::DRIVER))
}

fn is_same(before: &Device, device: &Device) -> bool {
    let uuid = |device: &Device| device.attributes.get(attribute::UUID).cloned();
    uuid(device).is_none() || uuid(before).is_none() || uuid(device) == uuid(before)
}

fn recall_facts(device: &mut Device, before: &Device, nvml: &View) {
    for (name, value) in &before.attributes {
        if nvidia::OF_NVML.contains(&name.as_str()) {
            device.attributes.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
    for (name, value) in &before.capacity {
        device.capacity.entry(name.clone()).or_insert_with(|| value.clone());
    }
    let told_by_nvml = !nvidia::WITHOUT_NVML.contains(&before.health.reason.as_str());
    let still_true = matches!(nvml, View::Pending) || before.health.state == HealthState::Unusable;
    if device.health.is_usable() && told_by_nvml && still_true {
        device.health = before.health.clone();
    }
}

fn silent_instance(instance: &Device, nvml: &View) -> Device {
    let mut instance = instance.clone();
    if let View::Failed(failure) = nvml
        && instance.health.is_usable()
    {
        instance.health = Health::degraded(&failure.reason, &failure.message);
    }
    instance
}
