//! The decision: what is to happen now.
//!
//! A decision tries its own actions out on a copy of the world, one after the other, so that each sees the effect of those
//! before it: two requests for one device are decided in one place, in order. It ends when nothing more follows,
//! so that deciding again on the resulting world asks for nothing.
//!
//! Order of a pass: finish what others recorded; fence silent nodes; take off what ends; take back authority and devices; consider the
//! requests that wait, by creation; give authority; write statuses. Each looks at what is open on the world's agenda alone, in its
//! order; what an action opens is looked at in the same pass if its turn is still to come, else in the next.

mod carriers;
mod ledger;
mod transition;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use hatrack_api::hat::SuccessionPolicy;
use hatrack_api::hat_binding::{HatBinding, Phase, VerdictAction};
use hatrack_api::{Hat, HatPolicySpec, HatSpec};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::action::{Action, Plan, throttled_name};
use crate::lifecycle::{Cause, complete};
use crate::moment::Moment;
use crate::placement::{Demand, Placement, place};
use crate::throttles::{Held, Limits, Request, Rule, Rules, admit};
use crate::world::{Id, Matter, Name, Question, Step, Trace, World, status_of};
use crate::{quorum, succession, supervision};

/// Passes after which a decision ends even if more follows; what is left is decided by the next.
const MAX_PASSES: usize = 32;

/// What is to happen now, and when to ask again.
pub fn decide(world: &World, now: Moment) -> Plan {
    decide_by(world, now, Rules::default())
}

/// As [`decide`], asking only some of the rules. For proofs that each of them is needed.
pub fn decide_by(world: &World, now: Moment, rules: Rules) -> Plan {
    let mut decision = Decision { world: world.clone(), rules, now: now.whole_second(), actions: vec![], questions: 0 };
    decision.world.open_due(decision.now);
    for _ in 0..MAX_PASSES {
        let before = decision.actions.len();
        decision.pass();
        if decision.actions.len() == before {
            break;
        }
    }
    let Decision { world: after, actions, now: at, questions, .. } = decision;
    let wake_at = after.agenda.wait(now).map(|wait| now.after(wait));
    Plan { wake_at, actions, questions, outlook: world.agenda.outlook(after.agenda, at) }
}

/// Why a request is held, or that it is not: what `why` shows. `None` if there is no such request or it does not wait.
pub fn why(world: &World, uid: &str, now: Moment) -> Option<Result<(), Held>> {
    let id = Id::from(uid);
    let binding = world.bound(&id).filter(|binding| status_of(binding).phase == Phase::Pending)?;
    Some(assess(world, Rules::default(), &id, binding, now).map(|_| ()))
}

/// What a request gets.
pub(crate) struct Admission {
    pub cause: Cause,
    pub placement: Option<Placement>,
    pub previous: Option<hatrack_api::hat_swap::PreviousWearer>,
}

/// Asks everything that stands between a request and a hat.
fn assess(world: &World, rules: Rules, id: &Id, binding: &HatBinding, now: Moment) -> Result<Admission, Held> {
    let name = &binding.spec.hat;
    // Without the rule: as if what is missing asked for nothing.
    let (no_policy, no_hat);
    let policy = match policy_of(world) {
        Err(held) if !rules.has(held.rule) => {
            no_policy = HatPolicySpec::default();
            &no_policy
        }
        known => known?,
    };
    let hat = match hat_of(world, name) {
        Err(held) if !rules.has(held.rule) => {
            no_hat = Hat::new(name, HatSpec::default());
            &no_hat
        }
        known => known?,
    };
    let request = Request { world, id, binding, hat, policy, now: now.wall };
    admit(rules, &request)?;
    let placement = match world.fits(name) {
        None => None,
        Some(fits) => {
            let exclusive = rules.has(Rule::Exclusive);
            let found = place(world, Demand { hat: name, fits, binding: id, exclusive }, now.steady);
            match found {
                Ok(placement) => Some(placement),
                Err(_) if !rules.has(Rule::Unschedulable) => None,
                Err(refusal) => return Err(Held::new(Rule::Unschedulable, refusal.to_string())),
            }
        }
    };
    let previous = succession::predecessor(world, name, hat).filter(|_| !request.was_worn());
    let cause = match &previous {
        _ if request.was_worn() => Cause::Moved,
        Some(_) => Cause::Succeeded,
        None => Cause::Admitted,
    };
    Ok(Admission { cause, placement, previous })
}

