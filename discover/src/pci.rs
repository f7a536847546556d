//! PCI functions that can be devices of ours: `sys/bus/pci/devices` (kernel documentation, `PCI/sysfs-pci.rst`).

use crate::root::{Root, Unreadable};

/// One PCI function of a display, processing or accelerator class, or with the ids of an accelerator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// `0000:3b:00.0`.
    pub address: String,
    /// The root complex above it, `pci0000:3a`.
    pub root: Option<String>,
    /// Class, subclass and programming interface, `0x030200`.
    pub class: u32,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor and device id.
    pub subsystem: (u16, u16),
    /// Revision id.
    pub revision: u8,
    /// Bound kernel driver.
    pub driver: Option<String>,
    /// NUMA node; absent where firmware names none (`-1`).
    pub numa_node: Option<u32>,
    /// The PCIe link; absent for functions without one.
    pub link: Option<Link>,
    /// Address of the physical function, for an SR-IOV virtual function.
    pub physical_function: Option<String>,
}

/// Width and speed of a PCIe link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Lanes in use.
    pub width: u8,
    /// Lanes that the device has.
    pub max_width: u8,
    /// Speed in use, in tenths of GT/s (25, 50, 80, 160, 320, 640).
    pub speed: u16,
    /// Speed that the device has, in tenths of GT/s.
    pub max_speed: u16,
}

/// Reads every function that can be a device of ours.
pub fn scan(_root: &Root) -> Result<Vec<Function>, Unreadable> {
    Ok(Vec::new())
}
