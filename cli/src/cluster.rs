//! Where machines and hats are kept: a folder of manifests, or Kubernetes.

pub mod folder;
pub mod kind;
pub mod kubernetes;
mod manifest;
mod schema;
pub mod society;
pub mod token;
pub mod upkeep;
pub mod watch;

use hatrack_api::hat_binding::{HatBindingSpec, ServiceAccountRef, Wearer};
use hatrack_api::{ClusterNode, HatBinding};
use hatrack_discover::inventory::Inventory;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use self::folder::Folder;
use self::folder::schedule::Pass;
use self::kind::Kind;
use self::kubernetes::Kubernetes;
use self::society::Society;
use self::watch::{FolderWatch, KubernetesWatch, Watch};
use crate::args::ClusterOptions;
use crate::registration::{Refused, Registration};

/// Attempts to write over what others write too.
const ATTEMPTS: usize = 8;

/// The API server's answer to a write over an object that changed meanwhile.
const CONFLICT: u16 = 409;

/// A cluster.
pub enum Cluster {
    /// A folder of manifests.
    Folder(Folder),
    /// A Kubernetes API server.
    Kubernetes(Box<Kubernetes>),
}

/// There is no such object.
#[derive(Debug, thiserror::Error)]
#[error("there is no {noun} `{name}`")]
pub struct Missing {
    /// What it would be.
    pub noun: &'static str,
    /// Its name.
    pub name: String,
}

impl Missing {
    /// There is no object of this kind and name.
    pub fn of<K: Kind>(name: impl Into<String>) -> Self {
        Self { noun: K::NOUN, name: name.into() }
    }
}

/// Somebody asks for a hat.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Namespace of the binding.
    pub namespace: String,
    /// Name of the binding; absent: a new one that begins with the hat's.
    pub name: Option<String>,
    /// The hat.
    pub hat: String,
    /// Who is to wear it.
    pub spiffe_id: String,
    /// The service account that gets the authority.
    pub account: Option<ServiceAccountRef>,
}

