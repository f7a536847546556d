//! Wears hats: does what `status.hats` of the node's own object says.
//!
//! * In: the newest version of the object, the newest [`Observation`], the newest [`Renewal`]; what the service manager tells.
//! * Out: what is worn ([`Wearing`]), which [`crate::publish`] writes and [`crate::lease`] waits for.
//!
//! ```text
//!   object, renewals, time ──> verdict (per binding) ──> records ──> step (per hat) ──> systemd: hat@<hat>.target
//!                                                           │            ▲
//!                                      files of the wearer <┘            └── states of its units
//! ```
//!
//! Both decisions are functions without I/O ([`verdict`], [`step`]). The turn is level-triggered: at each change it looks at
//! everything, so nothing is lost with a signal or a restart. What was started is kept before it is started.
//!
//! An agent that ends leaves the hats as they are: an update of the agent must not end what it watches over, and at a
//! shutdown the service manager stops the targets itself.

mod files;
mod heard;
mod obstacles;
mod record;
mod seat;
mod step;
mod systemd;
mod verdict;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hatrack_api::cluster_node::{Device, HatAssignment, HealthState, WornHat, WornState};
use hatrack_service::log::{Trouble, chain};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use self::obstacles::Obstacles;
use self::record::{End, Kept, KeptFile, Record, Renewed, Stage};
use self::seat::Seat;
use self::step::{Act, Orders, Units};
use self::systemd::Systemd;
use self::verdict::{Limits, Situation, Verdict};
use crate::clock::{Clock, since_boot};
use crate::config::{self, Config};
use crate::lease::Renewal;
use crate::observe::Observation;
use crate::own::Seen;
use crate::standing::Standing;

/// The API keeps no more of a message.
const MESSAGE: usize = 512;

/// Timers of the event loop stand still during suspend: no wait is longer, so that a deadline that passed meanwhile is met soon
/// after.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Least time between two looks at units for what is heard of them: what comes in between is looked at together.
const BETWEEN_LOOKS: Duration = Duration::from_millis(100);

/// Most turns without a pause, before news is waited for.
const TURNS: usize = 4;

/// What is worn.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Wearing {
    /// What is reported; absent before it is known what is to be worn.
    pub worn: Option<Vec<WornHat>>,
    /// The number of the fence that nothing here contradicts: no hat is worn that began under another one.
    pub admits: Option<i32>,
}

/// What decides what is worn.
pub struct Inputs {
    /// The object.
    pub own: watch::Receiver<Seen>,
    /// The machine.
    pub observations: watch::Receiver<Option<Arc<Observation>>>,
    /// The Lease.
    pub renewals: watch::Receiver<Renewal>,
}

/// Wears hats.
pub struct Wearer {
    node: String,
    inputs: Inputs,
    clock: Arc<Clock>,
    wearing: watch::Sender<Wearing>,
    config: config::Wear,
    limits: Limits,
    retry: Duration,
    file: KeptFile,
    kept: Kept,
    saved: Option<Kept>,
    found: bool,
    refused: BTreeMap<String, (HatAssignment, String, Option<Time>)>,
    waiting: BTreeMap<String, (HatAssignment, &'static str, Option<Time>)>,
    units: BTreeMap<String, Units>,
    orders: BTreeMap<String, Orders>,
    systemd: Option<Systemd>,
    /// When units were last looked at.
    looked_at: Option<Instant>,
    /// Whether something was heard of them since.
    has_news: bool,
    obstacles: Obstacles,
    trouble: Trouble,
    wakes_at: Option<Duration>,
}

impl Wearer {
    /// The wearer of the configured node's hats.
    pub fn new(config: &Config, inputs: Inputs, clock: Arc<Clock>, wearing: watch::Sender<Wearing>) -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let file = KeptFile::of(&config.wear.folder, boot.trim());
        let limits = Limits {
            grace: config.wear.grace.get(),
            lease: config.lease.duration.get(),
            slack: config.wear.slack.get(),
            fence_wait: config.wear.fence_wait.get(),
        };
        Self {
            node: config.name.clone(),
            inputs,
            clock,
            wearing,
            limits,
            retry: config.backoff.max.get(),
            found: !file.exists(),
            kept: file.load(),
            saved: None,
            file,
            config: config.wear.clone(),
            refused: BTreeMap::new(),
            waiting: BTreeMap::new(),
            units: BTreeMap::new(),
            orders: BTreeMap::new(),
            systemd: None,
            looked_at: None,
            has_news: false,
            obstacles: Obstacles::default(),
            trouble: Trouble::default(),
            wakes_at: None,
        }
    }

