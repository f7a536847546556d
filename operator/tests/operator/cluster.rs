//! A control plane with everything in `k8s/` applied, and what people and machines do in it.

use std::fmt::Debug;
use std::path::Path;
use std::sync::{Arc, PoisonError};

use futures::{StreamExt, TryStreamExt};
use hatrack_api::access::{OPERATOR_ACCOUNT, OPERATOR_USER};
use hatrack_api::hat_binding::Phase;
use hatrack_api::{Hat, HatBinding, HatPolicy, HatSwap, SYSTEM_NAMESPACE};
use hatrack_testbed::{
    AuditEvent, AuditLog, ControlPlane, Identity, Options, PrivateControlPlane, Program, soon, unique,
};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard, OnceCell};
use tokio::time::Duration;

use crate::program::Setup;

/// The folder with CRDs, roles and policies.
pub const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../k8s");

/// Name of the Lease that says who leads.
const LEADER: &str = "hatrack.operator";

/// Nothing waits where a test does not say so.
const IMPATIENT: &str = r#"{"throttles": {"cooldownSeconds": 0, "warmupSeconds": 0, "stickyAttributionSeconds": 0,
    "maxBindingsPerWearer": 100, "maxNewHatsPerDay": 1000}, "nodeGraceSeconds": 5}"#;

/// A control plane and what is known of it.
pub struct Cluster {
    pub plane: PrivateControlPlane,
    rights: Rights,
}

impl Cluster {
    /// A control plane of one's own with everything applied.
    pub async fn new() -> Self {
        let cluster = Self::empty(Options::default()).await;
        cluster.plane.install(Path::new(MANIFESTS)).await.unwrap();
        cluster.impatient().await;
        cluster
    }

    /// One in which nothing is applied.
    pub async fn empty(options: Options) -> Self {
        let plane = ControlPlane::private(options).await.unwrap();
        let rights = Rights(Arc::new(std::sync::Mutex::new(plane.audit_log())));
        Self { plane, rights }
    }

    /// Forgets what the operator was refused so far: an API server that has just been started knows no roles yet.
    pub fn forgive(&self) {
        self.rights.refused();
    }

    /// The operator with its own certificate and no right but those of `k8s/rbac/operator.yaml`.
    pub fn operator(&self) -> Setup {
        Setup::new(&self.kubeconfig(self.plane.url()))
    }

    /// Its access by another way.
    pub fn kubeconfig(&self, url: &str) -> std::path::PathBuf {
        self.plane.kubeconfig_via(url, &self.identity()).unwrap()
    }

    /// The operator's certificate.
    pub fn identity(&self) -> Identity {
        self.plane.client_certificate("society:operator", &[], Duration::from_hours(1)).unwrap()
    }

    async fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.plane.admin().await.unwrap(), SYSTEM_NAMESPACE)
    }

    /// The Lease that says who leads.
    pub async fn leader(&self) -> Lease {
        self.leases().await.get(LEADER).await.unwrap()
    }

    /// As if no operator had ever led here.
    pub async fn forget_leader(&self) {
        if self.leases().await.get_opt(LEADER).await.unwrap().is_some() {
            self.leases().await.delete(LEADER, &DeleteParams::default()).await.unwrap();
        }
    }

    /// Takes every waiting time out of the policy.
    pub async fn impatient(&self) {
        self.policy(&serde_json::from_str(IMPATIENT).unwrap()).await;
    }

    /// Changes the limits of the cluster.
    pub async fn policy(&self, spec: &Value) {
        let policies: Api<HatPolicy> = Api::all(self.plane.admin().await.unwrap());
        let change = Patch::Merge(json!({"spec": spec}));
        policies.patch("default", &PatchParams::default(), &change).await.unwrap();
    }
}

/// What the operator asks of a control plane. When a test ends, nothing that it asked for had been beyond its rights.
#[derive(Clone)]
pub struct Rights(Arc<std::sync::Mutex<AuditLog>>);

/// What else than rights a refusal can be about.
const OTHERWISE: [&str; 2] = ["ValidatingAdmissionPolicy", "because it is being terminated"];

impl Rights {
    /// The requests beyond the operator's rights since this was asked last.
    fn refused(&self) -> Vec<AuditEvent> {
        let mut log = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_operator = |user: &str| user == OPERATOR_USER || user.ends_with(&format!(":{OPERATOR_ACCOUNT}"));
        let about_rights =
            |event: &AuditEvent| event.status == 403 && !OTHERWISE.iter().any(|words| event.message.contains(words));
        let events = log.read_on().unwrap().into_iter();
        events.filter(|event| is_operator(&event.user) && about_rights(event)).collect()
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let refused = self.refused();
            assert!(refused.is_empty(), "the operator asked for what it may not do: {refused:#?}");
        }
    }
}

/// The control plane that most tests share, with its operator.
struct Shared {
    cluster: Cluster,
    operator: Program,
}

