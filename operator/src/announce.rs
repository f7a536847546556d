//! Every record is announced once in each way: as an Event on its binding, as a line of the log, on NATS.
//!
//! * In: the records, in the order in which the API server stored them; the policy's `tickEmit`. Out: Events, lines, messages.
//!
//! Each way goes through the records at its own pace, so that a NATS server which is away keeps nobody waiting, and what it missed is
//! in the API when it is back. How far each has come is remembered in the cluster ([`memory`]): the next leader goes on there. What was
//! announced in the moment before a leader was killed, and is not remembered, is announced again; an Event has the record's name and a
//! message its id, so that a second one is none. A line of the log may then stand there twice.
//!
//! | way | a record is announced |
//! |---|---|
//! | Event | once: the API server has one object of a name |
//! | NATS, a stream holds the subject | once in the stream, however long the server was away |
//! | NATS, no stream | at least once to those who listen; who is away misses it |
//! | log | at least once |

mod event;
mod line;
mod memory;
mod nats;

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use hatrack_api::HatSwap;
use hatrack_hats::World;
use hatrack_hats::ticks::{Targets, targets};
use hatrack_service::backoff::Pause;
use hatrack_service::log::Trouble;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use self::memory::Memory;
use crate::config::Config;
use crate::metrics::Announcements;
use crate::observe::{Observed, Seen};
use crate::operator::Shared;

/// A way to announce a record.
trait Way: Send {
    /// The word for metrics, the log and the memory.
    const NAME: &'static str;

    /// Whether the policy wants it.
    fn is_wanted(&self, targets: &Targets) -> bool;

    /// Announces a record. It may have been announced before.
    fn announce(&mut self, swap: &HatSwap, targets: &Targets) -> impl Future<Output = Announced> + Send;
}

/// What became of an announcement. After an error it is tried again.
type Announced = Result<Outcome, Box<dyn Error + Send + Sync>>;

/// An announcement is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// It was heard.
    Done,
    /// It had been announced before.
    Known,
    /// There is nobody to tell: the binding's namespace is gone, or the record names no binding.
    Pointless,
}

impl Outcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Known => "known",
            Self::Pointless => "pointless",
        }
    }
}

/// Announces records while this operator leads.
pub struct Announcer {
    config: Arc<Config>,
    client: Client,
    observed: Observed,
    announcements: Announcements,
    remembered: BTreeMap<String, u64>,
    ways: JoinSet<()>,
    progress: BTreeMap<&'static str, watch::Receiver<u64>>,
}

impl Announcer {
    /// Nothing has been announced yet.
    pub fn new(shared: &Shared) -> Self {
        Self {
            config: Arc::clone(&shared.config),
            client: shared.client.clone(),
            observed: shared.observed.clone(),
            announcements: shared.metrics.announcements.clone(),
            remembered: BTreeMap::new(),
            ways: JoinSet::new(),
            progress: BTreeMap::new(),
        }
    }

    /// Runs until it is dropped. When the history of the API server has gone back, it begins where that says that the ways have come.
    pub async fn run(mut self) {
        let mut histories = self.observed.histories();
        loop {
            histories.mark_unchanged();
            if self.observed.subscribe().wait_for(Seen::is_complete).await.is_err() {
                return;
            }
            let memory = Memory::new(&self.config, &self.client);
            self.remembered = memory.recall().await;
            self.begin(line::Line);
            self.begin(event::Events::new(&self.config, &self.client));
            if let Some(nats) = nats::Nats::new(&self.config) {
                self.begin(nats);
            }
            tokio::select! {
                () = memory.keep(&self.progress) => return,
                // Each goes on for ever: what it cannot do it tries again.
                _ = self.ways.join_next() => return,
                _ = histories.changed() => {}
            }
            self.ways.shutdown().await;
            self.progress.clear();
        }
    }

    fn begin<W: Way + 'static>(&mut self, way: W) {
        let recorded = self.observed.recorded();
        let remembered = self.remembered.get(W::NAME).copied();
        let replay = self.config.announce.replay.get();
        let done = start(&self.observed.world(), remembered, *recorded.borrow(), replay);
        let (done, progress) = watch::channel(done);
        self.progress.insert(W::NAME, progress);
        let (observed, announcements) = (self.observed.clone(), self.announcements.clone());
        self.ways
            .spawn(Crier { way, observed, recorded, done, pause: self.config.backoff.pause(), announcements }.run());
    }
}

