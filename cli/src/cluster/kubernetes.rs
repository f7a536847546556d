//! A cluster behind a Kubernetes API server.

mod tokens;
mod upkeep;

use std::time::Duration;

use hatrack_api::{ClusterNode, HatBinding, HatSwap, SYSTEM_NAMESPACE};
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use kube::{Api, Client, Config, ResourceExt};
use serde_json::json;

use super::kind::Kind;
use super::society::Society;
use super::{Ask, Registered};
use crate::registration::{Refused, Registration};

/// What people write is theirs, apart from what agents write.
const PERSON: &str = "hatrack";

/// The status that is registered is the agent's: an agent that starts later goes on from it without a conflict.
const AGENT: &str = "hatrack-agent";

/// An API server that does not even accept a connection within this time is away.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// One that accepted a request and then says nothing for this long is away, too: a connection can die without a trace.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A cluster behind a Kubernetes API server.
pub struct Kubernetes {
    client: Client,
    /// Where it is, and how it proves that.
    pub address: Address,
    /// For watches, in which nothing is said while nothing changes: they look after themselves.
    follower: Client,
    /// The namespace of those who name none, as the kubeconfig says.
    pub namespace: String,
}

/// Where an API server is.
#[derive(Debug, Clone)]
pub struct Address {
    /// Its URL, without a slash at the end.
    pub server: String,
    /// Certificates (DER) of its authority, if the kubeconfig names one.
    pub authority: Vec<Vec<u8>>,
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
    /// Whether an admission policy refused it.
    pub by_policy: bool,
    /// Its words.
    pub message: String,
}

/// The API server's answer to an object that breaks a rule of its schema.
const INVALID: u16 = 422;

/// The API server's answer to a name that nothing has.
const NOT_FOUND: u16 = 404;

/// The API server has too much to do.
const TOO_MANY: u16 = 429;

/// From here on, the API server says that the fault is its own.
const OWN_FAULT: u16 = 500;

impl Error {
    /// Whether the same may be done a moment later.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::NoCluster | Self::Kubeconfig(_) => false,
            Self::Refused { source, .. } => source.code == TOO_MANY || source.code >= OWN_FAULT,
            Self::Failed { .. } => true,
        }
    }
}

impl Answer {
    /// What the API server said, without the name of the policy where one denied it: that is for those who wrote it.
    fn of(status: &kube::core::Status) -> Self {
        let message = match status.message.split_once("denied request: ") {
            Some((_, reason)) if status.message.contains("ValidatingAdmissionPolicy") => reason,
            _ => &status.message,
        };
        Self { code: status.code, by_policy: message != status.message, message: message.to_owned() }
    }

    /// Whether a rule of the schema or an admission policy refused it: the answer is no, and the request was understood.
    pub fn is_by_a_rule(&self) -> bool {
        self.code == INVALID || self.by_policy
    }
}

impl Kubernetes {
    /// Connects as the kubeconfig says, or as the pod that this runs in.
    pub async fn connect(context: Option<&str>) -> Result<Self, Error> {
        _ = rustls::crypto::ring::default_provider().install_default();
        let mut config = config(context).await?;
        config.connect_timeout = Some(CONNECT_WITHIN);
        let namespace = config.default_namespace.clone();
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let address = Address { server, authority: config.root_cert.clone().unwrap_or_default() };
        let unusable = |error: kube::Error| Error::Kubeconfig(error.into());
        let follower = Client::try_from(config.clone()).map_err(unusable)?;
        (config.read_timeout, config.reset_reader_on_write) = (Some(ANSWER_WITHIN), true);
        let client = Client::try_from(config).map_err(unusable)?;
        Ok(Self { client, address, follower, namespace })
    }

    /// Where the API server has the objects of a kind.
    pub fn api<K: Kind>(&self) -> Api<K> {
        Api::all(self.client.clone())
    }

    /// Where the API server has the bindings of a namespace, or all of them.
    pub fn bindings(&self, namespace: Option<&str>) -> Api<HatBinding> {
        bindings(&self.client, namespace)
    }

    /// Where a watch finds the objects of a kind.
    pub fn followed<K: Kind>(&self) -> Api<K> {
        Api::all(self.follower.clone())
    }

    /// Where a watch finds the bindings of a namespace, or all of them.
    pub fn followed_bindings(&self, namespace: Option<&str>) -> Api<HatBinding> {
        bindings(&self.follower, namespace)
    }

    /// Every object of a kind, sorted by name.
    pub async fn list<K: Kind>(&self) -> Result<Vec<K>, Error> {
        list(&self.api::<K>()).await
    }