    /// Runs without end.
    pub async fn run(mut self) {
        loop {
            self.inputs.own.mark_unchanged();
            self.inputs.observations.mark_unchanged();
            self.inputs.renewals.mark_unchanged();
            for _ in 0..TURNS {
                if !self.turn().await {
                    break;
                }
            }
            self.pause().await;
        }
    }

    /// Decides, does it, and tells. Returns whether another turn may have something to do at once.
    async fn turn(&mut self) -> bool {
        let before: Vec<_> = self.kept.records.values().map(|record| record.stage).collect();
        self.decide();
        self.tell();
        self.obstacles.all = self.act().await.err();
        self.forget();
        for (why, hint) in self.obstacles.each() {
            self.trouble.log("hats cannot be put on or taken off", &Said(why.to_owned()), Some(hint));
        }
        if self.obstacles.is_empty() {
            self.trouble.log_end("hats can be put on and taken off again");
        }
        self.tell();
        let after: Vec<_> = self.kept.records.values().map(|record| record.stage).collect();
        self.obstacles.all.is_none() && before != after
    }

    /// What is to be worn; `None` when the object does not say.
    fn assigned(&self) -> Option<Vec<HatAssignment>> {
        let seen = self.inputs.observations.borrow().clone();
        let ours = seen.as_ref().and_then(|seen| seen.inventory().hardware_id.clone());
        // The object names devices by names that this machine does not use yet.
        let names_are_new = seen.is_some_and(|seen| seen.state.names_are_new);
        let own = self.inputs.own.borrow();
        match (Standing::of(&own, ours.as_deref()), &*own) {
            (Standing::Ours, Seen::Present(node)) if !names_are_new => {
                Some(node.status.as_ref().and_then(|status| status.hats.clone()).unwrap_or_default())
            }
            (Standing::Another { .. }, _) => Some(Vec::new()),
            _ => None,
        }
    }

    fn renewed(&mut self) -> (Option<Renewed>, bool, Option<i32>) {
        let Renewal { accepted, meets, .. } = self.inputs.renewals.borrow().clone();
        if let Some(accepted) = accepted {
            let known = self.kept.renewed;
            let is_new = known.is_some_and(|known| known.transitions != accepted.transitions);
            let fenced_at = if is_new { Some(accepted.sent) } else { known.and_then(|known| known.fenced_at) };
            self.kept.renewed = Some(Renewed { sent: accepted.sent, transitions: accepted.transitions, fenced_at });
        }
        (self.kept.renewed, accepted.is_some(), meets)
    }

