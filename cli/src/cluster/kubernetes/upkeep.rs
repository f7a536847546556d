//! What people change of a node behind an API server.

use hatrack_api::cluster_node::NodeLease;
use hatrack_api::{ClusterNode, SYSTEM_NAMESPACE, access};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde::de::DeserializeOwned;

use super::{Error, Kubernetes, NOT_FOUND, PERSON, failed};
use crate::cluster::upkeep::Amendment;

impl Kubernetes {
    /// Changes `spec` of a node that was seen.
    pub async fn amend(&self, node: &ClusterNode, amendment: Amendment) -> Result<(), Error> {
        let params = PatchParams { field_manager: Some(PERSON.to_owned()), ..PatchParams::default() };
        let patch = Patch::Merge(amendment.patch(node));
        let patched = self.api::<ClusterNode>().patch(&node.name_any(), &params, &patch).await;
        patched.map(drop).map_err(failed("change the node"))
    }

    /// Takes a node away, and says what was removed: first what it may do, so that its agent cannot make it again, and the
    /// object last, so that what was left half done can be done again.
    pub async fn remove(&self, node: &ClusterNode) -> Result<Vec<&'static str>, Error> {
        let name = node.name_any();
        let grant = access::node_role_name(&name);
        let bindings: Api<ClusterRoleBinding> = Api::all(self.client.clone());
        let roles: Api<ClusterRole> = Api::all(self.client.clone());
        let leases: Api<NodeLease> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let preconditions = Preconditions { uid: node.uid(), resource_version: None };
        let this_one = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let any = DeleteParams::default();
        let mut removed = Vec::new();
        for (what, is_removed) in [
            ("ClusterRoleBinding", delete(&bindings, &grant, &any, "remove what the node may do").await?),
            ("ClusterRole", delete(&roles, &grant, &any, "remove what the node may do").await?),
            ("Lease", delete(&leases, &name, &any, "remove the Lease of the node").await?),
            ("ClusterNode", delete(&self.api::<ClusterNode>(), &name, &this_one, "remove the node").await?),
        ] {
            removed.extend(is_removed.then_some(what));
        }
        Ok(removed)
    }
}

/// Deletes an object; false when there is none.
pub(super) async fn delete<K>(
    api: &Api<K>,
    name: &str,
    params: &DeleteParams,
    action: &'static str,
) -> Result<bool, Error>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    match api.delete(name, params).await {
        Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Ok(false),
        deleted => deleted.map(|_| true).map_err(failed(action)),
    }
}
