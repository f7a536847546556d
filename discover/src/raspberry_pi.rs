//! Raspberry Pi boards, their HATs and cameras, from the device tree.

use hatrack_api::cluster_node::Board;

use crate::root::{Root, Unreadable};

/// The board, where the device tree says that this is a Raspberry Pi.
pub fn board(_root: &Root) -> Result<Option<Board>, Unreadable> {
    Ok(None)
}
