//! What the service manager hears (sd_notify(3)): that the program is ready, that it is alive, and how it is.

use std::time::Duration;

use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};

/// How often the status line is looked at when no watchdog asks for more.
const STATUS_PERIOD: Duration = Duration::from_secs(10);

/// Tells the service manager something. Without one nobody listens, which is no failure.
pub fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// Reports without end that the program is ready and how it is. The watchdog is fed from the event loop that all tasks share, so it
/// starves when that stands still.
pub async fn report(status: impl Fn() -> String) {
    let watchdog = sd_notify::watchdog_enabled();
    tell(&[NotifyState::Ready]);
    let mut ticks = interval(watchdog.map_or(STATUS_PERIOD, |limit| (limit / 2).min(STATUS_PERIOD)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    loop {
        ticks.tick().await;
        if watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
        let status = status();
        if status != told {
            tell(&[NotifyState::Status(&status)]);
            told = status;
        }
    }
}
