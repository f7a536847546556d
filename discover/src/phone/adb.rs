//! The adb server's view of phones, by its wire protocol (AOSP `packages/modules/adb/SERVICES.TXT`).

/// What the adb server has said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum View {
    /// This machine is not configured to ask one.
    #[default]
    NotAsked,
    /// Asked and not answered yet.
    Pending,
    /// The last list.
    Listed(Vec<Transport>),
    /// It cannot be asked: why, for people.
    Unreachable(String),
}

/// One line of `host:devices-l`, with the properties that the phone itself told where it could be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transport {
    /// adb's serial: the USB serial number, or `address:port` over TCP.
    pub serial: String,
}
