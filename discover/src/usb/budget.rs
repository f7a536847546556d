//! What each USB controller carries, beside what it can carry.
//!
//! A controller that is full refuses the next device with a line in the kernel's log and nothing else; the phone is then
//! absent, and only these numbers say why.

use std::collections::BTreeMap;

use super::Device;
use crate::root::Root;

/// Hubs between the controller and a device that USB allows (USB 2.0, section 4.1.1).
pub const HUB_TIERS: u32 = 5;

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
    /// Whether nothing more fits.
    pub fn is_full(self) -> bool {
        self.limit.is_some_and(|limit| self.used >= limit)
    }
}

#[derive(Default)]
struct Limits {
    devices: Option<u32>,
    endpoints: Option<u32>,
}

/// The load of every controller, sorted by its name.
pub fn of(root: &Root, devices: &[Device]) -> Vec<Budget> {
    let mut controllers: BTreeMap<&str, Vec<&Device>> = BTreeMap::new();
    for device in devices {
        controllers.entry(device.controller()).or_default().push(device);
    }
    controllers.into_iter().map(|(controller, devices)| budget(root, controller, &devices)).collect()
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
