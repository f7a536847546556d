//! The records, by what is asked of them: who had which hat when, and how the hat's terms ended.
//!
//! **Reputation** of a hat is the share of its terms that ended well, over all its wearers, in percent and rounded down:
//! `100 × (well + 1) / (well + 2 × revoked + probations + 1)`. A term ends well by its end, by being given back or by an
//! exception that is over; a revocation weighs twice, a probation once; what is not the wearer's doing (a lost node, a lost
//! device, a withdrawn request) does not count. It is absent before the first end or probation. It is a function of the records
//! that are kept (`swapRetentionDays`).
//!
//! **Lifetime wearers** are the distinct identities in the kept records; the hat's status keeps the largest number seen.
//!
//! **Attribution**: between going on and coming off a hat is worn; after that, until the record's `stickyAttributionEndsAt`, what
//! happens with the hat's authority is still attributed to its last wearer. The answer is whole for every time in the last
//! `swapRetentionDays`: of each binding the last record before that is kept as well, until the next is as old.

use std::sync::Arc;

use hatrack_api::hat_swap::{HatSwap, HatSwapSpec, SwapEvent};
use imbl::{OrdMap, OrdSet};
use jiff::Timestamp;

use super::few::Few;
use super::{Id, Name, World, name_of};
use crate::action::numbered;
use crate::lifecycle::Cause;

/// The name of a record, taken apart: a transition is found by its binding and its number.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RecordName {
    Transition(Id, i64),
    Other(Name),
}

impl RecordName {
    /// None comes before it.
    const FIRST: Self = Self::Transition(Id::FIRST, i64::MIN);

    /// Its number, if it is a transition of this binding.
    fn number_of(&self, binding: &Id) -> Option<i64> {
        match self {
            Self::Transition(of, number) if of == binding => Some(*number),
            Self::Transition(..) | Self::Other(_) => None,
        }
    }
}

impl From<&str> for RecordName {
    fn from(name: &str) -> Self {
        match numbered(name) {
            Some((binding, number)) => Self::Transition(binding.into(), number),
            None => Self::Other(name.into()),
        }
    }
}

/// When something was recorded, and as what.
type Entry = (Timestamp, RecordName);

/// Records in the order in which things happened, then by name.
type Timeline = OrdSet<Entry>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    /// The transitions of a binding stand together, by their numbers.
    by_name: OrdMap<RecordName, Arc<HatSwap>>,
    by_time: Timeline,
    recent: Recent,
    of_wearer: Few<Entry>,
    of_hat: OrdMap<Name, Timeline>,
    /// By `resourceVersion`: the order in which the API server stored them. What was not read from one has none.
    by_version: OrdMap<u64, Arc<HatSwap>>,
    tallies: OrdMap<Name, Tally>,
}

/// How many records are newer than a time. It goes on with the clock, so that each record is passed once.
#[derive(Clone, Copy, Debug, Default)]
struct Recent {
    since: Timestamp,
    count: usize,
}

/// How the terms of a hat ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Terms that ended well.
    pub well: i64,
    /// Terms that a supervisor ended.
    pub revoked: i64,
    /// Times that a supervisor reduced a wearer's authority.
    pub probations: i64,
    /// Records of each wearer that had the hat on.
    wearers: OrdMap<Name, i64>,
}

impl Tally {
    /// See the module.
    pub fn reputation(&self) -> Option<i64> {
        let counted = self.well + self.revoked + self.probations;
        (counted > 0).then(|| 100 * (self.well + 1) / (self.well + 2 * self.revoked + self.probations + 1))
    }

    /// Distinct identities that had the hat on.
    pub fn wearers(&self) -> i64 {
        i64::try_from(self.wearers.len()).unwrap_or(i64::MAX)
    }

    fn count(&mut self, record: &HatSwapSpec, by: i64) {
        let cause = cause(record);
        match record.event {
            SwapEvent::SwapOff if cause == Some(Cause::Revoked) => self.revoked += by,
            SwapEvent::SwapOff if !cause.is_some_and(Cause::is_no_fault_of_the_wearer) => self.well += by,
            SwapEvent::Probation => self.probations += by,
            SwapEvent::SwapOn | SwapEvent::WarmupBegin => {
                let wearer = record.wearer.spiffe_id.as_str();
                match self.wearers.get_mut(wearer) {
                    Some(times) if *times + by > 0 => *times += by,
                    Some(_) => _ = self.wearers.remove(wearer),
                    None if by > 0 => _ = self.wearers.insert(wearer.into(), by),
                    None => {}
                }
            }
            SwapEvent::SwapOff | SwapEvent::WarmupEnd | SwapEvent::QuorumGrant | SwapEvent::Throttled => {}
        }
    }
}

