//! What is found without a search: each change of a binding or a node moves it from where it was to where it belongs.

use std::sync::Arc;
use std::time::Duration;

use hatrack_api::hat_binding::{HatBinding, HatBindingStatus, Phase, condition};
use imbl::{OrdMap, OrdSet};
use jiff::{SignedDuration, Timestamp};

use super::company::share;
use super::{NodeView, Question, Step, Turn, World, created, status_of};
use crate::action::Uid;
use crate::lifecycle::condition_of;
use crate::moment::Moment;
use crate::placement::shelves::Shelves;
use crate::requirements::Judge;
use crate::throttles::Rule;

impl World {
    /// A node that carries something and was never seen is awaited: its silence counts from now.
    pub(super) fn put_binding(&mut self, uid: &str, binding: HatBinding, steady: Duration) {
        let after = Arc::new(binding);
        if let Some(node) = worn_node(status_of(&after)).filter(|node| !self.nodes.contains_key(*node)) {
            self.put_node(node.to_owned(), NodeView::awaited(node, &self.judge, steady));
        }
        let before = self.bindings.insert(uid.to_owned(), Arc::clone(&after));
        self.move_binding(uid, before.as_deref(), Some(&after));
    }

    /// A binding became another one, or came or went: its place in the indexes changes, and it may matter to others.
    pub(super) fn move_binding(&mut self, uid: &str, before: Option<&HatBinding>, after: Option<&HatBinding>) {
        let (is_same, last) = (before.map(ask) == after.map(ask), after.or(before));
        for binding in before.filter(|_| !is_same).into_iter().chain(after) {
            self.agenda.open(turn(uid, binding), &Step::ALL);
        }
        self.open_authority(uid);
        if after.is_some_and(|binding| !is_live(binding)) {
            self.ended.insert(uid.to_owned());
            self.agenda.ask(Question::End, uid);
        } else if before.is_some_and(|binding| !is_live(binding)) {
            self.ended.remove(uid);
            self.agenda.ask(Question::End, uid);
        }
        let has_moved = self.move_in_queue(uid, before.filter(|it| is_live(it)), after.filter(|it| is_live(it)));
        let has_changed = self.move_in_company(uid, before.filter(|it| is_worn(it)), after.filter(|it| is_worn(it)));
        self.move_on_nodes(uid, before.map(status_of), after.map(status_of));
        if has_moved || has_changed {
            for binding in before.filter(|_| !is_same).into_iter().chain(last) {
                self.open_rivals(binding);
            }
        }
    }

    fn move_in_queue(&mut self, uid: &str, before: Option<&HatBinding>, after: Option<&HatBinding>) -> bool {
        if let Some(binding) = before.filter(|it| is_unplaced(it)) {
            self.unplaced.remove(&turn(uid, binding));
        }
        if let Some(binding) = after.filter(|it| is_unplaced(it)) {
            self.unplaced.insert(turn(uid, binding));
        }
        let has_moved = before.map(ask) != after.map(ask);
        if has_moved && let Some(binding) = before {
            self.queue.remove(&turn(uid, binding));
            drop_from(&mut self.live_of_hat, &binding.spec.hat, uid);
            self.live_of_wearer.remove(&(binding.spec.wearer.spiffe_id.clone(), uid.to_owned()));
        }
        if has_moved && let Some(binding) = after {
            self.queue.insert(turn(uid, binding));
            self.live_of_hat.entry(binding.spec.hat.clone()).or_default().insert(uid.to_owned());
            self.live_of_wearer.insert((binding.spec.wearer.spiffe_id.clone(), uid.to_owned()));
        }
        has_moved
    }

    fn move_in_company(&mut self, uid: &str, before: Option<&HatBinding>, after: Option<&HatBinding>) -> bool {
        let has_changed = before.map(share) != after.map(share);
        if has_changed && let Some(binding) = before {
            let hat = &binding.spec.hat;
            self.agenda.ask(Question::Ledger, hat);
            if let Some(company) = self.companies.get_mut(hat) {
                company.leave(uid, binding);
                if company.len() == 0 {
                    self.companies.remove(hat);
                }
            }
        }
        if has_changed && let Some(binding) = after {
            self.agenda.ask(Question::Ledger, &binding.spec.hat);
            self.companies.entry(binding.spec.hat.clone()).or_default().join(uid, binding);
        }
        has_changed
    }

    fn move_on_nodes(&mut self, uid: &str, before: Option<&HatBindingStatus>, after: Option<&HatBindingStatus>) {
        let (was_on, is_on) = (before.and_then(worn_node), after.and_then(worn_node));
        let devices =
            |status: Option<&HatBindingStatus>| status.map(|status| status.devices.clone()).unwrap_or_default();
        if let Some(node) = was_on.filter(|node| is_on != Some(*node)) {
            self.change_node(node, |view| view.put_down(uid));
        }
        if let Some(node) = is_on {
            if was_on != is_on || before.map(|status| &status.devices) != after.map(|status| &status.devices) {
                self.change_node(node, |view| view.carry(uid, devices(after)));
            }
            self.agenda.ask(Question::Assignment, node);
        }
        let from = (uid.to_owned(), String::new());
        for (_, node) in self.by_node.ending.range(from..).take_while(|(ending, _)| ending == uid) {
            self.agenda.ask(Question::Assignment, node);
        }
    }

