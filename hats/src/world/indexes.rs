//! What is found without a search: each change of a binding or a node moves it from where it was to where it belongs.

use std::sync::Arc;
use std::time::Duration;

use hatrack_api::hat_binding::{HatBinding, HatBindingStatus, Phase, condition};
use imbl::OrdSet;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Id, Name, NodeView, Question, Step, Trace, Turn, World, created, status_of};
use crate::lifecycle::condition_of;
use crate::moment::Moment;
use crate::placement::shelves::{Shelves, Spot};
use crate::quorum;
use crate::requirements::Judge;
use crate::throttles::Rule;

/// A binding with a status that it has, or had.
#[derive(Clone, Copy)]
pub(super) struct Stand<'a> {
    binding: &'a HatBinding,
    status: &'a HatBindingStatus,
}

impl World {
    /// A binding comes, or another one in its place.
    pub(super) fn put_binding(&mut self, id: &Id, binding: HatBinding, steady: Duration) {
        let after = Arc::new(binding);
        self.await_node(status_of(&after), steady);
        let before = self.bindings.insert(id.clone(), Arc::clone(&after));
        self.move_binding(id, before.as_deref().map(Stand::of), Some(Stand::of(&after)));
    }

    /// A binding gets another status. Says whether there is such a binding.
    pub(super) fn put_status(&mut self, id: &Id, status: &HatBindingStatus, steady: Duration) -> bool {
        self.await_node(status, steady);
        let Some(binding) = self.bindings.get_mut(id) else { return false };
        let before = Arc::make_mut(binding).status.replace(status.clone()).unwrap_or_default();
        let binding = Arc::clone(binding);
        let before = Stand { binding: &binding, status: &before };
        self.move_binding(id, Some(before), Some(Stand::of(&binding)));
        true
    }

    /// Something else changes of a binding, on which no index turns.
    pub(super) fn change_metadata(&mut self, id: &Id, change: impl FnOnce(&mut ObjectMeta)) {
        if let Some(binding) = self.bindings.get_mut(id) {
            change(&mut Arc::make_mut(binding).metadata);
            let binding = Arc::clone(binding);
            self.move_binding(id, Some(Stand::of(&binding)), Some(Stand::of(&binding)));
        }
    }

    /// A node that carries something and was never seen is awaited: its silence counts from now.
    fn await_node(&mut self, status: &HatBindingStatus, steady: Duration) {
        if let Some(node) = worn_node(status).filter(|node| !self.nodes.contains_key(*node)) {
            self.put_node(node.into(), NodeView::awaited(node, &self.judge, steady));
        }
    }

    /// A binding became another one, or came or went: its place in the indexes changes, and it may matter to others.
    pub(super) fn move_binding(&mut self, id: &Id, before: Option<Stand<'_>>, after: Option<Stand<'_>>) {
        let (is_same, last) = (before.map(Stand::ask) == after.map(Stand::ask), after.or(before));
        for stand in before.filter(|_| !is_same).into_iter().chain(after) {
            self.agenda.open(turn(id, stand.binding), &Step::ALL);
        }
        self.open_authority(id);
        if after.is_some_and(|stand| !stand.is_live()) {
            self.ended.insert(id.clone());
            self.agenda.trace(Trace::End, id);
        } else if before.is_some_and(|stand| !stand.is_live()) {
            self.ended.remove(id);
            self.agenda.trace(Trace::End, id);
        }
        let has_moved = self.move_in_queue(id, before.filter(Stand::is_live), after.filter(Stand::is_live));
        let has_changed = self.move_in_company(before.filter(Stand::is_worn), after.filter(Stand::is_worn));
        self.move_on_nodes(id, before.map(|stand| stand.status), after.map(|stand| stand.status));
        if has_moved || has_changed {
            for stand in before.filter(|_| !is_same).into_iter().chain(last) {
                self.open_rivals(stand.binding);
            }
        }
    }

    fn move_in_queue(&mut self, id: &Id, before: Option<Stand<'_>>, after: Option<Stand<'_>>) -> bool {
        if let Some(stand) = before.filter(Stand::is_unplaced) {
            self.unplaced.remove(&turn(id, stand.binding));
        }
        if let Some(stand) = after.filter(Stand::is_unplaced) {
            self.unplaced.insert(turn(id, stand.binding));
        }
        let has_moved = before.map(Stand::ask) != after.map(Stand::ask);
        if has_moved && let Some(Stand { binding, .. }) = before {
            self.queue.remove(&turn(id, binding));
            self.drop_from_hat(&binding.spec.hat, id);
            self.live_of_wearer.take(&binding.spec.wearer.spiffe_id, id);
        }
        if has_moved && let Some(Stand { binding, .. }) = after {
            self.queue.insert(turn(id, binding));
            self.live_of_hat.entry(binding.spec.hat.as_str().into()).or_default().insert(id.clone());
            self.live_of_wearer.put(&binding.spec.wearer.spiffe_id, id.clone());
        }
        has_moved
    }

    fn drop_from_hat(&mut self, hat: &str, id: &Id) {
        if let Some(live) = self.live_of_hat.get_mut(hat) {
            live.remove(id);
            if live.is_empty() {
                self.live_of_hat.remove(hat);
            }
        }
    }

    fn move_in_company(&mut self, before: Option<Stand<'_>>, after: Option<Stand<'_>>) -> bool {
        let has_changed = before.map(Stand::share) != after.map(Stand::share);
        if has_changed && let Some(stand) = before {
            let (hat, wearer, proves) = stand.share();
            self.agenda.ask(Question::Ledger, hat);
            if let Some(company) = self.companies.get_mut(hat) {
                company.leave(wearer, proves);
                if company.len() == 0 {
                    self.companies.remove(hat);
                }
            }
        }
        if has_changed && let Some(stand) = after {
            let (hat, wearer, proves) = stand.share();
            self.agenda.ask(Question::Ledger, hat);
            self.companies.entry(hat.into()).or_default().join(wearer, proves);
        }
        has_changed
    }

