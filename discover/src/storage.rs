//! Block devices: `sys/block` (kernel documentation, `ABI/stable/sysfs-block`).

use hatrack_api::cluster_node::Disk;

use crate::root::{Root, Unreadable};

/// Every disk, sorted by name; no partitions, loop devices, RAM disks or empty readers.
pub fn collect(_root: &Root) -> Result<Vec<Disk>, Unreadable> {
    Ok(Vec::new())
}
