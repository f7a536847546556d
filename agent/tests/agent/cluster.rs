//! One machine on paper and its place in the shared control plane.

use std::fmt::Debug;
use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use hatrack_api::cluster_node::NodeLease;
use hatrack_api::{ClusterNode, SYSTEM_NAMESPACE, access};
use hatrack_fixtures::{MachineCopy, machine_copy};
use hatrack_testbed::{ControlPlane, FaultProxy, Identity, unique};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Duration, sleep};

use crate::program::Setup;
use crate::soon;

/// The folder with CRDs, roles and policies.
pub const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../k8s");

/// A machine on paper and its place in a control plane.
pub struct Bench {
    pub plane: Arc<ControlPlane>,
    pub admin: Client,
    pub name: String,
    pub machine: MachineCopy,
    pub identity: Identity,
    folder: TempDir,
}

impl Bench {
    /// A machine like `fixture`, enrolled under a name of its own in the control plane that all tests share.
    pub async fn new(fixture: &str) -> Self {
        let plane = ControlPlane::shared().await.unwrap();
        plane.install(Path::new(MANIFESTS)).await.unwrap();
        let bench = Self::without_access(plane, fixture).await;
        bench.allow(&bench.name, &bench.identity).await;
        bench
    }

    /// A machine that is not enrolled.
    pub async fn without_access(plane: Arc<ControlPlane>, fixture: &str) -> Self {
        let name = unique("agent");
        let identity = plane.node_identity(&name).unwrap();
        let admin = plane.admin().await.unwrap();
        Self { plane, admin, name, machine: machine_copy(fixture).unwrap(), identity, folder: TempDir::new().unwrap() }
    }

    /// Makes what the operator makes when it approves a node, and waits until the API server acts on it.
    pub async fn allow(&self, name: &str, identity: &Identity) {
        let (role, binding) = access::node(name);
        let create = PostParams::default();
        Api::<ClusterRole>::all(self.admin.clone()).create(&create, &role).await.unwrap();
        Api::<ClusterRoleBinding>::all(self.admin.clone()).create(&create, &binding).await.unwrap();
        let reviews: Api<SelfSubjectAccessReview> = Api::all(self.plane.client_for(identity).await.unwrap());
        let asked = ResourceAttributes {
            group: Some("coordination.k8s.io".to_owned()),
            resource: Some("leases".to_owned()),
            namespace: Some(SYSTEM_NAMESPACE.to_owned()),
            verb: Some("update".to_owned()),
            name: Some(name.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(asked), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let allowed = async {
            loop {
                let answer = reviews.create(&create, &review).await.unwrap();
                if answer.status.is_some_and(|status| status.allowed) {
                    return;
                }
                sleep(Duration::from_millis(20)).await;
            }
        };
        soon("the access of the node", allowed).await;
    }

    /// An agent for this machine that has not been given access yet.
    pub fn setup(&self) -> Setup {
        Setup::new(&self.name, self.machine.path(), self.folder.path())
    }

    /// An agent with this machine's certificate.
    pub fn direct(&self) -> Setup {
        let mut setup = self.setup();
        setup.kubeconfig(&self.plane.kubeconfig_for(&self.identity).unwrap());
        setup
    }

    /// An agent whose way to the API server leads through a proxy.
    pub fn through(&self, proxy: &FaultProxy) -> Setup {
        let mut setup = self.setup();
        setup.kubeconfig(&self.plane.kubeconfig_via(proxy.url(), &self.identity).unwrap());
        setup
    }

    pub fn proxy(&self) -> FaultProxy {
        FaultProxy::start(&self.plane, &self.identity).unwrap()
    }

    pub fn nodes(&self) -> Api<ClusterNode> {
        Api::all(self.admin.clone())
    }

    /// The same for the operator.
    pub async fn nodes_as_operator(&self) -> Api<ClusterNode> {
        Api::all(self.plane.operator().await.unwrap())
    }

    pub fn leases(&self) -> Api<NodeLease> {
        Api::namespaced(self.admin.clone(), SYSTEM_NAMESPACE)
    }

    pub async fn node(&self) -> ClusterNode {
        self.nodes().get(&self.name).await.unwrap()
    }

    /// Waits until the ClusterNode is as wanted.
    pub async fn node_until(&self, what: &str, wanted: impl Fn(&ClusterNode) -> bool) -> ClusterNode {
        soon(what, until(&self.nodes(), &self.name, wanted)).await
    }

    /// Waits until the Lease is as wanted.
    pub async fn lease_until(&self, what: &str, wanted: impl Fn(&NodeLease) -> bool) -> NodeLease {
        soon(what, until(&self.leases(), &self.name, wanted)).await
    }

    /// Changes the ClusterNode as a person does.
    pub async fn patch(&self, patch: Value) -> ClusterNode {
        let person = PatchParams::default();
        self.nodes().patch(&self.name, &person, &Patch::Merge(patch)).await.unwrap()
    }

    /// Another content of a file that is in the object: the name of the distribution.
    pub fn rename_system(&self, name: &str) {
        self.machine.write("etc/os-release", format!("PRETTY_NAME=\"{name}\"\n")).unwrap();
    }
}

/// The name of the distribution, as the object shows it.
pub fn system_name(node: &ClusterNode) -> Option<&str> {
    node.status.as_ref()?.system.as_ref()?.os_image.as_deref()
}

/// Status and reason of a condition.
pub fn condition(node: &ClusterNode, kind: &str) -> Option<(String, String)> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let condition = conditions.iter().find(|condition| condition.type_ == kind)?;
    Some((condition.status.clone(), condition.reason.clone()))
}

/// Watches one object until it is as wanted.
async fn until<K>(api: &Api<K>, name: &str, wanted: impl Fn(&K) -> bool) -> K
where
    K: Clone + DeserializeOwned + Debug,
{
    let field = format!("metadata.name={name}");
    let list = api.list(&ListParams::default().fields(&field)).await.unwrap();
    let version = list.metadata.resource_version.unwrap();
    if let Some(object) = list.items.into_iter().find(|object| wanted(object)) {
        return object;
    }
    let mut events = api.watch(&WatchParams::default().fields(&field), &version).await.unwrap().boxed();
    while let Some(event) = events.try_next().await.unwrap() {
        if let WatchEvent::Added(object) | WatchEvent::Modified(object) = event
            && wanted(&object)
        {
            return object;
        }
    }
    panic!("the watch of {name} has ended");
}
