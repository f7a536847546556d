//! The two clocks of a decision, and an alarm on the one that can be set.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use hatrack_hats::Moment;
use hatrack_service::clock::since_boot;
use jiff::Timestamp;
use nix::errno::Errno;
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, TimerSetTimeFlags};
use nix::sys::timerfd::{ClockId, TimerFd, TimerFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Now.
pub fn now() -> Moment {
    Moment { wall: Timestamp::now(), steady: since_boot() }
}

/// Later than anything that is waited for: in the 23rd century.
const FAR_AWAY: TimeSpec = TimeSpec::new(9_000_000_000, 0);

/// Rings at a time of the wall clock, and at once when that clock is set or the machine was suspended
/// (`timerfd_create(2)`, `TFD_TIMER_CANCEL_ON_SET`).
pub struct Alarm(AsyncFd<Timer>);

struct Timer(TimerFd);

impl AsRawFd for Timer {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl Alarm {
    /// An alarm that has not been set.
    pub fn new() -> io::Result<Self> {
        let timer = TimerFd::new(ClockId::CLOCK_REALTIME, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        Ok(Self(readable(Timer(timer))?))
    }

    /// Waits until the wall clock shows `at`, or until it is set.
    pub async fn ring(&self, at: Option<Timestamp>) -> io::Result<()> {
        let spec = at.map_or(FAR_AWAY, |at| {
            // Zero would disarm the timer.
            TimeSpec::new(at.as_second().max(0), i64::from(at.subsec_nanosecond().max(1)))
        });
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME | TimerSetTimeFlags::TFD_TIMER_CANCEL_ON_SET;
        self.0.get_ref().0.set(Expiration::OneShot(spec), flags)?;
        loop {
            let mut ready = self.0.readable().await?;
            match self.0.get_ref().0.wait() {
                Err(Errno::EAGAIN) => ready.clear_ready(),
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    ready.clear_ready();
                    return Ok(());
                }
            }
        }
    }
}

#[allow(deprecated, reason = "its successor is unsafe, and a timer that is owned meets what that asks for")]
fn readable(timer: Timer) -> io::Result<AsyncFd<Timer>> {
    AsyncFd::with_interest(timer, Interest::READABLE)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use jiff::SignedDuration;

    use super::*;

    #[tokio::test]
    async fn it_rings_at_its_time_and_again_when_set_anew() {
        let alarm = Alarm::new().unwrap();
        for milliseconds in [20, -20, 20] {
            let at = Timestamp::now() + SignedDuration::from_millis(milliseconds);
            alarm.ring(Some(at)).await.unwrap();
            assert!(Timestamp::now() >= at);
        }
        let never = tokio::time::timeout(Duration::from_millis(50), alarm.ring(None));
        assert!(never.await.is_err());
    }
}