/// The policy and the hat of a request. Missing data holds.
fn known<'a>(world: &'a World, binding: &HatBinding) -> Result<(&'a HatPolicySpec, &'a Hat), Held> {
    Ok((policy_of(world)?, hat_of(world, &binding.spec.hat)?))
}

fn policy_of(world: &World) -> Result<&HatPolicySpec, Held> {
    let policy = world.policy.as_ref().map(|policy| &policy.spec);
    policy.ok_or_else(|| Held::new(Rule::Policy, "there is no HatPolicy named default: create one"))
}

fn hat_of<'a>(world: &'a World, name: &str) -> Result<&'a Hat, Held> {
    let hat =
        world.hat(name).ok_or_else(|| Held::new(Rule::HatExists, format!("there is no hat {name}: create it")))?;
    if hat.metadata.deletion_timestamp.is_some() {
        return Err(Held::new(Rule::HatExists, format!("the hat {name} is being deleted")));
    }
    Ok(hat)
}

/// A decision in the making.
struct Decision {
    world: World,
    rules: Rules,
    now: Moment,
    actions: Vec<Action>,
    questions: usize,
}

impl Decision {
    fn pass(&mut self) {
        self.each_binding(Step::Finish, Self::finish_recorded);
        self.each_named(Question::Fence, Self::fence);
        // Those who leave make room before anybody's term is renewed for want of others.
        self.each_binding(Step::Leave, Self::leave);
        self.each_binding(Step::Settle, Self::stay);
        self.each_named(Question::Assignment, Self::assign);
        self.each_trace(Trace::Excess, Self::withdraw);
        self.each_binding(Step::Consider, Self::consider);
        self.each_named(Question::Assignment, Self::assign);
        self.each_trace(Trace::Authority, Self::grant);
        self.each_named(Question::Ledger, Self::keep_hat);
        self.keep_policy();
        self.each_trace(Trace::End, Self::let_go);
        self.collect();
    }

    /// Takes an open step of bindings that have not ended, by creation.
    fn each_binding(&mut self, step: Step, take: fn(&mut Self, &Id)) {
        let mut opened = self.world.agenda.begin(step).into_iter().peekable();
        loop {
            let late = self.world.late();
            let late = late.filter(|late| opened.peek().is_none_or(|first| late < &first)).cloned();
            let Some(turn) = late.or_else(|| opened.next()) else { break };
            self.world.agenda.go_to(&turn);
            if self.world.is_live(&turn.1) && !self.world.is_set_aside(&turn.1) {
                self.questions += 1;
                take(self, &turn.1);
            }
        }
        self.world.agenda.end();
    }

    /// Answers an open question about each node or hat, in their order.
    fn each_named(&mut self, question: Question, answer: fn(&mut Self, &Name)) {
        for name in self.world.agenda.take_asked(question) {
            self.world.agenda.look_at(Matter::Question(name.clone(), question));
            self.questions += 1;
            answer(self, &name);
        }
    }

    /// Looks at what is left of each binding of which it was asked, in their order.
    fn each_trace(&mut self, trace: Trace, answer: fn(&mut Self, &Id)) {
        for id in self.world.agenda.take_traces(trace) {
            self.world.agenda.look_at(Matter::Trace(id.clone(), trace));
            self.questions += 1;
            answer(self, &id);
        }
    }

    fn act(&mut self, action: Action) {
        self.world.apply(&action, self.now.steady);
        self.actions.push(action);
    }

    fn wake_at(&mut self, wall: Timestamp) {
        if wall > self.now.wall && wall < Timestamp::MAX {
            self.world.agenda.due_at(wall);
        }
    }

    fn wake_after(&mut self, wait: Duration) {
        self.world.agenda.due_after(self.now.steady.saturating_add(wait));
    }

    fn live(&self, id: &Id) -> Option<Arc<HatBinding>> {
        self.world.bindings.get(id).filter(|binding| !status_of(binding).phase.is_ended()).cloned()
    }

    /// Rolls a binding forward over every record that is ahead of its status; those in between may have been collected.
    fn finish_recorded(&mut self, id: &Id) {
        let Some(binding) = self.world.bound(id) else { return };
        let known = status_of(binding);
        let mut ahead = self.world.records.after(id, known.transitions).peekable();
        if ahead.peek().is_none() {
            return;
        }
        let status = ahead.fold(known.clone(), |status, (number, swap)| complete(status, number, &swap.spec));
        let status = self.dressed(id, binding, Cow::Owned(status)).into_owned();
        self.act(Action::SetStatus { binding: id.to_string(), status: Box::new(status) });
    }