    fn decide(&mut self) {
        let (renewed, is_confirmed, meets) = self.renewed();
        let now = since_boot();
        let situation = Situation { now, renewed, is_confirmed, meets, limits: self.limits };
        self.wakes_at = None;
        let assigned = self.assigned();
        let is_known = assigned.is_some();
        let assigned =
            assigned.unwrap_or_else(|| self.kept.records.values().map(|record| record.assignment.clone()).collect());
        let mut seen = BTreeSet::new();
        let (refused, waiting) = (std::mem::take(&mut self.refused), std::mem::take(&mut self.waiting));
        for assignment in assigned {
            let uid = assignment.binding.clone();
            if !seen.insert(uid.clone()) {
                continue;
            }
            if let Err(why) = Seat::of(&assignment) {
                let since = refused.get(&uid).and_then(|(_, _, since)| since.clone());
                self.refused.insert(uid, (assignment, why, since));
                continue;
            }
            let known_end = self.kept.records.get(&uid).and_then(|record| record.ends);
            let ends = if is_known { self.end_of_term(&assignment, now) } else { known_end };
            let mut verdict = verdict::verdict(Some(&assignment), ends, self.kept.records.get(&uid), &situation);
            if matches!(verdict, Verdict::Wear { .. }) && self.is_kept_waiting(&assignment) {
                verdict = Verdict::Wait("waiting for another hat to give its devices back", None);
            }
            // What has ended begins anew by what the operator says now, not by what it once said.
            let has_ended = self.kept.records.get(&uid).is_some_and(|record| record.stage == Stage::Ended);
            if is_known || !has_ended {
                self.settle(&uid, Some((assignment.clone(), ends)), &verdict, now);
            }
            if let Verdict::Wait(why, until) = verdict {
                self.wake(until);
                let since = waiting.get(&uid).and_then(|(_, _, since)| since.clone());
                if !self.kept.records.contains_key(&uid) {
                    self.waiting.insert(uid, (assignment, why, since));
                }
            }
        }
        let gone: Vec<String> = self.kept.records.keys().filter(|uid| !seen.contains(*uid)).cloned().collect();
        for uid in gone {
            self.settle(&uid, None, &Verdict::End(End::Asked), now);
        }
    }

    /// Whether a hat that is to begin names a device which another one has not given back yet. The operator waits for that before it gives a
    /// device away, and cannot where what it knows was restored from a backup.
    fn is_kept_waiting(&self, assignment: &HatAssignment) -> bool {
        let is_live = |record: &Record| record.stage != Stage::Ended;
        if self.kept.records.get(&assignment.binding).is_some_and(is_live) {
            return false;
        }
        let mut others = self.kept.records.values().filter(|record| is_live(record));
        others.any(|record| record.assignment.devices.iter().any(|device| assignment.devices.contains(device)))
    }

    /// Moves one record on.
    fn settle(
        &mut self,
        uid: &str,
        assigned: Option<(HatAssignment, Option<Duration>)>,
        verdict: &Verdict,
        now: Duration,
    ) {
        let number = self.kept.renewed.map_or(0, |renewed| renewed.transitions);
        if let Verdict::Wear { until } = verdict {
            self.wake(Some(*until));
        }
        let Some(record) = self.kept.records.get_mut(uid) else {
            if let Some((assignment, ends)) = assigned {
                // What was never begun has ended when that is asked for.
                let stage = match verdict {
                    Verdict::Wear { .. } => Stage::Starting,
                    Verdict::End(_) => Stage::Ended,
                    Verdict::Wait(..) => return,
                };
                let end = if let Verdict::End(end) = verdict { Some(*end) } else { None };
                let record = Record {
                    assignment,
                    ends,
                    transitions: number,
                    stage,
                    end,
                    ending_since: None,
                    ordered: false,
                    has_own_units: false,
                    reported: None,
                };
                self.kept.records.insert(uid.to_owned(), record);
            }
            return;
        };
        if let Some((assignment, ends)) = assigned {
            (record.assignment, record.ends) = (assignment, ends);
        }
        match verdict {
            Verdict::End(end) => step::end_for(record, *end, now),
            Verdict::Wear { .. } if record.stage == Stage::Ended => {
                (record.stage, record.end, record.ending_since) = (Stage::Starting, None, None);
                (record.ordered, record.has_own_units, record.transitions) = (false, false, number);
            }
            // An agent before this one was to begin it and had not asked the service manager yet: it is as if it had not been assigned.
            Verdict::Wait(..) if record.stage == Stage::Starting && !record.ordered => {
                remove_files(&self.config.folder, record);
                self.kept.records.remove(uid);
            }
            Verdict::Wear { .. } | Verdict::Wait(..) => {}
        }
    }

