//! How long to wait after a failure.

use std::time::Duration;

use super::outcome::{Failure, Pace};
use crate::config::BackoffLimits;

/// Waiting that doubles with each failure, up to a limit. Half of each wait is random, so that machines that lost the API
/// server together do not come back together.
#[derive(Debug, Clone)]
pub struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    /// Nothing has failed yet.
    pub fn new(limits: BackoffLimits) -> Self {
        Self { min: limits.min.get(), max: limits.max.get(), failures: 0 }
    }

    /// How long to wait after this failure.
    pub fn after(&mut self, failure: &Failure) -> Duration {
        self.again(failure.pace())
    }

    /// How long to wait after a failure of this pace.
    pub fn again(&mut self, pace: Pace) -> Duration {
        let doubled = self.min.saturating_mul(1 << self.failures.min(20)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        match pace {
            Pace::Soon => jittered(doubled),
            Pace::Late => jittered(self.max),
            Pace::After(asked) => asked.min(LONGEST_ASKED).saturating_add(jittered(self.min)),
        }
    }

    /// Something worked.
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// The shortest wait.
    pub fn min(&self) -> Duration {
        self.min
    }
}

/// A server that asks for more is mistaken: a machine that waited as long would be lost.
const LONGEST_ASKED: Duration = Duration::from_mins(10);

/// Between half of a time and all of it.
pub fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.5 + fastrand::f64() / 2.0)
}

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
    fn waits_double_up_to_the_limit_and_begin_anew() {
        let mut backoff = Backoff::new(limits());
        let failure = Failure::Timeout(Duration::ZERO);
        for expected in [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000] {
            within(backoff.after(&failure), expected);
        }
        backoff.reset();
        within(backoff.after(&failure), 100);
        for _ in 0..1_000 {
            assert!(backoff.after(&failure) <= Duration::from_secs(10));
        }
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
