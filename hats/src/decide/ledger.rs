//! What follows from the transitions: authority, the statuses of hats and policy, and what has served its time.

use std::collections::BTreeMap;

use hatrack_api::hat::{HatStatus, condition};
use hatrack_api::hat_policy::{HatPolicyStatus, throttle as default};
use hatrack_api::hat_swap::SwapEvent;
use hatrack_api::{Hat, HatSwapSpec};
use jiff::SignedDuration;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use super::Decision;
use crate::action::{Action, throttled_name};
use crate::authority::{Grant, Scope, grants};
use crate::lifecycle::{is_true, set_condition};
use crate::moment::seconds_after;
use crate::throttles::Limits;
use crate::world::{Company, Id, Name, RecordName, created, is_finalized, name_of, status_of};
use crate::{quorum, supervision};

/// Most wearers that a hat's status lists; the schema has the same limit.
const MAX_LISTED: usize = 4096;

impl Decision {
    /// Every grant that a binding should have, by its scope.
    fn wanted_grants(&self, id: &Id) -> BTreeMap<Scope, Grant> {
        let wanted = self.world.bound(id).map(|binding| grants(&self.world, id, binding)).unwrap_or_default();
        wanted.into_iter().map(|grant| (grant.scope.clone(), grant)).collect()
    }

    /// Takes back what a binding should not have any more, also one that is gone.
    pub(super) fn withdraw(&mut self, id: &Id) {
        let known: Vec<Scope> = self.world.grants_of(id).map(|grant| grant.scope.clone()).collect();
        if known.is_empty() {
            return;
        }
        let wanted = self.wanted_grants(id);
        for scope in known.into_iter().filter(|scope| !wanted.contains_key(scope)) {
            self.act(Action::Withdraw { binding: id.to_string(), scope });
        }
    }

    pub(super) fn grant(&mut self, id: &Id) {
        for (scope, grant) in self.wanted_grants(id) {
            if self.world.grants.get(&(id.clone(), scope)).is_none_or(|known| **known != grant) {
                self.act(Action::Grant(Box::new(grant)));
            }
        }
    }

    pub(super) fn keep_hat(&mut self, name: &Name) {
        let Some(hat) = self.world.hat(name) else { return };
        if let Some(status) = self.new_hat_status(name, hat) {
            self.act(Action::SetHatStatus { hat: name.to_string(), status: Box::new(status) });
        }
    }

    /// What the status of a hat is to be, unless it is so already. There may be thousands of wearers: they are listed anew only if they changed.
    fn new_hat_status(&self, name: &str, hat: &Hat) -> Option<HatStatus> {
        let unknown = HatStatus::default();
        let known = hat.status.as_ref().unwrap_or(&unknown);
        let tally = self.world.tally(name);
        let company = self.world.companies.get(name);
        let wearers = || company.into_iter().flat_map(Company::wearers).take(MAX_LISTED).map(AsRef::as_ref);
        let reputation = tally.reputation();
        let lifetime_wearers = Some(tally.wearers().max(known.lifetime_wearers.unwrap_or(0)));
        let conditions = self.hat_conditions(name, &known.conditions);
        let is_known = hat.status.is_some()
            && (known.reputation, known.lifetime_wearers) == (reputation, lifetime_wearers)
            && known.conditions == conditions
            && known.current_wearers.iter().map(String::as_str).eq(wearers());
        let current_wearers = || wearers().map(str::to_owned).collect();
        (!is_known).then(|| HatStatus { reputation, lifetime_wearers, current_wearers: current_wearers(), conditions })
    }

    fn hat_conditions(&self, name: &str, known: &[Condition]) -> Vec<Condition> {
        let mut conditions = known.to_vec();
        let now = Time(self.now.wall);
        let flaw = supervision::flaw(&self.world, name);
        let (valid, reason) = if flaw.is_none() { (true, "Acyclic") } else { (false, "Flawed") };
        let message = flaw.map(|flaw| flaw.to_string()).unwrap_or_default();
        set_condition(&mut conditions, condition::GRAPH_VALID, valid, reason, message, now.clone());
        let reached = is_true(&conditions, condition::QUORUM_REACHED);
        if !reached && self.world.companies.get(name).is_some_and(Company::proves_a_quorum) {
            let message = "bootstrap is over for this hat".to_owned();
            set_condition(&mut conditions, condition::QUORUM_REACHED, true, "Quorum", message, now);
        }
        conditions
    }

    /// The counts of the policy; the time of the last decision is written with them and alone changes nothing.
    pub(super) fn keep_policy(&mut self) {
        self.world.records.count_since(self.now.a_day_ago());
        let Some(policy) = &self.world.policy else { return };
        let known = policy.status.clone().unwrap_or_default();
        let mut bootstrapped = known.bootstrapped.clone();
        let first = policy.spec.bootstrap.as_ref().and_then(|bootstrap| self.world.hat(&bootstrap.hat));
        if let Some(hat) = first.filter(|hat| quorum::has_been_reached(hat)) {
            let name = name_of(&hat.metadata).to_owned();
            if let Err(place) = bootstrapped.binary_search(&name) {
                bootstrapped.insert(place, name);
            }
        }
        let companies = &self.world.companies;
        let status = HatPolicyStatus {
            active_hats: Some(number(companies.len())),
            active_bindings: Some(number(companies.values().map(Company::len).sum())),
            swaps_last_24h: Some(number(self.world.records.recent())),
            bootstrapped,
            ..known.clone()
        };
        if status != known {
            let status = HatPolicyStatus { last_reconciled_at: Some(Time(self.now.wall)), ..status };
            self.act(Action::SetPolicyStatus { status: Box::new(status) });
        }
    }