/// The version after which records are announced: what is remembered, else the newest that is older than the time to be replayed. A
/// memory of versions that this cluster has not reached is that of another, whose objects were restored here.
fn start(world: &World, remembered: Option<u64>, recorded: u64, replay: Duration) -> u64 {
    if let Some(known) = remembered.filter(|known| *known <= recorded) {
        return known;
    }
    let replay = SignedDuration::try_from(replay).unwrap_or(SignedDuration::MAX);
    let since = Timestamp::now().saturating_sub(replay).unwrap_or(Timestamp::MIN);
    let mut recent = world.swaps_stored_after(0).filter(|(_, swap)| swap.spec.occurred_at.0 >= since);
    recent.next().map_or(recorded, |(version, _)| version.saturating_sub(1).min(recorded))
}

/// Goes through the records in one way.
struct Crier<W> {
    way: W,
    observed: Observed,
    /// Up to which version every record is known.
    recorded: watch::Receiver<u64>,
    /// Up to which version every record is announced.
    done: watch::Sender<u64>,
    pause: Pause,
    announcements: Announcements,
}

impl<W: Way> Crier<W> {
    async fn run(mut self) {
        let mut trouble = Trouble::default();
        loop {
            let recorded = *self.recorded.borrow_and_update();
            let Some((version, swap)) = self.next(recorded) else {
                if self.recorded.changed().await.is_err() {
                    return;
                }
                continue;
            };
            match self.announce(&swap).await {
                Ok(()) => {
                    self.done.send_replace(version);
                    trouble.log_end(&format!("records are announced again: {}", W::NAME));
                    self.pause.reset();
                }
                Err(error) => {
                    self.announcements.count(W::NAME, "failed");
                    trouble.log(&format!("records are not announced: {}", W::NAME), &*error, None);
                    sleep(self.pause.again()).await;
                }
            }
        }
    }

    /// The oldest record that was not announced.
    fn next(&self, recorded: u64) -> Option<(u64, Arc<HatSwap>)> {
        let world = self.observed.world();
        let next = world.swaps_stored_after(*self.done.borrow()).next();
        next.filter(|(version, _)| *version <= recorded).map(|(version, swap)| (version, Arc::clone(swap)))
    }

    async fn announce(&mut self, swap: &HatSwap) -> Result<(), Box<dyn Error + Send + Sync>> {
        let targets = targets(self.observed.world().policy().map(|policy| &policy.spec));
        if self.way.is_wanted(&targets) {
            let outcome = self.way.announce(swap, &targets).await?;
            self.announcements.count(W::NAME, outcome.as_str());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world(records: &[(&str, SignedDuration)]) -> World {
        let mut world = World::default();
        for (version, age) in records {
            let at = Timestamp::now().checked_sub(*age).unwrap();
            let spec = serde_json::json!({
                "hat": "executor", "wearer": {"spiffeID": "spiffe://cluster.local/ns/a/sa/b"}, "event": "SwapOn", "occurredAt": at.to_string()
            });
            let mut swap = HatSwap::new(&format!("record-{version}"), serde_json::from_value(spec).unwrap());
            swap.metadata.resource_version = Some((*version).to_owned());
            world.observe_swap(swap);
        }
        world
    }

    #[test]
    fn announcing_goes_on_where_it_stopped_or_begins_with_what_is_recent() {
        let minutes = SignedDuration::from_mins;
        let world = world(&[("100", minutes(60)), ("9", minutes(90)), ("300", minutes(1)), ("200", minutes(5))]);
        let replay = Duration::from_mins(10);
        let after = |version: u64| world.swaps_stored_after(version).map(|(version, _)| version).collect::<Vec<_>>();
        assert_eq!(after(0), [9, 100, 200, 300], "by the number of the version");
        assert_eq!(start(&world, Some(9), 300, replay), 9, "as long ago as it may be");
        assert_eq!(after(start(&world, None, 300, replay)), [200, 300]);
        assert_eq!(after(start(&world, None, 300, Duration::from_secs(1))), [] as [u64; 0]);
        assert_eq!(after(start(&world, Some(5000), 300, replay)), [200, 300], "the memory of another cluster");
    }
}
