//! A node as the operator sees it: what it has, whether it is alive, and what it still carries.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use hatrack_api::cluster_node::capacity;
use hatrack_api::cluster_node::{
    Class, ClusterNodeSpec, Device, DeviceClass, HatAssignment, WornHat, WornState, condition, ready,
};
use hatrack_api::{ClusterNode, quantity};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;

use super::Id;
use crate::lifecycle::condition_of;
use crate::periods::Periods;
use crate::placement::shelves::Stock;
use crate::requirements::{Judge, Kind};

/// Label of a ClusterNode that says who hands out its GPUs: `hats`, or anything else, of which `device-plugin` is what
/// `hatrack.gpu.allocator` knows. Absent: `hats`.
pub const GPU_ALLOCATOR_LABEL: &str = "society.zeta.io/gpu-allocator";

/// What was seen of a node's Lease.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sight {
    /// When the Lease was last seen renewed, on the operator's steady clock. The operator's first sight of it counts: it
    /// never compares the node's clock with its own.
    pub renewed: Duration,
    /// `spec.renewTime` as it stood then; `None` before the pinned machine renewed it. Only its change matters: the node's clock may be
    /// stepped either way.
    pub renew_time: Option<Timestamp>,
    /// `metadata.resourceVersion` as it was last seen: an older event is none.
    pub version: Option<u64>,
    /// `spec.leaseTransitions`: the fence.
    pub transitions: i32,
    /// Whether the node was fenced and has not renewed since.
    pub fenced: bool,
    /// Whether it was seen renewed, and not only seen: a Lease may have been silent for long when it is met.
    is_fresh: bool,
}

/// One machine.
#[derive(Clone, Debug)]
pub struct NodeView {
    /// The ClusterNode without `status.hats`. It is by far the largest part, and shared between the copies of a view.
    pub node: Arc<ClusterNode>,
    /// `status.hats`: the part that decisions write.
    hats: Arc<[HatAssignment]>,
    /// The bindings that these are about, in their order.
    assigned: Arc<[Id]>,
    /// The bindings of `status.worn`, and what the agent says of them.
    worn: Arc<[(Id, WornState)]>,
    /// Its Lease; `None` before it was ever seen.
    pub lease: Option<Sight>,
    /// Hardware id of another machine that renews the Lease of this name.
    pub rival: Option<String>,
    /// How long a renewal lasts.
    lasts: Duration,
    /// Its kind, for verdicts.
    pub(crate) kind: Kind,
    /// Kinds and sizes of its devices, in the order of `status.devices`.
    pub(crate) measures: Arc<[Measure]>,
    /// Indexes of its devices, the smallest first, then by name: the order in which they are given away.
    order: Arc<[usize]>,
    /// Since when a device that was there is gone or unusable, on the steady clock.
    pub(crate) lost: BTreeMap<String, Duration>,
    /// Names of the devices that were ever usable here.
    known: Arc<BTreeSet<String>>,
    /// Whether the ClusterNode exists.
    registered: bool,
    /// Whether the API server refuses what is to be written of it.
    is_set_aside: bool,
    first_seen: Duration,
    /// Devices of the bindings that are worn here.
    load: BTreeMap<Id, Vec<String>>,
    /// Indexes of the devices that are nobody's and can be used, in the order in which they are given away.
    free: Vec<usize>,
    /// What it has to give, as far as others may have the same.
    stock: Stock,
}

/// What placement asks of a device.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Measure {
    pub kind: Kind,
    /// How much is bound by taking it: its memory, where it says so.
    pub size: u128,
}

impl NodeView {
    pub(super) fn new(node: ClusterNode, judge: &Judge, steady: Duration) -> Self {
        let kind = judge.node_kind(&node);
        let view = Self {
            kind,
            hats: Arc::default(),
            assigned: Arc::default(),
            worn: Arc::default(),
            measures: Arc::default(),
            order: Arc::default(),
            lost: BTreeMap::new(),
            known: Arc::default(),
            lease: None,
            rival: None,
            lasts: Periods::default().lease,
            registered: true,
            is_set_aside: false,
            first_seen: steady,
            load: BTreeMap::new(),
            free: vec![],
            stock: Stock { node: kind, free: Arc::default() },
            node: Arc::new(node.clone()),
        };
        view.with_node(node, judge, steady)
    }

    /// A node of which only the Lease is known.
    pub(super) fn awaited(name: &str, judge: &Judge, steady: Duration) -> Self {
        let node = ClusterNode::new(name, ClusterNodeSpec::of(Class::Worker));
        Self { registered: false, ..Self::new(node, judge, steady) }
    }

