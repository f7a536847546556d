//! What a machine may do, given once: a ClusterRole of its own and the binding that makes it count.

use std::time::Duration;

use hatrack_api::access::{self, node_role_name};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client};
use serde::de::DeserializeOwned;

use crate::failure::{Failure, within};

/// Who writes, in `metadata.managedFields`.
const FIELD_MANAGER: &str = "hatrack-operator";

/// Reads and gives the access of machines.
pub struct Access {
    client: Client,
    limit: Duration,
}

impl Access {
    /// Waits for an answer for `limit`.
    pub fn new(client: Client, limit: Duration) -> Self {
        Self { client, limit }
    }

    /// Whether the machine has access now.
    pub async fn of(&self, node: &str) -> Result<bool, Failure> {
        Ok(self.find::<ClusterRoleBinding>(&node_role_name(node)).await?.is_some())
    }

    /// Whether the machine was given access once and it was not removed as a whole.
    pub async fn was_given(&self, node: &str) -> Result<bool, Failure> {
        Ok(self.find::<ClusterRole>(&node_role_name(node)).await?.is_some())
    }

    /// An object as it is now. It is listed and not read: where the kind itself is missing, that is no absence of the object.
    pub async fn find<K>(&self, name: &str) -> Result<Option<K>, Failure>
    where
        K: kube::Resource<Scope = k8s_openapi::ClusterResourceScope> + Clone + DeserializeOwned + std::fmt::Debug,
        K::DynamicType: Default,
    {
        let only = ListParams::default().fields(&format!("metadata.name={name}"));
        let found = within(self.limit, Api::<K>::all(self.client.clone()).list(&only)).await?;
        Ok(found.items.into_iter().next())
    }

    /// Gives the machine its access, the binding first: a role without one is access that somebody took away. Doing it again changes nothing.
    pub async fn give(&self, node: &str) -> Result<(), Failure> {
        let (role, binding) = access::node(node);
        let (name, params) = (node_role_name(node), PatchParams::apply(FIELD_MANAGER).force());
        let bindings: Api<ClusterRoleBinding> = Api::all(self.client.clone());
        within(self.limit, bindings.patch(&name, &params, &Patch::Apply(binding))).await?;
        let roles: Api<ClusterRole> = Api::all(self.client.clone());
        within(self.limit, roles.patch(&name, &params, &Patch::Apply(role))).await?;
        Ok(())
    }
}
