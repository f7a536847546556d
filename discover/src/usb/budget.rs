//! What each USB controller carries, beside what it can carry.
//!
//! A controller that is full refuses the next device with a line in the kernel's log and nothing else; the phone is then
//! absent, and only these numbers say why.

use std::collections::BTreeMap;

use super::Device;
use crate::root::Root;

/// Hubs between the controller and a device that USB allows (USB 2.0, section 4.1.1).
pub const HUB_TIERS: u32 = 5;

/// A phone has at most ten endpoints or so (adb, MTP and a network beside endpoint 0): no controller with a known limit is full
/// with fewer devices than this.
const FEWEST_THAT_FILL: usize = 8;

/// What a phone with adb takes at the least: two, and endpoint 0.
const ENDPOINTS_OF_A_PHONE: u32 = 3;

/// What one controller carries, on its USB 2 and its USB 3 bus together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Budget {
    /// PCI address or platform name of the controller, the first part of the slots below it.
    pub controller: String,
    /// Devices, hubs included: each takes a device slot.
    pub devices: Load,
    /// Endpoints, with endpoint 0 of each device.
    pub endpoints: Load,
    /// Hubs in the longest chain.
    pub hub_tiers: Load,
}

/// A number and the most that it can be, where that is known.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// How many there are.
    pub used: u32,
    /// How many there can be.
    pub limit: Option<u32>,
}

impl Load {
    /// Whether that many more do not fit. A controller that carries more than its limit shows that the limit is another one.
    fn has_no_room_for(self, needed: u32) -> bool {
        self.limit.is_some_and(|limit| self.used <= limit && self.used + needed > limit)
    }

    /// Whether nothing more fits.
    pub fn is_full(self) -> bool {
        self.limit.is_some_and(|limit| self.used >= limit)
    }
}

impl Budget {
    /// What is used up, as a sentence for people; `None` while something more fits.
    fn exhausted(&self) -> Option<String> {
        let kinds = [("devices", self.devices, 1), ("endpoints", self.endpoints, ENDPOINTS_OF_A_PHONE)];
        let (what, load, _) = kinds.into_iter().find(|(_, load, needed)| load.has_no_room_for(*needed))?;
        let (name, used, limit) = (&self.controller, load.used, load.limit?);
        Some(format!(
            "the USB controller {name} is full ({used} of {limit} {what}), so that what is plugged in below it stays unseen: \
             move some of it to another controller"
        ))
    }
}

#[derive(Default)]
struct Limits {
    devices: Option<u32>,
    endpoints: Option<u32>,
}

/// The load of every controller, sorted by its name.
pub fn of(root: &Root, devices: &[Device]) -> Vec<Budget> {
    by_controller(devices).into_iter().map(|(controller, devices)| budget(root, controller, &devices)).collect()
}

/// What is used up on the controllers where nothing more fits, as a sentence each. Nothing is read of a controller with fewer
/// devices than can fill one.
pub fn exhausted(root: &Root, devices: &[Device]) -> Vec<String> {
    let suspects = by_controller(devices).into_iter().filter(|(_, devices)| devices.len() >= FEWEST_THAT_FILL);
    suspects.filter_map(|(controller, devices)| budget(root, controller, &devices).exhausted()).collect()
}

fn by_controller(devices: &[Device]) -> BTreeMap<&str, Vec<&Device>> {
    let mut controllers: BTreeMap<&str, Vec<&Device>> = BTreeMap::new();
    for device in devices {
        controllers.entry(device.controller()).or_default().push(device);
    }
    controllers
}

fn budget(root: &Root, controller: &str, devices: &[&Device]) -> Budget {
    let attached = || devices.iter().filter(|device| device.depth() > 0);
    let hubs = attached().filter(|device| device.is_hub());
    let endpoints = |device: &&Device| 1 + device.interfaces.iter().map(|i| u32::from(i.endpoints)).sum::<u32>();
    let limits = limits(root, controller);
    Budget {
        controller: controller.to_owned(),
        devices: Load { used: count(attached().count()), limit: limits.devices },
        endpoints: Load { used: attached().map(endpoints).sum(), limit: limits.endpoints },
        hub_tiers: Load { used: count(hubs.map(|hub| hub.depth()).max().unwrap_or(0)), limit: Some(HUB_TIERS) },
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Limits of controllers as their users met them; sysfs does not show the register that has them (xHCI 1.2, `HCSPARAMS1`).
fn limits(root: &Root, controller: &str) -> Limits {
    let id = |file: &str| {
        let text = root.text(format!("/sys/bus/pci/devices/{controller}/{file}")).ok().flatten()?;
        u16::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    };
    match (id("vendor"), id("device")) {
        // Intel's share 96 endpoints, which 32 phones use up.
        (Some(0x8086), _) => Limits { devices: None, endpoints: Some(96) },
        // VL805, on a Raspberry Pi 4 and many cards: "Max number of devices this xHCI host supports is 32."
        (Some(0x1106), Some(0x3483)) => Limits { devices: Some(32), endpoints: None },
        _ => Limits::default(),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::usb::Interface;

    /// What is said of a controller with these ids that has so many phones, each with adb.
    fn said(vendor: &str, device: &str, phones: usize) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let controller = folder.path().join("sys/bus/pci/devices/0000:00:14.0");
        fs::create_dir_all(&controller).unwrap();
        fs::write(controller.join("vendor"), vendor).unwrap();
        fs::write(controller.join("device"), device).unwrap();
        let adb = Interface { triple: (0xff, 0x42, 0x01), endpoints: 2, name: None };
        let phone =
            |port| Device { slot: format!("0000:00:14.0/{port}"), interfaces: vec![adb.clone()], ..Device::default() };
        exhausted(&Root::at(folder.path()), &(1..=phones).map(phone).collect::<Vec<_>>())
    }

    #[test]
    fn a_controller_on_which_nothing_more_fits_is_named() {
        let advice = "so that what is plugged in below it stays unseen: move some of it to another controller";
        let full = |load: &str| vec![format!("the USB controller 0000:00:14.0 is full ({load}), {advice}")];
        assert_eq!(said("0x8086", "0x1bed", 31), [""; 0]);
        assert_eq!(said("0x8086", "0x1bed", 32), full("96 of 96 endpoints"));
        assert_eq!(said("0x8086", "0x1bed", 33), [""; 0], "it carries more than is said of it");
        assert_eq!(said("0x1106", "0x3483", 31), [""; 0]);
        assert_eq!(said("0x1106", "0x3483", 32), full("32 of 32 devices"));
        assert_eq!(said("0x1022", "0x149c", 60), [""; 0], "its limit is not known");
    }
}
