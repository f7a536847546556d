//! What the cluster holds, as the rules see it.
//!
//! * In: a watch of each kind, and the answers to the operator's own writes.
//! * Out: [`Observed`], the newest [`World`]; a copy of it is cheap.
//!
//! Nothing is decided before every kind was listed ([`Seen::is_complete`]), and listed again since this operator leads: a watch may have brought
//! nothing for a while without a sign, and another operator decided meanwhile ([`Observed::list_anew`]). A watch that failed is not resumed: its kind
//! is listed anew, and what was known before and is not listed any more is forgotten. So it is done after a while in any case (`api.resync`).
//!
//! Versions are compared, and an older one is late news: but for a list. One that is older than what was known before it was asked for shows
//! that the history of the API server has gone back, as after a restore from a backup. Everything that is known is of another history
//! then, and everything is listed anew ([`Observed::histories`]).

mod grants;
mod kinds;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use hatrack_hats::{Periods, World};
use hatrack_service::backoff::jittered;
use hatrack_service::clock::since_boot;
use hatrack_service::log::{Trouble, chain};
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Sleep, sleep};

pub use self::grants::{Half, Halves};
use self::kinds::version;
pub use self::kinds::{KINDS, Kept, Written};
use crate::config::{BackoffLimits, Config};
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
    /// Counts up when everything is to be listed anew: a list that had begun before says nothing.
    round: u64,
    troubles: BTreeMap<&'static str, String>,
    /// The `resourceVersion` up to which the watch of each kind has come.
    reached: BTreeMap<&'static str, u64>,
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

    /// Whether the watch has brought what comes after this version of an object, such as that somebody changed or deleted it.
    pub fn is_past<K: Kept>(&self, object: &K) -> bool {
        version(object).is_some_and(|version| self.reached.get(K::KIND).is_some_and(|reached| *reached > version))
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
    /// How often the history of the API server has gone back.
    histories: watch::Sender<u64>,
    /// How often everything was to be listed anew.
    rounds: watch::Sender<u64>,
    periods: Periods,
}

impl Observed {
    /// Nothing has been seen yet.
    pub fn new(periods: Periods) -> Self {
        let seen = watch::Sender::new(Seen::of(World::new(periods)));
        let count = || watch::Sender::new(0);
        Self(Arc::new(Sent { seen, recorded: count(), histories: count(), rounds: count(), periods }))
    }

    /// Counts up when the history of the API server has gone back: nothing is known of the one that it has now.
    pub fn histories(&self) -> watch::Receiver<u64> {
        self.0.histories.subscribe()
    }

    /// Lists everything of a kind and watches from there, again and again: after each error, when everything is to be listed anew, and after
    /// the time of a resync.
    pub fn follow<K>(&self, api: Api<K>, config: watcher::Config, resync: Duration) -> Events<K>
    where
        K: Resource + DeserializeOwned + Clone + Debug + Send + 'static,
        K::DynamicType: Default,
    {
        let rounds = Rounds { observed: self.clone(), begun: self.rounds(), api, config, resync, current: None };
        stream::unfold(rounds, async |mut rounds| Some((rounds.next().await, rounds))).boxed()
    }

    fn begin_anew(&self) {
        tracing::warn!("the history of the API server has gone back: everything is listed anew");
        self.0.seen.send_modify(|seen| {
            let (news, round) = (seen.news + 1, seen.round + 1);
            *seen = Seen { news, round, ..Seen::of(World::new(self.0.periods)) };
        });
        self.0.recorded.send_replace(0);
        self.0.histories.send_modify(|count| *count += 1);
        self.0.rounds.send_modify(|count| *count += 1);
    }

    /// A watch may have gone stale without a sign: everything is listed anew, and nothing is complete before that.
    pub fn list_anew(&self) {
        self.0.seen.send_modify(|seen| {
            seen.listed.clear();
            seen.round += 1;
        });
        self.0.rounds.send_modify(|count| *count += 1);
    }

    fn rounds(&self) -> watch::Receiver<u64> {
        self.0.rounds.subscribe()
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

/// What comes of a kind that is followed.
pub type Events<K> = BoxStream<'static, watcher::Result<Event<K>>>;

/// A list and the watch that begins there, and then the next one.
struct Rounds<K: Resource> {
    /// Held, so that there is always another round.
    observed: Observed,
    /// Changes when the next one is to begin.
    begun: watch::Receiver<u64>,
    api: Api<K>,
    config: watcher::Config,
    resync: Duration,
    current: Option<(Events<K>, Pin<Box<Sleep>>)>,
}

impl<K> Rounds<K>
where
    K: Resource + DeserializeOwned + Clone + Debug + Send + 'static,
    K::DynamicType: Default,
{
    async fn next(&mut self) -> watcher::Result<Event<K>> {
        loop {
            let (events, end) = self.current.get_or_insert_with(|| {
                self.begun = self.observed.rounds();
                let events = watcher(self.api.clone(), self.config.clone()).boxed();
                (events, Box::pin(sleep(jittered(self.resync))))
            });
            let event = tokio::select! {
                biased;
                _ = self.begun.changed() => None,
                () = end => None,
                event = events.next() => event,
            };
            match event {
                Some(Ok(event)) => return Ok(event),
                Some(Err(error)) => {
                    self.current = None;
                    return Err(error);
                }
                None => self.current = None,
            }
        }
    }
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
        let selected = watcher::Config::default().timeout(self.config.api.watch_seconds());
        let (observed, outage) = (self.observed.clone(), self.outage.clone());
        let follower = Follower { outage, observed, limits: self.config.backoff, resync: self.config.api.resync.get() };
        tasks.spawn(follower.follow(api, selected));
    }
}

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
    /// How long a watch may go on before everything is listed anew.
    resync: Duration,
}

