//! The host itself: processor, memory, kernel, distribution, identity.

use hatrack_api::cluster_node::{Identity, System};

use crate::root::{Root, Unreadable};

/// What the host is.
#[derive(Debug, Default)]
pub struct Host {
    /// Who it is; the addresses come from [`crate::network`].
    pub identity: Identity,
    /// What it runs on.
    pub system: System,
    /// SMBIOS UUID, else device-tree serial number, else lowest permanent MAC address; absent where there is none to trust.
    pub hardware_id: Option<String>,
    /// What could not be read.
    pub unreadable: Vec<Unreadable>,
}

/// Reads what the host is.
pub fn collect(_root: &Root) -> Host {
    Host::default()
}
