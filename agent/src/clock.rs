//! Time: what has passed, and what the time is.
//!
//! What has passed is counted on `CLOCK_BOOTTIME`, which goes on through suspend and which nobody sets. What the time *is*
//! comes from the API server's `Date` header once there was an answer: a machine without a battery-backed clock believes
//! anything at boot, and its wall clock jumps when it learns better. Timestamps that the agent writes do not jump with it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use hatrack_service::clock::since_boot;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::watch;

/// A server's clock may be set, too: an estimate that is off by more than this is dropped. `Date` has whole seconds.
const TOLERANCE: SignedDuration = SignedDuration::from_secs(2);

/// What `Date` is short of at most.
const SECOND: SignedDuration = SignedDuration::from_secs(1);

/// The time as the API server sees it.
#[derive(Debug, Default)]
pub struct Clock {
    /// When this machine was booted, by the API server's clock.
    booted: Mutex<Option<Timestamp>>,
    /// A time that has certainly passed, from a boot before this one.
    past: Mutex<Option<Timestamp>>,
    known: watch::Sender<bool>,
}

impl Clock {
    /// Takes note of a `Date` header that has just been received, in an answer to what was sent at this time since boot.
    pub fn heard(&self, date: Timestamp, sent: Duration) {
        self.heard_at(date, sent, since_boot());
    }

    /// The time: the API server's; before the first answer the wall clock's, and no earlier than what has certainly passed.
    pub fn now(&self) -> Timestamp {
        let past = *self.past.lock().unwrap_or_else(PoisonError::into_inner);
        self.at(since_boot()).unwrap_or_else(|| Timestamp::now().max(past.unwrap_or(Timestamp::MIN)))
    }

    /// Takes note of a time that has certainly passed.
    pub fn is_after(&self, time: Timestamp) {
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        *past = Some(past.map_or(time, |known| known.max(time)));
    }

    /// Waits for the first answer of the API server, if there was none.
    pub async fn known(&self) {
        _ = self.known.subscribe().wait_for(|known| *known).await;
    }

    /// How far this machine's wall clock is ahead of the API server's; absent before the first answer.
    pub fn skew(&self) -> Option<SignedDuration> {
        self.at(since_boot()).map(|server| Timestamp::now().duration_since(server))
    }

    /// Whole seconds are cut off and an answer takes its time, so an estimate is never ahead: the latest one is the best. An answer that was
    /// long on its way looks like that of a server whose clock was set back: it was if it is from before it was asked for.
    fn heard_at(&self, date: Timestamp, sent: Duration, received: Duration) {
        let Some(estimate) = shift(date, received, Timestamp::checked_sub) else { return };
        let Some(latest) = date.checked_add(SECOND).ok().and_then(|date| shift(date, sent, Timestamp::checked_sub))
        else {
            return;
        };
        let mut booted = self.booted.lock().unwrap_or_else(PoisonError::into_inner);
        let better = booted.is_none_or(|known| estimate > known || known.duration_since(latest) > TOLERANCE);
        if better {
            *booted = Some(estimate);
        }
        self.known.send_if_modified(|known| !std::mem::replace(known, true));
    }

    fn at(&self, elapsed: Duration) -> Option<Timestamp> {
        let booted = *self.booted.lock().unwrap_or_else(PoisonError::into_inner);
        shift(booted?, elapsed, Timestamp::checked_add)
    }
}

type Shifted = Result<Timestamp, jiff::Error>;

fn shift(time: Timestamp, by: Duration, direction: impl Fn(Timestamp, SignedDuration) -> Shifted) -> Option<Timestamp> {
    direction(time, SignedDuration::try_from(by).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn at(clock: &Clock, milliseconds: u64) -> Timestamp {
        clock.at(Duration::from_millis(milliseconds)).unwrap()
    }

    #[test]
    fn the_time_goes_on_between_answers_and_never_back() {
        let clock = Clock::default();
        assert_eq!(clock.at(Duration::ZERO), None);
        let heard = |text: &str, at: Duration| clock.heard_at(time(text), at, at);
        heard("2026-01-01T00:00:10Z", Duration::from_secs(1));
        assert_eq!(at(&clock, 1_500), time("2026-01-01T00:00:10.5Z"));
        heard("2026-01-01T00:00:10Z", Duration::from_millis(1_900));
        assert_eq!(at(&clock, 1_900), time("2026-01-01T00:00:10.9Z"), "a cut-off second is no step back");
        heard("2026-01-01T00:00:12Z", Duration::from_millis(2_500));
        assert_eq!(at(&clock, 2_500), time("2026-01-01T00:00:12Z"), "the nearer estimate counts");
    }

    #[test]
    fn a_server_whose_clock_was_set_back_is_followed() {
        let clock = Clock::default();
        let (first, second) = (Duration::ZERO, Duration::from_secs(1));
        clock.heard_at(time("2026-01-01T01:00:00Z"), first, first);
        clock.heard_at(time("2026-01-01T00:00:00Z"), first, second);
        assert_eq!(at(&clock, 1_000), time("2026-01-01T00:00:00Z"));
    }

    #[test]
    fn an_answer_that_was_long_on_its_way_is_no_step_back() {
        let clock = Clock::default();
        let seconds = Duration::from_secs;
        clock.heard_at(time("2026-01-01T00:00:00Z"), seconds(100), seconds(100));
        clock.heard_at(time("2026-01-01T00:00:10Z"), seconds(110), seconds(125));
        assert_eq!(at(&clock, 125_000), time("2026-01-01T00:00:25Z"));
        // It is asked for later than it says that it is.
        clock.heard_at(time("2026-01-01T00:00:20Z"), seconds(126), seconds(127));
        assert_eq!(at(&clock, 127_000), time("2026-01-01T00:00:20Z"));
    }
}
