//! What has passed, on a clock that nobody sets.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since boot, suspend included (`clock_gettime(2)`, `CLOCK_BOOTTIME`).
pub fn since_boot() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}
