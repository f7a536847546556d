//! What follows from the transitions: authority, the statuses of hats and policy, and what has served its time.

use std::collections::{BTreeMap, BTreeSet};

use hatrack_api::hat::{HatStatus, condition};
use hatrack_api::hat_policy::{HatPolicyStatus, throttle as default};
use hatrack_api::hat_swap::SwapEvent;
use hatrack_api::{Hat, HatSwap};
use jiff::SignedDuration;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::Decision;
use crate::action::{Action, Uid};
use crate::authority::{Grant, Scope, grants};
use crate::lifecycle::{is_true, set_condition};
use crate::moment::seconds_after;
use crate::throttles::Limits;
use crate::world::{created, is_finalized, status_of};
use crate::{quorum, supervision};

/// Most wearers that a hat's status lists; the schema has the same limit.
const MAX_LISTED: usize = 4096;

impl Decision {
    /// Every grant that there should be.
    fn wanted_grants(&self) -> BTreeMap<(Uid, Scope), Grant> {
        let live = self.world.queue.iter().filter_map(|(_, uid)| Some((uid, self.world.binding(uid)?)));
        let wanted = live.flat_map(|(uid, binding)| grants(&self.world, uid, binding));
        wanted.map(|grant| ((grant.binding.clone(), grant.scope.clone()), grant)).collect()
    }

    /// Takes back what nobody should have any more, also of bindings that are gone.
    pub(super) fn withdraw(&mut self) {
        let wanted = self.wanted_grants();
        let known: Vec<(Uid, Scope)> = self.world.grants.keys().cloned().collect();
        for (binding, scope) in known {
            if !wanted.contains_key(&(binding.clone(), scope.clone())) {
                self.act(Action::Withdraw { binding, scope });
            }
        }
    }

    pub(super) fn grant(&mut self) {
        for (key, grant) in self.wanted_grants() {
            if self.world.grants.get(&key).is_none_or(|known| **known != grant) {
                self.act(Action::Grant(Box::new(grant)));
            }
        }
    }

    pub(super) fn keep_ledgers(&mut self) {
        let names: Vec<String> = self.world.hats.keys().cloned().collect();
        for name in names {
            self.keep_hat(&name);
        }
        self.keep_policy();
        self.let_go();
        self.collect();
    }

    fn keep_hat(&mut self, name: &str) {
        let Some(hat) = self.world.hat(name) else { return };
        let status = self.hat_status(name, hat);
        if hat.status.as_ref() != Some(&status) {
            self.act(Action::SetHatStatus { hat: name.to_owned(), status: Box::new(status) });
        }
    }

    fn hat_status(&self, name: &str, hat: &Hat) -> HatStatus {
        let mut status = hat.status.clone().unwrap_or_default();
        let tally = self.world.tally(name);
        let worn: Vec<&Uid> = self.world.worn_of_hat(name).collect();
        let bindings = || worn.iter().filter_map(|uid| self.world.binding(uid));
        let wearers: BTreeSet<String> = bindings().map(|binding| binding.spec.wearer.spiffe_id.clone()).collect();
        status.reputation = tally.reputation();
        status.lifetime_wearers = Some(tally.wearers().max(status.lifetime_wearers.unwrap_or(0)));
        status.current_wearers = wearers.into_iter().take(MAX_LISTED).collect();
        let now = Time(self.now.wall);
        let flaw = supervision::flaw(&self.world, name);
        let (valid, reason) = if flaw.is_none() { (true, "Acyclic") } else { (false, "Flawed") };
        let message = flaw.map(|flaw| flaw.to_string()).unwrap_or_default();
        set_condition(&mut status.conditions, condition::GRAPH_VALID, valid, reason, message, now.clone());
        let reached = is_true(&status.conditions, condition::QUORUM_REACHED);
        if !reached && bindings().any(quorum::proves_a_quorum) {
            let message = "bootstrap is over for this hat".to_owned();
            set_condition(&mut status.conditions, condition::QUORUM_REACHED, true, "Quorum", message, now);
        }
        status
    }

