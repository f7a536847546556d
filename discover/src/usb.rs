//! USB devices: `sys/bus/usb/devices` (kernel documentation, `ABI/stable/sysfs-bus-usb` and `ABI/testing/sysfs-bus-usb`).

pub mod budget;
pub mod descriptors;
mod place;

use crate::root::{Root, Unreadable};
use descriptors::{Configuration, Descriptors};

const DEVICES: &str = "/sys/bus/usb/devices";
const HUB: u8 = 9;
const ADB: (u8, u8, u8) = (0xff, 0x42, 0x01);

/// One USB device, hubs included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Kernel name, `3-1.2`: it changes when buses are numbered anew.
    pub sysfs_name: String,
    /// Where it sits over reboots: PCI address (or platform name) of the controller and the chain of ports, `0000:00:14.0/1.2`.
    /// A port has one chain, that of its USB 2 half where the kernel knows both, so a device that trains at
    /// another speed keeps its slot. Where the kernel does not know the other half, the chains of both are counted apart
    /// and two devices can share a slot: their serial numbers tell them apart. A root hub has the controller alone.
    pub slot: String,
    /// Vendor id.
    pub vendor: u16,
    /// Product id.
    pub product: u16,
    /// Strings of the device descriptor.
    pub serial: Option<String>,
    /// Maker, as the device says.
    pub manufacturer: Option<String>,
    /// Product, as the device says.
    pub product_name: Option<String>,
    /// Class of the device descriptor; 9 is a hub.
    pub class: u8,
    /// Interfaces of the active configuration, or of the first one while none is active.
    pub interfaces: Vec<Interface>,
    /// Node below /dev, `/dev/bus/usb/003/017`.
    pub node: Option<String>,
    /// False when the kernel holds it back (`authorized` is 0).
    pub authorized: bool,
}

/// One interface of a USB device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Interface {
    /// Class, subclass and protocol: `(0xff, 0x42, 0x01)` is adb.
    pub triple: (u8, u8, u8),
    /// Number of endpoints without endpoint 0.
    pub endpoints: u8,
    /// Its string, `MTP`: read only where the triple alone does not tell what the interface is.
    pub name: Option<String>,
}

impl Device {
    /// Speed of the connection in Mbit/s. It is asked for, as few need it and each file costs time.
    pub fn speed(&self, root: &Root) -> Result<Option<u32>, Unreadable> {
        root.value(format!("{DEVICES}/{}/speed", self.sysfs_name))
    }

    /// Whether it is a hub, a root hub included.
    pub fn is_hub(&self) -> bool {
        self.class == HUB
    }

    /// The controller above it: the first part of its slot.
    pub fn controller(&self) -> &str {
        self.slot.split('/').next().unwrap_or_default()
    }

    /// Number of ports from the controller to it; 0 for a root hub.
    pub fn depth(&self) -> usize {
        self.slot.split_once('/').map_or(0, |(_, ports)| ports.split('.').count())
    }
}

/// Reads every USB device, root hubs included, sorted by kernel name.
pub fn scan(root: &Root) -> Result<Vec<Device>, Unreadable> {
    let mut devices = Vec::new();
    let names = root.entries(DEVICES)?.unwrap_or_default();
    for name in names.into_iter().filter(|name| !name.contains(':')) {
        devices.extend(device(root, name)?);
    }
    Ok(devices)
}