    fn leave(&mut self, id: &Id) {
        if self.is_going(id) {
            self.settle(id);
        }
    }

    fn stay(&mut self, id: &Id) {
        if !self.is_going(id) {
            self.settle(id);
        }
    }

    fn is_going(&self, id: &Id) -> bool {
        self.world.bound(id).is_some_and(|binding| binding.metadata.deletion_timestamp.is_some())
    }

    /// Makes every transition of a binding that is due without a new admission.
    fn settle(&mut self, id: &Id) {
        while let Some(binding) = self.live(id) {
            let Some((cause, message)) = self.due(id, &binding) else { return };
            let before = status_of(&binding).transitions;
            self.transit(id, binding, cause, &message, None);
            // A status that somebody wrote by hand may have no such transition.
            if self.world.status(id).is_some_and(|status| status.transitions == before) {
                return;
            }
        }
    }

    /// The transition that is due, the final ones first.
    fn due(&mut self, id: &Id, binding: &HatBinding) -> Option<(Cause, String)> {
        let standing = supervision::standing(binding, self.now.wall);
        if let Some(next) = standing.next {
            self.wake_at(next);
        }
        let worn = status_of(binding).phase.is_worn();
        if binding.metadata.deletion_timestamp.is_some() {
            let was_worn = worn || status_of(binding).bound_at.is_some();
            let cause = if was_worn { Cause::Released } else { Cause::Withdrawn };
            return Some((cause, "the binding was deleted".to_owned()));
        }
        if let Some(verdict) = standing.says(VerdictAction::Revoke) {
            return Some((Cause::Revoked, said(verdict)));
        }
        if worn && self.world.hat(&binding.spec.hat).is_none() {
            return Some((Cause::HatGone, format!("the hat {} was deleted", binding.spec.hat)));
        }
        self.term_end(id, binding)
            .or_else(|| self.loss(binding))
            .or_else(|| self.quorum_change(id, binding))
            .or_else(|| self.change_of_authority(id, binding))
    }

    fn term_end(&mut self, id: &Id, binding: &HatBinding) -> Option<(Cause, String)> {
        let status = status_of(binding);
        let ends = status.expires_at.as_ref()?.0;
        if ends > self.now.wall || !self.rules.has(Rule::Term) {
            self.wake_at(ends);
            return None;
        }
        let hat = self.world.hat(&binding.spec.hat);
        let renews = status.phase == Phase::Active
            && self.world.policy.is_some()
            && hat.is_some_and(|hat| {
                hat.metadata.deletion_timestamp.is_none() && succession::policy(hat) == SuccessionPolicy::Renew
            });
        if renews && self.may_be_active(id, binding) && !self.somebody_waits_for(id, binding) {
            return Some((Cause::Renewed, "the term ended and nobody waits for the hat".to_owned()));
        }
        Some((Cause::TermEnded, format!("the term ended at {ends}")))
    }

    /// Whether a request would be admitted in the place of this holder, and not without it. What is about to be stopped makes room in either case.
    fn somebody_waits_for(&self, id: &Id, binding: &HatBinding) -> bool {
        let mut with = self.world.clone();
        with.stop_what_ended(self.now);
        let mut without = with.clone();
        let mut ended = status_of(binding).clone();
        (ended.phase, ended.ended_at) = (Phase::Expired, Some(Time(self.now.wall)));
        without.apply(&Action::SetStatus { binding: id.to_string(), status: Box::new(ended) }, self.now.steady);
        without.stop_what_ended(self.now);
        let others = self.world.live_of_hat.get(binding.spec.hat.as_str()).into_iter().flatten();
        others.filter(|other| *other != id).any(|other| {
            let waits = |world: &World| {
                let request = world.bound(other).filter(|binding| status_of(binding).phase == Phase::Pending)?;
                Some(assess(world, self.rules, other, request, self.now).is_ok())
            };
            waits(&without) == Some(true) && waits(&with) == Some(false)
        })
    }

