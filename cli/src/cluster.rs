//! Where nodes are kept: a folder of manifests, or Kubernetes.

pub mod folder;
pub mod kubernetes;
mod manifest;
mod schema;
pub mod watch;

use hatrack_api::ClusterNode;
use hatrack_discover::inventory::Inventory;

use self::folder::Folder;
use self::kubernetes::Kubernetes;
use self::watch::{FolderWatch, KubernetesWatch, Watch};
use crate::args::ClusterOptions;
use crate::registration::{Refused, Registration};

/// A cluster.
pub enum Cluster {
    /// A folder of manifests.
    Folder(Folder),
    /// A Kubernetes API server.
    Kubernetes(Box<Kubernetes>),
}

/// There is no such node.
#[derive(Debug, thiserror::Error)]
#[error("there is no node `{0}`")]
pub struct NoNode(pub String);

/// What registering a machine did.
#[derive(Debug)]
pub struct Registered {
    /// The node as the cluster has it now.
    pub node: ClusterNode,
    /// Whether it is new.
    pub created: bool,
    /// What the machine has.
    pub inventory: Inventory,
}

impl Cluster {
    /// The cluster that the options name.
    pub async fn open(options: &ClusterOptions) -> anyhow::Result<Self> {
        match &options.cluster {
            Some(folder) => Ok(Self::Folder(Folder::at(folder))),
            None => Ok(Self::Kubernetes(Kubernetes::connect(options.context.as_deref()).await?.into())),
        }
    }

    /// Every node, sorted by name.
    pub async fn nodes(&self) -> anyhow::Result<Vec<ClusterNode>> {
        match self {
            Self::Folder(folder) => Ok(folder.nodes()?),
            Self::Kubernetes(kubernetes) => Ok(kubernetes.nodes().await?),
        }
    }

    /// One node.
    pub async fn node(&self, name: &str) -> anyhow::Result<Option<ClusterNode>> {
        match self {
            Self::Folder(folder) => Ok(folder.node(name)?),
            Self::Kubernetes(kubernetes) => Ok(kubernetes.node(name).await?),
        }
    }

    /// Follows the nodes.
    pub fn watch(&self) -> anyhow::Result<Watch> {
        match self {
            Self::Folder(folder) => Ok(Watch::Folder(FolderWatch::open(folder.clone())?)),
            Self::Kubernetes(kubernetes) => Ok(Watch::Kubernetes(KubernetesWatch::open(kubernetes.nodes.clone()))),
        }
    }

    /// Writes a node. `plan` gets the node that is there.
    pub async fn register(
        &self,
        name: &str,
        plan: impl FnOnce(Option<&ClusterNode>) -> Result<Registration, Refused>,
    ) -> anyhow::Result<Registered> {
        match self {
            Self::Folder(folder) => folder.register(name, plan),
            Self::Kubernetes(kubernetes) => kubernetes.register(name, plan).await,
        }
    }
}