    /// When a term ends, as time since boot by the API server's clock.
    fn end_of_term(&self, assignment: &HatAssignment, now: Duration) -> Option<Duration> {
        let left = assignment.expires_at.as_ref()?.0.duration_since(self.clock.now());
        if left.is_negative() { Some(now.saturating_sub(left.unsigned_abs())) } else { Some(now + left.unsigned_abs()) }
    }

    fn wake(&mut self, at: Option<Duration>) {
        self.wakes_at = [self.wakes_at, at].into_iter().flatten().min();
    }

    /// Writes files, and brings the targets to where the records want them. What is wrong with one hat alone is among the obstacles.
    async fn act(&mut self) -> Result<(), String> {
        let kept = self.save();
        self.write_files();
        let live =
            |record: &&Record| record.stage != Stage::Ended && (record.ordered || record.stage == Stage::Starting);
        let mut hats: BTreeSet<String> =
            self.kept.records.values().filter(live).map(|record| record.assignment.name.clone()).collect();
        for record in self.kept.records.values_mut().filter(|record| record.stage == Stage::Ending && !record.ordered) {
            record.stage = Stage::Ended;
        }
        if hats.is_empty() && self.found {
            self.units.clear();
            self.orders.clear();
            self.obstacles.refused.clear();
            self.systemd = None;
            return kept;
        }
        if !self.is_look_due() {
            return kept;
        }
        if self.systemd.is_none() {
            let connected = Systemd::connect(&self.config.bus, self.config.deadline.get()).await;
            self.systemd = Some(connected.map_err(|error| {
                format!("the service manager cannot be reached at {}: {}", self.config.bus, chain(&error))
            })?);
        }
        (self.looked_at, self.has_news) = (Some(Instant::now()), false);
        tracing::debug!("units are looked at");
        let strays = self.strays(&hats).await?;
        self.found = true;
        hats.extend(strays);
        self.orders.retain(|hat, _| hats.contains(hat));
        self.units.retain(|hat, _| hats.contains(hat));
        self.obstacles.refused.retain(|hat, _| hats.contains(hat));
        if let Some(systemd) = &self.systemd {
            systemd.listen_for(&hats);
        }
        // What ends does not wait for what begins.
        let (ends, others): (Vec<_>, Vec<_>) = hats.into_iter().partition(|hat| self.is_to_end(hat));
        for hat in ends.into_iter().chain(others) {
            match self.bring(&hat, kept.is_ok()).await {
                Ok(()) => _ = self.obstacles.refused.remove(&hat),
                Err(error) => {
                    let why = format!("{}: {}", Seat::target(&hat), chain(&error));
                    if !systemd::is_refusal(&error) {
                        self.systemd = None;
                        return Err(why);
                    }
                    self.obstacles.refused.insert(hat, why);
                }
            }
        }
        kept
    }

    /// Whether something of a hat is to be stopped: one of its wearers ends, or it has none.
    fn is_to_end(&self, hat: &str) -> bool {
        let mut live = self.kept.records.values().filter(|record| record.assignment.name == hat);
        let is_wanted = |record: &Record| matches!(record.stage, Stage::Starting | Stage::Worn);
        !live.clone().any(is_wanted) || live.any(|record| record.stage == Stage::Ending)
    }

    /// Whether units are to be looked at. Time, a renewal of the Lease and another observation say nothing about them.
    fn is_look_due(&self) -> bool {
        let is_late = self.looked_at.is_none_or(|at| at.elapsed() >= self.config.check.get());
        self.systemd.is_none() || self.has_news || self.is_moving() || is_late
    }

    fn is_moving(&self) -> bool {
        self.kept.records.values().any(|record| matches!(record.stage, Stage::Starting | Stage::Ending))
    }

    /// Hats that run and that nobody assigned: they are stopped.
    async fn strays(&mut self, wanted: &BTreeSet<String>) -> Result<Vec<String>, String> {
        let Some(systemd) = &self.systemd else { return Ok(Vec::new()) };
        let found = systemd.hats().await;
        let found = found.map_err(|error| {
            self.systemd = None;
            format!("the service manager does not say what runs: {}", chain(&error))
        })?;
        Ok(found.into_iter().filter(|hat| !wanted.contains(hat)).collect())
    }

