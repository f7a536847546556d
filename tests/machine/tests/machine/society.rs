//! A control plane with an operator, which runs on the host with its own certificate and no right but its own; and what people ask of it.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use hatrack_api::hat_binding::{HatBindingStatus, Phase};
use hatrack_api::{Hat, HatBinding, HatPolicy, HatSwap, SYSTEM_NAMESPACE};
use hatrack_machine::program;
use hatrack_testbed::{ControlPlane, Options, PrivateControlPlane, Program, unique};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::sync::OnceCell;
use tokio::time::sleep;

use crate::cluster::{Cluster, MANIFESTS, soon, until};

/// What an operator is told beside where the API server is. The Lease of an agent in an emulated machine may be late.
const PERIODS: &str = r#"
[leader]
period = "100ms"
deadline = "5s"
duration = "6s"
[nodes]
lease = "20s"
stop = "5s"
device-grace = "20s"
[requests]
text = "200ms"
[canary]
retry = "100ms"
"#;

/// Nobody waits but for a machine that is silent.
const THROTTLES: &str = r#"{"cooldownSeconds": 0, "warmupSeconds": 0, "stickyAttributionSeconds": 0,
    "maxBindingsPerWearer": 100, "maxNewHatsPerDay": 1000}"#;

/// The namespace of every request.
const NAMESPACE: &str = "default";

/// A control plane with an operator.
pub struct Society {
    pub cluster: Cluster,
}

/// What all tests share: the control plane ends with this process, and the operator as well.
struct Shared {
    plane: Arc<PrivateControlPlane>,
    _operator: Program,
}

impl Society {
    /// The one that all tests share. Machines keep out of each other's way by their names, which hats require.
    pub async fn shared() -> Self {
        static SHARED: OnceCell<Shared> = OnceCell::const_new();
        let shared = SHARED.get_or_init(start).await;
        Self { cluster: Cluster::of(shared.plane.clone()).await }
    }

    /// Changes the limits of the cluster.
    pub async fn policy(&self, spec: Value) {
        let policies: Api<HatPolicy> = Api::all(self.cluster.admin.clone());
        policies.patch("default", &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
    }

    /// A hat for one machine, with a name of its own.
    pub async fn hat(&self, name: &str, machine: &str, mut spec: Value) {
        spec["authority"] = json!({});
        spec["requirements"]["node"] = json!([format!("node.name == '{machine}'")]);
        let hat = Hat::new(name, serde_json::from_value(spec).unwrap());
        Api::<Hat>::all(self.cluster.admin.clone()).create(&PostParams::default(), &hat).await.unwrap();
    }

    fn bindings(&self) -> Api<HatBinding> {
        Api::namespaced(self.cluster.admin.clone(), NAMESPACE)
    }

    /// Somebody asks for a hat.
    pub async fn ask(&self, hat: &str) -> HatBinding {
        let spec =
            json!({"hat": hat, "wearer": {"spiffeID": format!("spiffe://cluster.local/ns/{NAMESPACE}/sa/worker")}});
        let binding = HatBinding::new(&unique("binding"), serde_json::from_value(spec).unwrap());
        // A new API server may take half a minute to find the kind of its policies' parameter, and refuses until then.
        let asked = async {
            loop {
                match self.bindings().create(&PostParams::default(), &binding).await {
                    Err(kube::Error::Api(status)) if status.message.contains("failed to find resource referenced") => {
                        sleep(Duration::from_millis(500)).await;
                    }
                    answer => return answer.unwrap(),
                }
            }
        };
        soon("that somebody may ask", asked).await
    }

    /// Takes a hat off.
    pub async fn release(&self, binding: &HatBinding) {
        self.bindings().delete(&binding.name_any(), &DeleteParams::default()).await.unwrap();
    }

    /// Waits until the status of a binding is as wanted.
    pub async fn until(
        &self,
        binding: &HatBinding,
        what: &str,
        wanted: impl Fn(&HatBindingStatus) -> bool,
    ) -> HatBindingStatus {
        let is_wanted = |binding: &HatBinding| binding.status.as_ref().is_some_and(&wanted);
        until(&self.bindings(), &binding.name_any(), what, is_wanted).await.status.unwrap()
    }

    /// Waits until a binding is in a phase.
    pub async fn phase(&self, binding: &HatBinding, phase: Phase) -> HatBindingStatus {
        self.until(binding, phase.as_str(), |status| status.phase == phase).await
    }

    /// Reasons of the transitions of a binding so far.
    pub async fn reasons(&self, binding: &HatBinding) -> Vec<String> {
        let swaps: Api<HatSwap> = Api::namespaced(self.cluster.admin.clone(), SYSTEM_NAMESPACE);
        let all = swaps.list(&ListParams::default()).await.unwrap();
        let prefix = format!("{}-", binding.uid().unwrap());
        // Numbers are of transitions, words of what held a request between two.
        let number = |swap: &HatSwap| swap.name_any().strip_prefix(&prefix)?.parse::<u32>().ok();
        let mut ours: Vec<_> = all.items.iter().filter_map(|swap| Some((number(swap)?, swap))).collect();
        ours.sort_by_key(|(number, _)| *number);
        ours.into_iter().map(|(_, swap)| swap.spec.reason.clone().unwrap()).collect()
    }
}

async fn start() -> Shared {
    let plane = Arc::new(ControlPlane::private(Options::default()).await.unwrap());
    plane.install(Path::new(MANIFESTS)).await.unwrap();
    let society = Society { cluster: Cluster::of(plane.clone()).await };
    society.policy(json!({"throttles": serde_json::from_str::<Value>(THROTTLES).unwrap()})).await;

    let identity = plane.client_certificate("society:operator", &[], Duration::from_hours(1)).unwrap();
    let kubeconfig = plane.kubeconfig_for(&identity).unwrap();
    let file = plane.folder().join("operator.toml");
    let api = format!("listen = \"127.0.0.1:0\"\n[api]\nkubeconfig = \"{}\"\n", kubeconfig.display());
    std::fs::write(&file, format!("{api}{PERIODS}")).unwrap();
    // It ends with its standard input: a value in a static is never dropped.
    let mut command = Command::new("sh");
    command.args(["-c", "\"$@\" & read -r _; kill -9 $!", "sh"]).arg(program("hatrack-operator").unwrap());
    command.args(["run", "--log-format", "json", "--config"]).arg(file);
    let operator = Program::start_with_stdin(&mut command);
    operator.ready().await;
    Shared { plane, _operator: operator }
}
