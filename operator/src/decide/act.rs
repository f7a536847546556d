//! One action as requests, and what the world is after it.
//!
//! Statuses, assignments and fences are written with the `resourceVersion` of the object that was decided upon, so that nobody overwrites
//! what he has not considered: neither an operator that was stopped for a while, nor one whose watch is late, nor one whose watch has
//! brought something new since.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hatrack_api::access::MANAGED_BY;
use hatrack_api::cluster_node::{NodeLease, hats_in_words};
use hatrack_api::hat_binding::FINALIZER;
use hatrack_api::{HAT_LABEL, Hat, HatBinding, HatPolicy, HatSwap, SYSTEM_NAMESPACE, hat_policy};
use hatrack_hats::authority::{Grant, Scope};
use hatrack_hats::{Action, World};
use hatrack_service::clock::since_boot;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::NamespaceResourceScope;
use kube::{Api, Client, Resource};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::canary::Canary;
use crate::failure::{Failure, Kind, within};
use crate::observe::{Kept, Observed, Seen, Written};
use crate::operator::Shared;

/// Who writes, in `metadata.managedFields`.
const FIELD_MANAGER: &str = "hatrack-operator";

/// Carries actions out.
#[derive(Clone)]
pub struct Actor {
    client: Client,
    observed: Observed,
    /// What was decided upon, and what was made of it since.
    basis: Arc<Mutex<Seen>>,
    canary: watch::Receiver<Canary>,
    limit: Duration,
}

/// An action is over.
pub enum Done {
    /// It was carried out.
    Done,
    /// It gives authority, and the fence does not hold.
    Withheld,
}

/// An action was not carried out.
pub enum Setback {
    /// The world is not the one that was decided upon; what differs has been observed.
    Overtaken,
    /// The API server will refuse it again.
    Refused(Failure),
    /// Nothing is known of it.
    Failed(Failure),
}

impl From<Failure> for Setback {
    fn from(failure: Failure) -> Self {
        let is_refused = failure.is_final() || failure.is_of_a_webhook();
        if is_refused { Self::Refused(failure) } else { Self::Failed(failure) }
    }
}

/// The word for metrics and the log.
pub fn name(action: &Action) -> &'static str {
    match action {
        Action::Finalize { .. } => "finalize",
        Action::Record(_) => "record",
        Action::SetStatus { .. } => "set_status",
        Action::Unfinalize { .. } => "unfinalize",
        Action::Delete { .. } => "delete",
        Action::Fence { .. } => "fence",
        Action::Assign { .. } => "assign",
        Action::Grant(_) => "grant",
        Action::Withdraw { .. } => "withdraw",
        Action::SetHatStatus { .. } => "set_hat_status",
        Action::SetPolicyStatus { .. } => "set_policy_status",
        Action::Collect { .. } => "collect",
    }
}

type Acted = Result<(), Setback>;

impl Actor {
    /// What carries actions out.
    pub fn new(shared: &Shared) -> Self {
        Self {
            client: shared.client.clone(),
            observed: shared.observed.clone(),
            basis: Arc::default(),
            canary: shared.canary.clone(),
            limit: shared.config.api.request_timeout.get(),
        }
    }

    /// Carries out what was decided upon this world.
    pub fn on(&self, world: World) -> Self {
        Self { basis: Arc::new(Mutex::new(Seen::of(world))), ..self.clone() }
    }