/// One device; `None` when it went away since it was listed.
fn device(root: &Root, name: String) -> Result<Option<Device>, Unreadable> {
    let file = |file: &str| format!("{DEVICES}/{name}/{file}");
    let Some(events) = root.text(file("uevent"))? else { return Ok(None) };
    let Some(slot) = place::slot(root, &name)? else { return Ok(None) };
    let mut device = Device { slot, authorized: true, ..of_uevent(&events) };
    if let Some(described) = root.bytes(file("descriptors"))?.as_deref().and_then(descriptors::parse) {
        (device.vendor, device.product, device.class) = (described.vendor, described.product, described.class);
        if !device.is_hub() {
            let string = |there: bool, name: &str| if there { root.text(file(name)) } else { Ok(None) };
            device.serial = string(described.has_serial, "serial")?.filter(|text| !text.is_empty());
            device.manufacturer = string(described.has_manufacturer, "manufacturer")?;
            device.product_name = string(described.has_product_name, "product")?;
            device.authorized = root.text(file("authorized"))?.is_none_or(|text| text != "0");
        }
        device.interfaces = interfaces(root, &name, &described)?;
    }
    device.sysfs_name = name;
    Ok(Some(device))
}

/// What `uevent` tells without the descriptors: `PRODUCT=18d1/4ee7/440`, `TYPE=0/0/0` and `DEVNAME=bus/usb/001/002`.
pub fn of_uevent(text: &str) -> Device {
    let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    let mut ids = value("PRODUCT").unwrap_or_default().split('/').map(|id| u16::from_str_radix(id, 16).unwrap_or(0));
    let class = value("TYPE").and_then(|kind| kind.split('/').next()?.parse().ok());
    Device {
        vendor: ids.next().unwrap_or(0),
        product: ids.next().unwrap_or(0),
        class: class.unwrap_or(0),
        node: value("DEVNAME").map(|name| format!("/dev/{name}")),
        ..Device::default()
    }
}

fn interfaces(root: &Root, name: &str, described: &Descriptors) -> Result<Vec<Interface>, Unreadable> {
    let Some(configuration) = active(root, name, described)? else { return Ok(Vec::new()) };
    // Where there is adb, nothing depends on whether the interface beside it is MTP or PTP.
    let has_adb = configuration.interfaces.iter().any(|interface| interface.triple == ADB && interface.endpoints >= 2);
    let read = |interface: &descriptors::Interface| {
        let unclear = matches!(interface.triple, (0x06, 0x01, 0x01) | (0xff, 0xff, 0x00)) && !has_adb;
        let ambiguous = interface.has_name && unclear;
        let path = format!("{DEVICES}/{name}/{name}:{}.{}/interface", configuration.value, interface.number);
        let name = if ambiguous { root.text(path)? } else { None };
        Ok(Interface { triple: interface.triple, endpoints: interface.endpoints, name })
    };
    configuration.interfaces.iter().map(read).collect()
}

fn active<'a>(root: &Root, name: &str, described: &'a Descriptors) -> Result<Option<&'a Configuration>, Unreadable> {
    let configurations = &described.configurations;
    let value: Option<u8> = match configurations.len() {
        0 | 1 => None,
        _ => root.value(format!("{DEVICES}/{name}/bConfigurationValue"))?,
    };
    let chosen = configurations.iter().find(|configuration| Some(configuration.value) == value);
    Ok(chosen.or(configurations.first()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_uevent_is_read(text in "((PRODUCT|TYPE|DEVNAME)=?[ -~]{0,20}\n|.{0,20}\n){0,6}") {
            let device = of_uevent(&text);
            prop_assert!(device.node.is_none_or(|node| node.starts_with("/dev/")));
        }

        #[test]
        fn what_the_kernel_writes_is_what_is_read(
            vendor in any::<u16>(), product in any::<u16>(), class in any::<u8>(), bus in 1..999_u16, number in 1..127_u8,
            others in prop::collection::vec("(MAJOR|DEVTYPE|DRIVER|BUSNUM)=[ -~]{0,12}\n", 0..4),
        ) {
            let others = others.concat();
            let text = format!(
                "{others}PRODUCT={vendor:x}/{product:x}/504\nTYPE={class}/0/0\nDEVNAME=bus/usb/{bus:03}/{number:03}\n{others}"
            );
            let node = Some(format!("/dev/bus/usb/{bus:03}/{number:03}"));
            prop_assert_eq!(of_uevent(&text), Device { vendor, product, class, node, ..Device::default() });
        }
    }
}
