//! A real Kubernetes control plane for hatrack's tests, and a proxy that breaks the way to it.
//!
//! * [`ControlPlane::shared`]: etcd, kube-apiserver and kube-controller-manager on loopback, started
//!   once for all tests of all processes of a run. Tests share the servers and do not share names:
//!   take yours from [`unique`].
//! * [`ControlPlane::private`]: the same for one test, which may kill, stop and restart each server,
//!   take a backup and go back to it, and read the API server's audit log.
//! * [`FaultProxy`]: between a client and the API server; it refuses, cuts, stalls, delays, answers
//!   by itself, lets watches go stale, and records every request.
//! * [`BootstrapToken`]: what a machine begins with that has no certificate yet.
//! * [`program`], [`Program`]: a program of hatrack as it is installed: its log, its pages, its end.
//! * [`cached`]: a folder of what is expensive to make, made once.
//!
//! Nothing is left behind by a test process that panics or is killed (`keeper.sh`).

mod audit;
mod authority;
mod binaries;
mod bootstrap;
mod built;
mod cache;
mod control_plane;
mod error;
mod fault_proxy;
mod fingerprint;
mod folder;
mod install;
mod kubeconfig;
mod logs;
mod manifests;
mod ports;
mod program;
mod servers;

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

pub use audit::{AuditEvent, AuditLog};
pub use authority::Identity;
pub use binaries::{Binaries, kubectl};
pub use bootstrap::BootstrapToken;
pub use built::program;
pub use cache::cached;
pub use control_plane::{Backup, ControlPlane, PrivateControlPlane};
pub use error::{Error, Result};
pub use fault_proxy::{FaultProxy, Matcher, Recorded, Response};
pub use fingerprint::fingerprint;
pub use manifests::load as manifests;
pub use program::{PATIENCE, Program, soon, timed};
pub use servers::{Options, Server};

/// A name that no other test has, in this process, another or an earlier run: `<prefix>-` and at
/// most 19 characters. It is a DNS label if the prefix is one and is short enough.
pub fn unique(prefix: &str) -> String {
    static TAKEN: AtomicU32 = AtomicU32::new(0);
    let number = TAKEN.fetch_add(1, Ordering::Relaxed);
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() & 0xff_ffff);
    format!("{prefix}-{:x}-{seconds:x}-{number:x}", std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_send(_: &impl Send) {}

    /// Tests run parts of themselves as tasks.
    #[test]
    fn futures_can_be_spawned() {
        is_send(&ControlPlane::shared());
        is_send(&ControlPlane::private(Options::default()));
        is_send(&async { ControlPlane::shared().await?.install("k8s".as_ref()).await });
    }
}