impl Ask {
    fn binding(&self) -> HatBinding {
        let wearer = Wearer { spiffe_id: self.spiffe_id.clone(), service_account_ref: self.account.clone() };
        let requested_at = Some(Time(Timestamp::now()));
        let spec = HatBindingSpec { hat: self.hat.clone(), wearer, requested_at, ..HatBindingSpec::default() };
        let mut binding = HatBinding::new("", spec);
        binding.metadata.name.clone_from(&self.name);
        binding.metadata.generate_name = self.name.is_none().then(|| format!("{}-", self.hat));
        binding
    }
}

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

    /// Every object of a kind, sorted by name.
    pub async fn list<K: Kind>(&self) -> anyhow::Result<Vec<K>> {
        match self {
            Self::Folder(folder) => Ok(folder.list()?),
            Self::Kubernetes(kubernetes) => Ok(kubernetes.list().await?),
        }
    }

    /// Everything that decisions are about.
    pub async fn society(&self) -> anyhow::Result<Society> {
        match self {
            Self::Folder(folder) => Ok(folder.society()?),
            Self::Kubernetes(kubernetes) => Ok(kubernetes.society().await?),
        }
    }

    /// Whether it is a folder, where no operator runs.
    pub fn is_folder(&self) -> bool {
        matches!(self, Self::Folder(_))
    }

    /// The namespace of those who name none.
    pub fn namespace(&self) -> &str {
        match self {
            Self::Folder(_) => folder::NAMESPACE,
            Self::Kubernetes(kubernetes) => &kubernetes.namespace,
        }
    }

    /// The bindings of a namespace, or all of them.
    pub async fn bindings(&self, namespace: Option<&str>) -> anyhow::Result<Vec<HatBinding>> {
        match self {
            Self::Folder(folder) => {
                let mut bindings = folder.list::<HatBinding>()?;
                bindings.retain(|binding| namespace.is_none() || binding.namespace().as_deref() == namespace);
                Ok(bindings)
            }
            Self::Kubernetes(kubernetes) => Ok(kubernetes.bindings_in(namespace).await?),
        }
    }

    /// One binding.
    pub async fn binding(&self, namespace: &str, name: &str) -> anyhow::Result<Option<HatBinding>> {
        match self {
            Self::Folder(folder) => Ok(folder.get(Some(namespace), name)?),
            Self::Kubernetes(kubernetes) => Ok(kubernetes.binding(namespace, name).await?),
        }
    }

    /// Asks for a hat.
    pub async fn ask(&self, ask: &Ask) -> anyhow::Result<HatBinding> {
        match self {
            Self::Folder(folder) => Ok(folder.ask(ask)?),
            Self::Kubernetes(kubernetes) => Ok(kubernetes.ask(ask).await?),
        }
    }

    /// Takes a hat off, or a request back.
    pub async fn release(&self, binding: &HatBinding) -> anyhow::Result<()> {
        match self {
            Self::Folder(folder) => Ok(folder.release(binding)?),
            Self::Kubernetes(kubernetes) => Ok(kubernetes.delete(binding).await?),
        }
    }

    /// Changes `spec` of a binding, over what others write at the same time. `None`: it is as it should be.
    pub async fn respecify(
        &self,
        namespace: &str,
        name: &str,
        change: impl Fn(&HatBinding) -> anyhow::Result<Option<HatBindingSpec>>,
    ) -> anyhow::Result<HatBinding> {
        let missing = || Missing::of::<HatBinding>(name);
        match self {
            Self::Folder(folder) => {
                let writer = folder.lock()?;
                let old: HatBinding = folder.get(Some(namespace), name)?.ok_or_else(missing)?;
                let Some(spec) = change(&old)? else { return Ok(old) };
                let new = HatBinding { spec, ..old.clone() };
                Ok(writer.put(Some(&old), new)?)
            }
            Self::Kubernetes(kubernetes) => {
                for _ in 1..ATTEMPTS {
                    let old = kubernetes.binding(namespace, name).await?.ok_or_else(missing)?;
                    let Some(spec) = change(&old)? else { return Ok(old) };
                    match kubernetes.respecify(&HatBinding { spec, ..old }).await {
                        Err(kubernetes::Error::Refused { source, .. }) if source.code == CONFLICT => {}
                        done => return Ok(done?),
                    }
                }
                let old = kubernetes.binding(namespace, name).await?.ok_or_else(missing)?;
                let Some(spec) = change(&old)? else { return Ok(old) };
                Ok(kubernetes.respecify(&HatBinding { spec, ..old }).await?)
            }
        }
    }

    /// In a folder, whoever changes something decides at once; in Kubernetes the operator does.
    pub fn settle(&self) -> anyhow::Result<Pass> {
        match self {
            Self::Folder(folder) => Ok(folder.schedule()?),
            Self::Kubernetes(_) => Ok(Pass::default()),
        }
    }

    /// One object of a kind that has no namespaces.
    pub async fn get<K: Kind>(&self, name: &str) -> anyhow::Result<Option<K>> {
        match self {
            Self::Folder(folder) => Ok(folder.get(None, name)?),
            Self::Kubernetes(kubernetes) => Ok(kubernetes.get(name).await?),
        }
    }

    /// Follows the objects of a kind.
    pub fn watch<K: Kind>(&self) -> anyhow::Result<Watch<K>> {
        match self {
            Self::Folder(folder) => Ok(Watch::Folder(FolderWatch::open::<K>(folder.clone())?)),
            Self::Kubernetes(kubernetes) => Ok(Watch::Kubernetes(KubernetesWatch::open(kubernetes.followed(), None))),
        }
    }

    /// Follows the bindings of a namespace, or all of them; in Kubernetes, with a name, one alone.
    pub fn watch_bindings(&self, namespace: Option<&str>, name: Option<&str>) -> anyhow::Result<Watch<HatBinding>> {
        match self {
            Self::Folder(folder) => Ok(Watch::Folder(FolderWatch::open::<HatBinding>(folder.clone())?)),
            Self::Kubernetes(kubernetes) => {
                Ok(Watch::Kubernetes(KubernetesWatch::open(kubernetes.followed_bindings(namespace), name)))
            }
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
