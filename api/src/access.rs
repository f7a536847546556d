//! What one node may do: a ClusterRole and its binding per node, limited by `resourceNames`.
//!
//! Removing the binding revokes the node at once, with its certificate still valid. `create` is limited by name too:
//! a server-side apply that creates is authorised with the name from its path, a POST is not and so is refused.

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, RoleRef, Subject};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::{GROUP, NODE_USER_PREFIX};

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
