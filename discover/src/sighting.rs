//! A device as a collector saw it, before it has a name.

use std::collections::BTreeMap;

use hatrack_api::cluster_node::{Attribute, Capacity, DeviceClass, Health, attribute, capacity};
use hatrack_api::quantity;

/// What tells one device of a class from another, and this one again after a replug or a restart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// Kind of device.
    pub class: DeviceClass,
    /// Where it sits, in words that stay over reboots: a PCI address, or a USB controller's address and the chain of ports.
    /// A part of a device adds its own place to that of the whole (a MIG instance).
    pub slot: String,
    /// What it is: ids that stay over its modes. A stick that re-enumerates under other ids has one value here.
    pub ids: String,
    /// A serial number that the device itself reports. A device with one keeps its name in another slot.
    pub serial: Option<String>,
}

/// A device as a collector saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sighting {
    /// Which device it is.
    pub key: Key,
    /// Facts, as in [`hatrack_api::cluster_node::Device::attributes`].
    pub attributes: BTreeMap<String, Attribute>,
    /// Amounts, as in [`hatrack_api::cluster_node::Device::capacity`].
    pub capacity: BTreeMap<String, Capacity>,
    /// Device nodes through which it is used.
    pub nodes: Vec<String>,
    /// Whether it can be used.
    pub health: Health,
}

impl Sighting {
    /// A device of which only its place and its health are known so far.
    pub fn new(key: Key, health: Health) -> Self {
        Self { key, attributes: BTreeMap::new(), capacity: BTreeMap::new(), nodes: Vec::new(), health }
    }

    /// Adds a text, if there is one.
    #[must_use]
    pub fn text(mut self, name: &str, text: Option<impl AsRef<str>>) -> Self {
        if let Some(text) = text.filter(|text| !text.as_ref().is_empty()) {
            self.attributes.insert(name.to_owned(), Attribute::string(text));
        }
        self
    }

    /// Adds a number, if there is one.
    #[must_use]
    pub fn number(mut self, name: &str, number: Option<impl Into<i64>>) -> Self {
        if let Some(number) = number {
            self.attributes.insert(name.to_owned(), Attribute::Int(number.into()));
        }
        self
    }

    /// Adds a truth, if it is known.
    #[must_use]
    pub fn truth(mut self, name: &str, truth: Option<bool>) -> Self {
        if let Some(truth) = truth {
            self.attributes.insert(name.to_owned(), Attribute::Bool(truth));
        }
        self
    }

    /// Adds a version, if there is one: as a semantic version if up to three numbers make it (`9.0` is 9.0.0), so that
    /// selectors can compare it, else as a text.
    #[must_use]
    pub fn version(self, name: &str, version: Option<impl AsRef<str>>) -> Self {
        let Some(text) = version else { return self };
        let Some(version) = semantic(text.as_ref()) else { return self.text(name, Some(text)) };
        let mut sighting = self;
        sighting.attributes.insert(name.to_owned(), Attribute::Version(version));
        sighting
    }

    /// Adds the device's own memory in bytes, if it is known.
    #[must_use]
    pub fn memory(mut self, bytes: Option<u64>) -> Self {
        if let Some(bytes) = bytes {
            let amount = Capacity { value: quantity::from_bytes(bytes) };
            self.capacity.insert(capacity::MEMORY.to_owned(), amount);
        }
        self
    }

    /// Adds the PCI address and the root complex above it.
    #[must_use]
    pub fn on_pci(self, address: &str, root: Option<&str>) -> Self {
        self.text(attribute::PCI_BUS_ID, Some(address)).text(attribute::PCIE_ROOT, root)
    }
}

/// A semantic version has three numbers without leading zeros (semver.org 2.0.0); drivers have `580.65.06` and `9.0`.
fn semantic(text: &str) -> Option<String> {
    let numbers = text.split('.').map(|part| part.parse::<u32>().ok()).collect::<Option<Vec<_>>>()?;
    let part = |index: usize| numbers.get(index).copied().unwrap_or(0);
    (numbers.len() <= 3).then(|| format!("{}.{}.{}", part(0), part(1), part(2)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_version_can_be_compared_or_is_a_text() {
        for (text, version) in [("580.65.06", Some("580.65.6")), ("9.0", Some("9.0.0")), ("13", Some("13.0.0"))] {
            assert_eq!(semantic(text).as_deref(), version, "{text}");
        }
        for text in ["", "1.2.3.4", "r5", "1..2", "-1.0"] {
            assert_eq!(semantic(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_version_is_compared_or_a_text(text in "[0-9.]{0,24}|\\PC{0,24}") {
            if let Some(version) = semantic(&text) {
                prop_assert_eq!(version.split('.').count(), 3);
                prop_assert_eq!(semantic(&version), Some(version));
            }
        }
    }
}
