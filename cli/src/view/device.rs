//! What people want to know of one device.

use std::cmp::Ordering;

use anstyle::Style;
use hatrack_api::cluster_node::{Device, DeviceClass, HealthState, attribute, capacity};

use super::{amount, order};
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

/// The order in which people look for devices: by class, then by place. PCI addresses are hexadecimal, ports are not.
pub fn in_order(a: &Device, b: &Device) -> Ordering {
    let place = |device| place(device).unwrap_or_default();
    let (a_place, b_place) = (place(a), place(b));
    let (a_slot, b_slot) = (split(&a_place), split(&b_place));
    let places = a_slot.0.cmp(b_slot.0).then_with(|| order::natural(a_slot.1, b_slot.1));
    a.class.cmp(&b.class).then(places).then_with(|| order::natural(&a.name, &b.name))
}

/// The controller and the chain of ports of a slot on USB, `0000:00:14.0` and `3.2`; of a PCI address the whole and nothing.
pub fn split(place: &str) -> (&str, &str) {
    place.split_once('/').unwrap_or((place, ""))
}

/// What it is, in the words of its maker, or by the ids that a search finds it with.
pub fn model(device: &Device) -> Option<String> {
    let vendor = text(device, attribute::VENDOR);
    let model = [attribute::MODEL, attribute::FAMILY, attribute::PCI_ID].iter().find_map(|name| text(device, name));
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
