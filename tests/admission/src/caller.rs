//! Somebody who asks the API server for something: a person with a certificate, a service account with a token, the operator.
//!
//! RBAC lets each of them write all that the policies are about, so that what is refused is refused by a policy. The verbs on
//! hats are not among it: [`Caller::may`] gives those.

use hatrack_api::access::{OPERATOR_ACCOUNT, OPERATOR_USER};
use hatrack_api::{GROUP, HatPolicy, SYSTEM_NAMESPACE};
use hatrack_testbed::{ControlPlane, unique};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::config::AuthInfo;
use kube::{Client, Error};
use serde_json::{Value, json};

use crate::{Outcome, eventually};

/// The namespace of bindings and service accounts.
pub const NAMESPACE: &str = "default";

/// Somebody with a name, perhaps a SPIFFE id, and a connection that proves it.
pub struct Caller {
    /// The user name that the API server knows.
    pub user: String,
    /// The SPIFFE id; of a stranger, one that nobody has.
    pub spiffe_id: String,
    /// A client with the caller's own credentials.
    pub client: Client,
    /// The administrator's client.
    pub admin: Client,
}

impl Caller {
    /// A person whom HatPolicy `default` does not know.
    pub async fn stranger(plane: &ControlPlane) -> Self {
        let user = unique("person");
        let spiffe_id = format!("spiffe://cluster.local/people/{user}");
        Self::with_certificate(plane, user, spiffe_id).await
    }

    /// A person with a SPIFFE id in HatPolicy `default`.
    pub async fn person(plane: &ControlPlane) -> Self {
        let person = Self::stranger(plane).await;
        let identity = json!({"user": person.user, "spiffeID": person.spiffe_id});
        person.known_as(&identity).await.is_allowed();
        let probe = unique("probe");
        person.may("wear", &probe).await;
        person.is_known_to_wear(&probe).await;
        person
    }

