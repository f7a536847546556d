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

use hatrack_api::cluster_node::{DeviceClass, attribute};

use crate::sighting::{Key, Sighting};
use crate::usb::Device;
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
pub fn sightings(usb: &[Device], adb: &View) -> Vec<Sighting> {
    let transports = if let View::Listed(transports) = adb { transports.as_slice() } else { &[] };
    merge::phones(usb, transports).iter().map(|phone| sighting(phone, usb, adb)).collect()
}

fn sighting(phone: &Phone, usb: &[Device], adb: &View) -> Sighting {
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
fn slot(phone: &Phone, usb: &[Device]) -> String {
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