impl Follower {
    /// Follows one kind without end.
    async fn follow<K>(self, api: Api<K>, config: watcher::Config)
    where
        K: Kept + DeserializeOwned + Clone + Debug + Send + 'static,
        K::DynamicType: Default,
    {
        let mut events = self.observed.follow(api, config, self.resync);
        let mut listing = Listing::default();
        let mut hearing = Hearing { last: since_boot(), is_lost: false };
        let mut trouble = Trouble::default();
        let mut pause = self.limits.pause();
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    // A list that begins has not been answered yet.
                    if !matches!(event, Event::Init) {
                        pause.reset();
                        trouble.log_end(&format!("{} are watched again", K::KIND));
                        self.outage.end();
                        self.hear::<K>(&event, &mut hearing);
                    }
                    self.take(event, &mut listing);
                }
                Err(error) => {
                    hearing.is_lost = true;
                    self.failed::<K>(error, &mut trouble);
                    sleep(pause.again()).await;
                }
            }
        }
    }

    /// Something was heard. When everything is known again after a watch had failed, how long that was is told: from the last thing that
    /// was heard, as a connection may be dead for long before that is noticed.
    fn hear<K: Kept>(&self, event: &Event<K>, hearing: &mut Hearing) {
        let now = since_boot();
        if hearing.is_lost && matches!(event, Event::InitDone) {
            self.observed.did(|seen| K::unheard(seen, now.saturating_sub(hearing.last), now));
            hearing.is_lost = false;
        }
        if !hearing.is_lost {
            hearing.last = now;
        }
    }

    /// Until the kind is listed again nothing is decided: what is known of it may be of a history that is no more.
    fn failed<K: Kept>(&self, error: watcher::Error, trouble: &mut Trouble) {
        let failure = Failure::from(error);
        match failure.kind() {
            Kind::Credentials | Kind::Unanswered => self.outage.log(&failure),
            _ => trouble.log(&format!("{} cannot be watched", K::KIND), &failure, failure.hint()),
        }
        self.observed.did(|seen| {
            seen.listed.remove(K::KIND);
            seen.troubles.insert(K::KIND, chain(&failure));
        });
    }

    fn take<K: Kept>(&self, event: Event<K>, listing: &mut Listing) {
        let now = since_boot();
        if listing.shows_another_history(&event) {
            return self.observed.begin_anew();
        }
        let reached = listing.reach(&event);
        self.observed.observe(|seen| {
            if let Some(version) = reached {
                seen.reached.insert(K::KIND, version);
            }
            let was_troubled = !matches!(event, Event::Init) && seen.troubles.remove(K::KIND).is_some();
            let news = match event {
                Event::Init => {
                    *listing = Listing { before: K::known(seen), round: seen.round, ..Listing::default() };
                    false
                }
                Event::InitApply(object) => {
                    listing.listed.insert(object.key());
                    object.observe(seen, now)
                }
                // The next list is on its way.
                Event::InitDone if listing.round != seen.round => false,
                Event::InitDone => {
                    let gone = listing.before.keys().filter(|key| !listing.listed.contains(*key));
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

/// When something of a kind was heard last, and whether the watch has failed since.
struct Hearing {
    last: Duration,
    is_lost: bool,
}

/// A list that has begun: what was known before, and what it has named so far. What the operator makes meanwhile is in neither.
#[derive(Default)]
struct Listing {
    before: BTreeMap<String, u64>,
    listed: BTreeSet<String>,
    newest: u64,
    /// The round in which it was asked for.
    round: u64,
}

impl Listing {
    /// Whether an object is listed that is older than what was known of it when the list was asked for.
    fn shows_another_history<K: Kept>(&self, event: &Event<K>) -> bool {
        let Event::InitApply(object) = event else { return false };
        let Some(before) = self.before.get(&object.key()) else { return false };
        version(object).is_some_and(|listed| listed < *before)
    }

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

/// Time on the clock that silence is counted on.
pub type Steady = Duration;
