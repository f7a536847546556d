//! The truth: what the API server holds, and the machines behind it.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use hatrack_api::hat_swap::Outcome;
use hatrack_api::{ClusterNode, Hat, HatBinding, HatBindingStatus, HatPolicy, HatSwap};
use hatrack_hats::authority::{Grant, Scope};
use hatrack_hats::{Moment, Uid};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

use crate::invariants;
use crate::machines::Machine;

/// What a watch delivers.
#[derive(Clone, Debug)]
pub enum Event {
    Hat(Box<Hat>),
    HatGone(String),
    Policy(Box<HatPolicy>),
    PolicyGone,
    Binding(Box<HatBinding>),
    BindingGone(Uid),
    Swap(Box<HatSwap>),
    SwapGone(String),
    Node(Box<ClusterNode>),
    Lease(Box<Lease>),
    Grant(Box<Grant>),
    GrantGone(Uid, Scope),
}

/// Watches, one for each kind: within one, order holds; between them, nothing does.
pub const STREAMS: usize = 6;
/// The watch of grants.
pub const GRANTS: usize = 5;

impl Event {
    fn stream(&self) -> usize {
        match self {
            Self::Hat(_) | Self::HatGone(_) | Self::Policy(_) | Self::PolicyGone => 0,
            Self::Binding(_) | Self::BindingGone(_) => 1,
            Self::Swap(_) | Self::SwapGone(_) => 2,
            Self::Node(_) => 3,
            Self::Lease(_) => 4,
            Self::Grant(_) | Self::GrantGone(..) => GRANTS,
        }
    }
}

/// Why a write was refused.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    AlreadyExists,
    Conflict,
    Forbidden,
    NotFound,
}

pub struct Cluster {
    pub now: Moment,
    pub hats: BTreeMap<String, Hat>,
    pub policy: Option<HatPolicy>,
    pub bindings: BTreeMap<Uid, HatBinding>,
    pub swaps: BTreeMap<String, HatSwap>,
    pub nodes: BTreeMap<String, ClusterNode>,
    pub leases: BTreeMap<String, Lease>,
    pub grants: BTreeMap<(Uid, Scope), Grant>,
    pub machines: BTreeMap<String, Machine>,
    /// Nodes of which the operator may write nothing: somebody's policy refuses it.
    pub guarded: BTreeSet<String>,
    /// Every record ever, also the collected ones.
    pub history: Vec<HatSwap>,
    /// What the last record of each binding says.
    pub recorded: BTreeMap<Uid, Outcome>,
    pub streams: [Vec<Event>; STREAMS],
    version: u64,
    pub asked: u32,
    /// The latest that the wall clock ever showed.
    pub latest: Timestamp,
    /// Whether the operator has heard everything.
    pub calm: bool,
}

/// The catalogue: something for every rule.
fn catalogue() -> Vec<(&'static str, Value)> {
    let rules = json!({"rules": [{"verbs": ["get", "create"], "resources": ["pods"]}]});
    let device = |class: &str, count: u32| json!({"devices": [{"name": class, "class": class, "count": count, "selectors": ["has(device.attributes.model)"]}]});
    vec![
        ("plain", json!({"authority": rules, "throttles": {"warmupSeconds": 30, "cooldownSeconds": 600}})),
        ("free", json!({"authority": rules, "throttles": {"warmupSeconds": 0, "cooldownSeconds": 0}})),
        (
            "gated",
            json!({"authority": rules, "throttles": {"quorumGated": true, "quorumSize": 2, "warmupSeconds": 60, "conflictsWith": ["free"]}}),
        ),
        ("first", json!({"authority": rules, "throttles": {"quorumGated": true, "quorumSize": 2, "warmupSeconds": 0}})),
        ("shift", json!({"authority": rules, "maxWearers": 1, "termSeconds": 600, "throttles": {"warmupSeconds": 5}})),
        (
            "watch",
            json!({"authority": rules, "maxWearers": 2, "termSeconds": 900, "succession": {"policy": "Renew"}, "requirements": device("gpu", 1)}),
        ),
        (
            "once",
            json!({"authority": rules, "maxWearers": 1, "termSeconds": 300, "succession": {"policy": "None"}, "throttles": {"warmupSeconds": 0}}),
        ),
        (
            "gpu",
            json!({"authority": rules, "requirements": device("gpu", 1), "termSeconds": 20_000, "throttles": {"warmupSeconds": 10, "cooldownSeconds": 0}}),
        ),
        (
            "phones",
            json!({"authority": rules, "requirements": device("phone", 2), "throttles": {"warmupSeconds": 0, "cooldownSeconds": 0}}),
        ),
        ("above", json!({"authority": rules, "supervises": ["below"], "throttles": {"warmupSeconds": 0}})),
        ("below", json!({"authority": rules, "throttles": {"warmupSeconds": 0}})),
    ]
}