    pub(super) fn change_node(&mut self, name: &str, change: impl FnOnce(&mut NodeView)) {
        if let Some(view) = self.nodes.get_mut(name) {
            let view = Arc::make_mut(view);
            self.by_node.take(&self.judge, name, view);
            change(view);
            self.by_node.put(&self.judge, name, view);
            self.agenda.ask(Question::Fence, name);
            self.agenda.ask(Question::Assignment, name);
            self.agenda.open_unplaced();
        }
    }

    /// As if machines had stopped what ended within the time that they may take to stop. For what would be if.
    pub(crate) fn stop_what_ended(&mut self, now: Moment) {
        let limit = SignedDuration::try_from(self.periods.stop).unwrap_or(SignedDuration::MAX);
        let has_just_ended = |uid: &str| {
            let ended = self.status(uid).and_then(|status| status.ended_at.as_ref());
            ended.is_some_and(|ended| now.wall.duration_since(ended.0) < limit)
        };
        let ending: Vec<_> = self.by_node.ending.iter().filter(|(uid, _)| has_just_ended(uid)).cloned().collect();
        for (uid, node) in ending {
            self.change_node(&node, |view| view.stop(&uid));
        }
    }

    pub(super) fn put_node(&mut self, name: String, view: NodeView) {
        let known = self.nodes.get(&name);
        let view = view.lasting(self.periods.lease);
        if let Some(known) = known {
            self.by_node.take(&self.judge, &name, known);
            known.ready_until().map(|until| self.by_node.silent.remove(&(until, name.clone())));
        }
        self.by_node.put(&self.judge, &name, &view);
        view.ready_until().map(|until| self.by_node.silent.insert((until, name.clone())));
        self.agenda.ask(Question::Fence, &name);
        self.nodes.insert(name, Arc::new(view));
    }

    /// Ranks the nodes for a hat from now on.
    pub(crate) fn rank(&mut self, hat: &str) {
        if let Some(fits) = self.fits.get(hat).filter(|fits| fits.is_by_stock()) {
            let node = |name: &str| self.nodes.get(name).map(AsRef::as_ref);
            self.by_node.shelves.rank(hat, fits, &self.judge, node);
        }
    }
}

/// What is found by how nodes stand.
#[derive(Clone, Debug, Default)]
pub(crate) struct ByNode {
    pub shelves: Shelves,
    /// Bindings that a node is to stop, and the node.
    ending: OrdSet<(Uid, String)>,
    /// When each node falls silent.
    silent: OrdSet<(Duration, String)>,
}

impl ByNode {
    fn put(&mut self, judge: &Judge, name: &str, node: &NodeView) {
        self.shelves.put(judge, name, node);
        self.ending.extend(node.ending().map(|hat| (hat.binding.clone(), name.to_owned())));
    }

    fn take(&mut self, judge: &Judge, name: &str, node: &NodeView) {
        self.shelves.take(judge, name, node);
        for hat in node.ending() {
            self.ending.remove(&(hat.binding.clone(), name.to_owned()));
        }
    }

    pub(super) fn silent_between(&self, from: Duration, to: Duration) -> impl Iterator<Item = &String> {
        let since = self.silent.range((from, String::new())..);
        since.take_while(move |(until, _)| *until <= to).map(|(_, name)| name)
    }
}

/// What of a live binding others have to do with.
pub(super) fn ask(binding: &HatBinding) -> (Timestamp, &str, &str) {
    (created(binding), &binding.spec.hat, &binding.spec.wearer.spiffe_id)
}

pub(super) fn turn(uid: &str, binding: &HatBinding) -> Turn {
    (created(binding), uid.to_owned())
}

pub(super) fn is_live(binding: &HatBinding) -> bool {
    !status_of(binding).phase.is_ended()
}

pub(super) fn is_worn(binding: &HatBinding) -> bool {
    status_of(binding).phase.is_worn()
}

/// Whether a request was told that no node takes it.
fn is_unplaced(binding: &HatBinding) -> bool {
    let status = status_of(binding);
    let told = condition_of(&status.conditions, condition::ADMITTED);
    status.phase == Phase::Pending && told.is_some_and(|told| told.reason == Rule::Unschedulable.reason())
}

fn worn_node(status: &HatBindingStatus) -> Option<&str> {
    status.node_name.as_deref().filter(|_| status.phase.is_worn())
}

fn drop_from(index: &mut OrdMap<String, OrdSet<Uid>>, key: &str, uid: &str) {
    if let Some(set) = index.get_mut(key) {
        set.remove(uid);
        if set.is_empty() {
            index.remove(key);
        }
    }
}
