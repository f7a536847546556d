//! The world as the operator sees it, and what each action makes of it.
//!
//! A `World` is fed by [`World::observe_hat`] and its siblings with what watches deliver, and by [`World::apply`] with what a
//! plan does. Copies share structure: taking one is cheap, and a decision tries out its own effects on a copy.
//!
//! Events may come twice and late: an object with an older `resourceVersion` than the one that is known is ignored, and a
//! binding that was seen going does not come back. Until every kind has been listed once, nothing may be decided: a missing
//! hat looks the same as a deleted one.
//!
//! Whatever is put into a world opens what it could matter to (`agenda`), so that a decision looks at nothing else.

mod agenda;
mod company;
mod node;
mod records;

use std::sync::Arc;
use std::time::Duration;

use hatrack_api::hat::SuccessionPolicy;
use hatrack_api::hat_binding::{FINALIZER, HatBinding, HatBindingStatus, Phase, condition};
use hatrack_api::hat_swap::SwapEvent;
use hatrack_api::{ClusterNode, Hat, HatPolicy, HatSwap, hat_policy};
use imbl::{OrdMap, OrdSet, Vector};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::action::{Action, Uid};
use crate::authority::{Grant, Scope};
use crate::lifecycle::condition_of;
use crate::moment::Moment;
use crate::periods::Periods;
use crate::placement::Fits;
use crate::placement::shelves::Shelves;
use crate::requirements::Judge;
use crate::throttles::Rule;
use crate::{quorum, succession};
pub use agenda::Outlook;
pub(crate) use agenda::{Agenda, Question, Step, Turn};
pub(crate) use company::Company;
use company::share;
pub use node::{GPU_ALLOCATOR_LABEL, NodeView, Sight};
pub(crate) use records::cause;
pub use records::{Stay, Tally};

/// Bindings that were seen going and whose late events are still recognised.
const REMEMBERED_GONE: usize = 4096;

/// What the operator knows.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub(crate) hats: OrdMap<String, Arc<Hat>>,
    pub(crate) bindings: OrdMap<Uid, Arc<HatBinding>>,
    pub(crate) nodes: OrdMap<String, Arc<NodeView>>,
    pub(crate) policy: Option<Arc<HatPolicy>>,
    pub(crate) records: records::Records,
    pub(crate) grants: OrdMap<(Uid, Scope), Arc<Grant>>,
    pub(crate) judge: Judge,
    pub(crate) agenda: Agenda,
    /// What hats with requirements ask of nodes, by name.
    fits: OrdMap<String, Arc<Fits>>,
    /// Bindings that have not ended, by creation: the order in which requests are considered.
    pub(crate) queue: OrdSet<Turn>,
    /// Those of them that no node could take when they were last considered.
    pub(crate) unplaced: OrdSet<Turn>,
    /// Bindings that have not ended, by hat and by wearer.
    pub(crate) live_of_hat: OrdMap<String, OrdSet<Uid>>,
    /// There are many wearers with few bindings each.
    live_of_wearer: OrdSet<(String, Uid)>,
    /// Who wears each hat that somebody wears.
    pub(crate) companies: OrdMap<String, Company>,
    pub(crate) by_node: ByNode,
    /// Bindings that have ended and still exist.
    pub(crate) ended: OrdSet<Uid>,
    /// When the text of a held request was last written (steady clock).
    pub(crate) spoken: OrdMap<Uid, Duration>,
    /// Bindings that cannot be written at present.
    set_aside: OrdSet<Uid>,
    pub(crate) periods: Periods,
    gone: (OrdSet<Uid>, Vector<Uid>),
}

impl World {
    /// A world of which nothing is known yet, in which machines have so much time.
    pub fn new(periods: Periods) -> Self {
        Self { periods, ..Self::default() }
    }

    /// A hat was added or changed. Says, as all of these do, whether that was news to a decision.
    pub fn observe_hat(&mut self, hat: Hat) -> bool {
        let name = name_of(&hat.metadata);
        let news = self.hats.get(&name).is_none_or(|known| is_newer(&known.metadata, &hat.metadata));
        if news {
            self.put_hat(name, hat);
        }
        news
    }

    /// A hat is gone.
    pub fn forget_hat(&mut self, name: &str) -> bool {
        self.fits.remove(name);
        self.agenda.open_everything();
        self.hats.remove(name).is_some()
    }