    /// The counts of the policy; the time of the last decision is written with them and alone changes nothing.
    fn keep_policy(&mut self) {
        let Some(policy) = &self.world.policy else { return };
        let known = policy.status.clone().unwrap_or_default();
        let worn = || {
            self.world
                .queue
                .iter()
                .filter_map(|(_, uid)| self.world.binding(uid))
                .filter(|binding| status_of(binding).phase.is_worn())
        };
        let hats: BTreeSet<&str> = worn().map(|binding| binding.spec.hat.as_str()).collect();
        let day = self.now.wall.saturating_sub(SignedDuration::from_hours(24)).unwrap_or(Timestamp::MIN);
        let status = HatPolicyStatus {
            active_hats: Some(number(hats.len())),
            active_bindings: Some(number(worn().count())),
            swaps_last_24h: Some(self.world.records.count_after(day)),
            ..known.clone()
        };
        if status != known {
            let status = HatPolicyStatus { last_reconciled_at: Some(Time(self.now.wall)), ..status };
            self.act(Action::SetPolicyStatus { status: Box::new(status) });
        }
    }

    /// Ended bindings: those that were deleted go, the others when their time to be looked at is over.
    fn let_go(&mut self) {
        let ttl = self.world.policy.as_ref().and_then(|policy| policy.spec.ttl_seconds_after_end);
        let ended = self.world.ended.iter().filter(|uid| !self.world.is_set_aside(uid));
        let ended: Vec<Uid> = ended.cloned().collect();
        for uid in ended {
            let Some(binding) = self.world.binding(&uid) else { continue };
            let finalized = is_finalized(binding);
            if binding.metadata.deletion_timestamp.is_some() {
                if finalized {
                    self.act(Action::Unfinalize { binding: uid });
                }
                continue;
            }
            let (Some(ttl), Some(ended)) = (ttl, status_of(binding).ended_at.as_ref()) else { continue };
            let goes = seconds_after(ended.0, ttl);
            if goes <= self.now.wall {
                self.act(Action::Delete { binding: uid });
            } else {
                self.wake_at(goes);
            }
        }
    }

    /// Records that are older than the policy keeps them and that no rule asks for.
    fn collect(&mut self) {
        let Some(policy) = &self.world.policy else { return };
        let days = policy.spec.swap_retention_days.unwrap_or(default::SWAP_RETENTION_DAYS);
        let limit = SignedDuration::from_hours(days.saturating_mul(24));
        let oldest = self.now.wall.saturating_sub(limit).unwrap_or(Timestamp::MIN);
        let old: Vec<String> = self
            .world
            .records
            .until(oldest)
            .filter(|swap| !self.is_needed(swap))
            .filter_map(|swap| swap.metadata.name.clone())
            .collect();
        for swap in old {
            self.act(Action::Collect { swap });
        }
    }

    /// Records of a live binding restore its status; a SwapOff keeps its cooldown, its attribution, and from what it ended
    /// those who asked before.
    fn is_needed(&self, swap: &HatSwap) -> bool {
        let uid = swap.spec.binding_ref.as_ref().map(|binding| binding.uid.as_str()).unwrap_or_default();
        if self.world.status(uid).is_some_and(|status| !status.phase.is_ended()) {
            return true;
        }
        if swap.spec.event != SwapEvent::SwapOff {
            return false;
        }
        let limits = Limits::of(self.world.hat(&swap.spec.hat), self.world.policy.as_ref().map(|policy| &policy.spec));
        let sticky = swap.spec.outcome.as_ref().and_then(|outcome| outcome.sticky_attribution_ends_at.as_ref());
        let mut waiting = self.world.live_of_hat.get(&swap.spec.hat).into_iter().flatten();
        let off = swap.spec.occurred_at.0;
        seconds_after(off, limits.cooldown) > self.now.wall
            || waiting.any(|uid| self.world.binding(uid).is_some_and(|binding| created(binding) <= off))
            || sticky.is_some_and(|until| until.0 > self.now.wall)
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