async fn shared() -> &'static Shared {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let cluster = Cluster::new().await;
            let operator = cluster.operator().start_for_all(cluster.plane.folder());
            operator.ready().await;
            Shared { cluster, operator }
        })
        .await
}

/// A control plane for one test at a time, each with operators of its own.
pub async fn breakable() -> MutexGuard<'static, Cluster> {
    static BREAKABLE: OnceCell<Mutex<Cluster>> = OnceCell::const_new();
    BREAKABLE.get_or_init(|| async { Mutex::new(Cluster::new().await) }).await.lock().await
}

/// A tenant's place in a cluster: a namespace of its own, and names that nobody else has.
pub struct Bench {
    pub admin: Client,
    /// A client with the operator's name, whom the policies let do what is the operator's, and every right besides.
    pub forger: Client,
    pub namespace: String,
    /// Looks at what the operator did meanwhile.
    pub _rights: Rights,
}

impl Bench {
    /// A place in the control plane that tests share.
    pub async fn with_cluster() -> (Self, &'static Cluster) {
        let shared = shared().await;
        (Self::in_cluster(&shared.cluster).await, &shared.cluster)
    }

    /// The same, with the operator.
    pub async fn shared() -> (Self, &'static Program) {
        let shared = shared().await;
        (Self::in_cluster(&shared.cluster).await, &shared.operator)
    }

    /// A place in a control plane.
    pub async fn in_cluster(cluster: &Cluster) -> Self {
        let admin = cluster.plane.admin().await.unwrap();
        let namespace = unique("tenant");
        let object = Namespace {
            metadata: kube::core::ObjectMeta { name: Some(namespace.clone()), ..Default::default() },
            ..Default::default()
        };
        Api::<Namespace>::all(admin.clone()).create(&PostParams::default(), &object).await.unwrap();
        let forger = cluster.plane.operator().await.unwrap();
        Self { admin, forger, namespace, _rights: cluster.rights.clone() }
    }

    pub fn hats(&self) -> Api<Hat> {
        Api::all(self.admin.clone())
    }

    pub fn bindings(&self) -> Api<HatBinding> {
        Api::namespaced(self.admin.clone(), &self.namespace)
    }

    pub fn swaps(&self) -> Api<HatSwap> {
        Api::namespaced(self.admin.clone(), SYSTEM_NAMESPACE)
    }

    /// A hat of a name of its own that lets its wearer read pods.
    pub async fn hat(&self, spec: Value) -> String {
        let name = unique("hat");
        let mut whole = json!({"authority": {"rules": [{"verbs": ["get", "create"], "resources": ["pods"]}]}});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let hat = Hat::new(&name, serde_json::from_value(whole).unwrap());
        self.hats().create(&PostParams::default(), &hat).await.unwrap();
        name
    }

    /// The SPIFFE id of a service account of this tenant.
    pub fn spiffe(&self, account: &str) -> String {
        format!("spiffe://cluster.local/ns/{}/sa/{account}", self.namespace)
    }

    /// A request of a service account for a hat.
    pub async fn ask(&self, hat: &str, account: &str) -> HatBinding {
        let spec = json!({"hat": hat, "wearer": {"spiffeID": self.spiffe(account),
            "serviceAccountRef": {"namespace": self.namespace, "name": account}}});
        let binding = HatBinding::new(&unique("binding"), serde_json::from_value(spec).unwrap());
        // An API server that was started anew may take half a minute to find the kind of its policies' parameter, and refuses until then.
        let asked = async {
            loop {
                match self.bindings().create(&PostParams::default(), &binding).await {
                    Err(kube::Error::Api(status)) if status.message.contains("failed to find resource referenced") => {
                        tokio::time::sleep(Duration::from_millis(500)).await;
                    }
                    answer => return answer.unwrap(),
                }
            }
        };
        soon("that somebody may ask", asked).await
    }