    /// The catalogue matters to everything, a hat's status to those who ask for it at most.
    fn put_hat(&mut self, name: String, hat: Hat) {
        let known = self.hats.get(&name);
        let is_same = known.is_some_and(|known| {
            known.spec == hat.spec && known.metadata.deletion_timestamp == hat.metadata.deletion_timestamp
        });
        let is_reached = known.is_some_and(|known| quorum::has_been_reached(known) == quorum::has_been_reached(&hat));
        if !is_same {
            self.agenda.open_everything();
            match &hat.spec.requirements {
                Some(asked) => _ = self.fits.insert(name.clone(), Arc::new(Fits::new(&self.judge, asked.clone()))),
                None => _ = self.fits.remove(&name),
            }
        } else if !is_reached {
            self.open_all(self.live_of_hat.get(&name).cloned().as_ref());
        }
        self.agenda.ask(Question::Ledger, &name);
        self.hats.insert(name, Arc::new(hat));
    }

    /// The policy was added or changed. Only the one named `default` counts.
    pub fn observe_policy(&mut self, policy: HatPolicy) -> bool {
        let known = self.policy.as_ref();
        let news = name_of(&policy.metadata) == hat_policy::NAME
            && known.is_none_or(|known| is_newer(&known.metadata, &policy.metadata));
        if news {
            if known.is_none_or(|known| known.spec != policy.spec) {
                self.agenda.open_everything();
            }
            self.policy = Some(Arc::new(policy));
        }
        news
    }

    /// The policy is gone: requests are held, and what is worn goes on to its end.
    pub fn forget_policy(&mut self) -> bool {
        self.agenda.open_everything();
        self.policy.take().is_some()
    }

    /// A binding was added or changed. One without a UID was never accepted by an API server and is ignored.
    pub fn observe_binding(&mut self, binding: HatBinding, steady: Duration) -> bool {
        let Some(uid) = binding.metadata.uid.clone() else { return false };
        let known = self.bindings.get(&uid);
        let news =
            !self.gone.0.contains(&uid) && known.is_none_or(|known| is_newer(&known.metadata, &binding.metadata));
        if news {
            self.put_binding(&uid, binding, steady);
        }
        news
    }

    /// A binding is gone.
    pub fn forget_binding(&mut self, uid: &str) -> bool {
        let known = self.bindings.remove(uid);
        if let Some(binding) = &known {
            self.move_binding(uid, Some(binding), None);
        }
        self.spoken.remove(uid);
        self.set_aside.remove(uid);
        if self.gone.0.insert(uid.to_owned()).is_none() {
            self.gone.1.push_back(uid.to_owned());
        }
        while self.gone.1.len() > REMEMBERED_GONE {
            if let Some(oldest) = self.gone.1.pop_front() {
                self.gone.0.remove(&oldest);
            }
        }
        known.is_some()
    }

    /// The API server refuses what is to be written of a binding: it stays as it is, in nobody's way, until it is taken up again.
    pub fn set_aside(&mut self, uid: &str) {
        self.set_aside.insert(uid.to_owned());
        self.open_binding(uid);
    }

    /// A binding that was set aside is decided upon again.
    pub fn take_up(&mut self, uid: &str) {
        self.set_aside.remove(uid);
        self.open_binding(uid);
    }

    /// The API server refuses what is to be written of a node or of its Lease: it takes nothing new and is not fenced, and what it wears stays,
    /// until it changes or is taken up again. Whether it could be told otherwise is not known.
    pub fn set_aside_node(&mut self, name: &str) {
        self.open_node(name);
        self.change_node(name, |view| view.set_aside(true));
    }

    /// A node that was set aside is decided upon again.
    pub fn take_up_node(&mut self, name: &str) {
        self.open_node(name);
        self.change_node(name, |view| view.set_aside(false));
    }

    /// Everything that was set aside is decided upon again, whatever was concluded before.
    pub fn take_up_all(&mut self) {
        self.set_aside.clear();
        let aside = self.nodes.iter().filter(|(_, node)| node.is_set_aside()).map(|(name, _)| name.clone());
        for name in aside.collect::<Vec<_>>() {
            self.take_up_node(&name);
        }
        self.agenda.open_everything();
    }