    /// Looks at the units of a hat, and asks for what is to be done next.
    async fn bring(&mut self, hat: &str, is_kept: bool) -> zbus::Result<()> {
        let Some(systemd) = &self.systemd else { return Ok(()) };
        let units = systemd.units(hat).await?;
        let orders = self.orders.entry(hat.to_owned()).or_default();
        let mut records: Vec<&mut Record> = self
            .kept
            .records
            .values_mut()
            .filter(|record| record.assignment.name == hat && record.stage != Stage::Ended)
            .collect();
        let act = if records.is_empty() {
            // One that was stopped and runs again before it was seen at rest is stopped again.
            if units.target.is_active() { Act::Stop } else { Act::Rest }
        } else {
            step::next(&mut records, &units, orders, since_boot(), self.config.patience.get())
        };
        // What is known of the units is old once they are told something.
        if act == Act::Rest {
            self.units.insert(hat.to_owned(), units)
        } else {
            self.units.remove(hat)
        };
        let done = match act {
            Act::Rest => return Ok(()),
            // Nothing begins without its files, and everything ends without them.
            Act::Start if !is_kept || self.obstacles.unwritten.contains_key(hat) => {
                self.orders.remove(hat);
                return Ok(());
            }
            Act::Start => self.start(hat).await,
            Act::Stop => systemd.stop(hat).await.inspect(|()| tracing::info!(hat, "a hat is taken off")),
        };
        if done.is_err() {
            self.orders.remove(hat);
        }
        done
    }

    async fn start(&mut self, hat: &str) -> zbus::Result<()> {
        let mut first = Vec::new();
        for (uid, record) in &mut self.kept.records {
            if record.assignment.name == hat && record.stage == Stage::Starting && !record.ordered {
                record.ordered = true;
                first.push(uid.clone());
            }
        }
        // Before it is done: an agent that is killed now finds that it was done.
        self.keep_ordered();
        let Some(systemd) = &self.systemd else { return Ok(()) };
        let started = systemd.start(hat).await;
        match &started {
            Ok(()) => tracing::info!(hat, "a hat is put on"),
            // Nothing has been started.
            Err(error) if systemd::is_refusal(error) => {
                let records = self.kept.records.iter_mut().filter(|(uid, _)| first.contains(uid));
                records.for_each(|(_, record)| record.ordered = false);
                self.keep_ordered();
            }
            Err(_) => {}
        }
        started
    }

    fn keep_ordered(&mut self) {
        if let Err(why) = self.save() {
            tracing::warn!(why, "what is started cannot be kept");
        }
    }

    /// Writes the files of all wearers.
    fn write_files(&mut self) {
        let live = self.kept.records.values().filter(|record| record.stage != Stage::Ended);
        let written = live.map(|record| (record.assignment.name.clone(), self.write_files_of(record)));
        self.obstacles.unwritten = written.filter_map(|(hat, written)| Some((hat, written.err()?))).collect();
    }

    fn write_files_of(&self, record: &Record) -> Result<(), String> {
        let seat = Seat::of(&record.assignment)?;
        // Before the first look nothing is known of the devices: what was written stands.
        let Some(observation) = self.inputs.observations.borrow().clone() else { return Ok(()) };
        let devices: Vec<&Device> = held(&observation, &record.assignment).collect();
        let is_ending = record.stage == Stage::Ending;
        let texts = files::texts(&self.node, &record.assignment, &devices, record.transitions, is_ending);
        files::write(&self.config.folder, &seat, &texts).map_err(|error| {
            format!("the files of {} in {} cannot be written: {error}", seat.hat, self.config.folder.display())
        })
    }

