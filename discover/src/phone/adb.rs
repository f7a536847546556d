//! The adb server's view of phones, by its wire protocol (AOSP `packages/modules/adb/SERVICES.TXT`).

pub mod client;
mod connection;
pub mod list;
mod properties;
mod questions;
pub mod wire;

use std::time::Duration;

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

/// One line of `host:devices-l`, with what the phone itself told where it could be asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Transport {
    /// adb's serial: the USB serial number, or `address:port` over TCP; empty where the phone has none.
    pub serial: String,
    /// What adb can do with it.
    pub state: State,
    /// Kernel name of its USB device, `3-1.2`; absent over TCP.
    pub devpath: Option<String>,
    /// `ro.product.name` as adb received it.
    pub product: Option<String>,
    /// `ro.product.model` as adb received it, with `_` for what is neither letter nor digit.
    pub model: Option<String>,
    /// Number of this connection; a phone that comes back has a new one.
    pub id: Option<u64>,
    /// What the phone told of itself; absent until it did.
    pub told: Option<Properties>,
}

/// The state of a transport, by the words of adb's `ConnectionStateName` (AOSP `adb.cpp`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum State {
    /// Connected, and the key is accepted.
    Device,
    /// The connection broke.
    Offline,
    /// The key is not accepted.
    Unauthorized,
    /// The key is being checked.
    Authorizing,
    /// The connection is being made.
    Connecting,
    /// The adb server may not open the USB node; with what it says about that.
    NoPermissions(String),
    /// The boot loader.
    Bootloader,
    /// The recovery system.
    Recovery,
    /// The recovery system waits for a package.
    Sideload,
    /// The rescue mode of the recovery system.
    Rescue,
    /// An emulator console, or a machine that is host itself.
    Host,
    /// adb has let go of it, at somebody's request.
    Detached,
    /// adb says `unknown`.
    #[default]
    Unknown,
    /// A word that no adb up to version 41 says.
    Other(String),
}

/// What a phone tells of itself, by `getprop` and `/proc/meminfo`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties {
    /// `ro.serialno`: the phone's own number, the same over USB and TCP.
    pub serial: Option<String>,
    /// `ro.product.model`: as its maker writes it.
    pub model: Option<String>,
    /// `ro.product.manufacturer`.
    pub manufacturer: Option<String>,
    /// `ro.build.version.release`: `14`.
    pub android_version: Option<String>,
    /// `ro.product.cpu.abi`: `arm64-v8a`.
    pub abi: Option<String>,
    /// `MemTotal` of `/proc/meminfo`, in bytes.
    pub memory: Option<u64>,
}

/// How long [`client::watch`] waits for what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Deadline for connecting to the server and for each answer that it owes.
    pub deadline: Duration,
    /// Deadline for what one phone tells of itself.
    pub phone_deadline: Duration,
    /// Time between two looks at the list beside following it.
    pub check: Duration,
    /// First pause before the server is tried again; it doubles from failure to failure.
    pub retry: Duration,
    /// Longest pause.
    pub retry_at_most: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            deadline: seconds(5),
            phone_deadline: seconds(10),
            check: seconds(10),
            retry: Duration::from_millis(250),
            retry_at_most: seconds(30),
        }
    }
}
