//! A control plane with one machine, its agent and an operator.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::path::Path;

use hatrack_api::cluster_node::condition;
use hatrack_api::hat_binding::Phase;
use hatrack_api::{ClusterNode, Hat, HatBinding, HatPolicy, HatSwap, SYSTEM_NAMESPACE, access};
use hatrack_fixtures::{MachineCopy, machine_copy};
use hatrack_testbed::{ControlPlane, Options, PrivateControlPlane, Program, soon, unique};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use nix::sys::signal::Signal;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{Duration, sleep};

use crate::programs;

/// The folder with CRDs, roles and policies.
const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../k8s");

/// Eight GPUs.
const MACHINE: &str = "server-8gpu";

/// What a person writes about the machine.
const PERSON: &str = r#"{"metadata": {"labels": {"rack": "7"}, "annotations": {"note": "mind the step"}},
    "spec": {"expects": {"gpus": 8}}}"#;

/// How many seconds a node may be silent.
pub const GRACE: u64 = 5;

/// How often something is asked that no watch would survive.
const ASK: Duration = Duration::from_millis(50);

/// One machine, its agent and an operator.
pub struct Cluster {
    pub plane: PrivateControlPlane,
    pub operator: Program,
    pub agent: Program,
    pub name: String,
    pub admin: Client,
    pub namespace: String,
    hat: String,
    machine: MachineCopy,
    folder: TempDir,
}

impl Cluster {
    /// Everything runs, the machine is Ready, and a person has written about it. A hat needs a GPU.
    pub async fn start() -> Self {
        Self::with_machine(machine_copy(MACHINE).unwrap()).await
    }

    /// The same, and the machine is the one that the test runs on, so that what is worn on it is worn here.
    pub async fn start_here() -> Self {
        let machine = machine_copy(MACHINE).unwrap();
        for file in ["etc/machine-id", "proc/sys/kernel/hostname"] {
            match std::fs::read(Path::new("/").join(file)) {
                Ok(ours) => machine.write(file, ours).unwrap(),
                Err(_) => machine.remove(file).unwrap(),
            }
        }
        Self::with_machine(machine).await
    }

    async fn with_machine(machine: MachineCopy) -> Self {
        let plane = ControlPlane::private(Options { audit: false, ..Options::default() }).await.unwrap();
        plane.install(Path::new(MANIFESTS)).await.unwrap();
        let admin = plane.admin().await.unwrap();
        let (name, namespace, hat) = (unique("node"), unique("tenant"), unique("hat"));
        create::<Namespace>(Api::all(admin.clone()), json!({"metadata": {"name": namespace}})).await;
        impatient(&admin).await;
        let (role, binding) = access::node(&name);
        create::<ClusterRole>(Api::all(admin.clone()), json!(role)).await;
        create::<ClusterRoleBinding>(Api::all(admin.clone()), json!(binding)).await;
        let folder = TempDir::new().unwrap();
        let certificate = plane.client_certificate("society:operator", &[], Duration::from_hours(1)).unwrap();
        let operator = programs::operator(folder.path(), &plane.kubeconfig_for(&certificate).unwrap());
        let kubeconfig = plane.kubeconfig_for(&plane.node_identity(&name).unwrap()).unwrap();
        let agent = programs::agent(folder.path(), &name, machine.path(), &kubeconfig);
        agent.ready().await;
        operator.ready().await;
        let cluster = Self { plane, operator, agent, name, admin, namespace, hat, machine, folder };
        cluster.make_hat(&cluster.hat, json!({"requirements": needs_gpu()})).await;
        cluster.person_writes(serde_json::from_str(PERSON).unwrap()).await;
        cluster.node_until("Ready", is_ready).await;
        cluster
    }