/// Days for which records are kept: few of what a simulation lasts.
pub const RETENTION_DAYS: i64 = 3;

pub fn spiffe(name: &str) -> String {
    format!("spiffe://cluster.local/ns/default/sa/{name}")
}

pub fn policy() -> HatPolicy {
    let spec = json!({"nodeGraceSeconds": 120, "ttlSecondsAfterEnd": 3600, "swapRetentionDays": RETENTION_DAYS,
        "throttles": {"cooldownSeconds": 60, "warmupSeconds": 20, "maxBindingsPerWearer": 3, "maxNewHatsPerDay": 5},
        "bootstrap": {"hat": "first", "wearer": spiffe("w0")}});
    HatPolicy::new("default", serde_json::from_value(spec).unwrap())
}

impl Cluster {
    pub fn new(now: Moment, rng: &mut Rng) -> Self {
        let mut cluster = Self {
            now,
            hats: BTreeMap::new(),
            policy: None,
            bindings: BTreeMap::new(),
            swaps: BTreeMap::new(),
            nodes: BTreeMap::new(),
            leases: BTreeMap::new(),
            grants: BTreeMap::new(),
            machines: BTreeMap::new(),
            guarded: BTreeSet::new(),
            history: vec![],
            recorded: BTreeMap::new(),
            streams: std::array::from_fn(|_| vec![]),
            version: 0,
            asked: 0,
            latest: now.wall,
            calm: false,
        };
        cluster.put_policy(policy());
        for (name, spec) in catalogue() {
            cluster.put_hat(Hat::new(name, serde_json::from_value(spec).unwrap()));
        }
        for index in 0..4 {
            Machine::join(&mut cluster, &format!("node-{index}"), rng);
        }
        cluster
    }

