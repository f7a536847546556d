//! The world as the operator sees it, and what each action makes of it.
//!
//! A `World` is fed by [`World::observe_hat`] and its siblings with what watches deliver, and by [`World::apply`] with what a
//! plan does. Copies share structure: taking one is cheap, and a decision tries out its own effects on a copy.
//!
//! Events may come twice and late: an object with an older `resourceVersion` than the one that is known is ignored, and a
//! binding that was seen going does not come back. Until every kind has been listed once, nothing may be decided: a missing
//! hat looks the same as a deleted one.

mod node;
mod records;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hatrack_api::hat_binding::{FINALIZER, HatBinding, HatBindingStatus, Phase};
use hatrack_api::{ClusterNode, Hat, HatPolicy, HatSwap, hat_policy};
use imbl::{OrdMap, OrdSet, Vector};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::action::{Action, Uid};
use crate::authority::{Grant, Scope};
use crate::periods::Periods;
use crate::placement::shelves::Shelves;
use crate::requirements::Judge;
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
    pub(crate) shelves: Shelves,
    /// Bindings that have not ended, by creation: the order in which requests are considered.
    pub(crate) queue: OrdSet<(Timestamp, Uid)>,
    /// Bindings that have not ended, by hat and by wearer.
    pub(crate) live_of_hat: OrdMap<String, OrdSet<Uid>>,
    pub(crate) live_of_wearer: OrdMap<String, OrdSet<Uid>>,
    /// Bindings that are worn on a node.
    pub(crate) worn_on: OrdMap<String, OrdSet<Uid>>,
    /// Nodes with something in `status.hats`.
    assigned: OrdSet<String>,
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
            self.hats.insert(name, Arc::new(hat));
        }
        news
    }

    /// A hat is gone.
    pub fn forget_hat(&mut self, name: &str) -> bool {
        self.hats.remove(name).is_some()
    }

    /// The policy was added or changed. Only the one named `default` counts.
    pub fn observe_policy(&mut self, policy: HatPolicy) -> bool {
        let known = self.policy.as_ref();
        let news = name_of(&policy.metadata) == hat_policy::NAME
            && known.is_none_or(|known| is_newer(&known.metadata, &policy.metadata));
        if news {
            self.policy = Some(Arc::new(policy));
        }
        news
    }

    /// The policy is gone: requests are held, and what is worn goes on to its end.
    pub fn forget_policy(&mut self) -> bool {
        self.policy.take().is_some()
    }

    /// A binding was added or changed. One without a UID was never accepted by an API server and is ignored.
    pub fn observe_binding(&mut self, binding: HatBinding, steady: Duration) -> bool {
        let Some(uid) = binding.metadata.uid.clone() else { return false };
        let known = self.bindings.get(&uid);
        let news =
            !self.gone.0.contains(&uid) && known.is_none_or(|known| is_newer(&known.metadata, &binding.metadata));
        if news {
            self.put_binding(uid, binding, steady);
        }
        news
    }

    /// A binding is gone.
    pub fn forget_binding(&mut self, uid: &str) -> bool {
        let known = self.bindings.remove(uid);
        if let Some(binding) = &known {
            self.unindex(uid, binding);
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
    }

    /// A binding that was set aside is decided upon again.
    pub fn take_up(&mut self, uid: &str) {
        self.set_aside.remove(uid);
    }

    /// Every binding is decided upon again.
    pub fn take_up_all(&mut self) {
        self.set_aside.clear();
    }

    pub(crate) fn is_set_aside(&self, uid: &str) -> bool {
        self.set_aside.contains(uid)
    }

    /// A record was written.
    pub fn observe_swap(&mut self, swap: HatSwap) -> bool {
        self.records.insert(Arc::new(swap))
    }

    /// A record was collected.
    pub fn forget_swap(&mut self, name: &str) -> bool {
        self.records.remove(name)
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
        self.put_node(name, view);
        true
    }

    /// A ClusterNode is gone. What is worn there goes on until its Lease is silent: the machine may well be alive.
    pub fn forget_node(&mut self, name: &str) -> bool {
        let Some(view) = self.nodes.get(name).filter(|view| view.is_registered()) else { return false };
        let view = view.unregistered(&self.judge);
        self.put_node(name.to_owned(), view);
        true
    }

    /// A node's Lease was added or changed, at this time of the steady clock. That a node which renewed it before does so again is no
    /// news.
    pub fn observe_lease(&mut self, lease: &Lease, steady: Duration) -> bool {
        let name = name_of(&lease.metadata);
        let known = self.nodes.get(&name).cloned();
        let view = match &known {
            Some(known) => known.with_lease(lease, steady),
            None => NodeView::awaited(&name, &self.judge, steady).lasting(self.periods.lease).with_lease(lease, steady),
        };
        let news = known.is_none_or(|known| known.standing(steady) != view.standing(steady));
        self.put_node(name, view);
        news
    }

    /// No Lease could be observed for so long, up to this time of the steady clock. It counts as silence of no node: they could not be heard,
    /// nor renew.
    pub fn was_deaf(&mut self, time: Duration, steady: Duration) {
        let views: Vec<_> =
            self.nodes.iter().map(|(name, view)| (name.clone(), view.unheard_for(time, steady))).collect();
        for (name, view) in views {
            self.put_node(name, view);
        }
    }

    /// Role and RoleBinding of a wearer exist.
    pub fn observe_grant(&mut self, grant: Grant) -> bool {
        let key = (grant.binding.clone(), grant.scope.clone());
        let news = self.grants.get(&key).is_none_or(|known| **known != grant);
        self.grants.insert(key, Arc::new(grant));
        news
    }

    /// They are gone.
    pub fn forget_grant(&mut self, binding: &str, scope: &Scope) -> bool {
        self.grants.remove(&(binding.to_owned(), scope.clone())).is_some()
    }

    /// What an action makes of the world once it is done.
    pub fn apply(&mut self, action: &Action, steady: Duration) {
        match action {
            Action::Finalize { binding } => self.change_binding(binding, steady, |object| {
                object.metadata.finalizers.get_or_insert_default().push(FINALIZER.to_owned());
            }),
            Action::Record(swap) => {
                self.observe_swap((**swap).clone());
            }
            Action::SetStatus { binding, status } => {
                self.spoken.insert(binding.clone(), steady);
                self.change_binding(binding, steady, |object| object.status = Some((**status).clone()));
            }
            Action::Unfinalize { binding } => self.unfinalize(binding, steady),
            Action::Delete { binding } => self.delete(binding, steady),
            Action::Fence { node, transitions } => self.change_node(node, |view| view.fenced_at(*transitions)),
            Action::Assign { node, hats } => self.change_node(node, |view| view.with_hats(hats.clone())),
            Action::Grant(grant) => {
                self.observe_grant((**grant).clone());
            }
            Action::Withdraw { binding, scope } => {
                self.forget_grant(binding, scope);
            }
            Action::SetHatStatus { hat, status } => {
                if let Some(known) = self.hats.get_mut(hat) {
                    Arc::make_mut(known).status = Some((**status).clone());
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
            self.put_binding(uid.to_owned(), binding, steady);
        }
    }

    fn change_node(&mut self, name: &str, change: impl FnOnce(&NodeView) -> NodeView) {
        if let Some(view) = self.nodes.get(name) {
            let view = change(view);
            self.put_node(name.to_owned(), view);
        }
    }

    fn put_node(&mut self, name: String, view: NodeView) {
        if let Some(before) = self.nodes.get(&name) {
            self.shelves.take(&name, before);
        }
        let view = view.lasting(self.periods.lease).with_load(self.held_devices(&name));
        self.shelves.put(&name, &view);
        if view.hats().is_empty() {
            self.assigned.remove(&name);
        } else {
            self.assigned.insert(name.clone());
        }
        self.nodes.insert(name, Arc::new(view));
    }

    /// Nodes that carry something, or are still told what to carry.
    pub(crate) fn carriers(&self) -> Vec<String> {
        let carriers: std::collections::BTreeSet<&String> = self.worn_on.keys().chain(&self.assigned).collect();
        carriers.into_iter().cloned().collect()
    }

    /// Devices of a node that a worn binding has, by the bindings' own status.
    fn held_devices(&self, node: &str) -> BTreeMap<Uid, Vec<String>> {
        let worn = self.worn_on.get(node).into_iter().flatten();
        worn.filter_map(|uid| Some((uid.clone(), self.status(uid)?.devices.clone()))).collect()
    }

    /// A node that carries something and was never seen is awaited: its silence counts from now.
    fn put_binding(&mut self, uid: Uid, binding: HatBinding, steady: Duration) {
        let before = self.bindings.get(&uid).cloned();
        if let Some(before) = &before {
            self.unindex(&uid, before);
        }
        let after = Arc::new(binding);
        self.bindings.insert(uid.clone(), Arc::clone(&after));
        let status = status_of(&after);
        if status.phase.is_ended() {
            self.ended.insert(uid.clone());
        } else {
            self.queue.insert((created(&after), uid.clone()));
            self.live_of_hat.entry(after.spec.hat.clone()).or_default().insert(uid.clone());
            self.live_of_wearer.entry(after.spec.wearer.spiffe_id.clone()).or_default().insert(uid.clone());
        }
        if let Some(node) = worn_node(status) {
            self.worn_on.entry(node.to_owned()).or_default().insert(uid);
            if !self.nodes.contains_key(node) {
                self.put_node(node.to_owned(), NodeView::awaited(node, &self.judge, steady));
            }
            self.reload(node);
        }
    }

    fn unindex(&mut self, uid: &str, binding: &HatBinding) {
        self.queue.remove(&(created(binding), uid.to_owned()));
        self.ended.remove(uid);
        drop_from(&mut self.live_of_hat, &binding.spec.hat, uid);
        drop_from(&mut self.live_of_wearer, &binding.spec.wearer.spiffe_id, uid);
        if let Some(node) = worn_node(status_of(binding)) {
            drop_from(&mut self.worn_on, node, uid);
            self.reload(node);
        }
    }

    /// The load of a node changed: it belongs on another shelf.
    fn reload(&mut self, node: &str) {
        self.change_node(node, NodeView::clone);
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

    /// UIDs of the bindings of a hat that are worn.
    pub(crate) fn worn_of_hat<'a>(&'a self, hat: &str) -> impl Iterator<Item = &'a Uid> {
        self.worn(self.live_of_hat.get(hat))
    }

    /// UIDs of the bindings of a wearer that are worn.
    pub(crate) fn worn_of_wearer<'a>(&'a self, wearer: &str) -> impl Iterator<Item = &'a Uid> {
        self.worn(self.live_of_wearer.get(wearer))
    }

    fn worn<'a>(&'a self, uids: Option<&'a OrdSet<Uid>>) -> impl Iterator<Item = &'a Uid> {
        uids.into_iter().flatten().filter(|uid| self.status(uid).is_some_and(|status| status.phase.is_worn()))
    }
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

/// Whether an object that arrives replaces the one that is known. Resource versions of one object grow (KEP-5504); where
/// one is missing, as in a folder, the newest arrival counts. Another UID is another object.
fn is_newer(known: &ObjectMeta, arrived: &ObjectMeta) -> bool {
    let version = |metadata: &ObjectMeta| metadata.resource_version.as_ref().and_then(|text| text.parse::<u64>().ok());
    match (version(known), version(arrived)) {
        (Some(known), Some(arrived)) => arrived > known,
        _ => true,
    }
}
