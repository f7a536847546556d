//! What people want to know of one device.

use anstyle::Style;
use hatrack_api::cluster_node::{Device, DeviceClass, HealthState, attribute, capacity};

use super::amount;
use crate::output::style;

/// The colour of a state.
pub fn style_of(state: HealthState) -> Style {
    match state {
        HealthState::Ready => style::GOOD,
        HealthState::Degraded => style::CARE,
        HealthState::Unusable => style::ILL,
    }
}

/// An attribute as text.
pub fn text(device: &Device, name: &str) -> Option<String> {
    device.attributes.get(name).map(ToString::to_string)
}

/// Where it sits: the USB slot, else the PCI address.
pub fn place(device: &Device) -> Option<String> {
    text(device, attribute::USB_PATH).or_else(|| text(device, attribute::PCI_BUS_ID))
}

/// What it is, in the words of its maker.
pub fn model(device: &Device) -> Option<String> {
    let vendor = text(device, attribute::VENDOR);
    let model = text(device, attribute::MODEL).or_else(|| text(device, attribute::FAMILY));
    match (vendor, model) {
        (Some(vendor), Some(model)) if !model.to_lowercase().contains(&vendor.to_lowercase()) => {
            Some(format!("{vendor} {model}"))
        }
        (vendor, model) => model.or(vendor),
    }
}

/// Its own memory.
pub fn memory(device: &Device) -> Option<String> {
    device.capacity.get(capacity::MEMORY).map(|capacity| amount::memory(&capacity.value))
}

/// The word for one or more devices of a class.
pub fn plural(class: DeviceClass, count: usize) -> &'static str {
    match (class, count) {
        (DeviceClass::Gpu, 1) => "GPU",
        (DeviceClass::Gpu, _) => "GPUs",
        (DeviceClass::Phone, 1) => "phone",
        (DeviceClass::Phone, _) => "phones",
        (DeviceClass::Accelerator, 1) => "accelerator",
        (DeviceClass::Accelerator, _) => "accelerators",
    }
}
