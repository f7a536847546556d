//! NVML in a process of its own: it can hang for ever in the driver, so it runs where a deadline can kill it.
//!
//! ```text
//!   program ──spawns──> program probe-nvml [--watch]
//!      <── one JSON line per report, on stdout ──
//!      ── end of stdin: the parent is gone, so the child goes too ──>
//! ```

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::watch;

use super::{Failure, View};

/// Hidden subcommand under which a program runs [`run`]; `--watch` behind it makes it go on.
pub const SUBCOMMAND: &str = "probe-nvml";

/// How long a report may take, and how often one is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A child that is silent for longer is killed.
    pub deadline: Duration,
    /// Time between reports when nothing happens.
    pub interval: Duration,
}

/// Asks NVML once, through `program` with [`SUBCOMMAND`].
pub async fn ask(_program: &Path, _deadline: Duration) -> View {
    let failure = Failure { reason: "NvmlError".to_owned(), message: "the probe is not built yet".to_owned() };
    std::future::ready(View::Failed(failure)).await
}

/// Asks NVML again and again, and sends each answer that differs from the one before. Runs until it is dropped.
pub async fn watch(program: &Path, timing: Timing, views: watch::Sender<View>) {
    loop {
        let view = ask(program, timing.deadline).await;
        views.send_if_modified(|last| std::mem::replace(last, view.clone()) != view);
        tokio::time::sleep(timing.interval).await;
    }
}

/// What the child does: it prints a JSON line for each report; with `watch`, at once, at each event and each interval.
/// It ends when its standard input ends.
pub fn run(_watch: bool) -> ExitCode {
    ExitCode::FAILURE
}