    fn move_on_nodes(&mut self, id: &Id, before: Option<&HatBindingStatus>, after: Option<&HatBindingStatus>) {
        let (was_on, is_on) = (before.and_then(worn_node), after.and_then(worn_node));
        let devices = |status: Option<&HatBindingStatus>| status.map_or(&[][..], |status| &status.devices).to_vec();
        if let Some(node) = was_on.filter(|node| is_on != Some(*node)) {
            self.change_node(node, |view| view.put_down(id));
        }
        if let Some(node) = is_on {
            if was_on != is_on || before.map(|status| &status.devices) != after.map(|status| &status.devices) {
                self.change_node(node, |view| view.carry(id, devices(after)));
            }
            self.agenda.ask(Question::Assignment, node);
        }
        let from = (id.clone(), Name::default());
        for (_, node) in self.by_node.ending.range(from..).take_while(|(ending, _)| ending == id) {
            self.agenda.ask(Question::Assignment, node);
        }
    }

    pub(super) fn change_node(&mut self, name: &str, change: impl FnOnce(&mut NodeView)) {
        if let Some((name, view)) = self.nodes.get_key_value_mut(name) {
            let view = Arc::make_mut(view);
            let before = Place::of(view);
            change(view);
            self.by_node.change(&self.judge, name, Some(before), view);
            self.agenda.ask(Question::Fence, name);
            self.agenda.ask(Question::Assignment, name);
            self.agenda.open_unplaced();
        }
    }

    /// As if machines had stopped what ended within the time that they may take to stop. For what would be if.
    pub(crate) fn stop_what_ended(&mut self, now: Moment) {
        let limit = SignedDuration::try_from(self.periods.stop).unwrap_or(SignedDuration::MAX);
        let has_just_ended = |id: &Id| {
            let ended = self.status(id).and_then(|status| status.ended_at.as_ref());
            ended.is_some_and(|ended| now.wall.duration_since(ended.0) < limit)
        };
        let ending: Vec<_> = self.by_node.ending.iter().filter(|(id, _)| has_just_ended(id)).cloned().collect();
        for (id, node) in ending {
            self.change_node(&node, |view| view.stop(&id));
        }
    }

    pub(super) fn put_node(&mut self, name: Name, view: NodeView) {
        let known = self.nodes.get(&name);
        let view = view.lasting(self.periods.lease);
        if let Some(until) = known.and_then(|known| known.ready_until()) {
            self.by_node.silent.remove(&(until, name.clone()));
        }
        let before = known.map(|known| Place::of(known));
        self.by_node.change(&self.judge, &name, before, &view);
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
    ending: OrdSet<(Id, Name)>,
    /// When each node falls silent.
    silent: OrdSet<(Duration, Name)>,
}

/// Where a node is found.
struct Place {
    spot: Option<Spot>,
    ending: Vec<Id>,
}

impl Place {
    fn of(node: &NodeView) -> Self {
        Self { spot: Spot::of(node), ending: node.ending().map(|(id, _)| id.clone()).collect() }
    }
}

impl ByNode {
    /// A node came, or is another one than it was.
    fn change(&mut self, judge: &Judge, name: &Name, before: Option<Place>, node: &NodeView) {
        let (spot, ended) = before.map_or_else(Default::default, |before| (before.spot, before.ending));
        self.shelves.change(judge, name, spot, node);
        for id in ended.into_iter().filter(|id| !node.ending().any(|(ending, _)| ending == id)) {
            self.ending.remove(&(id, name.clone()));
        }
        self.ending.extend(node.ending().map(|(id, _)| (id.clone(), name.clone())));
    }

    pub(super) fn silent_between(&self, from: Duration, to: Duration) -> impl Iterator<Item = &Name> {
        let since = self.silent.range((from, Name::default())..);
        since.take_while(move |(until, _)| *until <= to).map(|(_, name)| name)
    }
}

impl<'a> Stand<'a> {
    pub fn of(binding: &'a HatBinding) -> Self {
        Self { binding, status: status_of(binding) }
    }

    /// What of a live binding others have to do with.
    fn ask(self) -> (Timestamp, &'a str, &'a str) {
        let spec = &self.binding.spec;
        (created(self.binding), &spec.hat, &spec.wearer.spiffe_id)
    }

    /// What of a binding counts in a company: the hat, the wearer, and whether it proves a quorum.
    fn share(self) -> (&'a str, &'a str, bool) {
        let spec = &self.binding.spec;
        (&spec.hat, &spec.wearer.spiffe_id, quorum::proves_a_quorum(self.status))
    }

    fn is_live(&self) -> bool {
        !self.status.phase.is_ended()
    }

    fn is_worn(&self) -> bool {
        self.status.phase.is_worn()
    }

    /// Whether a request was told that no node takes it.
    fn is_unplaced(&self) -> bool {
        let told = condition_of(&self.status.conditions, condition::ADMITTED);
        self.status.phase == Phase::Pending && told.is_some_and(|told| told.reason == Rule::Unschedulable.reason())
    }
}

pub(super) fn turn(id: &Id, binding: &HatBinding) -> Turn {
    (created(binding), id.clone())
}

fn worn_node(status: &HatBindingStatus) -> Option<&str> {
    status.node_name.as_deref().filter(|_| status.phase.is_worn())
}
