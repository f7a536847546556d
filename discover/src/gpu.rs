//! GPUs of all makers: PCI facts first, NVML's merged when they come.

use crate::nvidia::View;
use crate::pci::Function;
use crate::root::{Root, Unreadable};
use crate::sighting::Sighting;

/// Every GPU, and every MIG instance of one.
pub fn sightings(_root: &Root, _functions: &[Function], _nvml: &View) -> Result<Vec<Sighting>, Unreadable> {
    Ok(Vec::new())
}

/// Whether a device is a GPU that is used only through its MIG instances, which are listed beside it.
pub fn carries_instances(_device: &hatrack_api::cluster_node::Device) -> bool {
    false
}