    /// A hat that lets its wearer read pods, and is more than that.
    pub async fn make_hat(&self, name: &str, spec: Value) {
        let mut whole = json!({"authority": {"rules": [{"verbs": ["get"], "resources": ["pods"]}]}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let hat = Hat::new(name, serde_json::from_value(whole).unwrap());
        create(Api::<Hat>::all(self.admin.clone()), json!(hat)).await;
    }

    /// What the agent tells the services of a wearer: name and value of each variable.
    pub fn told(&self, binding: &HatBinding) -> BTreeMap<String, String> {
        let file = format!("hats/{}/{}.env", binding.spec.hat, binding.uid().unwrap());
        let text = std::fs::read_to_string(self.folder.path().join(file)).unwrap();
        let value =
            |line: &str| line.split_once('=').map(|(name, value)| (name.into(), value.trim_matches('"').into()));
        text.lines().filter_map(value).collect()
    }

    pub fn nodes(&self) -> Api<ClusterNode> {
        Api::all(self.admin.clone())
    }

    pub fn bindings(&self) -> Api<HatBinding> {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.admin.clone(), SYSTEM_NAMESPACE)
    }

    fn swaps(&self) -> Api<HatSwap> {
        Api::namespaced(self.admin.clone(), SYSTEM_NAMESPACE)
    }

    /// Changes the ClusterNode as a person does.
    pub async fn person_writes(&self, patch: Value) {
        self.nodes().patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Others write until the versions of the API server have come past that of an object.
    pub async fn write_past(&self, object: &ClusterNode) {
        let version = |of: Option<String>| of.unwrap().parse::<u64>().unwrap();
        let (namespaces, past) = (Api::<Namespace>::all(self.admin.clone()), version(object.resource_version()));
        let mut number = 0;
        let written = async {
            loop {
                number += 1;
                let patch = Patch::Merge(json!({"metadata": {"annotations": {"number": format!("{number}")}}}));
                // Out of two times, it may refuse.
                let answer = namespaces.patch(&self.namespace, &PatchParams::default(), &patch).await;
                if answer.is_ok_and(|namespace| version(namespace.resource_version()) > past) {
                    return;
                }
            }
        };
        soon("that others have written as much", written).await;
    }

    /// Another content of a file that is in the object; the agent looks.
    pub fn rename_system(&self, name: &str) {
        self.machine.write("etc/os-release", format!("PRETTY_NAME=\"{name}\"\n")).unwrap();
        self.agent.signal(Signal::SIGHUP);
    }

    /// The object is true, the programs are ready, and what the person wrote stands.
    pub async fn is_true(&self, system: &str) -> ClusterNode {
        let shows = |node: &ClusterNode| {
            let status = node.status.as_ref();
            let shown = status.and_then(|status| status.system.as_ref()?.os_image.as_deref());
            shown == Some(system)
                && status.and_then(|status| status.observed_generation) == node.metadata.generation
                && is_ready(node)
        };
        let node = self.node_until(system, shows).await;
        let person: Value = serde_json::from_str(PERSON).unwrap();
        assert_eq!(node.labels()["rack"], person["metadata"]["labels"]["rack"]);
        assert_eq!(node.annotations()["note"], person["metadata"]["annotations"]["note"]);
        assert_eq!(json!(node.spec.expects), person["spec"]["expects"]);
        self.agent.ready().await;
        self.operator.ready().await;
        node
    }

    /// Waits until the ClusterNode is as wanted.
    pub async fn node_until(&self, what: &str, wanted: impl Fn(&ClusterNode) -> bool) -> ClusterNode {
        until(&self.nodes(), &self.name, what, wanted).await
    }

    /// A request of a service account for the hat.
    pub async fn ask(&self, account: &str) -> HatBinding {
        let spiffe = format!("spiffe://cluster.local/ns/{}/sa/{account}", self.namespace);
        let spec = json!({"hat": self.hat, "wearer": {"spiffeID": spiffe,
            "serviceAccountRef": {"namespace": self.namespace, "name": account}}});
        let binding = HatBinding::new(&unique(account), serde_json::from_value(spec).unwrap());
        // An API server that was started anew may take half a minute to find the kind of its policies' parameter, and refuses until then.
        let asked = async {
            loop {
                match self.bindings().create(&PostParams::default(), &binding).await {
                    Err(kube::Error::Api(status)) if status.message.contains("failed to find resource referenced") => {
                        sleep(ASK).await;
                    }
                    answer => return answer.unwrap(),
                }
            }
        };
        soon("that somebody may ask", asked).await
    }

    /// Waits until a binding is in a phase.
    pub async fn phase(&self, binding: &HatBinding, phase: Phase) -> HatBinding {
        let is = |binding: &HatBinding| binding.status.as_ref().is_some_and(|status| status.phase == phase);
        until(&self.bindings(), &binding.name_any(), phase.as_str(), is).await
    }

    /// A request that was granted.
    pub async fn wear(&self, account: &str) -> HatBinding {
        self.phase(&self.ask(account).await, Phase::Active).await
    }

    /// Waits until the node is told to wear these bindings and no others, and says the same.
    pub async fn wears(&self, bindings: &[&HatBinding]) {
        let wanted: BTreeSet<String> = bindings.iter().map(|binding| binding.uid().unwrap()).collect();
        let same = |node: &ClusterNode| {
            let status = node.status.clone().unwrap_or_default();
            let told: BTreeSet<_> = status.hats.unwrap_or_default().into_iter().map(|hat| hat.binding).collect();
            let said: BTreeSet<_> = status.worn.unwrap_or_default().into_iter().map(|hat| hat.binding).collect();
            told == wanted && said == wanted
        };
        self.node_until("wears what it is to wear", same).await;
    }

    /// No device has two wearers, and each transition of every binding has one record.
    pub async fn nothing_is_twice(&self) {
        let bindings = self.bindings().list(&ListParams::default()).await.unwrap();
        let swaps = self.swaps().list(&ListParams::default()).await.unwrap();
        let mut given = BTreeSet::new();
        for binding in bindings {
            let (uid, status) = (binding.uid().unwrap(), binding.status.unwrap_or_default());
            if status.phase.is_worn() {
                assert!(status.devices.iter().all(|device| given.insert(device.clone())), "{:?}", status.devices);
            }
            let mut numbers: Vec<i64> = swaps
                .iter()
                .filter_map(|swap| swap.name_any().strip_prefix(&format!("{uid}-"))?.parse().ok())
                .collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (1..=status.transitions).collect::<Vec<_>>(), "records of {uid}");
        }
    }

    /// Reasons of the transitions of a binding so far, in no order.
    pub async fn reasons(&self, binding: &HatBinding) -> Vec<String> {
        self.records(binding).await.into_iter().filter_map(|swap| swap.spec.reason).collect()
    }

    /// The records of a binding, in no order.
    pub async fn records(&self, binding: &HatBinding) -> Vec<HatSwap> {
        let uid = binding.uid().unwrap();
        let swaps = self.swaps().list(&ListParams::default()).await.unwrap().items;
        swaps.into_iter().filter(|swap| swap.spec.binding_ref.as_ref().is_some_and(|of| of.uid == uid)).collect()
    }

    /// Waits until the transitions of a binding were announced.
    pub async fn is_announced(&self, binding: &HatBinding) {
        let events: Api<Event> = Api::namespaced(self.admin.clone(), &self.namespace);
        let announced = async {
            loop {
                let list = events.list(&ListParams::default()).await.unwrap();
                if list.iter().any(|event| event.regarding.as_ref().and_then(|of| of.uid.clone()) == binding.uid()) {
                    return;
                }
                sleep(ASK).await;
            }
        };
        soon("an announcement", announced).await;
    }
}

/// One GPU, whichever.
pub fn needs_gpu() -> Value {
    json!({"devices": [{"name": "gpu", "class": "gpu", "count": 1}]})
}

fn is_ready(node: &ClusterNode) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    conditions.iter().any(|found| found.type_ == condition::READY && found.status == "True")
}