    /// The bindings as a service account sees them that may co-sign for a hat.
    pub async fn cosigner(&self, cluster: &Cluster, account: &str, hat: &str) -> Api<HatBinding> {
        let name = unique("cosigner");
        let user = format!("system:serviceaccount:{}:{account}", self.namespace);
        let rules = json!([{"apiGroups": ["society.zeta.io"], "resources": ["hatbindings"], "verbs": ["patch"]},
            {"apiGroups": ["society.zeta.io"], "resources": ["hats"], "resourceNames": [hat], "verbs": ["cosign"]}]);
        let role: ClusterRole = serde_json::from_value(json!({"metadata": {"name": name}, "rules": rules})).unwrap();
        let binding: ClusterRoleBinding = serde_json::from_value(json!({"metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"kind": "ServiceAccount", "namespace": self.namespace, "name": account}]}))
        .unwrap();
        Api::all(self.admin.clone()).create(&PostParams::default(), &role).await.unwrap();
        Api::all(self.admin.clone()).create(&PostParams::default(), &binding).await.unwrap();
        let attributes = json!({"group": "society.zeta.io", "resource": "hats", "name": hat, "verb": "cosign"});
        self.allowed(&user, &attributes, true).await;
        let identity = cluster.plane.client_certificate(&user, &[], Duration::from_hours(1)).unwrap();
        Api::namespaced(cluster.plane.client_for(&identity).await.unwrap(), &self.namespace)
    }

    /// Waits until the authorizer says whether a user may do something.
    pub async fn allowed(&self, user: &str, attributes: &Value, wanted: bool) {
        let review = json!({"metadata": {}, "spec": {"user": user, "resourceAttributes": attributes}});
        let review: SubjectAccessReview = serde_json::from_value(review).unwrap();
        let asked = async {
            loop {
                let answer = Api::all(self.admin.clone()).create(&PostParams::default(), &review).await.unwrap();
                if answer.status.is_some_and(|status| status.allowed) == wanted {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        soon(&format!("that it is {wanted} that {user} may {attributes}"), asked).await;
    }

    /// Takes a hat off.
    pub async fn release(&self, binding: &HatBinding) {
        self.bindings().delete(&binding.name_any(), &DeleteParams::default()).await.unwrap();
    }

    /// Waits until a binding is as wanted.
    pub async fn until(&self, binding: &HatBinding, what: &str, wanted: impl Fn(&HatBinding) -> bool) -> HatBinding {
        soon(what, until(&self.bindings(), &binding.name_any(), wanted)).await
    }

    /// Waits until a binding is in a phase.
    pub async fn phase(&self, binding: &HatBinding, phase: Phase) -> HatBinding {
        self.until(binding, phase.as_str(), |binding| phase_of(binding) == phase).await
    }

    /// The records of a binding by their number, and those of throttles.
    pub async fn records(&self, binding: &HatBinding) -> (Vec<HatSwap>, Vec<HatSwap>) {
        let uid = binding.uid().unwrap();
        let all = self.swaps().list(&ListParams::default()).await.unwrap();
        let ours = all.items.into_iter().filter(|swap| swap.spec.binding_ref.as_ref().is_some_and(|of| of.uid == uid));
        let (mut throttled, mut transitions): (Vec<_>, Vec<_>) =
            ours.partition(|swap| swap.name_any().contains("throttled"));
        throttled.sort_by_key(ResourceExt::name_any);
        let number = |swap: &HatSwap| swap.name_any().rsplit_once('-').unwrap().1.parse::<u32>().unwrap();
        transitions.sort_by_key(number);
        let numbers: Vec<u32> = transitions.iter().map(number).collect();
        assert_eq!(
            numbers,
            (1..=u32::try_from(numbers.len()).unwrap()).collect::<Vec<_>>(),
            "one record for each transition"
        );
        (transitions, throttled)
    }

    /// Reasons of the transitions of a binding so far.
    pub async fn reasons(&self, binding: &HatBinding) -> Vec<String> {
        let (transitions, _) = self.records(binding).await;
        transitions.into_iter().map(|swap| swap.spec.reason.unwrap()).collect()
    }
}

pub fn phase_of(binding: &HatBinding) -> Phase {
    binding.status.as_ref().map_or(Phase::Pending, |status| status.phase)
}

/// Reason and message of the condition `Admitted` of a held request.
pub fn held(binding: &HatBinding) -> Option<(String, String)> {
    let conditions = &binding.status.as_ref()?.conditions;
    let admitted = conditions.iter().find(|condition| condition.type_ == "Admitted" && condition.status == "False")?;
    Some((admitted.reason.clone(), admitted.message.clone()))
}

/// Watches one object until it is as wanted.
pub async fn until<K>(api: &Api<K>, name: &str, wanted: impl Fn(&K) -> bool) -> K
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let field = format!("metadata.name={name}");
    let list = api.list(&ListParams::default().fields(&field)).await.unwrap();
    let version = list.metadata.resource_version.unwrap();
    let mut last = list.items.into_iter().next();
    if let Some(object) = last.as_ref().filter(|object| wanted(object)) {
        return object.clone();
    }
    let mut events = api.watch(&WatchParams::default().fields(&field), &version).await.unwrap().boxed();
    let waited = async {
        while let Some(event) = events.try_next().await.unwrap() {
            if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event {
                last = Some(object.clone());
                if wanted(&object) {
                    return object;
                }
            }
        }
        panic!("the watch of {name} has ended");
    };
    match tokio::time::timeout(hatrack_testbed::PATIENCE / 2, waited).await {
        Ok(object) => object,
        Err(elapsed) => panic!("{name} is not as wanted: {elapsed}: {last:#?}"),
    }
}

/// Waits until an object is gone.
pub async fn gone<K>(api: &Api<K>, name: &str)
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let asked = async {
        while api.get_opt(name).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon(&format!("the end of {name}"), asked).await;
}
