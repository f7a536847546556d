//! Applies manifests in the order that makes them safe, and waits for their effect: definitions
//! before objects, admission policies before the roles that they fence.

use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::core::GroupVersionKind;
use kube::discovery::{ApiResource, Scope, pinned_kind};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};

use crate::error::{Error, Result};
use crate::{manifests, unique};

const TIMEOUT: Duration = Duration::from_mins(1);
const POLL: Duration = Duration::from_millis(50);

/// Installation goes in these steps; within one, objects keep the order of their manifests.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Namespaces,
    Definitions,
    Objects,
    Policies,
    Grants,
}

impl Step {
    const ALL: [Self; 5] = [Self::Namespaces, Self::Definitions, Self::Objects, Self::Policies, Self::Grants];

    fn of(object: &DynamicObject) -> Self {
        match object.types.as_ref().map_or("", |types| types.kind.as_str()) {
            "Namespace" => Self::Namespaces,
            "CustomResourceDefinition" => Self::Definitions,
            "ValidatingAdmissionPolicy" | "ValidatingAdmissionPolicyBinding" => Self::Policies,
            "RoleBinding" | "ClusterRoleBinding" => Self::Grants,
            _ => Self::Objects,
        }
    }
}

/// Applies the manifests of `dir`. `installed` is what earlier calls returned: if nothing
/// differs from it, the effect is there already and is not waited for again.
pub(crate) async fn install(client: &Client, dir: &Path, installed: &BTreeSet<String>) -> Result<Vec<String>> {
    let objects = manifests::load(dir)?;
    let mut applier = Applier { client: client.clone(), resources: HashMap::new() };
    let mut applied = Vec::new();
    for step in Step::ALL {
        let before = applied.len();
        for object in objects.iter().filter(|object| Step::of(object) == step) {
            applied.push(version(&applier.apply(object).await?));
        }
        if applied[before..].iter().all(|object| installed.contains(object)) {
            continue;
        }
        match step {
            Step::Definitions => established(client, &objects).await?,
            Step::Policies => policies_bite(&mut applier).await?,
            Step::Grants => grants_hold(&mut applier).await?,
            Step::Namespaces | Step::Objects => {}
        }
    }
    Ok(applied)
}

/// What identifies this state of an object. Status writes leave the generation alone; kinds
/// without one have no status that anybody writes.
fn version(object: &DynamicObject) -> String {
    let state = object
        .metadata
        .generation
        .map_or_else(|| object.resource_version().unwrap_or_default(), |generation| format!("generation {generation}"));
    format!("{} {} {state}", object.name_any(), object.uid().unwrap_or_default())
}

struct Applier {
    client: Client,
    resources: HashMap<GroupVersionKind, (ApiResource, Scope)>,
}

impl Applier {
    async fn apply(&mut self, object: &DynamicObject) -> Result<DynamicObject> {
        let name = object.name_any();
        let api = self.api(object).await?;
        let parameters = PatchParams::apply("hatrack-testbed").force();
        api.patch(&name, &parameters, &Patch::Apply(object)).await.map_err(Error::api(format!("apply {name}")))
    }

    async fn delete_all(&mut self, objects: &[DynamicObject]) -> Result<()> {
        for object in objects {
            let name = object.name_any();
            let deleted = self.api(object).await?.delete(&name, &DeleteParams::default()).await;
            deleted.map_err(Error::api(format!("delete {name}")))?;
        }
        Ok(())
    }

    async fn api(&mut self, object: &DynamicObject) -> Result<Api<DynamicObject>> {
        let (resource, scope) = self.resolve(object).await?;
        let namespace = object.namespace().unwrap_or_else(|| "default".into());
        Ok(match scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), &namespace, &resource),
        })
    }

    /// A definition that was just established is served a moment later.
    async fn resolve(&mut self, object: &DynamicObject) -> Result<(ApiResource, Scope)> {
        let types = object.types.clone().unwrap_or_default();
        let kind = GroupVersionKind::try_from(&types)
            .map_err(|error| Error::Manifest { path: object.name_any().into(), reason: error.to_string() })?;
        if let Some(known) = self.resources.get(&kind) {
            return Ok(known.clone());
        }
        let client = self.client.clone();
        let found = eventually(&format!("{} {} is served", types.api_version, types.kind), || async {
            pinned_kind(&client, &kind).await.map_err(|error| error.to_string())
        })
        .await?;
        let known = (found.0, found.1.scope);
        self.resources.insert(kind, known.clone());
        Ok(known)
    }
}