/// The cause that a record names; other operators may have had other words.
pub(crate) fn cause(record: &HatSwapSpec) -> Option<Cause> {
    record.reason.as_deref().and_then(Cause::named)
}

fn version(swap: &HatSwap) -> Option<u64> {
    swap.metadata.resource_version.as_ref()?.parse().ok()
}

impl Records {
    /// Whether it was not there yet.
    pub fn insert(&mut self, swap: Arc<HatSwap>) -> bool {
        let name = RecordName::from(name_of(&swap.metadata));
        if self.by_name.contains_key(&name) {
            return false;
        }
        let hat = swap.spec.hat.as_str();
        let entry = (swap.spec.occurred_at.0, name.clone());
        self.recent.count += usize::from(entry.0 > self.recent.since);
        self.of_wearer.put(&swap.spec.wearer.spiffe_id, entry.clone());
        self.of_hat.entry(hat.into()).or_default().insert(entry.clone());
        self.tallies.entry(hat.into()).or_default().count(&swap.spec, 1);
        self.by_time.insert(entry);
        if let Some(version) = version(&swap) {
            self.by_version.insert(version, Arc::clone(&swap));
        }
        self.by_name.insert(name, swap);
        true
    }

    /// The record, if it was there.
    pub fn remove(&mut self, name: &str) -> Option<Arc<HatSwap>> {
        let name = RecordName::from(name);
        let swap = self.by_name.remove(&name)?;
        let entry = (swap.spec.occurred_at.0, name);
        self.recent.count -= usize::from(entry.0 > self.recent.since);
        self.by_time.remove(&entry);
        if let Some(version) = version(&swap) {
            self.by_version.remove(&version);
        }
        let hat = swap.spec.hat.as_str();
        self.of_wearer.take(&swap.spec.wearer.spiffe_id, &entry);
        if let Some(timeline) = self.of_hat.get_mut(hat) {
            timeline.remove(&entry);
            if timeline.is_empty() {
                self.of_hat.remove(hat);
            }
        }
        if let Some(tally) = self.tallies.get_mut(hat) {
            tally.count(&swap.spec, -1);
        }
        Some(swap)
    }

    pub fn shared(&self) -> impl Iterator<Item = &Arc<HatSwap>> {
        self.by_name.values()
    }

    pub fn all(&self) -> impl Iterator<Item = (&str, &HatSwap)> {
        self.by_name.values().map(|swap| (name_of(&swap.metadata), swap.as_ref()))
    }

    pub fn get(&self, name: &str) -> Option<&HatSwap> {
        self.named(&name.into())
    }

    fn named(&self, name: &RecordName) -> Option<&HatSwap> {
        self.by_name.get(name).map(AsRef::as_ref)
    }

    /// Transitions of a binding behind a number, in their order.
    pub fn after<'a>(&'a self, binding: &'a Id, number: i64) -> impl Iterator<Item = (i64, &'a HatSwap)> {
        let behind = RecordName::Transition(binding.clone(), number.saturating_add(1));
        self.by_name.range(behind..).map_while(move |(name, swap)| Some((name.number_of(binding)?, swap.as_ref())))
    }

    /// The transition of a binding that is kept and comes next before a number.
    pub fn before(&self, binding: &Id, number: i64) -> Option<(i64, &HatSwap)> {
        let (name, swap) = self.by_name.range(..RecordName::Transition(binding.clone(), number)).next_back()?;
        Some((name.number_of(binding)?, swap.as_ref()))
    }

    /// Records of a wearer, the newest first.
    pub fn of_wearer(&self, wearer: &str) -> impl Iterator<Item = &HatSwap> {
        let entries = self.of_wearer.of(wearer).into_iter().flat_map(|entries| entries.iter().rev());
        entries.filter_map(|(_, name)| self.named(name))
    }

    /// Records of a hat, the newest first.
    pub fn of_hat(&self, hat: &str) -> impl Iterator<Item = &HatSwap> {
        let timeline = self.of_hat.get(hat).into_iter().flat_map(|timeline| timeline.iter().rev());
        timeline.filter_map(|(_, name)| self.named(name))
    }

    /// Records that are not newer than a time, the oldest first.
    pub fn until(&self, time: Timestamp) -> impl Iterator<Item = (&RecordName, &HatSwap)> {
        let old = self.by_time.iter().take_while(move |(at, _)| *at <= time);
        old.filter_map(|(_, name)| Some((name, self.named(name)?)))
    }

    /// Records that an API server stored after a version, in its order.
    pub fn stored_after(&self, version: u64) -> impl Iterator<Item = (u64, &Arc<HatSwap>)> {
        self.by_version.range(version.saturating_add(1)..).map(|(version, swap)| (*version, swap))
    }

    /// From now on the records that are newer than this time are counted.
    pub fn count_since(&mut self, since: Timestamp) {
        let Recent { since: known, count } = self.recent;
        let between = |from: Timestamp, to: Timestamp| {
            let later = self.by_time.range((from, RecordName::FIRST)..).skip_while(move |(at, _)| *at == from);
            later.take_while(move |(at, _)| *at <= to).count()
        };
        let count = if since < known { count + between(since, known) } else { count - between(known, since) };
        self.recent = Recent { since, count };
    }

    /// How many records are newer than the time since when they are counted.
    pub fn recent(&self) -> usize {
        self.recent.count
    }

    pub fn tally(&self, hat: &str) -> Tally {
        self.tallies.get(hat).cloned().unwrap_or_default()
    }
}

