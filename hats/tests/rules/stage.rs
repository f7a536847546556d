//! A small world with a clock, in which every decision is carried out.

use std::time::Duration;

use hatrack_api::hat_binding::Phase;
use hatrack_api::hat_swap::SwapEvent;
use hatrack_api::{ClusterNode, Hat, HatBinding, HatBindingStatus, HatPolicy, HatSwap};
use hatrack_hats::throttles::{Held, Rule};
use hatrack_hats::{Action, Moment, Uid, World, decide, why};
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

pub struct Stage {
    pub world: World,
    pub now: Moment,
    /// Every action so far.
    pub done: Vec<Action>,
    made: u32,
}

/// The SPIFFE id of the service account `default/<name>`.
pub fn spiffe(name: &str) -> String {
    format!("spiffe://cluster.local/ns/default/sa/{name}")
}

impl Stage {
    /// A policy without waiting times, so that each test turns on what it is about.
    pub fn new() -> Self {
        let mut stage = Self::without_policy();
        stage.policy(json!({"throttles": {"cooldownSeconds": 0, "warmupSeconds": 0, "maxBindingsPerWearer": 100, "maxNewHatsPerDay": 100}}));
        stage
    }

    pub fn without_policy() -> Self {
        let now = Moment { wall: "2026-01-01T12:00:00Z".parse().unwrap(), steady: Duration::from_secs(1000) };
        Self { world: World::default(), now, done: vec![], made: 0 }
    }

    pub fn policy(&mut self, spec: Value) {
        let status = self.world_policy_status();
        let mut policy = HatPolicy::new("default", serde_json::from_value(spec).unwrap());
        policy.status = status;
        self.world.observe_policy(policy);
    }

    fn world_policy_status(&self) -> Option<hatrack_api::HatPolicyStatus> {
        self.done.iter().rev().find_map(|action| match action {
            Action::SetPolicyStatus { status } => Some((**status).clone()),
            _ => None,
        })
    }

