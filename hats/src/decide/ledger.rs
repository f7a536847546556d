//! What follows from the transitions: authority, the statuses of hats and policy, and what has served its time.

use std::collections::BTreeMap;

use hatrack_api::hat::{HatStatus, condition};
use hatrack_api::hat_policy::{HatPolicyStatus, throttle as default};
use hatrack_api::hat_swap::SwapEvent;
use hatrack_api::{Hat, HatSwapSpec};
use jiff::SignedDuration;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Decision;
use crate::action::{Action, Uid, numbered, throttled_name};
use crate::authority::{Grant, Scope, grants};
use crate::lifecycle::{is_true, set_condition};
use crate::moment::seconds_after;
use crate::throttles::Limits;
use crate::world::{Company, created, is_finalized, name_of, status_of};
use crate::{quorum, supervision};

/// Most wearers that a hat's status lists; the schema has the same limit.
const MAX_LISTED: usize = 4096;

impl Decision {
    /// Every grant that a binding should have, by its scope.
    fn wanted_grants(&self, uid: &Uid) -> BTreeMap<Scope, Grant> {
        let wanted = self.world.binding(uid).map(|binding| grants(&self.world, uid, binding)).unwrap_or_default();
        wanted.into_iter().map(|grant| (grant.scope.clone(), grant)).collect()
    }

    /// Takes back what a binding should not have any more, also one that is gone.
    pub(super) fn withdraw(&mut self, uid: &Uid) {
        let known: Vec<Scope> = self.world.grants_of(uid).map(|grant| grant.scope.clone()).collect();
        if known.is_empty() {
            return;
        }
        let wanted = self.wanted_grants(uid);
        for scope in known.into_iter().filter(|scope| !wanted.contains_key(scope)) {
            self.act(Action::Withdraw { binding: uid.clone(), scope });
        }
    }

    pub(super) fn grant(&mut self, uid: &Uid) {
        for (scope, grant) in self.wanted_grants(uid) {
            if self.world.grants.get(&(uid.clone(), scope)).is_none_or(|known| **known != grant) {
                self.act(Action::Grant(Box::new(grant)));
            }
        }
    }

    pub(super) fn keep_hat(&mut self, name: &str) {
        let Some(hat) = self.world.hat(name) else { return };
        let status = self.hat_status(name, hat);
        if hat.status.as_ref() != Some(&status) {
            self.act(Action::SetHatStatus { hat: name.to_owned(), status: Box::new(status) });
        }
    }

    fn hat_status(&self, name: &str, hat: &Hat) -> HatStatus {
        let mut status = hat.status.clone().unwrap_or_default();
        let tally = self.world.tally(name);
        let company = self.world.companies.get(name);
        let wearers = company.into_iter().flat_map(Company::wearers);
        status.reputation = tally.reputation();
        status.lifetime_wearers = Some(tally.wearers().max(status.lifetime_wearers.unwrap_or(0)));
        status.current_wearers = wearers.take(MAX_LISTED).cloned().collect();
        let now = Time(self.now.wall);
        let flaw = supervision::flaw(&self.world, name);
        let (valid, reason) = if flaw.is_none() { (true, "Acyclic") } else { (false, "Flawed") };
        let message = flaw.map(|flaw| flaw.to_string()).unwrap_or_default();
        set_condition(&mut status.conditions, condition::GRAPH_VALID, valid, reason, message, now.clone());
        let reached = is_true(&status.conditions, condition::QUORUM_REACHED);
        if !reached && company.is_some_and(Company::proves_a_quorum) {
            let message = "bootstrap is over for this hat".to_owned();
            set_condition(&mut status.conditions, condition::QUORUM_REACHED, true, "Quorum", message, now);
        }
        status
    }

