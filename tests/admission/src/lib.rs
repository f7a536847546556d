//! What the tests in `tests/` share: the installed control plane, a node with its identity, and outcomes that can be compared.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "a test fails by panicking")]

pub mod caller;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use hatrack_api::access::OPERATOR_USER;
use hatrack_api::cluster_node::ClusterNode;
use hatrack_api::{NODE_USER_PREFIX, SYSTEM_NAMESPACE};
use hatrack_testbed::{ControlPlane, unique};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Client, Error};
use serde_json::{Value, json};

/// The shared control plane with everything in `k8s/` applied.
pub async fn installed() -> Arc<ControlPlane> {
    let plane = ControlPlane::shared().await.unwrap();
    let manifests = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../k8s");
    plane.install(&manifests).await.unwrap();
    plane
}

/// A client of the operator that RBAC refuses nothing.
pub async fn operator(plane: &ControlPlane) -> Client {
    let identity = plane.client_certificate(OPERATOR_USER, &["system:masters"], Duration::from_hours(1)).unwrap();
    plane.client_for(&identity).await.unwrap()
}

/// A node of a name of its own, with its client and those of the administrator and the operator.
#[derive(Clone)]
pub struct Node {
    /// Name of its ClusterNode and its Lease.
    pub name: String,
    /// Client with the node's certificate.
    pub client: Client,
    /// The administrator's client.
    pub admin: Client,
    /// The operator's client.
    pub operator: Client,
}

impl Node {
    /// A node with the access that `api` grants: its own objects.
    pub async fn with_its_access(plane: &Arc<ControlPlane>) -> Self {
        let node = Self::with_certificate(plane, unique("node")).await;
        let (role, binding) = hatrack_api::access::node(&node.name);
        node.grant(&role, &binding).await;
        node
    }

    /// A node that RBAC lets write every ClusterNode and Lease: what is refused now is refused by a policy.
    pub async fn with_wide_access(plane: &Arc<ControlPlane>) -> Self {
        let node = Self::with_certificate(plane, unique("node")).await;
        node.grant_widely(&format!("{NODE_USER_PREFIX}{}", node.name)).await;
        node
    }

    /// Lets a user write every ClusterNode and Lease.
    pub async fn grant_widely(&self, user: &str) {
        let metadata = json!({"name": unique("wide")});
        let role = json!({"metadata": metadata, "rules": [
            {"apiGroups": ["society.zeta.io"], "resources": ["*"], "verbs": ["*"]},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]},
        ]});
        let binding = json!({"metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": metadata["name"]},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]});
        self.grant(&serde_json::from_value(role).unwrap(), &serde_json::from_value(binding).unwrap()).await;
    }

    async fn with_certificate(plane: &Arc<ControlPlane>, name: String) -> Self {
        let identity = plane.node_identity(&name).unwrap();
        Self {
            name,
            client: plane.client_for(&identity).await.unwrap(),
            admin: plane.admin().await.unwrap(),
            operator: operator(plane).await,
        }
    }

    async fn grant(&self, role: &ClusterRole, binding: &ClusterRoleBinding) {
        Api::all(self.admin.clone()).create(&PostParams::default(), role).await.unwrap();
        Api::all(self.admin.clone()).create(&PostParams::default(), binding).await.unwrap();
        let user = &binding.subjects.as_ref().unwrap()[0].name;
        eventually("the grant is known to the authorizer", async || self.may_patch(user).await.then_some(())).await;
    }

    /// Whether the authorizer knows already what was granted: it watches roles, so that it learns of one a moment later.
    async fn may_patch(&self, user: &str) -> bool {
        let wanted =
            json!({"group": "society.zeta.io", "resource": "clusternodes", "verb": "patch", "name": self.name});
        let review = json!({"metadata": {}, "spec": {"user": user, "resourceAttributes": wanted}});
        let review: SubjectAccessReview = serde_json::from_value(review).unwrap();
        let review = Api::all(self.admin.clone()).create(&PostParams::default(), &review).await.unwrap();
        review.status.is_some_and(|status| status.allowed)
    }

    /// The node's view of ClusterNodes.
    pub fn nodes(&self) -> Api<ClusterNode> {
        Api::all(self.client.clone())
    }

    /// The administrator's view of ClusterNodes.
    pub fn nodes_of_admin(&self) -> Api<ClusterNode> {
        Api::all(self.admin.clone())
    }

    /// The node's view of Leases in a namespace.
    pub fn leases(&self, namespace: &str) -> Api<Lease> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Applies `fields` to the ClusterNode of this name as the node does.
    pub async fn apply(&self, name: &str, fields: Value) -> Outcome {
        Outcome::of(self.nodes().patch(name, &manager(), &Patch::Apply(manifest(name, &fields))).await)
    }

    /// Applies `fields` to the status of the ClusterNode of this name as the node does.
    pub async fn apply_status(&self, name: &str, status: Value) -> Outcome {
        let patch = Patch::Apply(manifest(name, &json!({"status": status})));
        Outcome::of(self.nodes().patch_status(name, &manager(), &patch).await)
    }

    /// Merges `fields` into the ClusterNode as the node does.
    pub async fn merge(&self, fields: Value) -> Outcome {
        Outcome::of(self.nodes().patch(&self.name, &PatchParams::default(), &Patch::Merge(fields)).await)
    }

    /// Merges `fields` into the status of the ClusterNode as the node does.
    pub async fn merge_status(&self, status: Value) -> Outcome {
        let patch = Patch::Merge(json!({"status": status}));
        Outcome::of(self.nodes().patch_status(&self.name, &PatchParams::default(), &patch).await)
    }

    /// Writes what a person writes.
    pub async fn as_admin(&self, fields: Value) {
        let patch = Patch::Merge(fields);
        self.nodes_of_admin().patch(&self.name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Writes what the operator writes into the status.
    pub async fn status_as_operator(&self, status: Value) {
        let patch = Patch::Merge(json!({"status": status}));
        let nodes: Api<ClusterNode> = Api::all(self.operator.clone());
        nodes.patch_status(&self.name, &PatchParams::default(), &patch).await.unwrap();
    }

    /// Applies a Lease in the node's name.
    pub async fn apply_lease(&self, namespace: &str, name: &str, spec: Value) -> Outcome {
        let lease =
            json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": name}, "spec": spec});
        Outcome::of(self.leases(namespace).patch(name, &manager(), &Patch::Apply(lease)).await)
    }

    /// Registers the node: the object and its Lease.
    pub async fn register(&self) {
        self.apply(&self.name, json!({"spec": {"class": "gpu-worker", "hardwareID": "4c4c4544-0042"}}))
            .await
            .is_allowed();
        self.apply_lease(SYSTEM_NAMESPACE, &self.name, json!({"leaseDurationSeconds": 40})).await.is_allowed();
    }
}

fn manager() -> PatchParams {
    PatchParams::apply("hatrack-agent")
}

fn manifest(name: &str, fields: &Value) -> Value {
    let mut manifest =
        json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "ClusterNode", "metadata": {"name": name}});
    for (key, value) in fields.as_object().unwrap() {
        if key == "metadata" {
            manifest["metadata"].as_object_mut().unwrap().extend(value.as_object().unwrap().clone());
        } else {
            manifest[key] = value.clone();
        }
    }
    manifest
}