    /// A hat with these fields of `spec` beside an empty authority.
    pub fn hat(&mut self, name: &str, spec: Value) {
        let mut whole = json!({"authority": {}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let mut hat = Hat::new(name, serde_json::from_value(whole).unwrap());
        hat.status = self.world.hat(name).and_then(|known| known.status.clone());
        self.world.observe_hat(hat);
    }

    /// A request of `default/<wearer>`, created now.
    pub fn ask(&mut self, hat: &str, wearer: &str) -> Uid {
        self.ask_with(hat, wearer, json!({}))
    }

    pub fn ask_with(&mut self, hat: &str, wearer: &str, spec: Value) -> Uid {
        self.made += 1;
        let uid = format!("uid-{:04}", self.made);
        let mut whole = json!({"hat": hat, "wearer": {"spiffeID": spiffe(wearer)}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let mut binding = HatBinding::new(&format!("binding-{}", self.made), serde_json::from_value(whole).unwrap());
        binding.metadata.namespace = Some("default".to_owned());
        binding.metadata.uid = Some(uid.clone());
        binding.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now.wall));
        self.world.observe_binding(binding, self.now.steady);
        uid
    }

    pub fn change(&mut self, uid: &str, change: impl FnOnce(&mut HatBinding)) {
        let mut binding = self.world.binding(uid).unwrap().clone();
        change(&mut binding);
        self.world.observe_binding(binding, self.now.steady);
    }

    pub fn cosign(&mut self, uid: &str, signer: &str) {
        let entry = serde_json::from_value(json!({"spiffeID": spiffe(signer)})).unwrap();
        self.change(uid, |binding| binding.spec.cosigned_by.push(entry));
    }

    /// A verdict of `default/<by>`, dated now.
    pub fn judge(&mut self, uid: &str, by: &str, action: &str) {
        let verdict = json!({"by": spiffe(by), "action": action, "at": self.now.wall.to_string()});
        let verdict = serde_json::from_value(verdict).unwrap();
        self.change(uid, |binding| binding.spec.verdicts.push(verdict));
    }

    pub fn delete(&mut self, uid: &str) {
        let now = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(self.now.wall);
        self.change(uid, |binding| binding.metadata.deletion_timestamp = Some(now));
    }

    /// A node that has renewed its Lease, with these devices.
    pub fn node(&mut self, name: &str, devices: Value) {
        let system =
            json!({"architecture": "x86_64", "kernelVersion": "6.12", "memory": "128Gi", "cpu": {"threads": 32}});
        self.node_with(name, json!({"class": "gpu-worker"}), json!({"system": system, "devices": devices}));
        self.renew(name);
    }

    pub fn node_with(&mut self, name: &str, spec: Value, status: Value) {
        let mut node = ClusterNode::new(name, serde_json::from_value(spec).unwrap());
        node.status = serde_json::from_value(status).unwrap();
        self.world.observe_node(node, self.now.steady);
    }

    pub fn change_node(&mut self, name: &str, change: impl FnOnce(&mut ClusterNode)) {
        let mut node = self.world.node(name).unwrap().object();
        change(&mut node);
        self.world.observe_node(node, self.now.steady);
    }

    pub fn renew(&mut self, name: &str) {
        let known = self.world.node(name).and_then(|node| node.lease.as_ref().map(|lease| lease.transitions));
        let spec = json!({"renewTime": format!("2026-01-01T00:00:00.{:06}Z", self.now.steady.as_millis() % 1_000_000), "leaseTransitions": known.unwrap_or(0)});
        let lease: Lease = serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap();
        self.world.observe_lease(&lease, self.now.steady);
    }

    /// The agent of a node has made of its assignments what they ask for.
    pub fn wear(&mut self, name: &str) {
        let now = self.now.wall.to_string();
        self.change_node(name, |node| {
            let status = node.status.get_or_insert_default();
            let worn: Vec<Value> = status
                .hats
                .iter()
                .flatten()
                .map(|hat| {
                    json!({"binding": hat.binding, "state": if hat.is_worn() { "Running" } else { "Stopped" }, "since": now})
                })
                .collect();
            status.worn = serde_json::from_value(json!(worn)).unwrap();
        });
    }

    pub fn pass(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }

    /// Decides, does what was decided, and checks that nothing is left to decide.
    pub fn settle(&mut self) -> Vec<Action> {
        let plan = decide(&self.world, self.now);
        for action in &plan.actions {
            self.world.apply(action, self.now.steady);
        }
        self.world.conclude(plan.outlook);
        for world in [&self.world, &self.world.rebuilt()] {
            let again = decide(world, self.now);
            assert_eq!(again.actions, vec![], "a decision that was carried out leaves nothing to decide");
        }
        self.done.extend(plan.actions.clone());
        plan.actions
    }

    pub fn status(&self, uid: &str) -> HatBindingStatus {
        self.world.binding(uid).unwrap().status.clone().unwrap_or_default()
    }

    pub fn phase(&self, uid: &str) -> Phase {
        self.status(uid).phase
    }

    pub fn held(&self, uid: &str) -> Option<Held> {
        why(&self.world, uid, self.now).and_then(Result::err)
    }

    /// Settles and says what holds a request, if something does.
    pub fn held_by(&mut self, uid: &str) -> Option<Rule> {
        self.settle();
        self.held(uid).map(|held| held.rule)
    }

    /// The records of a binding, in the order in which they were made: event and reason.
    pub fn records(&self, uid: &str) -> Vec<(SwapEvent, String)> {
        self.swaps(uid).into_iter().map(|swap| (swap.spec.event, swap.spec.reason.unwrap_or_default())).collect()
    }

    pub fn swaps(&self, uid: &str) -> Vec<HatSwap> {
        let recorded = self.done.iter().filter_map(|action| match action {
            Action::Record(swap) => Some((**swap).clone()),
            _ => None,
        });
        recorded.filter(|swap| swap.spec.binding_ref.as_ref().is_some_and(|binding| binding.uid == uid)).collect()
    }
}

/// Free GPUs with this much memory each.
pub fn gpus(memory: &[&str]) -> Value {
    let device = |(index, memory): (usize, &&str)| {
        json!({"name": format!("gpu-{index}"), "class": "gpu", "capacity": {"memory": {"value": memory}},
            "attributes": {"model": {"string": "L4"}, "serial": {"string": format!("s{index}")}},
            "health": {"state": "Ready", "reason": "NvmlReport"}})
    };
    memory.iter().enumerate().map(device).collect()
}

/// Requirements for one GPU of at least so much memory.
pub fn one_gpu(memory: &str) -> Value {
    let selector = format!("device.capacity.memory.compareTo(quantity('{memory}')) >= 0");
    json!({"requirements": {"devices": [{"name": "gpu", "class": "gpu", "selectors": [selector]}]}})
}
