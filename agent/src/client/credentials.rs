//! The connection and the files that it was made from.
//!
//! Certificates are renewed while the agent runs. Before each request the files are looked at, and when one has changed a
//! new connection is made. Files that do not fit each other (one was replaced, the other not yet) leave the old connection
//! in place until they do.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::{
    AuthInfo, Cluster, Context, KubeConfigOptions, Kubeconfig, KubeconfigError, NamedAuthInfo, NamedCluster,
    NamedContext,
};
use tokio::sync::Mutex;
use tower::ServiceBuilder;

use super::outcome::{Cause, Failure};
use super::trust;
use crate::clock::Clock;
use crate::config;

/// Less than the API server waits before it closes an idle connection, more than the time between two renewals of a Lease.
const IDLE: Duration = Duration::from_mins(1);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no connection to send a request on.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A kubeconfig or a PEM file is missing or wrong.
    #[error("failed to load the access to the API server")]
    Files(#[source] Box<KubeconfigError>),
    /// The files are there, but they do not make a connection.
    #[error("failed to use the access to the API server")]
    Connection(#[source] Box<kube::Error>),
}

#[derive(Debug)]
pub(super) struct Credentials {
    source: Source,
    clock: Arc<Clock>,
    current: Mutex<Option<Current>>,
}

/// Where the access to the API server is.
#[derive(Debug)]
pub enum Source {
    /// In files, which may be replaced.
    Files(config::Api),
    /// Here.
    Given(Box<Kubeconfig>),
}

struct Current {
    client: kube::Client,
    files: Vec<PathBuf>,
    versions: Vec<Version>,
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Current").field("files", &self.files).finish_non_exhaustive()
    }
}

/// What changes when a file is replaced or rewritten: device, inode, modification time and size; absent with the file.
type Version = Option<(u64, u64, i64, i64, u64)>;

impl Credentials {
    pub fn new(source: Source, clock: Arc<Clock>) -> Self {
        Self { source, clock, current: Mutex::new(None) }
    }

    /// A client with the credentials as they are on disk now.
    pub async fn client(&self) -> Result<kube::Client, Failure> {
        let mut current = self.current.lock().await;
        if let Some(current) = &*current
            && current.versions == versions(&current.files)
        {
            return Ok(current.client.clone());
        }
        match self.load().await {
            Ok(loaded) => Ok(current.insert(loaded).client.clone()),
            Err(error) => match &*current {
                Some(old) => {
                    tracing::debug!(error = %crate::log::chain(&error), "the new credentials cannot be used yet");
                    Ok(old.client.clone())
                }
                None => Err(Failure::Credentials(error)),
            },
        }
    }

    /// Drops the connection: the next request reads the files and connects anew.
    pub async fn forget(&self) {
        *self.current.lock().await = None;
    }

    async fn load(&self) -> Result<Current, CredentialsError> {
        let wrong = |error| CredentialsError::Files(Box::new(error));
        let kubeconfig = self.kubeconfig().map_err(wrong)?;
        let mut files = referenced(&kubeconfig);
        if let Source::Files(access) = &self.source {
            files.extend(access.kubeconfig.clone());
        }
        let versions = versions(&files);
        let config =
            kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(wrong)?;
        let client = connect(&config, &self.clock).map_err(|error| CredentialsError::Connection(Box::new(error)))?;
        Ok(Current { client, files, versions })
    }

    fn kubeconfig(&self) -> Result<Kubeconfig, KubeconfigError> {
        match &self.source {
            Source::Files(config::Api { kubeconfig: Some(path), .. }) => Kubeconfig::read_from(path),
            Source::Files(access) => Ok(of_parts(access)),
            Source::Given(kubeconfig) => Ok(Kubeconfig::clone(kubeconfig)),
        }
    }
}

/// kube's own client leaves `TCP_NODELAY` off, which costs 40 ms on each request that follows a small one.
fn connect(config: &kube::Config, clock: &Arc<Clock>) -> kube::Result<kube::Client> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let tls = trust::https(config, tcp, clock)?;
    let http = HyperClient::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build::<_, Body>(tls);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .map_err(Cause::from)
        .service(http);
    Ok(ClientBuilder::new(service, "default").build())
}

fn of_parts(access: &config::Api) -> Kubeconfig {
    let name = "hatrack".to_owned();
    let path = |path: &Option<PathBuf>| path.as_ref().map(|path| path.to_string_lossy().into_owned());
    let cluster =
        Cluster { server: access.server.clone(), certificate_authority: path(&access.ca), ..Cluster::default() };
    let user = AuthInfo {
        client_certificate: path(&access.certificate),
        client_key: path(&access.key),
        ..AuthInfo::default()
    };
    let context = Context { cluster: name.clone(), user: Some(name.clone()), ..Context::default() };
    Kubeconfig {
        clusters: vec![NamedCluster { name: name.clone(), cluster: Some(cluster), other: BTreeMap::new() }],
        auth_infos: vec![NamedAuthInfo { name: name.clone(), auth_info: Some(user), other: BTreeMap::new() }],
        contexts: vec![NamedContext { name: name.clone(), context: Some(context), other: BTreeMap::new() }],
        current_context: Some(name),
        ..Kubeconfig::default()
    }
}

/// Every file that a kubeconfig names: of all its users, since only one is used and the others change nothing.
fn referenced(kubeconfig: &Kubeconfig) -> Vec<PathBuf> {
    let users = kubeconfig.auth_infos.iter().filter_map(|user| user.auth_info.as_ref());
    let of_users = users.flat_map(|user| [&user.client_certificate, &user.client_key, &user.token_file]);
    let clusters = kubeconfig.clusters.iter().filter_map(|cluster| cluster.cluster.as_ref());
    let of_clusters = clusters.map(|cluster| &cluster.certificate_authority);
    of_users.chain(of_clusters).flatten().map(PathBuf::from).collect()
}

fn versions(files: &[PathBuf]) -> Vec<Version> {
    files.iter().map(|file| version(file)).collect()
}

fn version(file: &Path) -> Version {
    let metadata = fs::metadata(file).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.size()))
}
