//! A cluster behind a Kubernetes API server.

use std::time::Duration;

use hatrack_api::ClusterNode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, Patch, PatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use kube::{Api, Client, Config};
use serde_json::json;

use super::Registered;
use crate::registration::{Refused, Registration};

/// What people write is theirs, apart from what agents write.
const PERSON: &str = "hatrack";

/// The status that is registered is the agent's: an agent that starts later goes on from it without a conflict.
const AGENT: &str = "hatrack-agent";

/// An API server that does not even accept a connection within this time is away.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A cluster behind a Kubernetes API server.
pub struct Kubernetes {
    /// Where the API server has nodes.
    pub nodes: Api<ClusterNode>,
}

/// Why the cluster did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No kubeconfig, and this is no pod.
    #[error("there is no cluster to talk to")]
    NoCluster,
    /// The kubeconfig cannot be used.
    #[error("failed to use the kubeconfig")]
    Kubeconfig(#[source] BoxError),
    /// The API server answered with an error.
    #[error("the API server refused to {action}")]
    Refused {
        /// What was asked.
        action: &'static str,
        /// What it said.
        #[source]
        source: Answer,
    },
    /// There was no answer.
    #[error("failed to {action}")]
    Failed {
        /// What was asked.
        action: &'static str,
        /// Why.
        #[source]
        source: BoxError,
    },
}

/// What the API server said.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Answer {
    /// HTTP status.
    pub code: u16,
    /// Its words.
    pub message: String,
}

impl Kubernetes {
    /// Connects as the kubeconfig says, or as the pod that this runs in.
    pub async fn connect(context: Option<&str>) -> Result<Self, Error> {
        _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = config(context).await?;
        config.connect_timeout = Some(CONNECT_WITHIN);
        let client = Client::try_from(config).map_err(|error| Error::Kubeconfig(error.into()))?;
        Ok(Self { nodes: Api::all(client) })
    }

    /// Every node, sorted by name.
    pub async fn nodes(&self) -> Result<Vec<ClusterNode>, Error> {
        let list = self.nodes.list(&ListParams::default()).await.map_err(failed("list nodes"))?;
        Ok(list.items)
    }

    /// One node.
    pub async fn node(&self, name: &str) -> Result<Option<ClusterNode>, Error> {
        self.nodes.get_opt(name).await.map_err(failed("get the node"))
    }

    /// Writes a node: `spec` as a person's, then `status` as the agent's.
    pub async fn register(
        &self,
        name: &str,
        plan: impl FnOnce(Option<&ClusterNode>) -> Result<Registration, Refused>,
    ) -> anyhow::Result<Registered> {
        let existing = self.node(name).await?;
        let registration = plan(existing.as_ref())?;
        let specified = match &existing {
            Some(node) if node.spec == registration.spec => node.clone(),
            _ => self.apply_spec(&registration).await?,
        };
        let node = self.apply_status(&registration, &specified).await?;
        Ok(Registered { node, created: existing.is_none(), inventory: registration.inventory })
    }

    async fn apply_spec(&self, registration: &Registration) -> Result<ClusterNode, Error> {
        let mut node = ClusterNode::new(&registration.name, registration.spec.clone());
        node.metadata.labels = Some(registration.labels.clone());
        let params = PatchParams::apply(PERSON);
        self.nodes.patch(&registration.name, &params, &Patch::Apply(&node)).await.map_err(failed("register the node"))
    }

    async fn apply_status(&self, registration: &Registration, node: &ClusterNode) -> Result<ClusterNode, Error> {
        let now = Time(Timestamp::now());
        let mut status = registration.status(node.status.as_ref(), node.metadata.generation, &now);
        status.hats = None;
        status.summary.get_or_insert_default().hats = None;
        let ours =
            [hatrack_api::cluster_node::condition::DEVICES_HEALTHY, hatrack_api::cluster_node::condition::AS_EXPECTED];
        status.conditions.get_or_insert_default().retain(|condition| ours.contains(&condition.type_.as_str()));
        let apply = json!({
            "apiVersion": format!("{}/{}", hatrack_api::GROUP, hatrack_api::VERSION),
            "kind": "ClusterNode",
            "metadata": {"name": registration.name, "resourceVersion": node.metadata.resource_version},
            "status": status,
        });
        let params = PatchParams::apply(AGENT);
        let patched = self.nodes.patch_status(&registration.name, &params, &Patch::Apply(&apply)).await;
        patched.map_err(failed("write the status of the node"))
    }
}

async fn config(context: Option<&str>) -> Result<Config, Error> {
    let unusable = |error: kube::config::KubeconfigError| Error::Kubeconfig(error.into());
    match Kubeconfig::read() {
        Ok(kubeconfig) => {
            let options = KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
            Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(unusable)
        }
        Err(error) if std::env::var_os("KUBECONFIG").is_some() => Err(unusable(error)),
        Err(_) => Config::incluster().map_err(|_| Error::NoCluster),
    }
}

/// An error of a watch.
pub fn watch_failed(error: watcher::Error) -> Error {
    const ACTION: &str = "watch nodes";
    match error {
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => failed(ACTION)(source),
        watcher::Error::WatchError(status) => failed(ACTION)(kube::Error::Api(status)),
        watcher::Error::NoResourceVersion => {
            let message = "the answer has no resourceVersion".to_owned();
            Error::Refused { action: ACTION, source: Answer { code: 0, message } }
        }
    }
}

fn failed(action: &'static str) -> impl FnOnce(kube::Error) -> Error {
    move |error| match error {
        kube::Error::Api(status) => {
            Error::Refused { action, source: Answer { code: status.code, message: status.message.clone() } }
        }
        // Its own words say nothing that its cause does not.
        kube::Error::Service(source) => Error::Failed { action, source },
        source => Error::Failed { action, source: source.into() },
    }
}
