//! What a test measured, for whoever reads its output. Nothing is asserted of it: it depends on the host.

use std::io::Write as _;
use std::time::Duration;

/// Prints a line now; the macros would hold it back where the test passes.
pub fn report(line: &str) {
    _ = writeln!(std::io::stderr(), "machine: {line}");
}

/// Durations of one kind.
#[derive(Debug, Default)]
pub struct Percentiles(Vec<Duration>);

impl Percentiles {
    pub fn add(&mut self, duration: Duration) {
        self.0.push(duration);
    }

    /// Half of them and nearly all of them were no longer than these, in milliseconds.
    pub fn text(&mut self) -> String {
        self.0.sort();
        let at = |percent: usize| self.0.get((self.0.len() * percent / 100).min(self.0.len().saturating_sub(1)));
        let [half, most] = [50, 99].map(|percent| at(percent).map_or(0, Duration::as_millis));
        format!("p50 {half} ms, p99 {most} ms of {}", self.0.len())
    }
}