/// Takes every waiting time out of the policy.
async fn impatient(admin: &Client) {
    let throttles = json!({"cooldownSeconds": 0, "warmupSeconds": 0, "stickyAttributionSeconds": 0,
        "maxBindingsPerWearer": 100, "maxNewHatsPerDay": 1000});
    let change = Patch::Merge(json!({"spec": {"throttles": throttles, "nodeGraceSeconds": GRACE}}));
    Api::<HatPolicy>::all(admin.clone()).patch("default", &PatchParams::default(), &change).await.unwrap();
}

pub async fn create<K: DeserializeOwned + serde::Serialize + Clone + Debug>(api: Api<K>, object: Value) {
    api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await.unwrap();
}

/// Asks until an object is as wanted: a watch would not survive what happens to the servers.
pub async fn until<K>(api: &Api<K>, name: &str, what: &str, wanted: impl Fn(&K) -> bool) -> K
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut last = None;
    let asked = async {
        loop {
            if let Ok(object) = api.get(name).await {
                if wanted(&object) {
                    return object;
                }
                last = Some(object);
            }
            sleep(ASK).await;
        }
    };
    match tokio::time::timeout(hatrack_testbed::PATIENCE, asked).await {
        Ok(object) => object,
        Err(elapsed) => panic!("{name} is not as wanted ({what}): {elapsed}: {last:#?}"),
    }
}
