//! A record as a line of the log, for Loki and for `journalctl`.

use hatrack_api::HatSwap;
use hatrack_hats::ticks::{LOG_MESSAGE, Targets, Tick};

use super::{Announced, Outcome, Way};

/// The operator's own log.
pub struct Line;

impl Way for Line {
    const NAME: &'static str = "log";

    fn is_wanted(&self, targets: &Targets) -> bool {
        targets.log
    }

    async fn announce(&mut self, swap: &HatSwap, _: &Targets) -> Announced {
        let Tick { hat, wearer, event, reason, throttle, occurred_at, binding } = Tick::of(swap);
        tracing::info!(
            hat,
            wearer.spiffeID = wearer.spiffe_id,
            event = event.as_str(),
            reason,
            throttle,
            occurredAt = occurred_at,
            binding,
            "{LOG_MESSAGE}"
        );
        Ok(Outcome::Done)
    }
}
