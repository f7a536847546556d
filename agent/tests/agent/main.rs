//! The agent as it is installed: the real program with a node's real credentials, against a real control plane, with a
//! machine on paper. Where the way to the API server has to break, a proxy breaks it.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a helper of a test fails the test")]

mod answers;
mod clock;
mod cluster;
mod identity;
mod lease;
mod outages;
mod process;
mod program;
mod refusals;
mod registration;
mod state_file;

use std::time::Duration;

/// What takes longer than this does not come any more: the machine may be busy, and no test waits for it otherwise.
const PATIENCE: Duration = Duration::from_mins(1);

/// Waits for something that has to happen.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(elapsed) => panic!("{what} did not happen within {PATIENCE:?}: {elapsed}"),
    }
}
