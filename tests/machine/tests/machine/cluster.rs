//! The control plane on the host, as a machine needs it.

use std::fmt::Debug;
use std::ops::Deref;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use futures::StreamExt as _;
use hatrack_api::{ClusterNode, SYSTEM_NAMESPACE, access};
use hatrack_machine::{AgentFiles, Payload};
use hatrack_testbed::{ControlPlane, unique};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::PostParams;
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};

/// The folder with CRDs, roles and policies.
pub const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../k8s");

/// What takes longer than this does not come any more: machines are emulated, and the host may be busy.
const PATIENCE: Duration = Duration::from_mins(5);

/// A control plane with hatrack's manifests.
pub struct Cluster {
    pub plane: Arc<dyn Deref<Target = ControlPlane> + Send + Sync>,
    pub admin: Client,
}

impl Cluster {
    /// The control plane that all tests share.
    pub async fn shared() -> Self {
        let plane = ControlPlane::shared().await.unwrap();
        plane.install(Path::new(MANIFESTS)).await.unwrap();
        Self::of(Arc::new(plane)).await
    }

    /// A control plane that has the manifests.
    pub async fn of(plane: Arc<dyn Deref<Target = ControlPlane> + Send + Sync>) -> Self {
        let admin = plane.admin().await.unwrap();
        Self { plane, admin }
    }

    /// A new name that a machine may register under.
    pub async fn allow_new(&self, prefix: &str) -> String {
        let name = unique(prefix);
        let (role, binding) = access::node(&name);
        let create = PostParams::default();
        Api::<ClusterRole>::all(self.admin.clone()).create(&create, &role).await.unwrap();
        Api::<ClusterRoleBinding>::all(self.admin.clone()).create(&create, &binding).await.unwrap();
        self.is_allowed(&name).await;
        name
    }

    /// Waits until the API server acts on the roles of a node.
    async fn is_allowed(&self, name: &str) {
        let asked = ResourceAttributes {
            group: Some("coordination.k8s.io".to_owned()),
            resource: Some("leases".to_owned()),
            namespace: Some(SYSTEM_NAMESPACE.to_owned()),
            verb: Some("update".to_owned()),
            name: Some(name.to_owned()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(format!("society:node:{name}")),
            groups: Some(vec!["society:nodes".to_owned()]),
            resource_attributes: Some(asked),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviews: Api<SubjectAccessReview> = Api::all(self.admin.clone());
        let allowed = async {
            while !reviews
                .create(&PostParams::default(), &review)
                .await
                .unwrap()
                .status
                .is_some_and(|status| status.allowed)
            {
                sleep(Duration::from_millis(20)).await;
            }
        };
        soon("the access of the node", allowed).await;
    }

    /// Where a machine finds the API server.
    pub fn address(&self) -> String {
        self.plane.url().replace("127.0.0.1", "10.0.2.2")
    }

    /// What an agent brings, with the certificate of its name and the way to this control plane from a machine.
    pub fn payload(&self, agent: &AgentFiles) -> Result<Payload> {
        let identity = self.plane.node_identity(&agent.name)?;
        let kubeconfig = self.plane.kubeconfig_via(&self.address(), &identity)?;
        let mut payload = Payload::default();
        agent.add_to(&mut payload)?;
        payload.secret("/etc/hatrack/kubeconfig", std::fs::read(kubeconfig)?)?;
        Ok(payload)
    }

    /// The kubeconfig of the kubelet of a machine, which reaches the API server by an address of its own.
    pub fn kubelet(&self, name: &str, address: &str) -> Result<Vec<u8>> {
        let user = format!("system:node:{name}");
        let identity = self.plane.client_certificate(&user, &["system:nodes"], PATIENCE * 10)?;
        Ok(std::fs::read(self.plane.kubeconfig_via(address, &identity)?)?)
    }

    pub fn nodes(&self) -> Api<ClusterNode> {
        Api::all(self.admin.clone())
    }

    /// Waits until the ClusterNode is as wanted.
    pub async fn node_until(&self, name: &str, what: &str, wanted: impl Fn(&ClusterNode) -> bool) -> ClusterNode {
        until(&self.nodes(), name, what, wanted).await
    }
}

/// Waits for something that has to happen.
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(elapsed) => panic!("{what} did not happen within {PATIENCE:?}: {elapsed}"),
    }
}

/// Waits until an object is as wanted.
pub async fn until<K>(api: &Api<K>, name: &str, what: &str, wanted: impl Fn(&K) -> bool) -> K
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let mut last = None;
    let watched = async {
        let mut states = pin!(watcher::watch_object(api.clone(), name).default_backoff());
        while let Some(state) = states.next().await {
            if let Ok(Some(object)) = state {
                if wanted(&object) {
                    return object;
                }
                last = Some(object);
            }
        }
        panic!("the watch of {name} has ended");
    };
    match timeout(PATIENCE, watched).await {
        Ok(object) => object,
        Err(elapsed) => panic!("{what} did not happen within {PATIENCE:?}: {elapsed}: {last:#?}"),
    }
}
