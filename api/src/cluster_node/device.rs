//! Devices as a node reports them, in the shape of a DRA `Device` (`resource.k8s.io/v1`).

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One device of a machine. A device that is present but cannot be used is listed as `Unusable`; it is never missing.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Device {
    /// Name of the device on this machine, a DNS label: chosen once and kept over replug, reboot and restart.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,

    /// Kind of device.
    pub class: DeviceClass,

    /// Facts that selectors can use, by name. Names without a domain are hatrack's own; those of
    /// `resource.kubernetes.io/` are DRA's standard ones.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub attributes: BTreeMap<String, Attribute>,

    /// Amounts that selectors can compare, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 8))]
    pub capacity: BTreeMap<String, Capacity>,

    /// Device nodes below /dev through which the device is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(max = 128), regex(pattern = "^/dev/")))]
    pub nodes: Vec<String>,

    /// Whether the device can be used, and if not, why.
    pub health: Health,
}

/// Kind of device.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "camelCase")]
pub enum DeviceClass {
    /// A graphics or compute GPU, or one MIG instance of it.
    Gpu,
    /// A telephone on USB or TCP.
    Phone,
    /// A neural, tensor or FPGA accelerator.
    Accelerator,
}

impl DeviceClass {
    /// The name as it stands in manifests; device names begin with it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gpu => "gpu",
            Self::Phone => "phone",
            Self::Accelerator => "accelerator",
        }
    }
}

impl fmt::Display for DeviceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A fact about a device: exactly one of the four, as in DRA's `DeviceAttribute`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Attribute {
    /// A text of at most 64 characters.
    String(#[schemars(length(max = 64))] String),
    /// A whole number.
    Int(i64),
    /// True or false.
    Bool(bool),
    /// A semantic version (semver.org 2.0.0).
    Version(#[schemars(length(max = 64))] String),
}

impl Attribute {
    /// A text, cut at the 64 characters that DRA allows.
    pub fn string(text: impl AsRef<str>) -> Self {
        Self::String(text.as_ref().chars().take(64).collect())
    }
}

impl fmt::Display for Attribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::String(text) | Self::Version(text) => f.write_str(text),
            Self::Int(number) => number.fmt(f),
            Self::Bool(truth) => truth.fmt(f),
        }
    }
}

/// An amount of something that a device has, as in DRA's `DeviceCapacity`.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Capacity {
    /// The amount.
    pub value: Quantity,
}

/// Whether a device can be used.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Health {
    /// What the device is good for.
    pub state: HealthState,
    /// Why, as one word for programs.
    #[schemars(length(min = 1, max = 64), regex(pattern = "^[A-Z][A-Za-z0-9]*$"))]
    pub reason: String,
    /// Why and what to do about it, for people. Empty when there is nothing to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = Health::LONGEST_MESSAGE))]
    pub message: String,
}

/// What a device is good for.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HealthState {
    /// It can be used.
    Ready,
    /// It can be used, but something about it is wrong.
    Degraded,
    /// It is present and cannot be used.
    Unusable,
}

impl HealthState {
    /// The name as it stands in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Degraded => "Degraded",
            Self::Unusable => "Unusable",
        }
    }
}

impl fmt::Display for HealthState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Health {
    /// Characters that a message has room for: the schema refuses a longer one, and with it the whole status.
    pub const LONGEST_MESSAGE: usize = 512;

    /// Usable, with the reason that says so (for example `AdbDevice`).
    pub fn ready(reason: &str) -> Self {
        Self { state: HealthState::Ready, reason: reason.to_owned(), message: String::new() }
    }

    /// Usable with a defect.
    pub fn degraded(reason: &str, message: impl Into<String>) -> Self {
        Self { state: HealthState::Degraded, reason: reason.to_owned(), message: fitting(message.into()) }
    }

    /// Present and not usable.
    pub fn unusable(reason: &str, message: impl Into<String>) -> Self {
        Self { state: HealthState::Unusable, reason: reason.to_owned(), message: fitting(message.into()) }
    }

    /// Whether a hat can have the device: `Unusable` is the only state that says no.
    pub fn is_usable(&self) -> bool {
        self.state != HealthState::Unusable
    }
}

/// What drivers and servers say can be as long as they like.
fn fitting(message: String) -> String {
    if message.chars().count() <= Health::LONGEST_MESSAGE {
        return message;
    }
    message.chars().take(Health::LONGEST_MESSAGE - 1).chain(['…']).collect()
}

/// Names of attributes that more than one collector or reader uses.
pub mod attribute {
    /// PCI address, `0000:3b:00.0`: DRA's standard name.
    pub const PCI_BUS_ID: &str = "resource.kubernetes.io/pciBusID";
    /// The PCIe root complex, `pci0000:3a`: DRA's standard name. Devices with an equal one are near each other.
    pub const PCIE_ROOT: &str = "resource.kubernetes.io/pcieRoot";
    /// NUMA node as Linux numbers it.
    pub const NUMA_NODE: &str = "numaNode";
    /// Maker, in lower case: `nvidia`, `samsung`, `hailo`.
    pub const VENDOR: &str = "vendor";
    /// Model as its maker writes it.
    pub const MODEL: &str = "model";
    /// Family of accelerators that share a driver and a way of use: `hailo-8`, `coral`.
    pub const FAMILY: &str = "family";
    /// PCI vendor and device, `8086:4692`, of a device that has no better name.
    pub const PCI_ID: &str = "pciID";
    /// Identity that the device itself has: an NVIDIA UUID.
    pub const UUID: &str = "uuid";
    /// Serial number that the device itself reports.
    pub const SERIAL: &str = "serial";
    /// Kernel driver that is bound to the device.
    pub const DRIVER: &str = "driver";
    /// Version of that driver.
    pub const DRIVER_VERSION: &str = "driverVersion";
    /// Where on USB the device sits: PCI address of the controller and chain of ports, `0000:00:14.0/3.2`.
    pub const USB_PATH: &str = "usbPath";
}

/// Names of capacities that more than one collector or reader uses.
pub mod capacity {
    /// Memory of the device itself.
    pub const MEMORY: &str = "memory";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_to_what_the_schema_takes() {
        let fits = "ü".repeat(Health::LONGEST_MESSAGE);
        assert_eq!(Health::degraded("Odd", fits.clone()).message, fits);
        let long = fits + "ü";
        for health in [Health::degraded("Odd", long.clone()), Health::unusable("Odd", long)] {
            assert!(health.message.chars().count() == Health::LONGEST_MESSAGE && health.message.ends_with('…'));
        }
    }
}