    pub(super) fn with_node(&self, mut node: ClusterNode, judge: &Judge, steady: Duration) -> Self {
        let kind = judge.node_kind(&node);
        let status = node.status.as_mut();
        let hats = status.and_then(|status| status.hats.take()).unwrap_or_default();
        let mut view = Self { kind, node: Arc::new(node), ..self.clone() };
        view.hear();
        view.take_hats(hats.into());
        view.registered = true;
        view.measure(judge);
        let usable: BTreeSet<String> = view
            .devices()
            .iter()
            .filter(|device| device.health.is_usable())
            .map(|device| device.name.clone())
            .collect();
        view.lost.retain(|name, _| !usable.contains(name));
        for name in Arc::clone(&view.known).difference(&usable) {
            view.lost.entry(name.clone()).or_insert(steady);
        }
        if !usable.is_subset(&view.known) {
            Arc::make_mut(&mut view.known).extend(usable);
        }
        view.counted()
    }

    pub(super) fn unregistered(&self, judge: &Judge) -> Self {
        let name = self.name();
        let awaited = Self::awaited(&name, judge, self.first_seen);
        let (lease, load, lasts, is_set_aside) = (self.lease.clone(), self.load.clone(), self.lasts, self.is_set_aside);
        Self { lease, lasts, is_set_aside, load, ..awaited }.counted()
    }

    /// A renewal by another machine than the pinned one is none.
    pub(super) fn with_lease(&self, lease: &Lease, steady: Duration) -> Self {
        let spec = lease.spec.clone().unwrap_or_default();
        let rival = self.rival_in(lease);
        let is_first = self.lease.is_none();
        let renewed = if rival.is_some() { self.first_seen } else { steady };
        let known = self.lease.clone().unwrap_or_else(|| Sight { renewed, ..Sight::default() });
        let version = lease.metadata.resource_version.as_ref().and_then(|version| version.parse().ok());
        if version.is_some() && version < known.version {
            return self.clone();
        }
        let transitions = spec.lease_transitions.unwrap_or(0).max(known.transitions);
        let sight = if self.is_renewed_in(lease) {
            let renew_time = spec.renew_time.map(|time| time.0);
            Sight { renewed: steady, renew_time, version, transitions, fenced: false, is_fresh: !is_first }
        } else {
            Sight { version, transitions, ..known }
        };
        Self { lease: Some(sight), rival, ..self.clone() }
    }

