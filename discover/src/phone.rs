//! Phones: what the bus shows and what the adb server says, merged.

pub mod adb;

use crate::sighting::Sighting;
use crate::usb::Device;

/// Every phone on the bus and every one that the adb server lists.
pub fn sightings(_usb: &[Device], _adb: &adb::View) -> Vec<Sighting> {
    Vec::new()
}
