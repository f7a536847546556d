//! One transition: the record first, then the status that it leads to.

use hatrack_api::hat_binding::{HatBinding, HatBindingStatus, Phase, condition};
use hatrack_api::hat_swap::{BindingRef, HatSwapSpec, PreviousWearer, SwapEvent, SwapWearer};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Admission, Decision};
use crate::action::{Action, Uid, record, record_name};
use crate::authority::effective;
use crate::lifecycle::{Cause, complete, next, outcome_of, set_condition};
use crate::moment::seconds_after;
use crate::quorum;
use crate::throttles::{Held, Request, Rule};
use crate::world::{is_finalized, status_of};

/// Longest message of a record, in characters; the schema has the same limit.
const MAX_MESSAGE: usize = 1024;

impl Decision {
    /// Records a transition and writes what it leads to. Without such a transition nothing happens.
    pub(super) fn transit(
        &mut self,
        uid: &Uid,
        binding: &HatBinding,
        cause: Cause,
        message: &str,
        admission: Option<Admission>,
    ) {
        let mut status = status_of(binding).clone();
        if status.bound_at.is_none() && admission.is_some() {
            self.begin(binding, &mut status);
        }
        let warm = self.over(status.warmup_ends_at.as_ref());
        let Some((phase, event)) = next(status.phase, cause, warm) else { return };
        status.phase = phase;
        let mut spec = self.swap_spec(uid, binding, event, cause.as_str(), message);
        self.shape(binding, cause, &mut status, &mut spec);
        if let Some(Admission { placement, previous, .. }) = admission {
            status.node_name = placement.as_ref().map(|placement| placement.node.clone());
            status.devices = placement.map(|placement| placement.devices).unwrap_or_default();
            spec.previous_wearer = previous;
        }
        spec.outcome = Some(outcome_of(&status));
        self.finalize(uid, binding);
        let Some(binding) = self.live(uid) else { return };
        let number = status_of(&binding).transitions + 1;
        let status = self.dressed(&binding, complete(status_of(&binding), number, &spec));
        let name = record_name(uid, number);
        self.act(Action::Record(record(name, spec).into()));
        self.act(Action::SetStatus { binding: uid.clone(), status: Box::new(status) });
    }

    /// The times of a hat that goes on for the first time. They are kept when it moves.
    fn begin(&self, binding: &HatBinding, status: &mut HatBindingStatus) {
        let hat = self.world.hat(&binding.spec.hat);
        let term = hat.and_then(|hat| hat.spec.term_seconds).filter(|seconds| *seconds > 0);
        status.bound_at = Some(Time(self.now.wall));
        status.warmup_ends_at = Some(Time(seconds_after(self.now.wall, self.limits(binding).warmup)));
        status.expires_at = term.map(|seconds| Time(seconds_after(self.now.wall, seconds)));
    }

    fn over(&self, ends: Option<&Time>) -> bool {
        ends.is_none_or(|ends| ends.0 <= self.now.wall) || !self.rules.has(Rule::Warmup)
    }

    /// What ends, moves and renewals make of place and times.
    fn shape(&self, binding: &HatBinding, cause: Cause, status: &mut HatBindingStatus, spec: &mut HatSwapSpec) {
        let now = Time(self.now.wall);
        if cause == Cause::Renewed {
            let hat = self.world.hat(&binding.spec.hat);
            let term = hat.and_then(|hat| hat.spec.term_seconds).filter(|seconds| *seconds > 0);
            status.expires_at = term.map(|seconds| Time(seconds_after(self.now.wall, seconds)));
        }
        if spec.event != SwapEvent::SwapOff {
            return;
        }
        status.node_name = None;
        status.devices = vec![];
        if status.bound_at.is_some() {
            let sticky = self.limits(binding).sticky_attribution;
            status.sticky_attribution_ends_at = Some(Time(seconds_after(self.now.wall, sticky)));
        }
        if status.phase.is_ended() {
            status.ended_at = Some(now.clone());
        }
        let spiffe_id = binding.spec.wearer.spiffe_id.clone();
        spec.previous_wearer = Some(PreviousWearer { spiffe_id, revoked_at: Some(now) });
    }

    fn swap_spec(&self, uid: &Uid, binding: &HatBinding, event: SwapEvent, reason: &str, message: &str) -> HatSwapSpec {
        let metadata = &binding.metadata;
        HatSwapSpec {
            hat: binding.spec.hat.clone(),
            wearer: SwapWearer { spiffe_id: binding.spec.wearer.spiffe_id.clone() },
            event,
            occurred_at: Time(self.now.wall),
            reason: Some(reason.to_owned()),
            message: Some(message.chars().take(MAX_MESSAGE).collect()),
            binding_ref: Some(BindingRef {
                name: metadata.name.clone().unwrap_or_default(),
                namespace: metadata.namespace.clone().unwrap_or_default(),
                uid: uid.clone(),
            }),
            throttle_name: None,
            previous_wearer: None,
            outcome: None,
        }
    }