    /// Whether a Lease says that the pinned machine has renewed it since it was last seen.
    pub fn is_renewed_in(&self, lease: &Lease) -> bool {
        let seen = self.lease.as_ref().and_then(|sight| sight.renew_time);
        let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref()).map(|time| time.0);
        self.rival_in(lease).is_none() && renewed.is_some() && renewed != seen
    }

    /// Hardware id of another machine than the pinned one, where such a one holds a Lease.
    fn rival_in(&self, lease: &Lease) -> Option<String> {
        let pinned = self.node.spec.hardware_id.as_deref().filter(|pinned| !pinned.is_empty())?;
        lease.spec.as_ref()?.holder_identity.clone().filter(|holder| holder != pinned)
    }

    /// The number of the fence was set, and the node has not renewed since.
    pub(super) fn fence(&mut self, transitions: i32) {
        let known = self.lease.clone().unwrap_or_else(|| Sight { renewed: self.first_seen, ..Sight::default() });
        self.lease = Some(Sight { transitions, fenced: true, ..known });
    }

    /// Nobody could be heard for so long: that is no silence of the node.
    pub(super) fn unheard_for(&self, time: Duration, steady: Duration) -> Self {
        let later = |moment: Duration| moment.saturating_add(time).min(steady);
        let lease = self.lease.clone().map(|sight| Sight { renewed: later(sight.renewed), ..sight });
        Self { lease, first_seen: later(self.first_seen), ..self.clone() }
    }

    /// Takes another list of hats.
    pub(super) fn assign(&mut self, hats: Arc<[HatAssignment]>) {
        self.take_hats(hats);
        self.count();
    }

    fn take_hats(&mut self, hats: Arc<[HatAssignment]>) {
        self.assigned = hats.iter().map(|hat| hat.binding.as_str().into()).collect();
        self.hats = hats;
    }

    pub(super) fn lasting(self, lasts: Duration) -> Self {
        Self { lasts, ..self }
    }

    /// As if nothing was worn here.
    pub(super) fn unloaded(self) -> Self {
        Self { load: BTreeMap::new(), ..self }.counted()
    }

    /// What is to be written of it is refused, or is tried again.
    pub(super) fn set_aside(&mut self, is_set_aside: bool) {
        self.is_set_aside = is_set_aside;
    }

    /// A binding is worn here, with these devices.
    pub(super) fn carry(&mut self, binding: &Id, devices: Vec<String>) {
        self.load.insert(binding.clone(), devices);
        self.count();
    }

    /// A binding is not worn here any more.
    pub(super) fn put_down(&mut self, binding: &Id) {
        self.load.remove(binding);
        self.count();
    }

    /// As if the agent had stopped a binding's hat and forgotten it.
    pub(super) fn stop(&mut self, binding: &Id) {
        let others = self.assigned.iter().zip(self.hats.iter()).filter(|(assigned, _)| *assigned != binding);
        let hats = others.map(|(_, hat)| hat.clone()).collect();
        self.take_hats(hats);
        if self.worn.iter().any(|(worn, _)| worn == binding) {
            let status = Arc::make_mut(&mut self.node).status.as_mut();
            if let Some(worn) = status.and_then(|status| status.worn.as_mut()) {
                worn.retain(|worn| Id::from(worn.binding.as_str()) != *binding);
            }
            self.hear();
        }
        self.count();
    }

    /// Takes over what `status.worn` says.
    fn hear(&mut self) {
        self.worn = self.worn().iter().map(|worn| (worn.binding.as_str().into(), worn.state)).collect();
    }

    fn measure(&mut self, judge: &Judge) {
        let measure = |device| Measure { kind: judge.device_kind(device), size: size(device) };
        self.measures = self.devices().iter().map(measure).collect();
        let mut order: Vec<usize> = (0..self.measures.len()).collect();
        order.sort_by_key(|index| (self.measures[*index].size, &self.devices()[*index].name));
        self.order = order.into();
    }

    fn counted(mut self) -> Self {
        self.count();
        self
    }

    /// Held is what a worn binding has, and what an assignment names that has not been taken back.
    fn count(&mut self) {
        let assigned = self.hats.iter().flat_map(|hat| &hat.devices);
        let mut held: Vec<&str> = self.load.values().flatten().chain(assigned).map(String::as_str).collect();
        held.sort_unstable();
        let devices = self.devices();
        let is_free = |index: &usize| {
            let device = &devices[*index];
            device.health.is_usable()
                && held.binary_search(&device.name.as_str()).is_err()
                && !self.leaves_to_kubernetes(device.class)
        };
        let free: Vec<usize> = self.order.iter().copied().filter(is_free).collect();
        self.stock = Stock { node: self.kind, free: free.iter().map(|index| self.measures[*index].kind).collect() };
        self.free = free;
    }

    /// The ClusterNode with `status.hats`.
    pub fn object(&self) -> ClusterNode {
        let mut node = (*self.node).clone();
        if !self.hats.is_empty() || node.status.is_some() {
            node.status.get_or_insert_default().hats = Some(self.hats.to_vec());
        }
        node
    }

    /// Name of the node.
    pub fn name(&self) -> String {
        super::name_of(&self.node.metadata).to_owned()
    }

    /// Whether the API server refuses what is to be written of it: it takes nothing new, and what it has stays as it is.
    pub fn is_set_aside(&self) -> bool {
        self.is_set_aside
    }

    /// Whether the ClusterNode exists.
    pub fn is_registered(&self) -> bool {
        self.registered
    }

    /// The devices that it reports.
    pub fn devices(&self) -> &[Device] {
        self.node.status.as_ref().and_then(|status| status.devices.as_deref()).unwrap_or_default()
    }

    /// What it is to wear.
    pub fn hats(&self) -> &[HatAssignment] {
        &self.hats
    }

    /// What it says that it wears.
    pub fn worn(&self) -> &[WornHat] {
        self.node.status.as_ref().and_then(|status| status.worn.as_deref()).unwrap_or_default()
    }

    /// Whether the agent has reported that it stopped a binding's hat.
    pub(crate) fn has_stopped(&self, binding: &Id) -> bool {
        self.worn.iter().any(|(worn, state)| worn == binding && *state == WornState::Stopped)
    }

    /// Whether it wears something that nobody wants it to wear: the agent is still stopping it.
    pub(crate) fn wears_unassigned(&self) -> bool {
        self.worn.iter().any(|(binding, state)| *state != WornState::Stopped && !self.assigned.contains(binding))
    }

    /// Whether a binding left traces here: it cannot be placed here again before they are gone.
    pub(crate) fn remembers(&self, binding: &Id) -> bool {
        self.assigned.contains(binding) || self.worn.iter().any(|(worn, _)| worn == binding)
    }

    /// Whether Kubernetes' device plugin hands out the devices of this class here: one allocator per GPU.
    pub(crate) fn leaves_to_kubernetes(&self, class: DeviceClass) -> bool {
        let labels = self.node.metadata.labels.as_ref();
        class == DeviceClass::Gpu
            && labels.and_then(|labels| labels.get(GPU_ALLOCATOR_LABEL)).is_some_and(|allocator| allocator != "hats")
    }

    /// Indexes of the devices that are given away, in this order: those that are nobody's or, if nothing is exclusive, all that can be used.
    pub(crate) fn available(&self, exclusive: bool) -> Cow<'_, [usize]> {
        if exclusive {
            return Cow::Borrowed(&self.free);
        }
        self.order.iter().copied().filter(|index| self.devices()[*index].health.is_usable()).collect()
    }

    /// What the node has to give, as far as others may have the same.
    pub(crate) fn stock(&self) -> &Stock {
        &self.stock
    }

    /// Since when a device is gone or unusable. `None`: it can be used, or the node has not said what it has.
    pub(crate) fn lost_since(&self, device: &str) -> Option<Duration> {
        self.node.status.as_ref().and_then(|status| status.devices.as_ref())?;
        let usable = self.devices().iter().any(|known| known.name == device && known.health.is_usable());
        (!usable).then(|| self.lost.get(device).copied().unwrap_or(self.first_seen))
    }

    /// Bindings that have a place in `status.hats` and are not worn here any more.
    pub(crate) fn ending(&self) -> impl Iterator<Item = (&Id, &HatAssignment)> {
        self.assigned.iter().zip(self.hats.iter()).filter(|(binding, _)| !self.load.contains_key(binding))
    }

    /// What it is to make of a binding.
    pub(crate) fn assignment(&self, binding: &Id) -> Option<&HatAssignment> {
        self.assigned.iter().zip(self.hats.iter()).find(|(assigned, _)| *assigned == binding).map(|(_, hat)| hat)
    }

    /// Bindings that are worn here.
    pub(crate) fn carries(&self) -> impl Iterator<Item = &Id> {
        self.load.keys()
    }

    /// Whether it carries something, or is still told what to carry.
    pub(crate) fn is_carrier(&self) -> bool {
        !self.load.is_empty() || !self.hats.is_empty()
    }

    /// How many bindings it carries.
    pub(crate) fn load(&self) -> usize {
        self.load.len()
    }

    /// How many bindings have a place in `status.hats`, or get one with the next write.
    pub(crate) fn carried(&self) -> usize {
        self.load.len() + self.ending().count()
    }

    /// How long its Lease has not been renewed; `None` if it was never seen to have one.
    pub fn silence(&self, steady: Duration) -> Option<Duration> {
        self.lease.as_ref().map(|sight| steady.saturating_sub(sight.renewed))
    }

    /// Silence, also of a node that never had a Lease.
    pub(crate) fn silence_or_age(&self, steady: Duration) -> Duration {
        self.silence(steady).unwrap_or_else(|| steady.saturating_sub(self.first_seen))
    }

    /// Whether it renews its Lease. A Lease that was only met says that for a while as well, unless the last operator had seen it
    /// silent.
    pub fn is_ready(&self, steady: Duration) -> bool {
        let is_met = |sight: &Sight| sight.renew_time.is_some() && (sight.is_fresh || !self.was_lost());
        self.lease.as_ref().is_some_and(|sight| !sight.fenced && is_met(sight))
            && self.silence(steady).is_some_and(|silence| silence < self.lasts)
    }

    /// Whether the ClusterNode says that the node was silent.
    fn was_lost(&self) -> bool {
        let conditions = self.node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
        let reason = condition_of(conditions, condition::READY).map(|ready| ready.reason.as_str());
        reason.is_some_and(|reason| [ready::LEASE_SILENT, ready::FENCED].contains(&reason))
    }

    /// When it stops being Ready if it stays silent, on the steady clock; `None` if it was never seen to have a Lease.
    pub fn ready_until(&self) -> Option<Duration> {
        self.lease.as_ref().map(|sight| sight.renewed.saturating_add(self.lasts))
    }

    /// What a decision asks of the Lease.
    pub(super) fn standing(&self, steady: Duration) -> (bool, bool, i32, Option<&str>) {
        let transitions = self.lease.as_ref().map_or(0, |sight| sight.transitions);
        (self.is_ready(steady), self.is_fenced(), transitions, self.rival.as_deref())
    }

    /// Whether it was fenced and has not come back.
    pub fn is_fenced(&self) -> bool {
        self.lease.as_ref().is_some_and(|sight| sight.fenced)
    }
}

fn size(device: &Device) -> u128 {
    let memory = device.capacity.get(capacity::MEMORY);
    memory.and_then(|memory| quantity::to_whole(&memory.value)).unwrap_or(0)
}
