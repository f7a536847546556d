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

use super::World;
use crate::action::{Uid, numbered, record_name};
use crate::lifecycle::Cause;

/// Records in the order in which things happened, then by name.
type Timeline = OrdSet<(Timestamp, String)>;

#[derive(Clone, Debug, Default)]
pub(crate) struct Records {
    by_name: OrdMap<String, Arc<HatSwap>>,
    by_time: Timeline,
    /// Transitions by binding and number.
    of_binding: OrdSet<(Uid, i64)>,
    /// By wearer, as a timeline of each: there are many wearers with few records each.
    of_wearer: OrdSet<(String, Timestamp, String)>,
    of_hat: OrdMap<String, Timeline>,
    /// By `resourceVersion`: the order in which the API server stored them. What was not read from one has none.
    by_version: OrdMap<u64, Arc<HatSwap>>,
    tallies: OrdMap<String, Tally>,
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
    wearers: OrdMap<String, i64>,
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
                let wearer = record.wearer.spiffe_id.clone();
                let times = self.wearers.get(&wearer).copied().unwrap_or(0) + by;
                if times > 0 {
                    self.wearers.insert(wearer, times);
                } else {
                    self.wearers.remove(&wearer);
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
        let name = super::name_of(&swap.metadata);
        if self.by_name.contains_key(&name) {
            return false;
        }
        let entry = (swap.spec.occurred_at.0, name.clone());
        numbered(&name).map(|(binding, number)| self.of_binding.insert((binding.to_owned(), number)));
        self.by_time.insert(entry.clone());
        self.of_wearer.insert((swap.spec.wearer.spiffe_id.clone(), entry.0, entry.1.clone()));
        self.of_hat.entry(swap.spec.hat.clone()).or_default().insert(entry);
        self.tallies.entry(swap.spec.hat.clone()).or_default().count(&swap.spec, 1);
        if let Some(version) = version(&swap) {
            self.by_version.insert(version, Arc::clone(&swap));
        }
        self.by_name.insert(name, swap);
        true
    }

    /// The record, if it was there.
    pub fn remove(&mut self, name: &str) -> Option<Arc<HatSwap>> {
        let swap = self.by_name.remove(name)?;
        numbered(name).map(|(binding, number)| self.of_binding.remove(&(binding.to_owned(), number)));
        let entry = (swap.spec.occurred_at.0, name.to_owned());
        self.by_time.remove(&entry);
        if let Some(version) = version(&swap) {
            self.by_version.remove(&version);
        }
        self.of_wearer.remove(&(swap.spec.wearer.spiffe_id.clone(), entry.0, entry.1.clone()));
        if let Some(timeline) = self.of_hat.get_mut(&swap.spec.hat) {
            timeline.remove(&entry);
            if timeline.is_empty() {
                self.of_hat.remove(&swap.spec.hat);
            }
        }
        if let Some(tally) = self.tallies.get_mut(&swap.spec.hat) {
            tally.count(&swap.spec, -1);
        }
        Some(swap)
    }

    pub fn shared(&self) -> impl Iterator<Item = &Arc<HatSwap>> {
        self.by_name.values()
    }

    pub fn all(&self) -> impl Iterator<Item = (&str, &HatSwap)> {
        self.by_name.iter().map(|(name, swap)| (name.as_str(), swap.as_ref()))
    }

    pub fn get(&self, name: &str) -> Option<&HatSwap> {
        self.by_name.get(name).map(AsRef::as_ref)
    }

    /// Transitions of a binding behind a number, in their order.
    pub fn after<'a>(&'a self, binding: &'a str, number: i64) -> impl Iterator<Item = (i64, &'a HatSwap)> {
        let numbers = self.of_binding.range((binding.to_owned(), number.saturating_add(1))..);
        numbers.take_while(move |(of, _)| of == binding).filter_map(|(of, number)| self.numbered(of, *number))
    }

    /// The transition of a binding that is kept and comes next before a number.
    pub fn before(&self, binding: &str, number: i64) -> Option<(i64, &HatSwap)> {
        let (of, number) = self.of_binding.range(..(binding.to_owned(), number)).next_back()?;
        if of == binding { self.numbered(of, *number) } else { None }
    }

    fn numbered(&self, binding: &str, number: i64) -> Option<(i64, &HatSwap)> {
        Some((number, self.get(&record_name(binding, number))?))
    }

    /// Records of a wearer, the newest first.
    pub fn of_wearer<'a>(&'a self, wearer: &'a str) -> impl Iterator<Item = &'a HatSwap> {
        let from = (wearer.to_owned(), Timestamp::MIN, String::new());
        // No name sorts between a name and the same with a NUL.
        let behind = (format!("{wearer}\0"), Timestamp::MIN, String::new());
        self.of_wearer.range(from..behind).rev().filter_map(|(_, _, name)| self.get(name))
    }

    /// Records of a hat, the newest first.
    pub fn of_hat<'a>(&'a self, hat: &str) -> impl Iterator<Item = &'a HatSwap> {
        self.newest_first(self.of_hat.get(hat))
    }

    fn newest_first<'a>(&'a self, timeline: Option<&'a Timeline>) -> impl Iterator<Item = &'a HatSwap> {
        timeline.into_iter().flat_map(|timeline| timeline.iter().rev()).filter_map(|(_, name)| self.get(name))
    }

    /// Records that are not newer than a time, the oldest first.
    pub fn until(&self, time: Timestamp) -> impl Iterator<Item = &HatSwap> {
        self.by_time.iter().take_while(move |(at, _)| *at <= time).filter_map(|(_, name)| self.get(name))
    }

    /// Records that an API server stored after a version, in its order.
    pub fn stored_after(&self, version: u64) -> impl Iterator<Item = (u64, &Arc<HatSwap>)> {
        self.by_version.range(version.saturating_add(1)..).map(|(version, swap)| (*version, swap))
    }

    /// How many records are newer than a time.
    pub fn count_after(&self, time: Timestamp) -> i64 {
        let count = self.by_time.iter().rev().take_while(|(at, _)| *at > time).count();
        i64::try_from(count).unwrap_or(i64::MAX)
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