    fn basis(&self) -> MutexGuard<'_, Seen> {
        self.basis.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries an action out, and knows what it did.
    pub async fn act(&self, action: &Action) -> Result<Done, Setback> {
        match action {
            Action::Finalize { binding } => self.finalize(action, binding).await?,
            Action::Record(swap) => self.record(swap).await?,
            Action::SetStatus { binding, status } => {
                let known = self.known(|world| world.binding(binding).cloned())?;
                self.set_status(action, &known, &json!(status), self.bindings(&known)).await?;
            }
            Action::Unfinalize { binding } => self.unfinalize(action, binding).await?,
            Action::Delete { binding } => self.delete(action, binding).await?,
            Action::Fence { node, transitions } => self.fence(action, node, *transitions).await?,
            Action::Assign { node, hats } => {
                let known = self.known(|world| world.node(node).map(|view| (*view.node).clone()))?;
                let status = json!({"hats": &**hats, "summary": {"hats": hats_in_words(hats)}});
                self.set_status(action, &known, &status, Api::all(self.client.clone())).await?;
            }
            Action::Grant(_) if *self.canary.borrow() != Canary::Alive => return Ok(Done::Withheld),
            Action::Grant(grant) => self.grant(action, grant).await?,
            Action::Withdraw { binding, scope } => self.withdraw(action, binding, scope).await?,
            Action::SetHatStatus { hat, status } => {
                let known = self.known(|world| world.hat(hat).cloned())?;
                self.set_status::<Hat>(action, &known, &json!(status), Api::all(self.client.clone())).await?;
            }
            Action::SetPolicyStatus { status } => {
                let known = self.known(|world| world.policy().cloned())?;
                debug_assert_eq!(known.metadata.name.as_deref(), Some(hat_policy::NAME));
                self.set_status::<HatPolicy>(action, &known, &json!(status), Api::all(self.client.clone())).await?;
            }
            Action::Collect { swap } => {
                self.drop_object(&self.swaps(), swap).await?;
                self.did(action);
            }
        }
        Ok(Done::Done)
    }

    /// What the action is about, which may be gone.
    fn known<T>(&self, find: impl FnOnce(&World) -> Option<T>) -> Result<T, Setback> {
        find(&self.basis().world).ok_or(Setback::Overtaken)
    }

    fn did(&self, action: &Action) {
        let now = since_boot();
        self.basis().world.apply(action, now);
        self.observed.did(|seen| seen.world.apply(action, now));
    }

    /// The action is done, and this was the object then. Where more is known of it already, that counts.
    fn did_and_saw(&self, action: &Action, object: impl Written + Clone) {
        let now = since_boot();
        self.basis().world.apply(action, now);
        object.clone().observe(&mut self.basis(), now);
        self.observed.did(|seen| {
            if !object.is_outdated(&seen.world) {
                seen.world.apply(action, now);
            }
            object.observe(seen, now);
        });
    }

