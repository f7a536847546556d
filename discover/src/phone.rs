//! Phones: what the bus shows and what the adb server says, merged.
//!
//! ```text
//!   usb::Device ──> identify (interfaces, vendor, product) ─┐
//!                                                          merge ──> health ──> Sighting
//!   adb server ──> adb::client ──> adb::View ───────────────┘
//! ```

pub mod adb;
mod health;
pub mod identify;
mod merge;

use hatrack_api::cluster_node::{Device, DeviceClass, attribute};

use crate::sighting::{Key, Sighting};
use crate::usb;
use adb::View;
use health::Situation;
use merge::Phone;

/// Release of Android, `14`.
pub const ANDROID_VERSION: &str = "androidVersion";
/// Instruction set for programs, `arm64-v8a`.
pub const ABI: &str = "abi";
/// adb's names of the phone over TCP, separated by `,`.
pub const REMOTE: &str = "adbOverTcp";

/// Every phone on the bus and every one that the adb server lists.
pub fn sightings(usb: &[usb::Device], adb: &View) -> Vec<Sighting> {
    let transports = if let View::Listed(transports) = adb { transports.as_slice() } else { &[] };
    merge::phones(usb, transports).iter().map(|phone| sighting(phone, usb, adb)).collect()
}

/// Adds what phones told earlier of themselves: a phone that hangs, or whose key is no longer accepted, is still the model
/// that it was. `previous` are the devices of an earlier look, from this run or an earlier one. A phone whose serial number
/// says that it is another one keeps nothing.
pub fn recall(devices: &mut [Device], previous: &[Device]) {
    for phone in devices.iter_mut().filter(|device| device.class == DeviceClass::Phone && !has_told(device)) {
        let is_same = |before: &&Device| before.name == phone.name && has_told(before) && !is_another(before, phone);
        let Some(before) = previous.iter().find(is_same) else { continue };
        for name in OF_PHONE {
            if let Some(value) = before.attributes.get(name) {
                phone.attributes.insert(name.to_owned(), value.clone());
            }
        }
        for (name, value) in &before.capacity {
            phone.capacity.entry(name.clone()).or_insert_with(|| value.clone());
        }
    }
}

/// Phones that adb alone knew of, while it cannot be asked: those that were there over TCP and are not among `devices`.
pub fn out_of_sight(devices: &[Device], previous: &[Device], adb: &View) -> Vec<Device> {
    if !matches!(adb, View::Pending | View::Unreachable(_)) {
        return Vec::new();
    }
    let is_out_of_sight = |device: &&Device| {
        let is_remote = device.class == DeviceClass::Phone && !device.attributes.contains_key(attribute::USB_PATH);
        is_remote && !devices.iter().any(|seen| seen.name == device.name)
    };
    let as_it_is = |device: &Device| Device { health: Situation::Unlisted(adb).health(), ..device.clone() };
    previous.iter().filter(is_out_of_sight).map(as_it_is).collect()
}

/// What a phone itself tells better than the bus and the list of adb, or alone.
const OF_PHONE: [&str; 5] = [attribute::VENDOR, attribute::MODEL, attribute::SERIAL, ANDROID_VERSION, ABI];

/// Nothing but the phone itself tells its version of Android.
fn has_told(device: &Device) -> bool {
    device.attributes.contains_key(ANDROID_VERSION)
}

fn is_another(before: &Device, phone: &Device) -> bool {
    let serial = |device: &Device| device.attributes.get(attribute::SERIAL).cloned();
    serial(phone).is_some() && serial(before).is_some() && serial(phone) != serial(before)
}

fn sighting(phone: &Phone, usb: &[usb::Device], adb: &View) -> Sighting {
    let slot = slot(phone, usb);
    let serial = phone.serial().map(str::to_owned);
    let usb_path = (!slot.starts_with(TCP)).then(|| slot.clone());
    let remote: Vec<_> = phone.transports.iter().filter(|t| !t.is_wired()).map(|t| t.serial.as_str()).collect();
    let told = phone.told().next();
    // One value over all its modes: a phone keeps its name in the boot loader.
    let key = Key { class: DeviceClass::Phone, slot, ids: "phone".to_owned(), serial: serial.clone() };
    let mut sighting = Sighting::new(key, situation(phone, adb).health())
        .text(attribute::VENDOR, vendor(phone))
        .text(attribute::MODEL, model(phone))
        .text(attribute::SERIAL, serial)
        .text(attribute::USB_PATH, usb_path)
        .text(ANDROID_VERSION, told.and_then(|told| told.android_version.as_ref()))
        .text(ABI, told.and_then(|told| told.abi.as_ref()))
        .text(REMOTE, Some(remote.join(",")))
        .memory(told.and_then(|told| told.memory));
    sighting.nodes = phone.usb.and_then(|(device, _)| device.node.clone()).into_iter().collect();
    sighting
}

