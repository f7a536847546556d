//! When something is decided.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A point in time on two clocks. Terms, cooldowns and warmups are about the wall clock, which people read and which can
/// be stepped; silence of a node is about the steady clock, which only the operator reads and which cannot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock (`CLOCK_REALTIME`).
    pub wall: Timestamp,
    /// Time since any fixed point of this process (`CLOCK_BOOTTIME`).
    pub steady: Duration,
}

impl Moment {
    /// Kubernetes writes times in whole seconds; what is decided is decided at the beginning of one.
    pub(crate) fn whole_second(self) -> Self {
        let wall = Timestamp::from_second(self.wall.as_second()).unwrap_or(self.wall);
        Self { wall, steady: self.steady }
    }

    /// This long after on both clocks.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        let wall = self.wall.saturating_add(SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX));
        Self { wall: wall.unwrap_or(Timestamp::MAX), steady: self.steady.saturating_add(duration) }
    }

    /// The time of the wall clock 24 hours before.
    pub(crate) fn a_day_ago(self) -> Timestamp {
        self.wall.saturating_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN)
    }

    /// How long until the wall clock shows a time; nothing if it does so already.
    pub(crate) fn until(self, wall: Timestamp) -> Duration {
        Duration::try_from(wall.duration_since(self.wall)).unwrap_or_default()
    }
}

/// This many seconds after a time; the end of time if there is no such time. A negative number counts as none.
pub(crate) fn seconds_after(time: Timestamp, seconds: i64) -> Timestamp {
    time.checked_add(SignedDuration::from_secs(seconds.max(0))).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_seconds_overflows() {
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        assert_eq!(seconds_after(now, 60).as_second(), 1_700_000_060);
        assert_eq!(seconds_after(now, i64::MAX), Timestamp::MAX);
        assert_eq!(seconds_after(now, -5), now);
        let moment = Moment { wall: now, steady: Duration::ZERO };
        assert_eq!(moment.after(Duration::MAX).wall, Timestamp::MAX);
        assert_eq!(moment.until(seconds_after(now, 7)), Duration::from_secs(7));
        assert_eq!(moment.until(Timestamp::UNIX_EPOCH), Duration::ZERO);
    }
}
