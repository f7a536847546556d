//! How long to wait after a failure.

use std::time::Duration;

/// Waiting that doubles with each failure, up to a limit. Half of each wait is random.
#[derive(Debug, Clone)]
pub struct Pause {
    min: Duration,
    max: Duration,
    next: Duration,
}

impl Pause {
    /// Nothing has failed yet.
    pub const fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, next: min }
    }

    /// How long to wait after one more failure.
    pub fn again(&mut self) -> Duration {
        let next = self.next.min(self.max);
        self.next = next.saturating_mul(2);
        jittered(next)
    }

    /// Something worked.
    pub fn reset(&mut self) {
        self.next = self.min;
    }

    /// The shortest wait, whole.
    pub const fn min(&self) -> Duration {
        self.min
    }

    /// The longest wait, whole.
    pub const fn max(&self) -> Duration {
        self.max
    }
}

/// Between half of a time and all of it, so that those who failed together do not try again together.
pub fn jittered(time: Duration) -> Duration {
    time.mul_f64(0.5 + fastrand::f64() / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn within(time: Duration, milliseconds: u64) {
        let all = Duration::from_millis(milliseconds);
        assert!(time >= all / 2 && time <= all, "{time:?} is not within half of {all:?} and all of it");
    }

    #[test]
    fn waits_double_up_to_the_limit_and_begin_anew() {
        let mut pause = Pause::new(Duration::from_millis(100), Duration::from_secs(10));
        for expected in [100, 200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000] {
            within(pause.again(), expected);
        }
        pause.reset();
        within(pause.again(), 100);
        for _ in 0..1_000 {
            assert!(pause.again() <= Duration::from_secs(10));
        }
    }

    #[test]
    fn jitter_takes_half_at_most() {
        for _ in 0..1_000 {
            within(jittered(Duration::from_secs(1)), 1_000);
        }
    }
}
