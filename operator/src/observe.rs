//! What the cluster holds, as the rules see it.
//!
//! * In: a watch of each kind, and the answers to the operator's own writes.
//! * Out: [`Observed`], the newest [`World`]; a copy of it is cheap.
//!
//! Nothing is decided before every kind was listed once ([`Seen::is_complete`]). When a watch has to begin anew, what was known before
//! and is not listed any more is forgotten.

mod grants;
mod kinds;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::BoxStream;
use hatrack_hats::{Periods, World};
use hatrack_service::clock::since_boot;
use hatrack_service::log::{Trouble, chain};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

pub use self::grants::{Half, Halves};
pub use self::kinds::{KINDS, Kept};
use crate::config::{BackoffLimits, Config, jittered};
use crate::failure::{Failure, Kind};

/// Everything that was observed.
#[derive(Debug, Default)]
pub struct Seen {
    /// What the rules see.
    pub world: World,
    /// Roles and bindings that the operator made, of which grants are put together.
    pub halves: Halves,
    /// Grows with everything that a decision could turn on and that was not its own doing.
    pub news: u64,
    listed: BTreeSet<&'static str>,
    troubles: BTreeMap<&'static str, String>,
}

impl Seen {
    /// A world that was seen.
    pub fn of(world: World) -> Self {
        Self { world, ..Self::default() }
    }

    /// Whether every kind was listed once.
    pub fn is_complete(&self) -> bool {
        KINDS.iter().all(|kind| self.listed.contains(kind))
    }

    /// What is not being watched, and why: one sentence for each reason.
    pub fn doubts(&self) -> Vec<String> {
        let mut kinds_of: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for (kind, why) in &self.troubles {
            kinds_of.entry(why).or_default().push(kind);
        }
        let mut doubts: Vec<String> =
            kinds_of.into_iter().map(|(why, kinds)| format!("{} are not watched: {why}", kinds.join(", "))).collect();
        let is_awaited = |kind: &&&str| !self.listed.contains(**kind) && !self.troubles.contains_key(**kind);
        let awaited: Vec<&str> = KINDS.iter().filter(is_awaited).copied().collect();
        if !awaited.is_empty() {
            doubts.push(format!("{} are not listed yet", awaited.join(", ")));
        }
        doubts
    }
}

/// The newest state of everything that was observed.
#[derive(Clone, Debug)]
pub struct Observed(Arc<Sent>);

#[derive(Debug)]
struct Sent {
    seen: watch::Sender<Seen>,
    /// The `resourceVersion` up to which the watch of records has come.
    recorded: watch::Sender<u64>,
}

impl Observed {
    /// Nothing has been seen yet.
    pub fn new(periods: Periods) -> Self {
        let seen = Seen::of(World::new(periods));
        Self(Arc::new(Sent { seen: watch::Sender::new(seen), recorded: watch::Sender::new(0) }))
    }

    /// A copy of the newest world, which shares its structure.
    pub fn world(&self) -> World {
        self.0.seen.borrow().world.clone()
    }

    /// Changes as they come.
    pub fn subscribe(&self) -> watch::Receiver<Seen> {
        self.0.seen.subscribe()
    }

    /// The `resourceVersion` up to which every record is known. What this operator wrote itself may be newer.
    pub fn recorded(&self) -> watch::Receiver<u64> {
        self.0.recorded.subscribe()
    }

    /// The watch of records has come to this version.
    pub fn recorded_up_to(&self, version: u64) {
        self.0.recorded.send_if_modified(|known| {
            version > *known && {
                *known = version;
                true
            }
        });
    }

    /// Something was seen. `change` says whether that is news.
    pub fn observe(&self, change: impl FnOnce(&mut Seen) -> bool) {
        self.0.seen.send_if_modified(|seen| {
            let news = change(seen);
            seen.news += u64::from(news);
            news
        });
    }

    /// The operator did something: no news for the next decision, which expects it.
    pub fn did(&self, change: impl FnOnce(&mut Seen)) {
        self.0.seen.send_modify(change);
    }
}

/// Begins to watch every kind.
pub fn begin(tasks: &mut JoinSet<()>, config: &Config, client: &kube::Client, observed: &Observed) {
    kinds::begin(tasks, &Watching { config, client, observed, outage: Outage::default() });
}

/// What every watch is made of.
struct Watching<'a> {
    config: &'a Config,
    client: &'a kube::Client,
    observed: &'a Observed,
    outage: Outage,
}

impl Watching<'_> {
    /// Watches a kind.
    fn watch<K>(&self, tasks: &mut JoinSet<()>, api: Api<K>)
    where
        K: Kept + DeserializeOwned + Clone + Debug + Send + 'static,
        K::DynamicType: Default,
    {
        let silence = self.config.api.watch_seconds();
        let answer = self.config.api.request_timeout.get();
        let (observed, outage) = (self.observed.clone(), self.outage.clone());
        let follower = Follower { outage, observed, limits: self.config.backoff, answer };
        tasks.spawn(follower.follow(api, watcher::Config::default().timeout(silence)));
    }
}