    fn swaps(&self) -> Api<HatSwap> {
        Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE)
    }

    fn bindings(&self, binding: &HatBinding) -> Api<HatBinding> {
        let namespace = binding.metadata.namespace.as_deref().unwrap_or_default();
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Applies a status under the version that is known.
    async fn set_status<K>(&self, action: &Action, known: &K, status: &Value, api: Api<K>) -> Acted
    where
        K: Written + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        let name = known.meta().name.clone().unwrap_or_default();
        let mut object = identity(known);
        object["metadata"]["resourceVersion"] = json!(known.meta().resource_version);
        object["status"] = status.clone();
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let written = within(self.limit, api.patch_status(&name, &params, &Patch::Apply(object))).await;
        let stored = self.current(written, known, &api).await?;
        self.did_and_saw(action, stored);
        Ok(())
    }

    /// The object that was written; where it was another one, or none, than the one that is known, that is observed.
    async fn current<K>(&self, written: Result<K, Failure>, known: &K, api: &Api<K>) -> Result<K, Setback>
    where
        K: Kept + Clone + DeserializeOwned + Debug,
    {
        match written {
            Ok(stored) => Ok(stored),
            Err(failure) if matches!(failure.kind(), Kind::Outdated | Kind::NotFound) => {
                self.look_again(known, api).await?;
                Err(Setback::Overtaken)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    async fn look_again<K>(&self, known: &K, api: &Api<K>) -> Acted
    where
        K: Kept + Clone + DeserializeOwned + Debug,
    {
        let name = known.meta().name.as_deref().unwrap_or_default();
        let found = within(self.limit, api.get_opt(name)).await?;
        let now = since_boot();
        self.observed.observe(|seen| {
            let is_gone = found.as_ref().is_none_or(|found| found.meta().uid != known.meta().uid);
            let forgotten = is_gone && K::forget(seen, &known.key());
            found.is_some_and(|found| found.observe(seen, now)) || forgotten
        });
        Ok(())
    }

    async fn finalize(&self, action: &Action, uid: &str) -> Acted {
        let known = self.known(|world| world.binding(uid).cloned())?;
        let api = self.bindings(&known);
        let mut object = identity(&known);
        // Without it a binding that is gone would be made anew.
        object["metadata"]["uid"] = json!(uid);
        object["metadata"]["finalizers"] = json!([FINALIZER]);
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let name = known.metadata.name.clone().unwrap_or_default();
        let written = within(self.limit, api.patch(&name, &params, &Patch::Apply(object))).await;
        let stored = self.current(written, &known, &api).await?;
        self.did_and_saw(action, stored);
        Ok(())
    }

    /// "Already exists": somebody has committed this transition, which the next decision finishes as it is.
    async fn record(&self, swap: &HatSwap) -> Acted {
        let api = self.swaps();
        match within(self.limit, api.create(&PostParams::default(), swap)).await {
            Ok(stored) => {
                self.observed.did(|seen| _ = stored.observe(seen, since_boot()));
                Ok(())
            }
            Err(failure) if failure.kind() == Kind::AlreadyExists => {
                let name = swap.metadata.name.as_deref().unwrap_or_default();
                if let Some(found) = within(self.limit, api.get_opt(name)).await? {
                    self.observed.observe(|seen| found.observe(seen, since_boot()));
                }
                Err(Setback::Overtaken)
            }
            // Its namespace: nothing can be recorded, whoever it is about.
            Err(failure) if failure.kind() == Kind::NotFound => Err(Setback::Failed(failure)),
            Err(failure) => Err(failure.into()),
        }
    }

    async fn unfinalize(&self, action: &Action, uid: &str) -> Acted {
        let known = self.known(|world| world.binding(uid).cloned())?;
        let api = self.bindings(&known);
        let metadata = &known.metadata;
        let others: Vec<&String> = metadata.finalizers.iter().flatten().filter(|name| *name != FINALIZER).collect();
        let change = json!({"metadata": {"resourceVersion": metadata.resource_version, "finalizers": others}});
        let name = metadata.name.clone().unwrap_or_default();
        let written = within(self.limit, api.patch(&name, &PatchParams::default(), &Patch::Merge(change))).await;
        let stored = self.current(written, &known, &api).await?;
        self.did_and_saw(action, stored);
        Ok(())
    }

    async fn delete(&self, action: &Action, uid: &str) -> Acted {
        let known = self.known(|world| world.binding(uid).cloned())?;
        let api = self.bindings(&known);
        let name = known.metadata.name.clone().unwrap_or_default();
        let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        match within(self.limit, api.delete(&name, &params)).await {
            Ok(answer) => match answer.left() {
                Some(stored) => self.did_and_saw(action, stored),
                None => self.did(action),
            },
            Err(failure) => {
                self.current(Err(failure), &known, &api).await?;
            }
        }
        Ok(())
    }

    /// A node that is not silent any more is not fenced. Another machine that renews its Lease makes it no less silent.
    async fn fence(&self, action: &Action, node: &str, transitions: i32) -> Acted {
        let api: Api<NodeLease> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let mut fence = json!({"spec": {"leaseTransitions": transitions}});
        let written = if let Some(lease) = within(self.limit, api.get_opt(node)).await? {
            if self.known(|world| Some(world.node(node)?.is_renewed_in(&lease)))? {
                self.observed.observe(|seen| lease.observe(seen, since_boot()));
                return Err(Setback::Overtaken);
            }
            fence["metadata"] = json!({"resourceVersion": lease.metadata.resource_version});
            within(self.limit, api.patch(node, &PatchParams::default(), &Patch::Merge(fence))).await
        } else {
            fence["metadata"] = json!({"name": node});
            let lease = serde_json::from_value(fence).unwrap_or_default();
            within(self.limit, api.create(&PostParams::default(), &lease)).await
        };
        match written {
            Ok(_) => {
                tracing::warn!(node, transitions, "the node was silent for too long: it is fenced");
                self.did(action);
                Ok(())
            }
            Err(failure) if matches!(failure.kind(), Kind::Outdated | Kind::AlreadyExists | Kind::NotFound) => {
                Err(Setback::Overtaken)
            }
            Err(failure) => Err(failure.into()),
        }
    }

    /// The role first: a binding of a role that is not there yet would be refused.
    async fn grant(&self, action: &Action, grant: &Grant) -> Acted {
        let client = self.client.clone();
        match &grant.scope {
            Scope::Cluster => {
                self.put::<ClusterRole>(&Api::all(client.clone()), &role("ClusterRole", grant)).await?;
                self.put::<ClusterRoleBinding>(&Api::all(client), &role_binding("ClusterRole", grant)).await?;
            }
            Scope::Namespace(namespace) => {
                self.put(&self.namespaced::<Role>(namespace), &role("Role", grant)).await?;
                self.put(&self.namespaced::<RoleBinding>(namespace), &role_binding("Role", grant)).await?;
            }
        }
        self.basis().world.apply(action, since_boot());
        Ok(())
    }

    fn namespaced<K>(&self, namespace: &str) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Applies one half of a grant, which is observed as it is stored: where the watch knows of something later, that counts.
    async fn put<K>(&self, api: &Api<K>, object: &Value) -> Acted
    where
        K: Kept + Clone + DeserializeOwned + Debug,
    {
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        let params = PatchParams::apply(FIELD_MANAGER).force();
        let stored = within(self.limit, api.patch(name, &params, &Patch::Apply(object))).await?;
        self.observed.did(|seen| {
            if !seen.is_past(&stored) {
                stored.observe(seen, since_boot());
            }
        });
        Ok(())
    }

    /// The binding first: authority ends with it.
    async fn withdraw(&self, action: &Action, binding: &str, scope: &Scope) -> Acted {
        let grant = self
            .known(|world| world.grants().find(|grant| grant.binding == binding && grant.scope == *scope).cloned())?;
        let (name, client) = (grant.name(), self.client.clone());
        match scope {
            Scope::Cluster => {
                self.take(&Api::<ClusterRoleBinding>::all(client.clone()), &name, &name).await?;
                self.take(&Api::<ClusterRole>::all(client), &name, &name).await?;
            }
            Scope::Namespace(namespace) => {
                let key = format!("{namespace}/{name}");
                self.take(&self.namespaced::<RoleBinding>(namespace), &name, &key).await?;
                self.take(&self.namespaced::<Role>(namespace), &name, &key).await?;
            }
        }
        self.basis().world.apply(action, since_boot());
        Ok(())
    }

    /// Takes one half of a grant back.
    async fn take<K>(&self, api: &Api<K>, name: &str, key: &str) -> Acted
    where
        K: Kept + Clone + DeserializeOwned + Debug,
    {
        self.drop_object(api, name).await?;
        self.observed.did(|seen| _ = K::forget(seen, key));
        Ok(())
    }

    /// Deletes an object; one that is gone already is as good.
    async fn drop_object<K>(&self, api: &Api<K>, name: &str) -> Acted
    where
        K: Clone + DeserializeOwned + Debug,
    {
        match within(self.limit, api.delete(name, &DeleteParams::default())).await {
            Err(failure) if failure.kind() != Kind::NotFound => Err(failure.into()),
            Ok(_) | Err(_) => Ok(()),
        }
    }
}

/// What an apply names an object by.
fn identity<K>(object: &K) -> Value
where
    K: Resource,
    K::DynamicType: Default,
{
    let kind = K::DynamicType::default();
    let mut metadata = json!({"name": object.meta().name});
    if let Some(namespace) = &object.meta().namespace {
        metadata["namespace"] = json!(namespace);
    }
    json!({"apiVersion": K::api_version(&kind), "kind": K::kind(&kind), "metadata": metadata})
}

const RBAC: &str = "rbac.authorization.k8s.io";

fn grant_object(kind: &str, grant: &Grant) -> Value {
    let mut metadata = json!({"name": grant.name(), "labels": {MANAGED_BY.0: MANAGED_BY.1, HAT_LABEL: grant.hat}});
    if let Scope::Namespace(namespace) = &grant.scope {
        metadata["namespace"] = json!(namespace);
    }
    json!({"apiVersion": format!("{RBAC}/v1"), "kind": kind, "metadata": metadata})
}

fn role(kind: &str, grant: &Grant) -> Value {
    let mut role = grant_object(kind, grant);
    role["rules"] = json!(grant.rules);
    role
}

fn role_binding(role_kind: &str, grant: &Grant) -> Value {
    let mut binding = grant_object(&format!("{role_kind}Binding"), grant);
    binding["roleRef"] = json!({"apiGroup": RBAC, "kind": role_kind, "name": grant.name()});
    let (name, namespace) = (&grant.subject.name, &grant.subject.namespace);
    binding["subjects"] = json!([{"kind": "ServiceAccount", "name": name, "namespace": namespace}]);
    binding
}