    /// Removes the files of what has ended, and the record of what is not assigned any more.
    fn forget(&mut self) {
        let assigned: Option<BTreeSet<String>> =
            self.assigned().map(|assigned| assigned.into_iter().map(|hat| hat.binding).collect());
        let folder = &self.config.folder;
        self.kept.records.retain(|uid, record| {
            if record.stage != Stage::Ended {
                return true;
            }
            remove_files(folder, record);
            assigned.as_ref().is_none_or(|assigned| assigned.contains(uid))
        });
        if let Err(why) = self.save() {
            tracing::debug!(why, "what is worn cannot be kept");
        }
    }

    fn save(&mut self) -> Result<(), String> {
        let is_empty = self.kept.records.is_empty() && self.saved.as_ref().is_none_or(|saved| saved.records.is_empty());
        let is_same = self.saved.as_ref() == Some(&self.kept);
        if is_same || (is_empty && !self.file.exists()) {
            return Ok(());
        }
        let saved = self.file.save(&self.kept);
        saved.map_err(|error| format!("what is worn cannot be kept in {}: {error}", self.config.folder.display()))?;
        self.saved = Some(self.kept.clone());
        Ok(())
    }

    /// Publishes what is worn, if that is news.
    fn tell(&mut self) {
        let now = self.clock.now();
        let now = Time(Timestamp::from_second(now.as_second()).unwrap_or(now));
        let observation = self.inputs.observations.borrow().clone();
        let mut worn = Vec::new();
        for (uid, record) in &mut self.kept.records {
            let units = self.units.get(&record.assignment.name);
            let orders = self.orders.get(&record.assignment.name).copied().unwrap_or_default();
            let (state, message) = report(record, units, orders, self.obstacles.of(&record.assignment.name));
            let message = with_devices(message, observation.as_deref(), &record.assignment, state);
            let since = match &record.reported {
                Some((last, since)) if *last == state => since.clone(),
                _ => now.clone(),
            };
            record.reported = Some((state, since.clone()));
            worn.push(worn_hat(uid, state, since, &message));
        }
        for (uid, (assignment, why, since)) in &mut self.refused {
            let since = since.get_or_insert_with(|| now.clone()).clone();
            let state = if assignment.is_worn() { WornState::Failed } else { WornState::Stopped };
            worn.push(worn_hat(uid, state, since, why));
        }
        for (uid, (_, why, since)) in &mut self.waiting {
            let since = since.get_or_insert_with(|| now.clone()).clone();
            worn.push(worn_hat(uid, WornState::Starting, since, why));
        }
        worn.sort_by(|a, b| a.binding.cmp(&b.binding));
        let is_known = self.assigned().is_some();
        let meets = self.inputs.renewals.borrow().meets;
        let admits = meets.filter(|number| {
            let contradicts = |record: &Record| record.stage != Stage::Ended && record.transitions != *number;
            !self.kept.records.values().any(contradicts)
        });
        self.wearing.send_if_modified(|wearing| {
            let worn = if is_known { Some(worn) } else { wearing.worn.clone() };
            let news = Wearing { worn, admits };
            let changed = *wearing != news;
            *wearing = news;
            changed
        });
    }

    /// Waits for news.
    async fn pause(&mut self) {
        let now = since_boot();
        let mut wait = self.wakes_at.map(|at| at.saturating_sub(now).min(LONGEST_WAIT));
        if !self.obstacles.is_empty() {
            wait = Some(wait.map_or(self.retry, |wait| wait.min(self.retry)));
        }
        if self.systemd.is_some() {
            let since = self.looked_at.map_or(Duration::ZERO, |at| at.elapsed());
            let check = if self.is_moving() { LONGEST_WAIT } else { self.config.check.get().saturating_sub(since) };
            wait = Some(wait.map_or(check, |wait| wait.min(check)));
        }
        let began = Instant::now();
        let ready_at = self.looked_at.map_or(began, |at| at + BETWEEN_LOOKS);
        let Inputs { own, observations, renewals } = &mut self.inputs;
        let mut told = None;
        tokio::select! {
            Ok(()) = own.changed() => {}
            Ok(()) = observations.changed() => {}
            Ok(()) = renewals.changed() => {}
            news = news(&mut self.systemd, ready_at) => told = Some(news),
            () = sleep(wait.unwrap_or(Duration::MAX)), if wait.is_some() => {}
            else => std::future::pending().await,
        }
        match told {
            Some(Some(())) => self.has_news = true,
            Some(None) => self.systemd = None,
            None => {}
        }
        tracing::trace!(waited = ?began.elapsed(), "hats are looked at");
    }
}

