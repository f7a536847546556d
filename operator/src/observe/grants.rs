//! A grant is a role and its binding, which are two objects: here they are put together.
//!
//! Half a grant is one that differs from every whole one, so that it is completed or taken back.

use std::collections::{BTreeMap, BTreeSet};

use hatrack_api::access::{MANAGED_BY, hat_of_role_name};
use hatrack_api::hat_binding::ServiceAccountRef;
use hatrack_hats::World;
use hatrack_hats::authority::{Grant, Scope};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject};
use kube::{Resource, ResourceExt};

/// The roles and bindings of hats that are known.
#[derive(Debug, Default)]
pub struct Halves(BTreeMap<String, Halved>);

/// A grant of which one half may be missing.
#[derive(Debug, Default)]
struct Halved {
    rules: Option<Vec<PolicyRule>>,
    subject: Option<ServiceAccountRef>,
}

/// One half of a grant.
pub trait Half: Resource {
    /// Whether it is the role, and not the binding.
    const IS_ROLE: bool;
    /// Whether it holds in the whole cluster.
    const IS_CLUSTER_WIDE: bool;

    /// Rules of a role.
    fn rules(&self) -> Vec<PolicyRule>;

    /// The one service account of a binding.
    fn subject(&self) -> ServiceAccountRef;

    /// Namespace and name of the grant; the name alone if it holds in the whole cluster.
    fn key(&self) -> String {
        let name = self.meta().name.as_deref().unwrap_or_default();
        match &self.meta().namespace {
            Some(namespace) if !Self::IS_CLUSTER_WIDE => format!("{namespace}/{name}"),
            _ => name.to_owned(),
        }
    }
}

macro_rules! role {
    ($kind:ty, $cluster_wide:literal) => {
        impl Half for $kind {
            const IS_ROLE: bool = true;
            const IS_CLUSTER_WIDE: bool = $cluster_wide;

            fn rules(&self) -> Vec<PolicyRule> {
                self.rules.clone().unwrap_or_default()
            }

            fn subject(&self) -> ServiceAccountRef {
                ServiceAccountRef::default()
            }
        }
    };
}

macro_rules! binding {
    ($kind:ty, $cluster_wide:literal) => {
        impl Half for $kind {
            const IS_ROLE: bool = false;
            const IS_CLUSTER_WIDE: bool = $cluster_wide;

            fn rules(&self) -> Vec<PolicyRule> {
                vec![]
            }

            fn subject(&self) -> ServiceAccountRef {
                subject_of(&self.name_any(), &self.role_ref, self.subjects.as_deref().unwrap_or_default())
            }
        }
    };
}

role!(Role, false);
role!(ClusterRole, true);
binding!(RoleBinding, false);
binding!(ClusterRoleBinding, true);

/// The service account that a binding is for; nobody if it is not what the operator makes.
fn subject_of(name: &str, role: &RoleRef, subjects: &[Subject]) -> ServiceAccountRef {
    match subjects {
        [Subject { kind, name: account, namespace: Some(namespace), .. }]
            if kind == "ServiceAccount" && role.name == name =>
        {
            ServiceAccountRef { name: account.clone(), namespace: namespace.clone() }
        }
        _ => ServiceAccountRef::default(),
    }
}

impl Halves {
    /// A half is there. Says whether that changes the grant.
    pub fn put<H: Half>(&mut self, half: &H, world: &mut World) -> bool {
        if hat_of_role_name(&half.name_any()).is_none() {
            return false;
        }
        let key = Half::key(half);
        let halved = self.0.entry(key.clone()).or_default();
        // Without the label it is not as the operator makes it.
        let is_ours = half.labels().get(MANAGED_BY.0).is_some_and(|by| by == MANAGED_BY.1);
        if H::IS_ROLE {
            halved.rules = Some(if is_ours { half.rules() } else { vec![] });
        } else {
            halved.subject = Some(if is_ours { half.subject() } else { ServiceAccountRef::default() });
        }
        self.tell(&key, world)
    }

    /// A half is gone. Says whether that changes the grant.
    pub fn take<H: Half>(&mut self, key: &str, world: &mut World) -> bool {
        let Some(halved) = self.0.get_mut(key) else { return false };
        if H::IS_ROLE {
            halved.rules = None;
        } else {
            halved.subject = None;
        }
        self.tell(key, world)
    }