fn situation<'a>(phone: &Phone<'a>, view: &'a View) -> Situation<'a> {
    let on_bus = phone.usb.is_some();
    let ready = phone.transports.iter().find(|transport| transport.is_ready() && (on_bus || !transport.is_wired()));
    match (phone.usb, ready.or(phone.transports.first())) {
        (Some((device, _)), _) if !device.authorized => Situation::NotAuthorized,
        (Some((_, identity)), _) if !identity.mode.is_android() => Situation::Mode(identity.mode),
        (None, Some(transport)) if transport.is_wired() => Situation::Zombie,
        (_, Some(transport)) => Situation::Adb(&transport.state),
        (Some((_, identity)), None) if identity.mode != identify::Mode::Adb => Situation::Mode(identity.mode),
        (_, None) => Situation::Unlisted(view),
    }
}

const TCP: &str = "tcp/";

/// Where it is. A phone that the bus does not have has the slot that adb last saw it in, by the root hub of that bus.
fn slot(phone: &Phone, usb: &[usb::Device]) -> String {
    if let Some((device, _)) = phone.usb {
        return device.slot.clone();
    }
    let transport = phone.transports.first();
    match transport.and_then(|transport| transport.devpath.as_deref()) {
        Some(path) => {
            let (bus, ports) = path.split_once('-').unwrap_or((path, ""));
            let root_hub = usb.iter().find(|device| device.sysfs_name.strip_prefix("usb") == Some(bus));
            format!("{}/{ports}", root_hub.map_or(bus, |hub| hub.controller()))
        }
        None => format!("{TCP}{}", transport.map(|transport| transport.serial.as_str()).unwrap_or_default()),
    }
}

/// The maker by its vendor id, unless others use that id too and the phone says who made it.
fn vendor(phone: &Phone) -> Option<String> {
    let maker = phone.usb.and_then(|(_, identity)| identity.maker);
    let told = phone.told().find_map(|told| told.manufacturer.as_deref());
    let said = || phone.usb.and_then(|(device, _)| device.manufacturer.as_deref());
    let name = match maker {
        Some(maker) if !maker.is_shared => Some(maker.name),
        _ => told.or(maker.map(|maker| maker.name)).or_else(said),
    };
    name.map(str::to_lowercase)
}

/// The model as the phone tells it, as adb has it, or as its USB descriptor says.
fn model<'a>(phone: &Phone<'a>) -> Option<&'a str> {
    let told = phone.told().find_map(|told| told.model.as_deref());
    let listed = || phone.transports.iter().find_map(|transport| transport.model.as_deref());
    told.or_else(listed).or_else(|| phone.usb.and_then(|(device, _)| device.product_name.as_deref()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use hatrack_api::cluster_node::{Attribute, Capacity, Health, capacity};
    use hatrack_api::quantity;

    use super::*;

    fn phone(attributes: &[(&str, &str)]) -> Device {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), Attribute::string(value)));
        Device {
            name: "phone-1".to_owned(),
            class: DeviceClass::Phone,
            attributes: attributes.collect(),
            capacity: BTreeMap::new(),
            nodes: vec![],
            health: Health::ready("AdbDevice"),
        }
    }

    fn recalled(mut now: Device, before: &Device) -> Device {
        recall(std::slice::from_mut(&mut now), std::slice::from_ref(before));
        now
    }

    #[test]
    fn a_phone_that_is_silent_is_what_it_said_it_was() {
        let mut before = phone(&[
            ("serial", "a"),
            ("model", "SM-F721U"),
            ("vendor", "samsung"),
            ("androidVersion", "14"),
            ("abi", "x"),
        ]);
        before.capacity.insert(capacity::MEMORY.to_owned(), Capacity { value: quantity::from_bytes(8 << 30) });
        let silent = phone(&[("serial", "a"), ("model", "SAMSUNG_Android"), ("usbPath", "0000:00:14.0/2")]);
        let now = recalled(silent, &before);
        assert_eq!((now.attributes.get("model"), &now.capacity), (before.attributes.get("model"), &before.capacity));
        assert_eq!(now.attributes.get("usbPath"), Some(&Attribute::string("0000:00:14.0/2")), "the bus tells that");

        let another = phone(&[("serial", "b"), ("model", "SAMSUNG_Android")]);
        assert_eq!(recalled(another.clone(), &before), another);
        let updated = phone(&[("serial", "a"), ("model", "SM-F721U"), ("androidVersion", "15")]);
        assert_eq!(recalled(updated.clone(), &before), updated);
    }
}