    /// A binding that has no quorum but should, or had the exception, or has one now.
    fn quorum_change(&self, id: &Id, binding: &HatBinding) -> Option<(Cause, String)> {
        let (policy, hat) = known(&self.world, binding).ok()?;
        let request = Request { world: &self.world, id, binding, hat, policy, now: self.now.wall };
        let (granted, worn) = (quorum::granted(status_of(binding)), status_of(binding).phase.is_worn());
        match quorum::grant(&request) {
            Ok(Some(Cause::Quorum)) if granted != Some(Cause::Quorum) => {
                Some((Cause::Quorum, format!("co-signed by {}", listed(quorum::cosigners(binding)))))
            }
            Ok(Some(Cause::Bootstrap)) if granted.is_none() && !worn => {
                Some((Cause::Bootstrap, "the hat has never had a quorum: HatPolicy spec.bootstrap".to_owned()))
            }
            Err(_) if worn && granted == Some(Cause::Bootstrap) && quorum::is_bootstrapped(&self.world, hat) => {
                Some((Cause::BootstrapEnded, "the hat has had its quorum: the exception is over".to_owned()))
            }
            _ => None,
        }
    }

    /// Into probation, out of it, and out of the warmup.
    fn change_of_authority(&mut self, id: &Id, binding: &HatBinding) -> Option<(Cause, String)> {
        let phase = status_of(binding).phase;
        let standing = supervision::standing(binding, self.now.wall);
        let probation = standing.says(VerdictAction::Probation);
        match (phase, probation) {
            (Phase::Warmup | Phase::Active, Some(verdict)) => Some((Cause::Probation, said(verdict))),
            (Phase::Probation, None) if !self.is_warm(binding) || self.may_be_active(id, binding) => {
                let why = standing.verdict.map_or_else(|| "no verdict keeps it on probation".to_owned(), said);
                Some((Cause::Restored, why))
            }
            (Phase::Warmup, None) if self.is_warm(binding) && self.may_be_active(id, binding) => {
                Some((Cause::WarmedUp, "the warmup is over".to_owned()))
            }
            (
                Phase::Pending
                | Phase::Warmup
                | Phase::Active
                | Phase::Probation
                | Phase::Revoked
                | Phase::Expired
                | Phase::Released,
                _,
            ) => None,
        }
    }

    /// Whether the warmup is over, or the rule is not asked.
    fn is_warm(&mut self, binding: &HatBinding) -> bool {
        let ends = status_of(binding).warmup_ends_at.as_ref().map(|time| time.0);
        if let Some(ends) = ends {
            self.wake_at(ends);
        }
        ends.is_none_or(|ends| ends <= self.now.wall) || !self.rules.has(Rule::Warmup)
    }

    /// Full authority needs a policy, a hat that stays and, if the hat is gated, a quorum still.
    fn may_be_active(&self, id: &Id, binding: &HatBinding) -> bool {
        let Ok((policy, hat)) = known(&self.world, binding) else { return false };
        let request = Request { world: &self.world, id, binding, hat, policy, now: self.now.wall };
        !self.rules.has(Rule::Quorum) || quorum::met(&request).is_ok()
    }

    /// A request that waits: admits it, or says why not.
    fn consider(&mut self, id: &Id) {
        let Some(binding) = self.live(id) else { return };
        if status_of(&binding).phase != Phase::Pending {
            self.refresh(id, &binding, None);
            return;
        }
        self.world.rank(&binding.spec.hat);
        match assess(&self.world, self.rules, id, &binding, self.now) {
            Ok(admission) => {
                let hat = &binding.spec.hat;
                let message = match &admission.placement {
                    Some(placement) => format!("{hat} goes on, on node {}", placement.node),
                    None => format!("{hat} goes on"),
                };
                self.transit(id, binding, admission.cause, &message, Some(admission));
            }
            Err(held) => self.hold(id, &binding, &held),
        }
    }

    fn hold(&mut self, id: &Id, binding: &HatBinding, held: &Held) {
        if let Some(until) = held.until {
            self.wake_at(until);
        }
        self.finalize(id, binding);
        let name = throttled_name(&id.to_string(), status_of(binding).transitions, held.rule.as_str());
        if self.world.swap(&name).is_none() {
            let record = self.throttled(id, binding, held);
            self.act(Action::Record(crate::action::record(name, record).into()));
        }
        let Some(binding) = self.live(id) else { return };
        self.refresh(id, &binding, Some(held));
    }

    fn limits(&self, binding: &HatBinding) -> Limits {
        Limits::of(self.world.hat(&binding.spec.hat), self.world.policy.as_ref().map(|policy| &policy.spec))
    }
}

fn said(verdict: &hatrack_api::hat_binding::Verdict) -> String {
    match &verdict.reason {
        Some(reason) => format!("{}: {reason}", verdict.by),
        None => format!("by {}", verdict.by),
    }
}

fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().collect::<Vec<_>>().join(", ")
}
