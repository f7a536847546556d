//! Virtual machines for hatrack's tests: QEMU, Debian's kernel, systemd and udev, and what the flake renders for them.
//!
//! * [`Machine::boot`]: power on, with what the test brings ([`Payload`]) in place before systemd starts.
//! * [`Machine::boot_by_uefi`]: the same on a board that a Nix host could be installed on.
//! * [`Machine::warm`]: the same machine a few seconds later, from a snapshot of one that has booted and rests.
//! * [`Machine::run`]: a command in it. No network and no login is needed for that.
//!
//! The image is made once (debootstrap, minutes) and cached, and so are the snapshot and [`zfs()`]. Under 10.0.2.2 the machine reaches the
//! loopback of the host, and there the control plane. A machine is gone with its value; when a test fails, the end of its
//! console and of its journal is printed.

mod accelerator;
mod agent;
mod console;
mod control;
mod debian;
mod image;
mod machine;
mod payload;
mod phones;
mod qemu;
mod requirements;
mod snapshot;
mod zfs;

pub use agent::{AgentFiles, text};
pub use control::Answer;
pub use hatrack_testbed::program;
pub use machine::Machine;
pub use payload::Payload;
pub use phones::{Gadget, Interface, Phones, twenty};
pub use requirements::missing;
pub use zfs::zfs;