async fn established(client: &Client, objects: &[DynamicObject]) -> Result<()> {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for object in objects.iter().filter(|object| Step::of(object) == Step::Definitions) {
        let name = object.name_any();
        eventually(&format!("the definition {name} is established"), || async {
            let definition = definitions.get(&name).await.map_err(|error| error.to_string())?;
            let conditions = definition.status.and_then(|status| status.conditions).unwrap_or_default();
            let holds =
                conditions.iter().any(|condition| condition.type_ == "Established" && condition.status == "True");
            if holds { Ok(()) } else { Err(format!("{conditions:?}")) }
        })
        .await?;
    }
    Ok(())
}

/// Waits until the API server enforces every policy applied before this call. Policies and bindings
/// reach it in the order they were stored and are compiled together, so when a policy made last
/// refuses what only it refuses, with its own message, the earlier ones are enforced too.
async fn policies_bite(applier: &mut Applier) -> Result<()> {
    let name = unique("hatrack-testbed-canary");
    let canaries = canaries(&[policy(&name), policy_binding(&name)])?;
    for canary in &canaries {
        applier.apply(canary).await?;
    }
    let config_maps: Api<ConfigMap> = Api::namespaced(applier.client.clone(), "default");
    let mut refused = ConfigMap::default();
    refused.metadata.name = Some(name.clone());
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    eventually("the admission policies refuse a canary", || async {
        match config_maps.create(&dry_run, &refused).await {
            Err(kube::Error::Api(status)) if status.message.contains(&refusal(&name)) => Ok(()),
            Err(error) => Err(error.to_string()),
            Ok(_) => Err("it was accepted".into()),
        }
    })
    .await?;
    applier.delete_all(&canaries).await
}

/// Waits until every role and binding applied before this call has its effect, by the same
/// argument: a role and a binding of each scope are made last, and permit what nothing else does.
async fn grants_hold(applier: &mut Applier) -> Result<()> {
    let name = unique("hatrack-testbed-canary");
    let canaries = canaries(&[
        role("ClusterRole", &name),
        role_binding("ClusterRoleBinding", "ClusterRole", &name),
        role("Role", &name),
        role_binding("RoleBinding", "Role", &name),
    ])?;
    for canary in &canaries {
        applier.apply(canary).await?;
    }
    let reviews: Api<SubjectAccessReview> = Api::all(applier.client.clone());
    for role in ["ClusterRole", "Role"] {
        let review = review(role, &name)?;
        eventually("the roles permit a canary", || async {
            let answer = reviews.create(&PostParams::default(), &review).await.map_err(|error| error.to_string())?;
            let allowed = answer.status.as_ref().is_some_and(|status| status.allowed);
            if allowed { Ok(()) } else { Err(format!("{:?}", answer.status)) }
        })
        .await?;
    }
    applier.delete_all(&canaries).await
}

fn refusal(name: &str) -> String {
    format!("{name} is enforced")
}

fn policy(name: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]},
            ]},
            "matchConditions": [{"name": "canary", "expression": format!("object.metadata.name == '{name}'")}],
            "validations": [{"expression": "false", "message": refusal(name)}],
        },
    })
}

fn policy_binding(name: &str) -> Value {
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    })
}

fn role(kind: &str, name: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "rules": [{"apiGroups": [name], "resources": [kind], "verbs": ["get"]}],
    })
}

fn role_binding(kind: &str, role: &str, name: &str) -> Value {
    json!({
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role, "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}],
    })
}

/// May the user `name` do what the role of this kind permits?
fn review(role: &str, name: &str) -> Result<SubjectAccessReview> {
    canary(&json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "metadata": {},
        "spec": {"user": name, "resourceAttributes": {
            "namespace": "default", "group": name, "resource": role, "verb": "get",
        }},
    }))
}

fn canaries(objects: &[Value]) -> Result<Vec<DynamicObject>> {
    objects.iter().map(canary).collect()
}

fn canary<T: serde::de::DeserializeOwned>(object: &Value) -> Result<T> {
    serde_json::from_value(object.clone())
        .map_err(|error| Error::Manifest { path: "canary".into(), reason: error.to_string() })
}

/// Polls `check` until it holds; what it said last is in the error.
async fn eventually<T, F>(awaited: &str, check: impl Fn() -> F) -> Result<T>
where
    F: Future<Output = Result<T, String>>,
{
    let start = tokio::time::Instant::now();
    loop {
        match check().await {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() > TIMEOUT => {
                return Err(Error::Timeout { awaited: format!("{awaited} ({last})"), seconds: TIMEOUT.as_secs() });
            }
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}
