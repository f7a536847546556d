//! USB devices: `sys/bus/usb/devices` (kernel documentation, `ABI/testing/sysfs-bus-usb`).

use crate::root::{Root, Unreadable};

/// One USB device, hubs included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// Kernel name, `3-1.2`: it changes when buses are numbered anew.
    pub sysfs_name: String,
    /// Where it sits over reboots: PCI address (or platform name) of the controller and the chain of ports, `0000:00:14.0/1.2`.
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
    /// Interfaces of the active configuration.
    pub interfaces: Vec<Interface>,
    /// Speed in Mbit/s.
    pub speed: Option<u32>,
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
    /// Its string, `MTP`.
    pub name: Option<String>,
}

/// Reads every USB device.
pub fn scan(_root: &Root) -> Result<Vec<Device>, Unreadable> {
    Ok(Vec::new())
}
