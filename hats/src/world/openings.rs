//! What a change could matter to, and is looked at again.

use hatrack_api::hat::SuccessionPolicy;
use hatrack_api::hat_binding::{HatBinding, Phase};
use hatrack_api::hat_swap::SwapEvent;
use hatrack_api::{Hat, HatSwap};
use imbl::OrdSet;

use super::indexes::turn;
use super::{Question, Step, World, status_of};
use crate::action::{Action, Uid};
use crate::moment::Moment;
use crate::succession;

impl World {
    /// A record matters to its binding, to what else its wearer asks for, and to those who wait for its hat if that is not inherited.
    pub(super) fn open_recorded(&mut self, swap: &HatSwap) {
        let record = &swap.spec;
        let named = swap.metadata.name.as_deref().and_then(|name| name.rsplit_once('-')).map(|(uid, _)| uid);
        let bound = record.binding_ref.as_ref().map(|binding| binding.uid.as_str());
        for uid in bound.into_iter().chain(named.filter(|named| bound != Some(*named))) {
            self.open_binding(uid);
        }
        if record.event == SwapEvent::Throttled {
            return;
        }
        self.agenda.ask(Question::Ledger, &record.hat);
        self.open_requests_of(&record.wearer.spiffe_id);
        let is_inherited = |hat: &Hat| succession::policy(hat) != SuccessionPolicy::None;
        if record.event == SwapEvent::SwapOff && !self.hat(&record.hat).is_none_or(is_inherited) {
            self.open_requests(self.live_of_hat.get(&record.hat).cloned().as_ref());
        }
    }

    /// Who wears what matters to what the wearer asks for beside it and, if their number is limited, to those who wait for the hat.
    pub(super) fn open_rivals(&mut self, binding: &HatBinding) {
        let hat = &binding.spec.hat;
        self.open_requests_of(&binding.spec.wearer.spiffe_id);
        if self.policy.as_ref().and_then(|policy| policy.spec.bootstrap.as_ref()).is_some_and(|first| first.hat == *hat)
        {
            self.open_all(self.live_of_hat.get(hat).cloned().as_ref());
        } else if self.hat(hat).is_some_and(|hat| hat.spec.max_wearers.is_some()) {
            self.open_requests(self.live_of_hat.get(hat).cloned().as_ref());
        }
    }

    pub(super) fn open_binding(&mut self, uid: &str) {
        if let Some(binding) = self.bindings.get(uid) {
            self.agenda.open(turn(uid, binding), &Step::ALL);
        }
    }

    pub(super) fn open_authority(&mut self, uid: &str) {
        if !self.grants.is_empty() {
            self.agenda.ask(Question::Excess, uid);
        }
        self.agenda.ask(Question::Authority, uid);
    }

    pub(super) fn open_all(&mut self, uids: Option<&OrdSet<Uid>>) {
        for uid in uids.into_iter().flatten() {
            self.open_binding(uid);
        }
    }

    /// Those of them that wait are to be considered.
    fn open_requests(&mut self, uids: Option<&OrdSet<Uid>>) {
        for uid in uids.into_iter().flatten() {
            self.open_request(uid);
        }
    }

    /// What a wearer waits for is to be considered.
    fn open_requests_of(&mut self, wearer: &str) {
        let live: Vec<Uid> = self.live_of(wearer).cloned().collect();
        for uid in &live {
            self.open_request(uid);
        }
    }

    fn open_request(&mut self, uid: &str) {
        if let Some(binding) = self.bindings.get(uid).filter(|binding| status_of(binding).phase == Phase::Pending) {
            self.agenda.open(turn(uid, binding), &[Step::Consider]);
        }
    }

    /// What a machine is matters to what is worn on it, and to those who wait for one.
    pub(super) fn open_node(&mut self, name: &str) {
        for uid in self.nodes.get(name).into_iter().flat_map(|node| node.carries()) {
            if let Some(binding) = self.bindings.get(uid) {
                self.agenda.open(turn(uid, binding), &[Step::Leave, Step::Settle]);
            }
        }
        self.agenda.ask(Question::Fence, name);
        self.agenda.ask(Question::Assignment, name);
        self.agenda.open_unplaced();
    }

    /// An action of a plan that was concluded was left out: what it follows from is still to be looked at.
    pub fn leave_open(&mut self, action: &Action) {
        match action {
            Action::Finalize { binding } | Action::SetStatus { binding, .. } => self.open_binding(binding),
            Action::Record(swap) => self.open_recorded(swap),
            Action::Fence { node, .. } | Action::Assign { node, .. } => self.open_node(node),
            Action::Grant(grant) => self.open_authority(&grant.binding),
            Action::Withdraw { binding, .. } => self.open_authority(binding),
            Action::SetHatStatus { hat, .. } => self.agenda.ask(Question::Ledger, hat),
            Action::Unfinalize { binding } | Action::Delete { binding } => self.agenda.ask(Question::End, binding),
            // Each decision looks at these.
            Action::SetPolicyStatus { .. } | Action::Collect { .. } => {}
        }
    }

    /// Opens what a decision at this time has to look at beside what was opened by changes.
    pub(crate) fn open_due(&mut self, now: Moment) {
        if self.agenda.take_everything(now) {
            return self.open_everything();
        }
        let silent: Vec<String> = self.by_node.silent_between(self.agenda.concluded(), now.steady).cloned().collect();
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
        self.ended.iter().for_each(|uid| self.agenda.ask(Question::End, uid));
    }
}
