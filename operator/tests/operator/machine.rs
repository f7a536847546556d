//! A machine with an agent: it renews its Lease, and reports that it wears what it is told to wear.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use hatrack_api::cluster_node::NodeLease;
use hatrack_api::{ClusterNode, SYSTEM_NAMESPACE};
use hatrack_fixtures::wearing;
use hatrack_testbed::{soon, unique};
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, MicroTime};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::{Duration, sleep};

use crate::cluster::until;

/// How often the agent does something.
const PERIOD: Duration = Duration::from_millis(200);

/// A registered machine. Its agent ends with the value.
pub struct Machine {
    pub name: String,
    admin: Client,
    connected: Arc<AtomicBool>,
    agent: JoinHandle<()>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.agent.abort();
    }
}

/// A GPU of a model with so much memory.
pub fn gpu(name: &str, model: &str, memory: &str) -> Value {
    json!({"name": name, "class": "gpu", "attributes": {"model": {"string": model}}, "capacity": {"memory": {"value": memory}},
        "health": {"state": "Ready", "reason": "Driver", "message": ""}})
}

impl Machine {
    /// A machine with these devices that renews its Lease.
    pub async fn join(admin: &Client, devices: Value) -> Self {
        let name = unique("node");
        let spec = json!({"class": "gpu-worker", "hardwareID": format!("hw-{name}")});
        let node = ClusterNode::new(&name, serde_json::from_value(spec).unwrap());
        let nodes: Api<ClusterNode> = Api::all(admin.clone());
        nodes.create(&PostParams::default(), &node).await.unwrap();
        let connected = Arc::new(AtomicBool::new(true));
        let agent = Agent { name: name.clone(), admin: admin.clone(), connected: Arc::clone(&connected) };
        let machine = Self { name, admin: admin.clone(), connected, agent: tokio::spawn(agent.run()) };
        machine.has(devices).await;
        machine
    }

    /// Reports these devices and no others.
    pub async fn has(&self, devices: Value) {
        let status = Patch::Merge(json!({"status": {"devices": devices}}));
        self.nodes().patch_status(&self.name, &PatchParams::default(), &status).await.unwrap();
    }

    /// Cuts the machine off, or connects it again.
    pub fn connect(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    pub fn nodes(&self) -> Api<ClusterNode> {
        Api::all(self.admin.clone())
    }

    pub fn leases(&self) -> Api<NodeLease> {
        Api::namespaced(self.admin.clone(), SYSTEM_NAMESPACE)
    }

    /// Waits until its ClusterNode is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&ClusterNode) -> bool) -> ClusterNode {
        soon(what, until(&self.nodes(), &self.name, wanted)).await
    }

    /// Waits until `Ready` has this status and reason.
    pub async fn readiness(&self, status: &str, reason: &str) -> Condition {
        let is = |node: &ClusterNode| {
            condition(node, "Ready").is_some_and(|ready| ready.status == status && ready.reason == reason)
        };
        condition(&self.until(reason, is).await, "Ready").unwrap()
    }
}

/// A condition of a ClusterNode.
pub fn condition(node: &ClusterNode, kind: &str) -> Option<Condition> {
    node.status.as_ref()?.conditions.as_ref()?.iter().find(|condition| condition.type_ == kind).cloned()
}

/// What a ClusterNode is to wear: UIDs of bindings.
pub fn assigned(node: &ClusterNode) -> Vec<String> {
    let hats = node.status.as_ref().and_then(|status| status.hats.clone()).unwrap_or_default();
    hats.into_iter().map(|hat| hat.binding).collect()
}

struct Agent {
    name: String,
    admin: Client,
    connected: Arc<AtomicBool>,
}

impl Agent {
    async fn run(self) {
        let leases: Api<NodeLease> = Api::namespaced(self.admin.clone(), SYSTEM_NAMESPACE);
        loop {
            // The API server may be away: the next turn tries again.
            if self.connected.load(Ordering::Relaxed) {
                _ = self.renew(&leases).await;
                _ = self.wear().await;
            }
            sleep(PERIOD).await;
        }
    }

    async fn renew(&self, leases: &Api<NodeLease>) -> kube::Result<()> {
        let spec = LeaseSpec {
            holder_identity: Some(format!("hw-{}", self.name)),
            renew_time: Some(MicroTime(Timestamp::now())),
            lease_duration_seconds: Some(3),
            ..LeaseSpec::default()
        };
        let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": self.name}, "spec": spec});
        leases.patch(&self.name, &PatchParams::apply("agent"), &Patch::Apply(lease)).await.map(drop)
    }

    /// Wears what is worn, has stopped what is not, and forgets what is not in the list.
    async fn wear(&self) -> kube::Result<()> {
        let nodes: Api<ClusterNode> = Api::all(self.admin.clone());
        let status = nodes.get(&self.name).await?.status.unwrap_or_default();
        let Some(worn) = wearing::report(status) else { return Ok(()) };
        let change = Patch::Merge(json!({"status": {"worn": worn}}));
        nodes.patch_status(&self.name, &PatchParams::default(), &change).await.map(drop)
    }
}