/// Waits for news of units, from this time on; `None`: the bus has gone.
async fn news(systemd: &mut Option<Systemd>, from: Instant) -> Option<()> {
    match systemd {
        Some(systemd) => {
            sleep_until(from).await;
            systemd.news().await
        }
        None => std::future::pending().await,
    }
}

/// The devices of an assignment, as far as the machine has them.
fn held<'a>(observation: &'a Observation, assignment: &'a HatAssignment) -> impl Iterator<Item = &'a Device> {
    observation.inventory().devices.iter().filter(|device| assignment.devices.contains(&device.name))
}

fn remove_files(folder: &Path, record: &Record) {
    if let Ok(seat) = Seat::of(&record.assignment)
        && let Err(error) = files::remove(folder, &seat)
    {
        tracing::warn!(%error, binding = seat.binding, "the files of a hat that is not worn cannot be removed");
    }
}

/// State and message of a record.
fn report(record: &Record, units: Option<&Units>, orders: Orders, obstacle: Option<&str>) -> (WornState, String) {
    let target = Seat::target(&record.assignment.name);
    match record.stage {
        Stage::Starting => match (obstacle, units) {
            (Some(why), _) => (WornState::Failed, why.to_owned()),
            (None, Some(units)) if orders.start && units.target.is_at_rest() => {
                (WornState::Failed, format!("{target} did not start"))
            }
            _ => (WornState::Starting, String::new()),
        },
        Stage::Worn => match units {
            Some(units) if units.target.is_at_rest() => {
                (WornState::Failed, format!("{target} is not active: somebody else stopped it"))
            }
            Some(units) if !units.failed().is_empty() => {
                (WornState::Failed, format!("{} failed: see `journalctl -u`", units.failed().join(", ")))
            }
            _ => (WornState::Running, obstacle.unwrap_or_default().to_owned()),
        },
        Stage::Ending => {
            let running = units.map(|units| units.running().join(", ")).unwrap_or_default();
            let waits = if running.is_empty() { String::new() } else { format!("waiting for {running} to stop") };
            (WornState::Stopping, obstacle.map_or(waits, str::to_owned))
        }
        Stage::Ended if record.end.is_none_or(End::is_final) => (WornState::Stopped, String::new()),
        Stage::Ended => (WornState::Failed, record.end.map_or("", End::words).to_owned()),
    }
}

/// A device that is not what it was granted as makes the hat Degraded. The operator moves it when that lasts.
fn with_devices(message: String, seen: Option<&Observation>, assignment: &HatAssignment, state: WornState) -> String {
    let Some(seen) = seen.filter(|_| !matches!(state, WornState::Stopped | WornState::Stopping)) else {
        return message;
    };
    let is_usable = |name: &&String| {
        held(seen, assignment).any(|device| device.name == **name && device.health.state != HealthState::Unusable)
    };
    let lost: Vec<&str> = assignment.devices.iter().filter(|name| !is_usable(name)).map(String::as_str).collect();
    if lost.is_empty() {
        return message;
    }
    let degraded = format!("Degraded: {} gone or unusable", lost.join(", "));
    if message.is_empty() { degraded } else { format!("{degraded}; {message}") }
}

fn worn_hat(binding: &str, state: WornState, since: Time, message: &str) -> WornHat {
    WornHat { binding: binding.to_owned(), state, since, message: message.chars().take(MESSAGE).collect() }
}

/// What is said of a failure that has been put into words.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Said(String);