    fn next_version(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    fn emit(&mut self, event: Event) {
        self.streams[event.stream()].push(event);
    }

    pub fn put_hat(&mut self, mut hat: Hat) {
        hat.metadata.resource_version = Some(self.next_version());
        self.hats.insert(hat.metadata.name.clone().unwrap(), hat.clone());
        self.emit(Event::Hat(Box::new(hat)));
    }

    pub fn drop_hat(&mut self, name: &str) -> Option<Hat> {
        self.emit(Event::HatGone(name.to_owned()));
        self.hats.remove(name)
    }

    pub fn put_policy(&mut self, mut policy: HatPolicy) {
        policy.metadata.resource_version = Some(self.next_version());
        self.policy = Some(policy.clone());
        self.emit(Event::Policy(Box::new(policy)));
    }

    pub fn drop_policy(&mut self) {
        self.policy = None;
        self.emit(Event::PolicyGone);
    }

    /// Any write to a binding; an object that was deleted and has no finalizer goes.
    pub fn put_binding(&mut self, uid: &str, mut binding: HatBinding) -> HatBinding {
        binding.metadata.resource_version = Some(self.next_version());
        let metadata = &binding.metadata;
        if metadata.deletion_timestamp.is_some() && metadata.finalizers.as_ref().is_none_or(Vec::is_empty) {
            self.bindings.remove(uid);
            self.emit(Event::BindingGone(uid.to_owned()));
        } else {
            self.bindings.insert(uid.to_owned(), binding.clone());
            self.emit(Event::Binding(Box::new(binding.clone())));
        }
        binding
    }

    pub fn change_binding(&mut self, uid: &str, change: impl FnOnce(&mut HatBinding)) {
        if let Some(mut binding) = self.bindings.get(uid).cloned() {
            change(&mut binding);
            self.put_binding(uid, binding);
        }
    }

    pub fn set_status(&mut self, seen: &HatBinding, status: HatBindingStatus) -> Result<HatBinding, Refused> {
        let uid = seen.metadata.uid.clone().unwrap();
        let known = self.bindings.get(&uid).ok_or(Refused::NotFound)?;
        if known.metadata.resource_version != seen.metadata.resource_version {
            return Err(Refused::Conflict);
        }
        invariants::on_status(self, &uid, known, &status);
        let mut binding = known.clone();
        binding.status = Some(status);
        Ok(self.put_binding(&uid, binding))
    }

    pub fn create_swap(&mut self, swap: HatSwap) -> Result<(), Refused> {
        let name = swap.metadata.name.clone().unwrap();
        if self.swaps.contains_key(&name) {
            return Err(Refused::AlreadyExists);
        }
        invariants::on_record(self, &swap);
        if let (Some(outcome), Some(binding)) = (&swap.spec.outcome, &swap.spec.binding_ref) {
            self.recorded.insert(binding.uid.clone(), outcome.clone());
        }
        self.history.push(swap.clone());
        self.swaps.insert(name, swap.clone());
        self.emit(Event::Swap(Box::new(swap)));
        Ok(())
    }

    pub fn collect_swap(&mut self, name: &str) {
        if self.swaps.remove(name).is_some() {
            self.emit(Event::SwapGone(name.to_owned()));
        }
    }

    pub fn put_node(&mut self, mut node: ClusterNode) -> ClusterNode {
        node.metadata.resource_version = Some(self.next_version());
        self.nodes.insert(node.metadata.name.clone().unwrap(), node.clone());
        self.emit(Event::Node(Box::new(node.clone())));
        node
    }

    pub fn change_node(&mut self, name: &str, change: impl FnOnce(&mut ClusterNode)) -> ClusterNode {
        let mut node = self.nodes[name].clone();
        change(&mut node);
        self.put_node(node)
    }

    pub fn change_lease(&mut self, name: &str, change: impl FnOnce(&mut Lease)) -> Lease {
        let mut lease = self.leases.get(name).cloned().unwrap_or_default();
        lease.metadata.name = Some(name.to_owned());
        change(&mut lease);
        lease.metadata.resource_version = Some(self.next_version());
        self.leases.insert(name.to_owned(), lease.clone());
        self.emit(Event::Lease(Box::new(lease.clone())));
        lease
    }

    pub fn put_grant(&mut self, grant: Grant) {
        self.grants.insert((grant.binding.clone(), grant.scope.clone()), grant.clone());
        self.emit(Event::Grant(Box::new(grant)));
    }

    pub fn drop_grant(&mut self, binding: &str, scope: &Scope) {
        if self.grants.remove(&(binding.to_owned(), scope.clone())).is_some() {
            self.emit(Event::GrantGone(binding.to_owned(), scope.clone()));
        }
    }

    /// What a new watcher is told first.
    pub fn listed(&self) -> Vec<Event> {
        let mut events: Vec<Event> = vec![];
        events.extend(self.policy.clone().map(|policy| Event::Policy(Box::new(policy))));
        events.extend(self.hats.values().map(|hat| Event::Hat(Box::new(hat.clone()))));
        events.extend(self.leases.values().map(|lease| Event::Lease(Box::new(lease.clone()))));
        events.extend(self.nodes.values().map(|node| Event::Node(Box::new(node.clone()))));
        events.extend(self.swaps.values().map(|swap| Event::Swap(Box::new(swap.clone()))));
        events.extend(self.bindings.values().map(|binding| Event::Binding(Box::new(binding.clone()))));
        events.extend(self.grants.values().map(|grant| Event::Grant(Box::new(grant.clone()))));
        events
    }
}
