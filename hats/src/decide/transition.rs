//! One transition: the record first, then the status that it leads to.

use std::borrow::Cow;
use std::sync::Arc;

use hatrack_api::hat_binding::{HatBinding, HatBindingStatus, Phase, condition};
use hatrack_api::hat_swap::{BindingRef, HatSwapSpec, PreviousWearer, SwapEvent, SwapWearer};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{Admission, Decision};
use crate::action::{Action, record, record_name};
use crate::authority::effective;
use crate::lifecycle::{Cause, complete, condition_of, next, outcome_of, says, set_condition};
use crate::moment::seconds_after;
use crate::quorum;
use crate::throttles::{Held, Request, Rule};
use crate::world::{Id, is_finalized, status_of};

/// Longest message of a record, in characters; the schema has the same limit.
const MAX_MESSAGE: usize = 1024;

impl Decision {
    /// Records a transition and writes what it leads to. Without such a transition nothing happens.
    pub(super) fn transit(
        &mut self,
        id: &Id,
        binding: Arc<HatBinding>,
        cause: Cause,
        message: &str,
        admission: Option<Admission>,
    ) {
        let mut status = status_of(&binding).clone();
        if status.bound_at.is_none() && admission.is_some() {
            self.begin(&binding, &mut status);
        }
        let warm = self.over(status.warmup_ends_at.as_ref());
        let Some((phase, event)) = next(status.phase, cause, warm) else { return };
        status.phase = phase;
        let mut spec = self.swap_spec(id, &binding, event, cause.as_str(), message);
        self.shape(&binding, cause, &mut status, &mut spec);
        if let Some(Admission { placement, previous, .. }) = admission {
            status.node_name = placement.as_ref().map(|placement| placement.node.clone());
            status.devices = placement.map(|placement| placement.devices).unwrap_or_default();
            spec.previous_wearer = previous;
        }
        spec.outcome = Some(outcome_of(&status));
        let number = status.transitions + 1;
        let status = complete(status, number, &spec);
        let status = self.dressed(id, &binding, Cow::Owned(status)).into_owned();
        self.finalize(id, &binding);
        // What nobody else holds is changed in its place.
        drop(binding);
        self.act(Action::Record(record(record_name(&id.to_string(), number), spec).into()));
        self.act(Action::SetStatus { binding: id.to_string(), status: Box::new(status) });
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

    fn swap_spec(&self, id: &Id, binding: &HatBinding, event: SwapEvent, reason: &str, message: &str) -> HatSwapSpec {
        let metadata = &binding.metadata;
        HatSwapSpec {
            hat: binding.spec.hat.clone(),
            wearer: SwapWearer { spiffe_id: binding.spec.wearer.spiffe_id.clone() },
            event,
            occurred_at: Time(self.now.wall),
            reason: Some(reason.to_owned()),
            message: Some(cut(message).to_owned()),
            binding_ref: Some(BindingRef {
                name: metadata.name.clone().unwrap_or_default(),
                namespace: metadata.namespace.clone().unwrap_or_default(),
                uid: id.to_string(),
            }),
            throttle_name: None,
            previous_wearer: None,
            outcome: None,
        }
    }

    /// The record of a hold; no transition.
    pub(super) fn throttled(&self, id: &Id, binding: &HatBinding, held: &Held) -> HatSwapSpec {
        let spec = self.swap_spec(id, binding, SwapEvent::Throttled, &held.rule.reason(), &held.message);
        HatSwapSpec { throttle_name: Some(held.rule.as_str().to_owned()), ..spec }
    }

    pub(super) fn finalize(&mut self, id: &Id, binding: &HatBinding) {
        if !is_finalized(binding) && binding.metadata.deletion_timestamp.is_none() {
            self.act(Action::Finalize { binding: id.to_string() });
        }
    }

    /// A status with the conditions and the authority that follow from its phase. One that has them stays as it is.
    pub(super) fn dressed<'a>(
        &self,
        id: &Id,
        binding: &HatBinding,
        mut status: Cow<'a, HatBindingStatus>,
    ) -> Cow<'a, HatBindingStatus> {
        let phase = status.phase;
        if phase.is_worn() {
            let place = match &status.node_name {
                Some(node) => ("Placed", format!("on node {node}")),
                None => ("NoNodeNeeded", String::new()),
            };
            self.say(&mut status, condition::ADMITTED, (true, "Admitted"), "");
            self.say(&mut status, condition::SCHEDULED, (true, place.0), &place.1);
        } else if phase.is_ended() {
            self.say(&mut status, condition::ADMITTED, (false, phase.as_str()), "");
            self.say(&mut status, condition::SCHEDULED, (false, phase.as_str()), "");
        }
        self.say_quorum(id, binding, &mut status);
        // The cluster is for who has a quorum, which was said just now.
        let authority = effective(self.world.hat(&binding.spec.hat), binding, &status);
        if status.effective_authority != authority {
            status.to_mut().effective_authority = authority;
        }
        status
    }

    /// Says something in a condition, unless it says so already.
    fn say(&self, status: &mut Cow<'_, HatBindingStatus>, type_: &str, (truth, reason): (bool, &str), message: &str) {
        if !says(&status.conditions, type_, truth, reason, message) {
            let (conditions, now) = (&mut status.to_mut().conditions, Time(self.now.wall));
            set_condition(conditions, type_, truth, reason, message.to_owned(), now);
        }
    }

    /// Writes what is true of a binding without a transition. A new text alone waits until the last has stood for [`crate::Periods::text`].
    pub(super) fn refresh(&mut self, id: &Id, binding: &HatBinding, held: Option<&Held>) {
        let known = status_of(binding);
        let mut status = self.dressed(id, binding, Cow::Borrowed(known));
        if let Some(held) = held {
            let reason = held.rule.reason();
            self.say(&mut status, condition::ADMITTED, (false, &reason), &held.message);
            if held.rule == Rule::Unschedulable {
                self.say(&mut status, condition::SCHEDULED, (false, &reason), &held.message);
            } else if condition_of(&status.conditions, condition::SCHEDULED).is_some() {
                status.to_mut().conditions.retain(|condition| condition.type_ != condition::SCHEDULED);
            }
        }
        let is_written = binding.status.is_some();
        let status = match status {
            Cow::Borrowed(_) if is_written => return,
            status => status.into_owned(),
        };
        let pause = self.world.periods.text;
        let spoken = self.world.spoken.get(id).map(|at| self.now.steady.saturating_sub(*at));
        match spoken.filter(|age| *age < pause && is_written && is_text_alone(known, &status)) {
            Some(age) => self.wake_after(pause.saturating_sub(age)),
            None => self.act(Action::SetStatus { binding: id.to_string(), status: Box::new(status) }),
        }
    }

    /// A grant is a transition and sets the condition; that one is missing, was lost or is not needed follows from the world.
    fn say_quorum(&self, id: &Id, binding: &HatBinding, status: &mut Cow<'_, HatBindingStatus>) {
        let Ok((policy, hat)) = super::known(&self.world, binding) else { return };
        if status.phase.is_ended() {
            return;
        }
        let request = Request { world: &self.world, id, binding, hat, policy, now: self.now.wall };
        match quorum::grant(&request) {
            Ok(None) => self.say(status, condition::QUORUM_MET, (true, "NotGated"), ""),
            Err(held) if status.phase == Phase::Pending || status.phase == Phase::Warmup => {
                self.say(status, condition::QUORUM_MET, (false, "TooFewCosigners"), &held.message);
            }
            Ok(Some(_)) | Err(_) => {}
        }
    }
}

/// A message as far as the schema has room for it.
fn cut(message: &str) -> &str {
    message.char_indices().nth(MAX_MESSAGE).map_or(message, |(end, _)| &message[..end])
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