    /// Every grant of which this half is known.
    pub fn keys<H: Half>(&self) -> BTreeSet<String> {
        let known = self.0.iter().filter(|(key, halved)| {
            let is_there = if H::IS_ROLE { halved.rules.is_some() } else { halved.subject.is_some() };
            is_there && key.contains('/') != H::IS_CLUSTER_WIDE
        });
        known.map(|(key, _)| key.clone()).collect()
    }

    fn tell(&mut self, key: &str, world: &mut World) -> bool {
        let (scope, name) = match key.split_once('/') {
            Some((namespace, name)) => (Scope::Namespace(namespace.to_owned()), name),
            None => (Scope::Cluster, key),
        };
        let Some((hat, binding)) = hat_of_role_name(name) else { return false };
        match self.0.get(key) {
            Some(Halved { rules: None, subject: None }) | None => {
                self.0.remove(key);
                world.forget_grant(binding, &scope)
            }
            Some(Halved { rules, subject }) => world.observe_grant(Grant {
                binding: binding.to_owned(),
                hat: hat.to_owned(),
                scope,
                rules: rules.clone().unwrap_or_default(),
                subject: subject.clone().unwrap_or_default(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NAME: &str = "hatrack:hat:executor:u-1";

    fn metadata() -> Value {
        json!({"name": NAME, "namespace": "a", "labels": {MANAGED_BY.0: MANAGED_BY.1}})
    }

    fn role() -> Role {
        let rules = json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]);
        serde_json::from_value(json!({"metadata": metadata(), "rules": rules})).unwrap()
    }

    fn binding(subjects: &Value) -> RoleBinding {
        serde_json::from_value(json!({"metadata": metadata(), "subjects": subjects,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": NAME}}))
        .unwrap()
    }

    fn account(name: &str) -> Value {
        json!({"kind": "ServiceAccount", "name": name, "namespace": "a"})
    }

    #[test]
    fn a_grant_is_whole_with_both_halves_and_gone_with_both() {
        let (mut halves, mut world) = (Halves::default(), World::default());
        assert!(halves.put(&role(), &mut world));
        assert!(halves.put(&binding(&json!([account("ann")])), &mut world));
        assert!(!halves.put(&role(), &mut world), "seen again, it is no news");
        let grants: Vec<Grant> = world.grants().cloned().collect();
        let [grant] = grants.as_slice() else { panic!("{grants:?}") };
        assert_eq!((grant.hat.as_str(), grant.binding.as_str()), ("executor", "u-1"));
        assert_eq!(grant.scope, Scope::Namespace("a".to_owned()));
        assert_eq!((grant.subject.name.as_str(), grant.rules.len()), ("ann", 1));
        let key = Half::key(&role());
        assert!(halves.take::<RoleBinding>(&key, &mut world));
        assert_eq!(world.grants().count(), 1, "half of it is still to be taken back");
        assert!(halves.take::<Role>(&key, &mut world));
        assert_eq!(world.grants().count(), 0);
        assert!(!halves.take::<Role>(&key, &mut world));
    }

    #[test]
    fn what_somebody_changed_differs_from_what_is_wanted() {
        for subjects in [json!([]), json!([account("ann"), account("bob")]), json!([{"kind": "User", "name": "ann"}])] {
            assert_eq!(binding(&subjects).subject(), ServiceAccountRef::default());
        }
    }

    #[test]
    fn a_grant_without_its_label_is_there_and_differs_from_what_is_wanted() {
        let (mut halves, mut world) = (Halves::default(), World::default());
        let (mut role, mut binding) = (role(), binding(&json!([account("ann")])));
        role.metadata.labels = None;
        binding.metadata.labels = None;
        assert!(halves.put(&role, &mut world) && !halves.put(&binding, &mut world));
        let grants: Vec<Grant> = world.grants().cloned().collect();
        let [grant] = grants.as_slice() else { panic!("{grants:?}") };
        assert!(grant.rules.is_empty() && grant.subject == ServiceAccountRef::default());
    }

    #[test]
    fn roles_of_nodes_are_no_grants_of_hats() {
        let (mut halves, mut world) = (Halves::default(), World::default());
        let (role, _) = hatrack_api::access::node("gpu-1");
        assert!(!halves.put(&role, &mut world));
        assert_eq!(world.grants().count(), 0);
    }
}
