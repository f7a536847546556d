//! What a change could matter to, and is looked at again.

use std::time::Duration;

use hatrack_api::hat::SuccessionPolicy;
use hatrack_api::hat_binding::{HatBinding, Phase};
use hatrack_api::hat_swap::SwapEvent;
use hatrack_api::{Hat, HatSwap};
use imbl::OrdSet;

use super::indexes::turn;
use super::{Id, Name, Question, RecordName, Step, Trace, World, name_of, status_of};
use crate::action::Action;
use crate::moment::Moment;
use crate::succession;

impl World {
    /// A record matters to its binding, to what else its wearer asks for, and to those who wait for its hat if that is not inherited.
    pub(super) fn open_recorded(&mut self, swap: &HatSwap) {
        let record = &swap.spec;
        let named = match RecordName::from(name_of(&swap.metadata)) {
            RecordName::Transition(id, _) => Some(id),
            RecordName::Other(_) => None,
        };
        let bound = record.binding_ref.as_ref().map(|binding| Id::from(binding.uid.as_str()));
        for id in named.iter().chain(bound.as_ref().filter(|_| bound != named)) {
            self.open_binding(id);
        }
        if record.event == SwapEvent::Throttled {
            return;
        }
        self.agenda.ask(Question::Ledger, &record.hat);
        self.open_requests_of(&record.wearer.spiffe_id);
        let is_inherited = |hat: &Hat| succession::policy(hat) != SuccessionPolicy::None;
        if record.event == SwapEvent::SwapOff && !self.hat(&record.hat).is_none_or(is_inherited) {
            self.open_requests(&self.all_of_hat(&record.hat));
        }
    }

    /// Who wears what matters to what the wearer asks for beside it and, if their number is limited, to those who wait for the hat.
    pub(super) fn open_rivals(&mut self, binding: &HatBinding) {
        let hat = &binding.spec.hat;
        self.open_requests_of(&binding.spec.wearer.spiffe_id);
        if self.policy.as_ref().and_then(|policy| policy.spec.bootstrap.as_ref()).is_some_and(|first| first.hat == *hat)
        {
            self.open_all(&self.all_of_hat(hat));
        } else if self.hat(hat).is_some_and(|hat| hat.spec.max_wearers.is_some()) {
            self.open_requests(&self.all_of_hat(hat));
        }
    }

    pub(super) fn open_binding(&mut self, id: &Id) {
        if let Some(binding) = self.bindings.get(id) {
            self.agenda.open(turn(id, binding), &Step::ALL);
        }
    }

    pub(super) fn open_authority(&mut self, id: &Id) {
        if !self.grants.is_empty() {
            self.agenda.trace(Trace::Excess, id);
        }
        self.agenda.trace(Trace::Authority, id);
    }

    /// The bindings of a hat that have not ended, as they are now.
    pub(super) fn all_of_hat(&self, hat: &str) -> OrdSet<Id> {
        self.live_of_hat.get(hat).cloned().unwrap_or_default()
    }

    pub(super) fn open_all(&mut self, ids: &OrdSet<Id>) {
        for id in ids {
            self.open_binding(id);
        }
    }

    /// Those of them that wait are to be considered.
    fn open_requests<'a>(&mut self, ids: impl IntoIterator<Item = &'a Id>) {
        for id in ids {
            self.open_request(id);
        }
    }

    /// What a wearer waits for is to be considered.
    fn open_requests_of(&mut self, wearer: &str) {
        let live = self.live_of_wearer.of(wearer).cloned();
        self.open_requests(live.iter().flat_map(|live| live.iter()));
    }

    fn open_request(&mut self, id: &Id) {
        if let Some(binding) = self.bindings.get(id).filter(|binding| status_of(binding).phase == Phase::Pending) {
            self.agenda.open(turn(id, binding), &[Step::Consider]);
        }
    }

    /// What a machine is matters to what is worn on it, and to those who wait for one.
    pub(super) fn open_node(&mut self, name: &str) {
        for id in self.nodes.get(name).into_iter().flat_map(|node| node.carries()) {
            if let Some(binding) = self.bindings.get(id) {
                self.agenda.open(turn(id, binding), &[Step::Leave, Step::Settle]);
            }
        }
        self.agenda.ask(Question::Fence, name);
        self.agenda.ask(Question::Assignment, name);
        self.agenda.open_unplaced();
    }

    /// An action of a plan that was concluded was left out: what it follows from is still to be looked at.
    pub fn leave_open(&mut self, action: &Action) {
        match action {
            Action::Finalize { binding } | Action::SetStatus { binding, .. } => {
                self.open_binding(&binding.as_str().into());
            }
            Action::Record(swap) => self.open_recorded(swap),
            Action::Fence { node, .. } | Action::Assign { node, .. } => self.open_node(node),
            Action::Grant(grant) => self.open_authority(&grant.binding.as_str().into()),
            Action::Withdraw { binding, .. } => self.open_authority(&binding.as_str().into()),
            Action::SetHatStatus { hat, .. } => self.agenda.ask(Question::Ledger, hat),
            Action::Unfinalize { binding } | Action::Delete { binding } => {
                self.agenda.trace(Trace::End, &binding.as_str().into());
            }
            // Each decision looks at these.
            Action::SetPolicyStatus { .. } | Action::Collect { .. } => {}
        }
    }

    /// Opens what a decision at this time has to look at beside what was opened by changes.
    pub(crate) fn open_due(&mut self, now: Moment) {
        if self.agenda.take_everything(now) {
            return self.open_everything();
        }
        let concluded = self.agenda.concluded().map_or(Duration::ZERO, |last| last.steady);
        let silent: Vec<Name> = self.by_node.silent_between(concluded, now.steady).cloned().collect();
        for name in silent {
            self.open_node(&name);
        }
        self.agenda.open_due(now);
    }

    pub(super) fn open_everything(&mut self) {
        for turn in self.queue.clone() {
            self.open_authority(&turn.1);
            self.agenda.open(turn, &Step::ALL);
        }
        for (binding, _) in self.grants.clone().keys() {
            self.open_authority(binding);
        }
        for (question, names) in [(Question::Fence, self.nodes.keys()), (Question::Assignment, self.nodes.keys())] {
            names.for_each(|name| self.agenda.ask(question, name));
        }
        self.hats.keys().for_each(|name| self.agenda.ask(Question::Ledger, name));
        self.ended.iter().for_each(|id| self.agenda.trace(Trace::End, id));
    }
}