type Events<K> = BoxStream<'static, watcher::Result<Event<K>>>;

/// The API server is away: all watches fail together, and that is said once.
#[derive(Clone, Default)]
struct Outage(Arc<Mutex<Trouble>>);

impl Outage {
    fn log(&self, failure: &Failure) {
        self.trouble().log("the cluster cannot be watched", failure, failure.hint());
    }

    fn end(&self) {
        self.trouble().log_end("the cluster is watched again");
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Follower {
    outage: Outage,
    observed: Observed,
    limits: BackoffLimits,
    /// How long an answer may take.
    answer: Duration,
}

impl Follower {
    /// Follows one kind without end.
    async fn follow<K>(self, api: Api<K>, config: watcher::Config)
    where
        K: Kept + DeserializeOwned + Clone + Debug + Send + 'static,
        K::DynamicType: Default,
    {
        let mut events = watcher(api, config).boxed();
        let mut listing = Listing::default();
        let mut trouble = Trouble::default();
        let mut pause = self.limits.min.get();
        loop {
            match self.next::<K>(&mut events).await {
                Some(Ok(event)) => {
                    // A list that begins has not been answered yet.
                    if !matches!(event, Event::Init) {
                        pause = self.limits.min.get();
                        trouble.log_end(&format!("{} are watched again", K::KIND));
                        self.outage.end();
                    }
                    self.take(event, &mut listing);
                }
                Some(Err(error)) => {
                    let failure = Failure::from(error);
                    match failure.kind() {
                        Kind::Credentials | Kind::Unanswered => self.outage.log(&failure),
                        _ => trouble.log(&format!("{} cannot be watched", K::KIND), &failure, failure.hint()),
                    }
                    self.observed.did(|seen| _ = seen.troubles.insert(K::KIND, chain(&failure)));
                    sleep(jittered(pause)).await;
                    pause = (pause * 2).min(self.limits.max.get());
                }
                None => return,
            }
        }
    }

    /// The next event. A watch that is opened again says nothing before something changes: that it did not fail for longer than an
    /// answer may take is all there is to know.
    async fn next<K: Kept>(&self, events: &mut Events<K>) -> Option<watcher::Result<Event<K>>> {
        if self.observed.0.seen.borrow().troubles.contains_key(K::KIND) {
            match timeout(self.answer * 2, events.next()).await {
                Ok(event) => return event,
                Err(_) => self.observed.did(|seen| _ = seen.troubles.remove(K::KIND)),
            }
        }
        events.next().await
    }

    fn take<K: Kept>(&self, event: Event<K>, listing: &mut Listing) {
        let now = since_boot();
        let reached = listing.reach(&event);
        self.observed.observe(|seen| {
            let was_troubled = !matches!(event, Event::Init) && seen.troubles.remove(K::KIND).is_some();
            let news = match event {
                Event::Init => {
                    *listing = Listing { before: K::keys(seen), ..Listing::default() };
                    false
                }
                Event::InitApply(object) => {
                    listing.listed.insert(object.key());
                    object.observe(seen, now)
                }
                Event::InitDone => {
                    let gone = listing.before.difference(&listing.listed);
                    let forgotten = gone.filter(|key| K::forget(seen, key)).count();
                    *listing = Listing::default();
                    seen.listed.insert(K::KIND) || forgotten > 0
                }
                Event::Apply(object) => object.observe(seen, now),
                Event::Delete(object) => K::forget(seen, &object.key()),
            };
            news || was_troubled
        });
        if let Some(version) = reached {
            K::reached(&self.observed, version);
        }
    }
}

/// A list that has begun: what was known before, and what it has named so far. What the operator makes meanwhile is in neither.
#[derive(Default)]
struct Listing {
    before: BTreeSet<String>,
    listed: BTreeSet<String>,
    newest: u64,
}

impl Listing {
    /// The version up to which everything is known after an event. Lists are in no order: it is their end that counts.
    fn reach<K: Resource>(&mut self, event: &Event<K>) -> Option<u64> {
        match event {
            Event::Init => None,
            Event::InitApply(object) => {
                self.newest = self.newest.max(version(object)?);
                None
            }
            Event::InitDone => Some(self.newest),
            Event::Apply(object) | Event::Delete(object) => version(object),
        }
    }
}

fn version<K: Resource>(object: &K) -> Option<u64> {
    object.meta().resource_version.as_ref()?.parse().ok()
}

/// Time on the clock that silence is counted on.
pub type Steady = Duration;