    /// An ended binding: if it was deleted it goes, else when its time to be looked at is over.
    pub(super) fn let_go(&mut self, id: &Id) {
        let ttl = self.world.policy.as_ref().and_then(|policy| policy.spec.ttl_seconds_after_end);
        if !self.world.ended.contains(id) || self.world.is_set_aside(id) {
            return;
        }
        let Some(binding) = self.world.bound(id) else { return };
        if binding.metadata.deletion_timestamp.is_some() {
            if is_finalized(binding) {
                self.act(Action::Unfinalize { binding: id.to_string() });
            }
            return;
        }
        let (Some(ttl), Some(ended)) = (ttl, status_of(binding).ended_at.as_ref()) else { return };
        let goes = seconds_after(ended.0, ttl);
        if goes <= self.now.wall {
            self.act(Action::Delete { binding: id.to_string() });
        } else {
            self.wake_at(goes);
        }
    }

    /// Records that are older than the policy keeps them and that no rule asks for.
    pub(super) fn collect(&mut self) {
        let Some(policy) = &self.world.policy else { return };
        let days = policy.spec.swap_retention_days.unwrap_or(default::SWAP_RETENTION_DAYS);
        let limit = SignedDuration::from_hours(days.saturating_mul(24));
        let oldest = self.now.wall.saturating_sub(limit).unwrap_or(Timestamp::MIN);
        let old = self.world.records.until(oldest);
        let old = old.filter(|(name, swap)| !self.tells_more(name, oldest) && !self.is_asked_for(name, &swap.spec));
        let old: Vec<String> = old.map(|(_, swap)| name_of(&swap.metadata).to_owned()).collect();
        for swap in old {
            self.act(Action::Collect { swap });
        }
    }

    /// Whether an old record says what was at the beginning of the time for which records are kept: who had the hat when the next one was
    /// written. Neither is kept without the other.
    fn tells_more(&self, name: &RecordName, oldest: Timestamp) -> bool {
        let RecordName::Transition(id, number) = name else { return false };
        let is_kept = |record: &HatSwapSpec| record.occurred_at.0 > oldest || self.sticks(record);
        let records = &self.world.records;
        let neighbours = [records.before(id, *number), records.after(id, *number).next()];
        neighbours.into_iter().flatten().any(|(_, swap)| is_kept(&swap.spec))
    }

    /// Whether a rule asks for a record, however old it is. The last of a binding restores its status, and so does the grant of its quorum; what
    /// held a request last is not told again; a SwapOff keeps its cooldown, its attribution, and from what it ended those who asked before.
    fn is_asked_for(&self, name: &RecordName, record: &HatSwapSpec) -> bool {
        let uid = record.binding_ref.as_ref().map(|binding| binding.uid.as_str()).unwrap_or_default();
        let id = Id::from(uid);
        let restores = |number: i64| {
            let mut later = self.world.records.after(&id, number);
            match record.event {
                SwapEvent::QuorumGrant => later.all(|(_, swap)| swap.spec.event != SwapEvent::QuorumGrant),
                _ => later.next().is_none(),
            }
        };
        let holds = |name: &str, transitions: i64| {
            record.throttle_name.as_ref().is_some_and(|rule| throttled_name(uid, transitions, rule) == name)
        };
        let is_last = self.world.status(&id).is_some_and(|status| match name {
            RecordName::Transition(_, number) => restores(*number),
            RecordName::Other(name) => !status.phase.is_ended() && holds(name, status.transitions),
        });
        is_last || (record.event == SwapEvent::SwapOff && (self.shapes_admission(record) || self.sticks(record)))
    }

    /// Whether an end still holds requests: by its cooldown, or as it ended something that others had asked for.
    fn shapes_admission(&self, end: &HatSwapSpec) -> bool {
        let limits = Limits::of(self.world.hat(&end.hat), self.world.policy.as_ref().map(|policy| &policy.spec));
        let mut waiting = self.world.live_of_hat.get(end.hat.as_str()).into_iter().flatten();
        let off = end.occurred_at.0;
        seconds_after(off, limits.cooldown) > self.now.wall
            || waiting.any(|id| self.world.bound(id).is_some_and(|binding| created(binding) <= off))
    }

    /// Whether what happens with a hat is still attributed to whom it came off.
    fn sticks(&self, record: &HatSwapSpec) -> bool {
        let sticky = record.outcome.as_ref().and_then(|outcome| outcome.sticky_attribution_ends_at.as_ref());
        record.event == SwapEvent::SwapOff && sticky.is_some_and(|until| until.0 > self.now.wall)
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
