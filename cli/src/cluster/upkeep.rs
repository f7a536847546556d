//! What people change of a node, and how one is taken away.

use hatrack_api::ClusterNode;
use hatrack_api::cluster_node::ClusterNodeSpec;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{Cluster, Missing};

/// What a person says of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Amendment {
    /// Whether it gets no new hats.
    Unschedulable(bool),
    /// It is banned.
    Revoked,
    /// Another machine may take the name.
    NoMachine,
}

impl Amendment {
    /// Says it in `spec`.
    fn apply(self, spec: &mut ClusterNodeSpec) {
        match self {
            Self::Unschedulable(unschedulable) => spec.unschedulable = unschedulable.then_some(true),
            Self::Revoked => spec.revoked = Some(true),
            Self::NoMachine => spec.hardware_id = None,
        }
    }

    /// Says it of the object that was seen, and of no later one of its name: a merge patch, which leaves to others what it
    /// does not name.
    pub fn patch(self, node: &ClusterNode) -> Value {
        let spec = match self {
            Self::Unschedulable(true) => json!({"unschedulable": true}),
            Self::Unschedulable(false) => json!({"unschedulable": null}),
            Self::Revoked => json!({"revoked": true}),
            Self::NoMachine => json!({"hardwareID": null}),
        };
        json!({"metadata": {"uid": node.uid()}, "spec": spec})
    }
}

impl Cluster {
    /// Changes `spec` of a node that was seen.
    pub async fn amend(&self, node: &ClusterNode, amendment: Amendment) -> anyhow::Result<()> {
        match self {
            Self::Folder(folder) => {
                let writer = folder.lock()?;
                let name = node.name_any();
                let old: ClusterNode = folder.get(None, &name)?.ok_or_else(|| Missing::of::<ClusterNode>(name))?;
                let mut new = old.clone();
                amendment.apply(&mut new.spec);
                writer.put(Some(&old), new)?;
            }
            Self::Kubernetes(kubernetes) => kubernetes.amend(node, amendment).await?,
        }
        self.settle()?;
        Ok(())
    }

    /// Takes a node away, and says what was removed.
    pub async fn remove(&self, node: &ClusterNode) -> anyhow::Result<Vec<&'static str>> {
        let removed = match self {
            Self::Folder(folder) => {
                folder.lock()?.remove(node)?;
                vec!["its manifest"]
            }
            Self::Kubernetes(kubernetes) => kubernetes.remove(node).await?,
        };
        self.settle()?;
        Ok(removed)
    }
}
