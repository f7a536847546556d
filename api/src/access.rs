//! The names of what the operator grants, and what one node may do: a ClusterRole and its binding per node, limited by `resourceNames`.
//!
//! `k8s/policies/operator-fence.yaml` holds the operator to these names, this label and exactly these rules.
//!
//! Removing the binding revokes the node at once, with its certificate still valid. `create` is limited by name too:
//! a server-side apply that creates is authorised with the name from its path, a POST is not and so is refused.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{GROUP, NODE_USER_PREFIX};

/// User name of the operator's client certificate.
pub const OPERATOR_USER: &str = "society:operator";

/// Service account of an operator that runs in a pod, in [`crate::SYSTEM_NAMESPACE`].
pub const OPERATOR_ACCOUNT: &str = "hatrack-operator";

/// Label, and its value, on every role that the operator makes for a hat.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "hatrack-operator");

/// Name of the roles, and of their bindings, that a binding of this UID gives to the wearer of a hat.
pub fn hat_role_name(hat: &str, binding_uid: &str) -> String {
    format!("hatrack:hat:{hat}:{binding_uid}")
}

/// The hat and the UID of the binding that a role of this name is for; `None` for every other role.
pub fn hat_of_role_name(name: &str) -> Option<(&str, &str)> {
    name.strip_prefix("hatrack:hat:")?.split_once(':')
}

/// Name of the ClusterRole and the ClusterRoleBinding of a node.
pub fn node_role_name(node: &str) -> String {
    format!("hatrack:node:{node}")
}

/// What the node of this name may do, and the binding that lets it.
pub fn node(node: &str) -> (ClusterRole, ClusterRoleBinding) {
    let may = |group: &str, resources: &[&str], verbs: &[&str]| PolicyRule {
        api_groups: Some(vec![group.to_owned()]),
        resources: Some(owned(resources)),
        resource_names: Some(vec![node.to_owned()]),
        verbs: owned(verbs),
        ..PolicyRule::default()
    };
    let metadata = ObjectMeta { name: Some(node_role_name(node)), ..ObjectMeta::default() };
    let role = ClusterRole {
        metadata: metadata.clone(),
        rules: Some(vec![
            may(GROUP, &["clusternodes"], &["create", "get", "list", "patch", "watch"]),
            may(GROUP, &["clusternodes/status"], &["get", "patch"]),
            may("coordination.k8s.io", &["leases"], &["create", "get", "patch", "update"]),
        ]),
        ..ClusterRole::default()
    };
    let rbac = "rbac.authorization.k8s.io".to_owned();
    let binding = ClusterRoleBinding {
        metadata,
        role_ref: RoleRef { api_group: rbac.clone(), kind: "ClusterRole".to_owned(), name: node_role_name(node) },
        subjects: Some(vec![Subject {
            api_group: Some(rbac),
            kind: "User".to_owned(),
            name: format!("{NODE_USER_PREFIX}{node}"),
            namespace: None,
        }]),
    };
    (role, binding)
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
