//! What the service manager hears (sd_notify(3)): that the agent is ready, that it is alive, and how it is.

use std::sync::Arc;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use crate::observe::Observation;
use crate::serve::View;

/// How often the status line is looked at when no watchdog asks for more.
const STATUS_PERIOD: Duration = Duration::from_secs(10);

/// Tells the service manager something. Without one nobody listens, which is no failure.
pub fn tell(state: &[NotifyState]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::debug!(%error, "the service manager was not told");
    }
}

/// Reports without end. The agent is ready after its first look and not after its registration: what is ordered after it must
/// not wait for a cluster. The watchdog is fed from the event loop that all tasks share, so it starves when that stands still.
pub async fn report(view: Arc<View>, mut observations: watch::Receiver<Option<Arc<Observation>>>) {
    let watchdog = sd_notify::watchdog_enabled();
    if observations.wait_for(Option::is_some).await.is_err() {
        return;
    }
    tell(&[NotifyState::Ready]);
    let mut ticks = interval(watchdog.map_or(STATUS_PERIOD, |limit| (limit / 2).min(STATUS_PERIOD)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = String::new();
    loop {
        ticks.tick().await;
        if watchdog.is_some() {
            tell(&[NotifyState::Watchdog]);
        }
        let doubts = view.doubts();
        let status = if doubts.is_empty() { "registered".to_owned() } else { doubts.join("; ") };
        if status != told {
            tell(&[NotifyState::Status(&status)]);
            told = status;
        }
    }
}
