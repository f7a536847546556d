//! The agent as it is installed: the real program with a node's real credentials, against a real control plane, with a
//! machine on paper. Where the way to the API server has to break, a proxy breaks it.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod answers;
mod clock;
mod cluster;
mod enrollment;
mod identity;
mod kubelet;
mod lease;
mod manager;
mod outages;
mod process;
mod program;
mod refusals;
mod registration;
mod state_file;
mod wearing;

use hatrack_testbed::soon;