/// A time during which a hat was somebody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stay {
    /// Who.
    pub wearer: String,
    /// UID of the binding.
    pub binding: String,
    /// When the hat went on.
    pub from: Timestamp,
    /// When it came off; absent: it is still on.
    pub to: Option<Timestamp>,
    /// Until when what happens is still attributed to the wearer.
    pub sticky_until: Option<Timestamp>,
    /// The node and the devices at first.
    pub node: Option<String>,
}

impl Stay {
    /// Whether the hat was on at a time.
    pub fn wears_at(&self, time: Timestamp) -> bool {
        self.from <= time && self.to.is_none_or(|to| time < to)
    }

    /// Whether what happened at a time is this wearer's: the hat was on, or had come off a short while before.
    pub fn is_attributed_at(&self, time: Timestamp) -> bool {
        self.wears_at(time)
            || (self.to.is_some_and(|to| to <= time) && self.sticky_until.is_some_and(|until| time < until))
    }
}

impl World {
    /// Every stay of a hat that the kept records tell of, in the order of going on.
    pub fn stays(&self, hat: &str) -> Vec<Stay> {
        let mut stays: Vec<Stay> = vec![];
        // By their numbers: the clock may have been set back between two of them.
        let mut records: Vec<(&str, i64, &HatSwapSpec)> = vec![];
        for swap in self.records.of_hat(hat) {
            let number = swap.metadata.name.as_deref().and_then(numbered).map_or(0, |(_, number)| number);
            let binding = swap.spec.binding_ref.as_ref().map(|binding| binding.uid.as_str()).unwrap_or_default();
            records.push((binding, number, &swap.spec));
        }
        records.sort_by_key(|(binding, number, record)| (*binding, *number, record.occurred_at.0));
        for (binding, _, record) in records {
            let open = stays.last_mut().filter(|stay| stay.to.is_none() && stay.binding == binding);
            let outcome = record.outcome.as_ref();
            let goes_on = match outcome {
                Some(outcome) => outcome.phase.is_worn(),
                None => matches!(record.event, SwapEvent::SwapOn | SwapEvent::WarmupBegin),
            };
            match (open, record.event) {
                (Some(stay), SwapEvent::SwapOff) => {
                    stay.to = Some(record.occurred_at.0);
                    stay.sticky_until =
                        outcome.and_then(|outcome| outcome.sticky_attribution_ends_at.as_ref()).map(|time| time.0);
                }
                (None, _) if goes_on => stays.push(Stay {
                    wearer: record.wearer.spiffe_id.clone(),
                    binding: binding.to_owned(),
                    from: record.occurred_at.0,
                    to: None,
                    sticky_until: None,
                    node: outcome.and_then(|outcome| outcome.node_name.clone()),
                }),
                _ => {}
            }
        }
        stays.sort_by(|one, other| (one.from, &one.binding).cmp(&(other.from, &other.binding)));
        stays
    }

    /// Who answers for what was done with a hat at a time: those who wore it and those to whom it still stuck.
    pub fn attributed(&self, hat: &str, time: Timestamp) -> Vec<Stay> {
        self.stays(hat).into_iter().filter(|stay| stay.is_attributed_at(time)).collect()
    }

    /// What `wearer` was for `hat` at a time: on, sticking, or nothing.
    pub fn attribution(&self, wearer: &str, hat: &str, time: Timestamp) -> Option<Stay> {
        let mut stays = self.attributed(hat, time).into_iter().filter(|stay| stay.wearer == wearer);
        let first = stays.next()?;
        Some(stays.find(|stay| stay.wears_at(time)).filter(|_| !first.wears_at(time)).unwrap_or(first))
    }

    /// How the terms of a hat ended, from the kept records.
    pub fn tally(&self, hat: &str) -> Tally {
        self.records.tally(hat)
    }
}
