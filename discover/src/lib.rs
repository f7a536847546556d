//! What a machine has.
//!
//! ```text
//!   sysfs, procfs ──> host  pci  usb  raspberry_pi  storage  network      (milliseconds)
//!   NVML, in a child process ──> nvidia::View                             (seconds, or never)
//!   adb server ──> phone::adb::View                                       (when it says something)
//!                        │
//!                        ▼
//!   gpu  accelerator  phone: sightings ──> names ──> inventory::Inventory
//! ```
//!
//! A collector is a function of its inputs: a [`root::Root`] and, where needed, what a driver or a server has said.
//! Every collector tells "absent" from "could not tell"; what could not be told is in the inventory as such.

pub mod accelerator;
pub mod condition;
pub mod doubt;
pub mod gauges;
pub mod gpu;
pub mod host;
pub mod hotplug;
pub mod inventory;
pub mod names;
pub mod network;
pub mod nvidia;
pub mod pci;
pub mod phone;
pub mod platform;
pub mod raspberry_pi;
pub mod root;
pub mod sighting;
pub mod storage;
pub mod usb;