    /// Every action of a plan was carried out on this world. What the decision looked at has to change or to become due before it is
    /// looked at again.
    pub fn conclude(&mut self, outlook: Outlook) {
        self.agenda.conclude(outlook);
    }

    /// The same world with every index made anew and nothing concluded. For proofs that no decision turns on what was concluded before.
    #[must_use]
    pub fn rebuilt(&self) -> Self {
        let mut world = Self { policy: self.policy.clone(), judge: self.judge.clone(), ..Self::new(self.periods) };
        for hat in self.hats.values() {
            world.put_hat(name_of(&hat.metadata), (**hat).clone());
        }
        for (name, node) in &self.nodes {
            world.put_node(name.clone(), (**node).clone().unloaded());
        }
        for swap in self.records.shared() {
            world.records.insert(Arc::clone(swap));
        }
        for (uid, binding) in &self.bindings {
            world.put_binding(uid, (**binding).clone(), Duration::ZERO);
        }
        let (grants, spoken, set_aside) = (self.grants.clone(), self.spoken.clone(), self.set_aside.clone());
        world.agenda.open_everything();
        Self { grants, spoken, set_aside, gone: self.gone.clone(), ..world }
    }

    pub(crate) fn is_set_aside(&self, uid: &str) -> bool {
        self.set_aside.contains(uid)
    }

    /// A record was written.
    pub fn observe_swap(&mut self, swap: HatSwap) -> bool {
        self.put_swap(&Arc::new(swap))
    }

    fn put_swap(&mut self, swap: &Arc<HatSwap>) -> bool {
        let news = self.records.insert(Arc::clone(swap));
        if news {
            self.open_recorded(swap);
        }
        news
    }

    /// A record was collected.
    pub fn forget_swap(&mut self, name: &str) -> bool {
        let known = self.records.remove(name);
        if let Some(swap) = &known {
            self.open_recorded(swap);
        }
        known.is_some()
    }

