//! How long the rules wait for machines, where no policy says so.

use std::time::Duration;

/// Lengths of time that whoever runs the rules may set; the defaults are what agents and modules are built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Periods {
    /// How long a renewal of a Lease lasts: after it a silent node is no longer Ready. 40 s.
    pub lease: Duration,
    /// How long a node needs at most to stop a hat. 30 s.
    pub stop: Duration,
    /// How long a lost device has to come back. 60 s.
    pub device_grace: Duration,
    /// Least time between two texts of a held request. 60 s.
    pub text: Duration,
}

impl Default for Periods {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(40),
            stop: Duration::from_secs(30),
            device_grace: Duration::from_mins(1),
            text: Duration::from_mins(1),
        }
    }
}