    /// Adds a row to `identities` of HatPolicy `default`, as an administrator.
    pub async fn known_as(&self, identity: &Value) -> Outcome {
        let policies: Api<HatPolicy> = Api::all(self.admin.clone());
        let policy =
            json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "HatPolicy", "spec": {"identities": [identity]}});
        Outcome::of(policies.patch("default", &PatchParams::apply(&self.user), &Patch::Apply(policy)).await)
    }

    /// A service account of a name of its own.
    pub async fn account(plane: &ControlPlane) -> Self {
        Self::with_token(plane, NAMESPACE, &unique("account")).await
    }

    /// The operator as it runs on a machine, with a certificate.
    pub async fn operator(plane: &ControlPlane) -> Self {
        Self::with_certificate(plane, OPERATOR_USER.to_owned(), String::new()).await
    }

    /// The operator as it runs in a pod, with a token.
    pub async fn operator_in_a_pod(plane: &ControlPlane) -> Self {
        Self::with_token(plane, SYSTEM_NAMESPACE, OPERATOR_ACCOUNT).await
    }

    /// The controller that empties namespaces which go.
    pub async fn namespace_controller(plane: &ControlPlane) -> Self {
        Self::with_token(plane, "kube-system", "namespace-controller").await
    }

    /// An administrator, whom RBAC refuses nothing.
    pub async fn administrator(plane: &ControlPlane) -> Self {
        let admin = plane.admin().await.unwrap();
        let user = "hatrack-testbed".to_owned();
        Self { spiffe_id: format!("spiffe://cluster.local/people/{user}"), user, client: admin.clone(), admin }
    }

    async fn with_certificate(plane: &ControlPlane, user: String, spiffe_id: String) -> Self {
        let lifetime = std::time::Duration::from_hours(1);
        let identity = plane.client_certificate(&user, &[], lifetime).unwrap();
        let client = plane.client_for(&identity).await.unwrap();
        Self { user, spiffe_id, client, admin: plane.admin().await.unwrap() }.with_wide_access().await
    }

    async fn with_token(plane: &ControlPlane, namespace: &str, name: &str) -> Self {
        let admin = plane.admin().await.unwrap();
        let accounts: Api<ServiceAccount> = Api::namespaced(admin.clone(), namespace);
        let account = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
        match accounts.create(&PostParams::default(), &account).await {
            Err(Error::Api(status)) if status.is_already_exists() => {}
            created => drop(created.unwrap()),
        }
        let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
        let issued = accounts.create_token_request(name, &PostParams::default(), &request).await.unwrap();
        let mut config = plane.config_for(&plane.admin_identity().unwrap()).await.unwrap();
        config.auth_info = AuthInfo { token: Some(issued.status.unwrap().token.into()), ..AuthInfo::default() };
        let caller = Self {
            user: format!("system:serviceaccount:{namespace}:{name}"),
            spiffe_id: format!("spiffe://cluster.local/ns/{namespace}/sa/{name}"),
            client: Client::try_from(config).unwrap(),
            admin,
        };
        caller.with_wide_access().await
    }

    /// Everything that the policies are about, and to make roles of any kind.
    async fn with_wide_access(self) -> Self {
        let writing = ["create", "get", "list", "watch", "update", "patch", "delete", "deletecollection"];
        let verbs: Vec<&str> = writing.into_iter().chain(["escalate", "bind"]).collect();
        let rules = json!([
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["*"], "verbs": verbs},
            {"apiGroups": [GROUP], "resources": ["*"], "verbs": writing},
        ]);
        self.granted(&rules, &json!({"group": GROUP, "resource": "hatbindings", "verb": "deletecollection"})).await;
        self
    }

    /// Gives the caller a verb on a hat.
    pub async fn may(&self, verb: &str, hat: &str) {
        let rule = json!({"apiGroups": [GROUP], "resources": ["hats"], "resourceNames": [hat], "verbs": [verb]});
        self.granted(&json!([rule]), &json!({"group": GROUP, "resource": "hats", "name": hat, "verb": verb})).await;
    }

    /// Lets the caller do anything to Nodes.
    pub async fn may_write_nodes(&self) {
        let verbs = ["create", "get", "update", "patch", "delete"];
        let rules = json!([{"apiGroups": [""], "resources": ["nodes", "nodes/status"], "verbs": verbs}]);
        self.granted(&rules, &json!({"resource": "nodes", "verb": "delete"})).await;
    }

    /// Lets the caller do anything to requests for certificates, and approve and sign for every signer.
    pub async fn may_write_requests(&self) {
        let group = "certificates.k8s.io";
        let resources =
            ["certificatesigningrequests", "certificatesigningrequests/approval", "certificatesigningrequests/status"];
        let verbs = ["create", "get", "update", "patch", "delete"];
        let rules = json!([
            {"apiGroups": [group], "resources": resources, "verbs": verbs},
            {"apiGroups": [group], "resources": ["signers"], "verbs": ["approve", "sign"]},
        ]);
        self.granted(&rules, &json!({"group": group, "resource": "signers", "verb": "sign"})).await;
    }

    /// Grants `rules`, and waits until the authorizer allows `sample`: it learns of a role a moment later.
    async fn granted(&self, rules: &Value, sample: &Value) {
        let metadata = json!({"name": unique("caller")});
        let role: ClusterRole = serde_json::from_value(json!({"metadata": metadata, "rules": rules})).unwrap();
        let binding: ClusterRoleBinding = serde_json::from_value(json!({"metadata": metadata,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": metadata["name"]},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.user}]}))
        .unwrap();
        Api::all(self.admin.clone()).create(&PostParams::default(), &role).await.unwrap();
        Api::all(self.admin.clone()).create(&PostParams::default(), &binding).await.unwrap();
        let review = json!({"metadata": {}, "spec": {"user": self.user, "resourceAttributes": sample}});
        let review: SubjectAccessReview = serde_json::from_value(review).unwrap();
        eventually("the grant is known to the authorizer", async || {
            let answer = Api::all(self.admin.clone()).create(&PostParams::default(), &review).await.unwrap();
            answer.status.filter(|status| status.allowed)
        })
        .await;
    }

    /// The kind of `object`, in its namespace if it has one.
    fn api(&self, object: &Value) -> Api<DynamicObject> {
        let (group, version) = text(object, "/apiVersion").rsplit_once('/').unwrap_or(("", "v1"));
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, text(object, "/kind")));
        match object.pointer("/metadata/namespace").and_then(Value::as_str) {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// Waits until the policies know who this is. The caller may wear the hat.
    pub async fn is_known_to_wear(&self, hat: &str) {
        let own = binding(hat, &self.spiffe_id);
        let dry_run = PostParams { dry_run: true, ..PostParams::default() };
        eventually("the policies know the caller", async || {
            let asked = serde_json::from_value(own.clone()).unwrap();
            self.api(&own).create(&dry_run, &asked).await.ok()
        })
        .await;
    }

    /// Creates `object`.
    pub async fn create(&self, object: &Value) -> Outcome {
        let api = self.api(object);
        Outcome::of(api.create(&PostParams::default(), &serde_json::from_value(object.clone()).unwrap()).await)
    }

    /// Merges `change` into `object` where it is stored.
    pub async fn merge(&self, object: &Value, change: Value) -> Outcome {
        let name = text(object, "/metadata/name");
        Outcome::of(self.api(object).patch(name, &PatchParams::default(), &Patch::Merge(change)).await)
    }

    /// Applies `fields` to `object` as a field manager of its own.
    pub async fn apply(&self, object: &Value, fields: &Value) -> Outcome {
        let name = text(object, "/metadata/name");
        let mut applied = json!({"apiVersion": object["apiVersion"], "kind": object["kind"]});
        applied.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        Outcome::of(self.api(object).patch(name, &PatchParams::apply(&self.user), &Patch::Apply(applied)).await)
    }

    /// Merges `status` into that of `object`.
    pub async fn merge_status(&self, object: &Value, status: Value) -> Outcome {
        let name = text(object, "/metadata/name");
        let change = Patch::Merge(json!({"status": status}));
        Outcome::of(self.api(object).patch_status(name, &PatchParams::default(), &change).await)
    }

    /// Adds a decision to the request for a certificate `object`.
    pub async fn decide(&self, object: &Value, verdict: &str) -> Outcome {
        let condition = json!({"type": verdict, "status": "True", "reason": "Test", "message": ""});
        let change = Patch::Merge(json!({"status": {"conditions": [condition]}}));
        let name = text(object, "/metadata/name");
        Outcome::of(self.api(object).patch_subresource("approval", name, &PatchParams::default(), &change).await)
    }

    /// Deletes `object`.
    pub async fn delete(&self, object: &Value) -> Outcome {
        Outcome::of(self.api(object).delete(text(object, "/metadata/name"), &DeleteParams::default()).await)
    }
}

fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap()
}

/// A request of `wearer` for `hat`, of a name of its own.
pub fn binding(hat: &str, wearer: &str) -> Value {
    json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "HatBinding",
        "metadata": {"name": unique("binding"), "namespace": NAMESPACE},
        "spec": {"hat": hat, "wearer": {"spiffeID": wearer}}})
}

/// `object` with some fields of its spec.
pub fn with_spec(mut object: Value, fields: &Value) -> Value {
    object["spec"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    object
}