    /// The record of a hold; no transition.
    pub(super) fn throttled(&self, uid: &Uid, binding: &HatBinding, held: &Held) -> HatSwapSpec {
        let spec = self.swap_spec(uid, binding, SwapEvent::Throttled, &held.rule.reason(), &held.message);
        HatSwapSpec { throttle_name: Some(held.rule.as_str().to_owned()), ..spec }
    }

    pub(super) fn finalize(&mut self, uid: &Uid, binding: &HatBinding) {
        if !is_finalized(binding) && binding.metadata.deletion_timestamp.is_none() {
            self.act(Action::Finalize { binding: uid.clone() });
        }
    }

    /// A status with the authority and the conditions that follow from its phase.
    pub(super) fn dressed(&self, binding: &HatBinding, mut status: HatBindingStatus) -> HatBindingStatus {
        let now = Time(self.now.wall);
        if status.phase.is_worn() {
            let place = match &status.node_name {
                Some(node) => ("Placed", format!("on node {node}")),
                None => ("NoNodeNeeded", String::new()),
            };
            set_condition(&mut status.conditions, condition::ADMITTED, true, "Admitted", String::new(), now.clone());
            set_condition(&mut status.conditions, condition::SCHEDULED, true, place.0, place.1, now);
        } else if status.phase.is_ended() {
            let (reason, none) = (status.phase.as_str(), String::new());
            set_condition(&mut status.conditions, condition::ADMITTED, false, reason, none.clone(), now.clone());
            set_condition(&mut status.conditions, condition::SCHEDULED, false, reason, none, now);
        }
        self.say_quorum(binding, &mut status);
        status.effective_authority = effective(self.world.hat(&binding.spec.hat), binding, &status);
        status
    }

    /// Writes what is true of a binding without a transition. A new text alone waits until the last has stood for [`crate::Periods::text`].
    pub(super) fn refresh(&mut self, uid: &Uid, binding: &HatBinding, held: Option<&Held>) {
        let known = status_of(binding);
        let mut status = self.dressed(binding, known.clone());
        if let Some(held) = held {
            let now = Time(self.now.wall);
            let reason = held.rule.reason();
            set_condition(
                &mut status.conditions,
                condition::ADMITTED,
                false,
                &reason,
                held.message.clone(),
                now.clone(),
            );
            if held.rule == Rule::Unschedulable {
                set_condition(&mut status.conditions, condition::SCHEDULED, false, &reason, held.message.clone(), now);
            } else {
                status.conditions.retain(|condition| condition.type_ != condition::SCHEDULED);
            }
        }
        if binding.status.as_ref() == Some(&status) {
            return;
        }
        let pause = self.world.periods.text;
        let spoken = self.world.spoken.get(uid).map(|at| self.now.steady.saturating_sub(*at));
        match spoken.filter(|age| *age < pause && binding.status.is_some() && is_text_alone(known, &status)) {
            Some(age) => self.wake_after(pause.saturating_sub(age)),
            None => self.act(Action::SetStatus { binding: uid.clone(), status: Box::new(status) }),
        }
    }

    /// A grant is a transition and sets the condition; that one is missing, was lost or is not needed follows from the world.
    fn say_quorum(&self, binding: &HatBinding, status: &mut HatBindingStatus) {
        let Ok((policy, hat)) = super::known(&self.world, binding) else { return };
        let Some(uid) = binding.metadata.uid.as_ref().filter(|_| !status.phase.is_ended()) else { return };
        let request = Request { world: &self.world, uid, binding, hat, policy, now: self.now.wall };
        let now = Time(self.now.wall);
        let mut say = |met, reason: &str, message| {
            set_condition(&mut status.conditions, condition::QUORUM_MET, met, reason, message, now.clone());
        };
        match quorum::grant(&request) {
            Ok(None) => say(true, "NotGated", String::new()),
            Err(held) if status.phase == Phase::Pending || status.phase == Phase::Warmup => {
                say(false, "TooFewCosigners", held.message);
            }
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

/// Whether two statuses differ in the messages of conditions alone.
fn is_text_alone(one: &HatBindingStatus, other: &HatBindingStatus) -> bool {
    let silent = |status: &HatBindingStatus| {
        let mut status = status.clone();
        for condition in &mut status.conditions {
            condition.message = String::new();
            condition.last_transition_time = Time(Timestamp::UNIX_EPOCH);
        }
        status
    };
    silent(one) == silent(other)
}
