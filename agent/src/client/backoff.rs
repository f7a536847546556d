//! How long to wait after a failure of a request.

use std::time::Duration;

use hatrack_service::backoff::{Pause, jittered};

use super::outcome::{Failure, Pace};
use crate::config::BackoffLimits;

/// Waiting that doubles with each failure, unless the failure says otherwise.
#[derive(Debug, Clone)]
pub struct Backoff {
    pause: Pause,
}

impl Backoff {
    /// Nothing has failed yet.
    pub fn new(limits: BackoffLimits) -> Self {
        Self { pause: Pause::new(limits.min.get(), limits.max.get()) }
    }

    /// How long to wait after this failure.
    pub fn after(&mut self, failure: &Failure) -> Duration {
        self.again(failure.pace())
    }

    /// How long to wait after a failure of this pace.
    pub fn again(&mut self, pace: Pace) -> Duration {
        let doubled = self.pause.again();
        match pace {
            Pace::Soon => doubled,
            Pace::Late => jittered(self.pause.max()),
            Pace::After(asked) => asked.min(LONGEST_ASKED).saturating_add(jittered(self.pause.min())),
        }
    }

    /// Something worked.
    pub fn reset(&mut self) {
        self.pause.reset();
    }

    /// The shortest wait.
    pub fn min(&self) -> Duration {
        self.pause.min()
    }
}

/// A server that asks for more is mistaken: a machine that waited as long would be lost.
const LONGEST_ASKED: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> BackoffLimits {
        BackoffLimits { min: crate::config::Period::from_millis(100), max: crate::config::Period::from_secs(10) }
    }

    fn within(time: Duration, milliseconds: u64) {
        let all = Duration::from_millis(milliseconds);
        assert!(time >= all / 2 && time <= all, "{time:?} is not within half of {all:?} and all of it");
    }

    #[test]
    fn waits_double_and_begin_anew() {
        let mut backoff = Backoff::new(limits());
        let failure = Failure::Timeout(Duration::ZERO);
        for expected in [100, 200, 400, 800] {
            within(backoff.after(&failure), expected);
        }
        backoff.reset();
        within(backoff.after(&failure), 100);
    }

    #[test]
    fn a_refusal_waits_long_and_a_busy_server_is_obeyed() {
        let mut backoff = Backoff::new(limits());
        within(backoff.after(&Failure::NotServed), 10_000);
        let asked = Duration::from_secs(30);
        let wait = backoff.after(&Failure::Busy { after: Some(asked) });
        assert!(wait > asked && wait <= asked + Duration::from_millis(100), "{wait:?}");
        assert!(
            backoff.after(&Failure::Busy { after: Some(Duration::MAX) }) <= LONGEST_ASKED + Duration::from_millis(100)
        );
    }
}
