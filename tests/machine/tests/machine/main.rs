//! Virtual machines in which nothing is a mock: Debian's kernel enumerates, its systemd starts what the flake renders, and the
//! agent in it talks to a real control plane on the host.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod boot;
mod cluster;
mod disks;
mod enrollment;
mod faults;
mod kubelet;
mod mirror;
mod phones;
mod preflight;
mod report;
mod society;
mod unit;
mod wearing;

use hatrack_fixtures::skip;
use hatrack_machine::missing;

/// Whether machines can run here. Where they cannot, the test is skipped.
fn can_run() -> bool {
    let missing = missing();
    if let Some(reason) = &missing {
        skip(&format!("no machine can run here: {reason}"));
    }
    missing.is_none()
}
