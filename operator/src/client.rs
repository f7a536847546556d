//! The way to the API server: a [`kube::Client`] whose credentials may change under it.
//!
//! Certificates and tokens are renewed while the operator runs. Before each request the files are looked at, and when one has changed a new
//! connection is made. Files that do not fit each other (one was replaced, the other not yet) leave the old connection in place
//! until they do. There is no client-side limit of the rate.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::{Method, Request, Response, StatusCode};
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use kube::Client;
use kube::client::{Body, ClientBuilder, ConfigExt};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tokio::sync::Mutex;
use tower::{BoxError, Service, ServiceBuilder};

use hatrack_api::SYSTEM_NAMESPACE;
use hatrack_service::log::chain;

use crate::config::Api;
use crate::failure::{Failure, Kind, within};
use crate::metrics::Requests;

/// Less than the API server waits before it closes an idle connection.
const IDLE: Duration = Duration::from_mins(1);

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that carries a watch is silent for longer only when it is dead: [`Api::watch_silence`] and the margin of kube's watcher.
const MARGIN: Duration = Duration::from_secs(10);

/// Where a pod finds its service account's token and the certificate of the authority, both renewed by the kubelet.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// A client with the credentials as they are on disk at each request.
pub fn client(access: &Api, requests: Requests) -> Client {
    let connection = Connection { access: Arc::new(access.clone()), current: Arc::default(), requests };
    ClientBuilder::new(connection, SYSTEM_NAMESPACE).build()
}

#[derive(Clone)]
struct Connection {
    access: Arc<Api>,
    current: Arc<Mutex<Option<Current>>>,
    requests: Requests,
}

#[derive(Clone)]
struct Current {
    client: Client,
    files: Vec<PathBuf>,
    versions: Vec<Version>,
}

/// What changes when a file is replaced or rewritten: device, inode, modification time and size; absent with the file.
type Version = Option<(u64, u64, i64, i64, u64)>;

impl Service<Request<Body>> for Connection {
    type Response = Response<Body>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let connection = self.clone();
        Box::pin(async move { connection.send(request).await })
    }
}

impl Connection {
    async fn send(&self, request: Request<Body>) -> Result<Response<Body>, BoxError> {
        let verb = verb(&request);
        let answer = self.answer(request).await;
        self.requests.count(
            verb,
            answer.as_ref().map_or_else(|failure| Some(failure.kind()), |answer| refusal(answer.status())),
        );
        Ok(answer?)
    }

    async fn answer(&self, request: Request<Body>) -> Result<Response<Body>, Failure> {
        let client = self.client().await.map_err(Failure::Credentials)?;
        let answer = within(self.access.request_timeout.get(), client.send(request)).await?;
        if answer.status() == StatusCode::UNAUTHORIZED {
            *self.current.lock().await = None;
        }
        Ok(answer)
    }

    async fn client(&self) -> Result<Client, BoxError> {
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
                    tracing::debug!(error = %chain(&*error), "the new credentials cannot be used yet");
                    Ok(old.client.clone())
                }
                None => Err(error),
            },
        }
    }

    async fn load(&self) -> Result<Current, BoxError> {
        let Some(path) = self.access.file() else {
            let files: Vec<PathBuf> = ["token", "ca.crt"].map(|file| Path::new(SERVICE_ACCOUNT).join(file)).into();
            let versions = versions(&files);
            return Ok(Current { client: self.connect(&kube::Config::incluster()?)?, files, versions });
        };
        let kubeconfig = Kubeconfig::read_from(&path)?;
        let mut files = referenced(&kubeconfig);
        files.push(path);
        let versions = versions(&files);
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Current { client: self.connect(&config)?, files, versions })
    }

    /// kube's own client leaves `TCP_NODELAY` off, which costs 40 ms on each request that follows a small one.
    fn connect(&self, config: &kube::Config) -> kube::Result<Client> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
        let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
        connector.set_read_timeout(Some(self.access.watch_silence.get() + MARGIN));
        let http = HyperClient::builder(TokioExecutor::new()).pool_idle_timeout(IDLE).build::<_, Body>(connector);
        let service = ServiceBuilder::new()
            .layer(config.base_uri_layer())
            .option_layer(config.auth_layer()?)
            .map_err(BoxError::from)
            .service(http);
        Ok(ClientBuilder::new(service, SYSTEM_NAMESPACE).build())
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

/// The verb as RBAC calls it.
fn verb(request: &Request<Body>) -> &'static str {
    let watches = request.uri().query().is_some_and(|query| query.contains("watch=true"));
    match *request.method() {
        Method::GET if watches => "watch",
        Method::GET => "get",
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "other",
    }
}

fn refusal(status: StatusCode) -> Option<Kind> {
    (!status.is_success()).then(|| Kind::of_code(status.as_u16()))
}
