//! Network interfaces with hardware behind them: `sys/class/net` (kernel documentation, `ABI/testing/sysfs-class-net`).

use hatrack_api::cluster_node::Interface;

use crate::root::{Root, Unreadable};

/// Every interface with a device behind it, sorted by name.
pub fn collect(_root: &Root) -> Result<Vec<Interface>, Unreadable> {
    Ok(Vec::new())
}