    /// The bindings of a namespace, or all of them, sorted by namespace and name.
    pub async fn bindings_in(&self, namespace: Option<&str>) -> Result<Vec<HatBinding>, Error> {
        list(&self.bindings(namespace)).await
    }

    /// One binding.
    pub async fn binding(&self, namespace: &str, name: &str) -> Result<Option<HatBinding>, Error> {
        self.bindings(Some(namespace)).get_opt(name).await.map_err(failed("get the binding"))
    }

    /// One object of a kind that has no namespaces.
    pub async fn get<K: Kind>(&self, name: &str) -> Result<Option<K>, Error> {
        self.api::<K>().get_opt(name).await.map_err(failed(K::GET))
    }

    /// Everything that decisions are about.
    pub async fn society(&self) -> Result<Society, Error> {
        let records: Api<HatSwap> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let (hats, bindings, swaps, policies, nodes) =
            tokio::try_join!(self.list(), self.list(), list(&records), self.list(), self.list())?;
        Ok(Society { hats, bindings, swaps, policies, nodes, is_folder: false })
    }

    /// The user name that the API server knows this program by.
    pub async fn user(&self) -> Result<String, Error> {
        let reviews: Api<SelfSubjectReview> = Api::all(self.client.clone());
        let asked = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await;
        let user = asked.map_err(failed("say who you are"))?.status.and_then(|status| status.user_info);
        Ok(user.and_then(|user| user.username).unwrap_or_default())
    }

    /// Asks for a hat.
    pub async fn ask(&self, ask: &Ask) -> Result<HatBinding, Error> {
        let params = PostParams { field_manager: Some(PERSON.to_owned()), ..PostParams::default() };
        let bindings = self.bindings(Some(&ask.namespace));
        bindings.create(&params, &ask.binding()).await.map_err(failed("take the request"))
    }

    /// Deletes the binding that was seen, and no later one of its name.
    pub async fn delete(&self, binding: &HatBinding) -> Result<(), Error> {
        let preconditions = Preconditions { uid: binding.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() };
        let bindings = self.bindings(binding.namespace().as_deref());
        match bindings.delete(&binding.name_any(), &params).await {
            // Somebody else was faster, and that is what was wanted.
            Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Ok(()),
            deleted => deleted.map(drop).map_err(failed("delete the binding")),
        }
    }

    /// Writes `spec` of a binding over what was seen of it; a conflict is the caller's to meet.
    pub async fn respecify(&self, binding: &HatBinding) -> Result<HatBinding, Error> {
        let params = PostParams { field_manager: Some(PERSON.to_owned()), ..PostParams::default() };
        let bindings = self.bindings(binding.namespace().as_deref());
        bindings.replace(&binding.name_any(), &params, binding).await.map_err(failed("change the binding"))
    }

    /// Writes a node: `spec` as a person's, then `status` as the agent's.
    pub async fn register(
        &self,
        name: &str,
        plan: impl FnOnce(Option<&ClusterNode>) -> Result<Registration, Refused>,
    ) -> anyhow::Result<Registered> {
        let existing = self.get::<ClusterNode>(name).await?;
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
        self.api::<ClusterNode>()
            .patch(&registration.name, &params, &Patch::Apply(&node))
            .await
            .map_err(failed("register the node"))
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
        let patched = self.api::<ClusterNode>().patch_status(&registration.name, &params, &Patch::Apply(&apply)).await;
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

fn bindings(client: &Client, namespace: Option<&str>) -> Api<HatBinding> {
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

async fn list<K: Kind>(api: &Api<K>) -> Result<Vec<K>, Error> {
    Ok(api.list(&ListParams::default()).await.map_err(failed(K::LIST))?.items)
}

/// An error of a watch.
pub fn watch_failed(error: watcher::Error) -> Error {
    const ACTION: &str = "watch the cluster";
    match error {
        watcher::Error::InitialListFailed(source)
        | watcher::Error::WatchStartFailed(source)
        | watcher::Error::WatchFailed(source) => failed(ACTION)(source),
        watcher::Error::WatchError(status) => failed(ACTION)(kube::Error::Api(status)),
        watcher::Error::NoResourceVersion => {
            let message = "the answer has no resourceVersion".to_owned();
            Error::Refused { action: ACTION, source: Answer { code: 0, by_policy: false, message } }
        }
    }
}

fn failed(action: &'static str) -> impl FnOnce(kube::Error) -> Error {
    move |error| match error {
        kube::Error::Api(status) => Error::Refused { action, source: Answer::of(&status) },
        // Its own words say nothing that its cause does not.
        kube::Error::Service(source) => Error::Failed { action, source },
        source => Error::Failed { action, source: source.into() },
    }
}
