//! What a person sees: progress on standard error, and the console of a machine whose test failed.

use std::fs;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

/// How much of a console is printed: more than one failed start of everything.
const LINES: usize = 150;

/// Says something now. The macros would let the test harness hold it back until the end.
pub(crate) fn say(text: &str) {
    _ = writeln!(io::stderr(), "machine: {text}");
}

/// Runs `work` and says how long it took.
pub(crate) async fn timed<T>(what: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    let start = Instant::now();
    let done = work.await?;
    say(&format!("{what} in {:.1} s", start.elapsed().as_secs_f64()));
    Ok(done)
}

/// The end of a console.
pub(crate) fn tail(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