    /// The counts of the policy; the time of the last decision is written with them and alone changes nothing.
    pub(super) fn keep_policy(&mut self) {
        let Some(policy) = &self.world.policy else { return };
        let known = policy.status.clone().unwrap_or_default();
        let mut bootstrapped = known.bootstrapped.clone();
        let first = policy.spec.bootstrap.as_ref().and_then(|bootstrap| self.world.hat(&bootstrap.hat));
        if let Some(hat) = first.filter(|hat| quorum::has_been_reached(hat)) {
            let name = name_of(&hat.metadata);
            if let Err(place) = bootstrapped.binary_search(&name) {
                bootstrapped.insert(place, name);
            }
        }
        let companies = &self.world.companies;
        let day = self.now.wall.saturating_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN);
        let status = HatPolicyStatus {
            active_hats: Some(number(companies.len())),
            active_bindings: Some(number(companies.values().map(Company::len).sum())),
            swaps_last_24h: Some(self.world.records.count_after(day)),
            bootstrapped,
            ..known.clone()
        };
        if status != known {
            let status = HatPolicyStatus { last_reconciled_at: Some(Time(self.now.wall)), ..status };
            self.act(Action::SetPolicyStatus { status: Box::new(status) });
        }
    }

    /// An ended binding: if it was deleted it goes, else when its time to be looked at is over.
    pub(super) fn let_go(&mut self, uid: &Uid) {
        let ttl = self.world.policy.as_ref().and_then(|policy| policy.spec.ttl_seconds_after_end);
        if !self.world.ended.contains(uid) || self.world.is_set_aside(uid) {
            return;
        }
        let Some(binding) = self.world.binding(uid) else { return };
        if binding.metadata.deletion_timestamp.is_some() {
            if is_finalized(binding) {
                self.act(Action::Unfinalize { binding: uid.clone() });
            }
            return;
        }
        let (Some(ttl), Some(ended)) = (ttl, status_of(binding).ended_at.as_ref()) else { return };
        let goes = seconds_after(ended.0, ttl);
        if goes <= self.now.wall {
            self.act(Action::Delete { binding: uid.clone() });
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
        let old: Vec<String> = self
            .world
            .records
            .until(oldest)
            .map(|swap| (name_of(&swap.metadata), swap))
            .filter(|(name, swap)| !self.tells_more(name, oldest) && !self.is_asked_for(name, &swap.spec))
            .map(|(name, _)| name)
            .collect();
        for swap in old {
            self.act(Action::Collect { swap });
        }
    }

    /// Whether an old record says what was at the beginning of the time for which records are kept: who had the hat when the next one was
    /// written. Neither is kept without the other.
    fn tells_more(&self, name: &str, oldest: Timestamp) -> bool {
        let Some((uid, number)) = numbered(name) else { return false };
        let is_kept = |record: &HatSwapSpec| record.occurred_at.0 > oldest || self.sticks(record);
        let records = &self.world.records;
        let neighbours = [records.before(uid, number), records.after(uid, number).next()];
        neighbours.into_iter().flatten().any(|(_, swap)| is_kept(&swap.spec))
    }

    /// Whether a rule asks for a record, however old it is. The last of a binding restores its status, and so does the grant of its quorum; what
    /// held a request last is not told again; a SwapOff keeps its cooldown, its attribution, and from what it ended those who asked before.
    fn is_asked_for(&self, name: &str, record: &HatSwapSpec) -> bool {
        let uid = record.binding_ref.as_ref().map(|binding| binding.uid.as_str()).unwrap_or_default();
        let restores = |number: i64| {
            let mut later = self.world.records.after(uid, number);
            match record.event {
                SwapEvent::QuorumGrant => later.all(|(_, swap)| swap.spec.event != SwapEvent::QuorumGrant),
                _ => later.next().is_none(),
            }
        };
        let holds = |transitions: i64| {
            record.throttle_name.as_ref().is_some_and(|rule| throttled_name(uid, transitions, rule) == name)
        };
        let is_last = self.world.status(uid).is_some_and(|status| match numbered(name) {
            Some((_, number)) => restores(number),
            None => !status.phase.is_ended() && holds(status.transitions),
        });
        is_last || (record.event == SwapEvent::SwapOff && (self.shapes_admission(record) || self.sticks(record)))
    }

    /// Whether an end still holds requests: by its cooldown, or as it ended something that others had asked for.
    fn shapes_admission(&self, end: &HatSwapSpec) -> bool {
        let limits = Limits::of(self.world.hat(&end.hat), self.world.policy.as_ref().map(|policy| &policy.spec));
        let mut waiting = self.world.live_of_hat.get(&end.hat).into_iter().flatten();
        let off = end.occurred_at.0;
        seconds_after(off, limits.cooldown) > self.now.wall
            || waiting.any(|uid| self.world.binding(uid).is_some_and(|binding| created(binding) <= off))
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