    /// A record matters to its binding, to what else its wearer asks for, and to those who wait for its hat if that is not inherited.
    fn open_recorded(&mut self, swap: &HatSwap) {
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

    /// A node was added or changed, at this time of the steady clock.
    pub fn observe_node(&mut self, node: ClusterNode, steady: Duration) -> bool {
        let name = name_of(&node.metadata);
        let view = match self.nodes.get(&name) {
            Some(known) if !known.is_registered() || is_newer(&known.node.metadata, &node.metadata) => {
                known.with_node(node, &self.judge, steady)
            }
            Some(_) => return false,
            None => NodeView::new(node, &self.judge, steady),
        };
        self.open_node(&name);
        self.put_node(name, view);
        true
    }

    /// A ClusterNode is gone. What is worn there goes on until its Lease is silent: the machine may well be alive.
    pub fn forget_node(&mut self, name: &str) -> bool {
        let Some(view) = self.nodes.get(name).filter(|view| view.is_registered()) else { return false };
        let view = view.unregistered(&self.judge);
        self.open_node(name);
        self.put_node(name.to_owned(), view);
        true
    }

    /// A node's Lease was added or changed, at this time of the steady clock. That a node which renewed it before does so again is no
    /// news.
    pub fn observe_lease(&mut self, lease: &Lease, steady: Duration) -> bool {
        let name = name_of(&lease.metadata);
        let known = self.nodes.get(&name).cloned();
        let mut view = match &known {
            Some(known) => known.with_lease(lease, steady),
            None => NodeView::awaited(&name, &self.judge, steady).lasting(self.periods.lease).with_lease(lease, steady),
        };
        let news = known.is_none_or(|known| known.standing(steady) != view.standing(steady));
        if news {
            view.set_aside(false);
            self.open_node(&name);
        }
        self.put_node(name, view);
        news
    }

    /// No Lease could be observed for so long, up to this time of the steady clock. It counts as silence of no node: they could not be heard,
    /// nor renew.
    pub fn was_deaf(&mut self, time: Duration, steady: Duration) {
        let views: Vec<_> =
            self.nodes.iter().map(|(name, view)| (name.clone(), view.unheard_for(time, steady))).collect();
        for (name, view) in views {
            self.open_node(&name);
            self.put_node(name, view);
        }
    }

    /// Role and RoleBinding of a wearer exist.
    pub fn observe_grant(&mut self, grant: Grant) -> bool {
        let key = (grant.binding.clone(), grant.scope.clone());
        let news = self.grants.get(&key).is_none_or(|known| **known != grant);
        self.grants.insert(key.clone(), Arc::new(grant));
        self.open_authority(&key.0);
        news
    }

    /// They are gone.
    pub fn forget_grant(&mut self, binding: &str, scope: &Scope) -> bool {
        self.open_authority(binding);
        self.grants.remove(&(binding.to_owned(), scope.clone())).is_some()
    }

    /// What an action makes of the world once it is done.
    pub fn apply(&mut self, action: &Action, steady: Duration) {
        match action {
            Action::Finalize { binding } => self.change_binding(binding, steady, |object| {
                object.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
            }),
            Action::Record(swap) => {
                self.put_swap(swap);
            }
            Action::SetStatus { binding, status } => {
                self.spoken.insert(binding.clone(), steady);
                self.change_binding(binding, steady, |object| object.status = Some((**status).clone()));
            }
            Action::Unfinalize { binding } => self.unfinalize(binding, steady),
            Action::Delete { binding } => self.delete(binding, steady),
            Action::Fence { node, transitions } => {
                self.open_node(node);
                self.change_node(node, |view| view.fence(*transitions));
            }
            Action::Assign { node, hats } => self.change_node(node, |view| view.assign(hats)),
            Action::Grant(grant) => {
                self.observe_grant((**grant).clone());
            }
            Action::Withdraw { binding, scope } => {
                self.forget_grant(binding, scope);
            }
            Action::SetHatStatus { hat, status } => {
                if let Some(known) = self.hats.get(hat) {
                    self.put_hat(hat.clone(), Hat { status: Some((**status).clone()), ..(**known).clone() });
                }
            }
            Action::SetPolicyStatus { status } => {
                if let Some(policy) = &mut self.policy {
                    Arc::make_mut(policy).status = Some((**status).clone());
                }
            }
            Action::Collect { swap } => {
                self.forget_swap(swap);
            }
        }
    }

    /// The finalizer goes; an object that was deleted and has no other goes with it.
    fn unfinalize(&mut self, uid: &str, steady: Duration) {
        self.change_binding(uid, steady, |object| {
            if let Some(finalizers) = &mut object.metadata.finalizers {
                finalizers.retain(|finalizer| finalizer != FINALIZER);
            }
        });
        let goes = self.bindings.get(uid).is_some_and(|binding| {
            let metadata = &binding.metadata;
            metadata.deletion_timestamp.is_some() && metadata.finalizers.as_ref().is_none_or(Vec::is_empty)
        });
        if goes {
            self.forget_binding(uid);
        }
    }

    fn delete(&mut self, uid: &str, steady: Duration) {
        let goes = self.bindings.get(uid).is_some_and(|binding| !is_finalized(binding));
        if goes {
            self.forget_binding(uid);
            return;
        }
        self.change_binding(uid, steady, |object| {
            let ended = object.status.as_ref().and_then(|status| status.ended_at.clone());
            object.metadata.deletion_timestamp = ended;
        });
    }

    fn change_binding(&mut self, uid: &str, steady: Duration, change: impl FnOnce(&mut HatBinding)) {
        if let Some(known) = self.bindings.get(uid) {
            let mut binding = (**known).clone();
            change(&mut binding);
            self.put_binding(uid, binding, steady);
        }
    }

    /// A node that carries something and was never seen is awaited: its silence counts from now.
    fn put_binding(&mut self, uid: &str, binding: HatBinding, steady: Duration) {
        let after = Arc::new(binding);
        if let Some(node) = worn_node(status_of(&after)).filter(|node| !self.nodes.contains_key(*node)) {
            self.put_node(node.to_owned(), NodeView::awaited(node, &self.judge, steady));
        }
        let before = self.bindings.insert(uid.to_owned(), Arc::clone(&after));
        self.move_binding(uid, before.as_deref(), Some(&after));
    }

    /// A binding became another one, or came or went: its place in the indexes changes, and it may matter to others.
    fn move_binding(&mut self, uid: &str, before: Option<&HatBinding>, after: Option<&HatBinding>) {
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

    /// Who wears what matters to what the wearer asks for beside it and, if their number is limited, to those who wait for the hat.
    fn open_rivals(&mut self, binding: &HatBinding) {
        let hat = &binding.spec.hat;
        self.open_requests_of(&binding.spec.wearer.spiffe_id);
        if self.policy.as_ref().and_then(|policy| policy.spec.bootstrap.as_ref()).is_some_and(|first| first.hat == *hat)
        {
            self.open_all(self.live_of_hat.get(hat).cloned().as_ref());
        } else if self.hat(hat).is_some_and(|hat| hat.spec.max_wearers.is_some()) {
            self.open_requests(self.live_of_hat.get(hat).cloned().as_ref());
        }
    }

    fn open_binding(&mut self, uid: &str) {
        if let Some(binding) = self.bindings.get(uid) {
            self.agenda.open(turn(uid, binding), &Step::ALL);
        }
    }

    fn open_authority(&mut self, uid: &str) {
        if !self.grants.is_empty() {
            self.agenda.ask(Question::Excess, uid);
        }
        self.agenda.ask(Question::Authority, uid);
    }

    fn open_all(&mut self, uids: Option<&OrdSet<Uid>>) {
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
    fn open_node(&mut self, name: &str) {
        for uid in self.nodes.get(name).into_iter().flat_map(|node| node.carries()) {
            if let Some(binding) = self.bindings.get(uid) {
                self.agenda.open(turn(uid, binding), &[Step::Leave, Step::Settle]);
            }
        }
        self.agenda.ask(Question::Fence, name);
        self.agenda.ask(Question::Assignment, name);
        self.agenda.open_unplaced();
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

    fn open_everything(&mut self) {
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

    fn change_node(&mut self, name: &str, change: impl FnOnce(&mut NodeView)) {
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

    fn put_node(&mut self, name: String, view: NodeView) {
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

    /// What a hat asks of nodes, if it does.
    pub(crate) fn fits(&self, hat: &str) -> Option<&Fits> {
        self.fits.get(hat).map(AsRef::as_ref)
    }

    /// The status of a binding; one that was never written is that of a new request.
    pub(crate) fn status(&self, uid: &str) -> Option<&HatBindingStatus> {
        self.bindings.get(uid).map(|binding| status_of(binding))
    }

    /// A hat by its name.
    pub fn hat(&self, name: &str) -> Option<&Hat> {
        self.hats.get(name).map(AsRef::as_ref)
    }

    /// Every hat.
    pub fn hats(&self) -> impl Iterator<Item = &Hat> {
        self.hats.values().map(AsRef::as_ref)
    }

    /// The policy, if there is one.
    pub fn policy(&self) -> Option<&HatPolicy> {
        self.policy.as_deref()
    }

    /// A binding by its UID.
    pub fn binding(&self, uid: &str) -> Option<&HatBinding> {
        self.bindings.get(uid).map(AsRef::as_ref)
    }

    /// Every binding, by UID.
    pub fn bindings(&self) -> impl Iterator<Item = (&str, &HatBinding)> {
        self.bindings.iter().map(|(uid, binding)| (uid.as_str(), binding.as_ref()))
    }

    /// UIDs of the bindings that were last forgotten.
    pub fn gone_bindings(&self) -> impl Iterator<Item = &str> {
        self.gone.0.iter().map(String::as_str)
    }

    /// Records that the API server stored after a `resourceVersion`, in its order, each with its own version.
    pub fn swaps_stored_after(&self, version: u64) -> impl Iterator<Item = (u64, &Arc<HatSwap>)> {
        self.records.stored_after(version)
    }

    /// A record by its name.
    pub fn swap(&self, name: &str) -> Option<&HatSwap> {
        self.records.get(name)
    }

    /// A node by its name.
    pub fn node(&self, name: &str) -> Option<&NodeView> {
        self.nodes.get(name).map(AsRef::as_ref)
    }

    /// Every node, by name: also those of which only the Lease is known.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &NodeView)> {
        self.nodes.iter().map(|(name, node)| (name.as_str(), node.as_ref()))
    }

    /// Every record, by name.
    pub fn swaps(&self) -> impl Iterator<Item = (&str, &HatSwap)> {
        self.records.all()
    }

    /// Every grant that is known to exist.
    pub fn grants(&self) -> impl Iterator<Item = &Grant> {
        self.grants.values().map(AsRef::as_ref)
    }

    /// How many others than a binding wear its hat.
    pub(crate) fn others_in(&self, hat: &str, uid: &str) -> usize {
        self.companies.get(hat).map_or(0, |company| company.others_than(uid))
    }

    /// The grants of a binding that are known to exist.
    pub(crate) fn grants_of<'a>(&'a self, uid: &'a str) -> impl Iterator<Item = &'a Grant> {
        let from = (uid.to_owned(), Scope::Cluster);
        self.grants.range(from..).take_while(move |((of, _), _)| of == uid).map(|(_, grant)| grant.as_ref())
    }

    /// Whether a binding exists and has not ended.
    pub(crate) fn is_live(&self, uid: &str) -> bool {
        self.binding(uid).is_some_and(is_live)
    }

    /// The first turn after the present one that was opened since the step was begun.
    pub(crate) fn late(&self) -> Option<&Turn> {
        self.agenda.late(&self.unplaced)
    }

    /// UIDs of the bindings of a wearer that are worn.
    pub(crate) fn worn_of_wearer<'a>(&'a self, wearer: &'a str) -> impl Iterator<Item = &'a Uid> {
        self.live_of(wearer).filter(|uid| self.status(uid).is_some_and(|status| status.phase.is_worn()))
    }

    /// UIDs of the bindings of a wearer that have not ended.
    pub(crate) fn live_of<'a>(&'a self, wearer: &'a str) -> impl Iterator<Item = &'a Uid> {
        let from = (wearer.to_owned(), Uid::new());
        self.live_of_wearer.range(from..).take_while(move |(of, _)| of == wearer).map(|(_, uid)| uid)
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

    fn silent_between(&self, from: Duration, to: Duration) -> impl Iterator<Item = &String> {
        let since = self.silent.range((from, String::new())..);
        since.take_while(move |(until, _)| *until <= to).map(|(_, name)| name)
    }
}

/// What of a live binding others have to do with.
fn ask(binding: &HatBinding) -> (Timestamp, &str, &str) {
    (created(binding), &binding.spec.hat, &binding.spec.wearer.spiffe_id)
}

fn turn(uid: &str, binding: &HatBinding) -> Turn {
    (created(binding), uid.to_owned())
}

fn is_live(binding: &HatBinding) -> bool {
    !status_of(binding).phase.is_ended()
}

fn is_worn(binding: &HatBinding) -> bool {
    status_of(binding).phase.is_worn()
}

/// Whether a request was told that no node takes it.
fn is_unplaced(binding: &HatBinding) -> bool {
    let status = status_of(binding);
    let told = condition_of(&status.conditions, condition::ADMITTED);
    status.phase == Phase::Pending && told.is_some_and(|told| told.reason == Rule::Unschedulable.reason())
}

static NEW: HatBindingStatus = HatBindingStatus {
    phase: Phase::Pending,
    transitions: 0,
    node_name: None,
    devices: Vec::new(),
    bound_at: None,
    warmup_ends_at: None,
    expires_at: None,
    ended_at: None,
    sticky_attribution_ends_at: None,
    effective_authority: None,
    conditions: Vec::new(),
};

/// The status of a binding; one that was never written is that of a new request.
pub(crate) fn status_of(binding: &HatBinding) -> &HatBindingStatus {
    binding.status.as_ref().unwrap_or(&NEW)
}

/// When a binding was created; one without a time was created last.
pub(crate) fn created(binding: &HatBinding) -> Timestamp {
    binding.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0)
}

/// Whether a binding has our finalizer.
pub(crate) fn is_finalized(binding: &HatBinding) -> bool {
    binding.metadata.finalizers.iter().flatten().any(|finalizer| finalizer == FINALIZER)
}

pub(crate) fn name_of(metadata: &ObjectMeta) -> String {
    metadata.name.clone().unwrap_or_default()
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

/// Whether an object that arrives replaces the one that is known, also if it is another one of that name. Resource versions of one kind grow
/// (KEP-5504); where one is missing, as in a folder, the newest arrival counts.
fn is_newer(known: &ObjectMeta, arrived: &ObjectMeta) -> bool {
    let version = |metadata: &ObjectMeta| metadata.resource_version.as_ref().and_then(|text| text.parse::<u64>().ok());
    match (version(known), version(arrived)) {
        (Some(known), Some(arrived)) => arrived > known,
        _ => true,
    }
}