/// What the API server said: the code and the message matter, a denial for another reason is no proof.
#[derive(Debug)]
pub enum Outcome {
    /// The request was carried out.
    Allowed,
    /// It was refused.
    Refused {
        /// HTTP status.
        code: u16,
        /// The message of the Status.
        message: String,
    },
}

impl Outcome {
    /// The outcome of a request.
    pub fn of<T>(result: kube::Result<T>) -> Self {
        match result {
            Ok(_) => Self::Allowed,
            Err(Error::Api(status)) => Self::Refused { code: status.code, message: status.message.clone() },
            Err(error) => panic!("the request did not reach the API server: {error}"),
        }
    }

    /// Fails unless the request was carried out.
    #[track_caller]
    pub fn is_allowed(self) {
        assert!(matches!(self, Self::Allowed), "{self:?}");
    }

    /// Fails unless a policy refused the request with this message.
    #[track_caller]
    pub fn is_forbidden(self, reason: &str) {
        self.is_refused(403, reason);
    }

    /// Fails unless the request was refused with this status and a message that contains `reason`.
    #[track_caller]
    pub fn is_refused(self, expected: u16, reason: &str) {
        match self {
            Self::Refused { code, message } if code == expected && message.contains(reason) => {}
            other => panic!("expected {expected} with `{reason}`, got {other:?}"),
        }
    }
}

/// The row that `kubectl get` prints of an object: column names and cells.
pub async fn table_row(client: &Client, path: &str) -> Vec<(String, String)> {
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let request = http::Request::get(path).header(http::header::ACCEPT, accept).body(Vec::new()).unwrap();
    let table: Value = client.request(request).await.unwrap();
    let columns = table["columnDefinitions"].as_array().unwrap().iter().map(|column| text(&column["name"]));
    let cells = table["rows"][0]["cells"].as_array().unwrap().iter().map(text);
    columns.zip(cells).collect()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Asks again until there is an answer: for what a controller writes some time later.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let asking = async {
        loop {
            match ask().await {
                Some(answer) => break answer,
                None => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    };
    let patience = Duration::from_mins(1);
    tokio::time::timeout(patience, asking).await.unwrap_or_else(|_| panic!("no answer within {patience:?}: {what}"))
}
