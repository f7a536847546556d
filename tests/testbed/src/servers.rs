//! The three servers as processes: their folder, their flags, starting and ending them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde_json::json;

use crate::audit::AUDIT_LOG;
use crate::authority::{Authority, Identity, signing_key, write};
use crate::binaries::Binaries;
use crate::error::{Error, Result};
use crate::ports::Reservation;
use crate::{kubeconfig, logs};

/// A server that has not answered after this long does not come any more. It takes about five
/// seconds on an idle machine.
const START_TIMEOUT: Duration = Duration::from_mins(3);

/// The shell that ends the servers.
pub(crate) const KEEPER: &str = include_str!("keeper.sh");

const POLL: Duration = Duration::from_millis(50);

/// Where etcd listens: a socket in the folder of the control plane, so that no port is needed.
/// etcd before 3.5 wants the form of host and port, and takes it for the name of a file.
const ETCD_SOCKET: &str = "etcd:1";

/// Where etcd keeps what it holds.
const ETCD_DATA: &str = "etcd";

/// Where etcd would listen for other members.
const ETCD_PEER_SOCKET: &str = "peer:1";

/// The controllers that the tests rely on. The others have nothing to do without kubelets, and
/// node lifecycle would taint the nodes that tests make.
const CONTROLLERS: [&str; 11] = [
    "bootstrap-signer-controller",
    "certificatesigningrequest-approving-controller",
    "certificatesigningrequest-cleaner-controller",
    "certificatesigningrequest-signing-controller",
    "clusterrole-aggregation-controller",
    "garbage-collector-controller",
    "namespace-controller",
    "root-ca-certificate-publisher-controller",
    "serviceaccount-controller",
    "token-cleaner-controller",
    "validatingadmissionpolicy-status-controller",
];

/// One of the servers of a control plane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// etcd, which keeps the objects.
    Etcd,
    /// kube-apiserver.
    ApiServer,
    /// kube-controller-manager.
    ControllerManager,
}

impl fmt::Display for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Etcd => "etcd",
            Self::ApiServer => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
        })
    }
}

/// What a control plane is started with, beyond what every one has.
#[derive(Debug, Clone)]
pub struct Options {
    /// More flags for kube-apiserver; they come last and so replace earlier ones.
    pub apiserver_flags: Vec<String>,
    /// More flags for kube-controller-manager.
    pub controller_manager_flags: Vec<String>,
    /// Whether kube-apiserver logs each request once it is answered
    /// ([`PrivateControlPlane::audit`](crate::PrivateControlPlane::audit)).
    pub audit: bool,
    /// Whether kube-controller-manager runs.
    pub controller_manager: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            apiserver_flags: Vec::new(),
            controller_manager_flags: Vec::new(),
            audit: true,
            controller_manager: true,
        }
    }
}

/// The servers of one control plane, started by this process.
pub(crate) struct Servers {
    folder: PathBuf,
    binaries: Binaries,
    options: Options,
    apiserver_port: Reservation,
    controller_manager_port: Reservation,
    admin: Identity,
    keeper: Mutex<Child>,
    running: Mutex<BTreeMap<Server, Child>>,
}

impl Servers {
    /// Writes keys, certificates and configuration into `folder`, and starts its keeper. A lock
    /// on `users` must be held already.
    pub(crate) fn prepare(folder: &Path, binaries: Binaries, options: Options, linger: Duration) -> Result<Self> {
        let authority = Authority::create(folder)?;
        let apiserver_port = Reservation::new()?;
        let url = format!("https://{}", apiserver_port.address());
        write_credentials(folder, &authority, &url)?;
        if options.audit {
            write(&folder.join("audit-policy.json"), &audit_policy().to_string())?;
        }
        Ok(Self {
            folder: folder.to_path_buf(),
            binaries,
            options,
            apiserver_port,
            controller_manager_port: Reservation::new()?,
            admin: authority.client("hatrack-testbed", &["system:masters"], Duration::from_hours(1))?,
            keeper: Mutex::new(start_keeper(folder, linger)?),
            running: Mutex::default(),
        })
    }

    /// The address of the API server.
    pub(crate) fn url(&self) -> String {
        format!("https://{}", self.apiserver_port.address())
    }

    /// Starts every server and waits until all of them do their work.
    pub(crate) async fn start_all(&self) -> Result<()> {
        self.start(Server::Etcd)?;
        self.start(Server::ApiServer)?;
        self.ready(Server::ApiServer).await?;
        if self.options.controller_manager {
            self.start(Server::ControllerManager)?;
            self.ready(Server::ControllerManager).await?;
            self.root_certificate_published().await?;
        }
        Ok(())
    }

    /// Starts one server. Does nothing if it runs.
    pub(crate) fn start(&self, server: Server) -> Result<()> {
        let mut running = self.running();
        if let Some(child) = running.get_mut(&server)
            && matches!(child.try_wait(), Ok(None))
        {
            return Ok(());
        }
        if server == Server::Etcd {
            remove_sockets(&self.folder)?;
        }
        let log = self.log(server)?;
        let child = self
            .command(server)
            .current_dir(&self.folder)
            .process_group(pid(&lock(&self.keeper))?.as_raw())
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(Error::file("open", &self.folder))?)
            .stderr(log)
            .spawn()
            .map_err(|source| Error::Start { program: server.to_string(), source })?;
        running.insert(server, child);
        Ok(())
    }

    /// Kills one server and waits until it is gone.
    pub(crate) fn kill(&self, server: Server) -> Result<()> {
        let Some(mut child) = self.running().remove(&server) else { return Ok(()) };
        child.kill().and_then(|()| child.wait()).map_err(Error::file("end", &self.folder))?;
        Ok(())
    }

    /// Copies what etcd holds into `backup`. It must not run.
    pub(crate) fn back_up(&self, backup: &Path) -> Result<()> {
        copy(&self.folder.join(ETCD_DATA), backup)
    }

    /// Lets etcd hold what `backup` does, and nothing else. It must not run.
    pub(crate) fn restore(&self, backup: &Path) -> Result<()> {
        let data = self.folder.join(ETCD_DATA);
        fs::remove_dir_all(&data).map_err(Error::file("remove", &data))?;
        copy(backup, &data)
    }

    /// Sends a signal to one server, if it runs.
    pub(crate) fn signal(&self, server: Server, signal: Signal) -> Result<()> {
        let running = self.running();
        let Some(child) = running.get(&server) else { return Ok(()) };
        kill(pid(child)?, signal).map_err(|source| Error::Start { program: server.to_string(), source: source.into() })
    }

    /// Kills every server and the keeper with what it waits for, and removes the folder.
    pub(crate) fn end(&self) {
        let mut keeper = lock(&self.keeper);
        if let Ok(group) = pid(&keeper) {
            let _ = killpg(group, Signal::SIGKILL);
        }
        for (_, mut child) in std::mem::take(&mut *self.running()) {
            let _ = child.wait();
        }
        let _ = keeper.wait();
        let _ = fs::remove_dir_all(&self.folder);
    }

    /// Waits until `server` answers.
    pub(crate) async fn ready(&self, server: Server) -> Result<()> {
        match server {
            Server::Etcd => {
                let socket = self.folder.join(ETCD_SOCKET);
                self.eventually(server, || std::future::ready(UnixStream::connect(&socket).is_ok())).await
            }
            Server::ApiServer => self.answers(server, &self.apiserver_port, "/readyz").await,
            Server::ControllerManager => self.answers(server, &self.controller_manager_port, "/healthz").await,
        }
    }

    async fn answers(&self, server: Server, port: &Reservation, path: &str) -> Result<()> {
        let client = kubeconfig::client(&format!("https://{}", port.address()), &self.admin).await?;
        self.eventually(server, || async {
            let Ok(request) = http::Request::get(path).body(Vec::new()) else { return false };
            client.request_text(request).await.is_ok_and(|answer| answer == "ok")
        })
        .await
    }

    /// The first trace of a controller that really works: pods and clients need this object.
    async fn root_certificate_published(&self) -> Result<()> {
        let client = kubeconfig::client(&self.url(), &self.admin).await?;
        let config_maps: Api<ConfigMap> = Api::namespaced(client, "default");
        self.eventually(Server::ControllerManager, || async { config_maps.get("kube-root-ca.crt").await.is_ok() }).await
    }

    /// Polls `check`, and fails early when the server has ended.
    async fn eventually<F: Future<Output = bool>>(&self, server: Server, check: impl Fn() -> F) -> Result<()> {
        let polled = async {
            while !check().await {
                if let Some(status) = self.ended(server) {
                    return Err(self.not_ready(format!("{server} ended with {status}")));
                }
                tokio::time::sleep(POLL).await;
            }
            Ok(())
        };
        tokio::time::timeout(START_TIMEOUT, polled)
            .await
            .unwrap_or_else(|_| Err(self.not_ready(format!("{server} did not answer in {START_TIMEOUT:?}"))))
    }

    fn ended(&self, server: Server) -> Option<std::process::ExitStatus> {
        self.running().get_mut(&server)?.try_wait().ok().flatten()
    }

    fn not_ready(&self, reason: String) -> Error {
        Error::NotReady { reason, logs: logs::tails(&self.folder) }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<Server, Child>> {
        lock(&self.running)
    }

    fn log(&self, server: Server) -> Result<File> {
        let path = self.folder.join(format!("{server}.log"));
        OpenOptions::new().create(true).append(true).open(&path).map_err(Error::file("open", &path))
    }

    fn command(&self, server: Server) -> Command {
        match server {
            Server::Etcd => etcd(&self.binaries.etcd),
            Server::ApiServer => {
                let mut command = apiserver(&self.binaries.kube_apiserver, &self.apiserver_port);
                if self.options.audit {
                    command.args(["--audit-policy-file=audit-policy.json", &format!("--audit-log-path={AUDIT_LOG}")]);
                }
                command.args(&self.options.apiserver_flags);
                command
            }
            Server::ControllerManager => {
                let mut command =
                    controller_manager(&self.binaries.kube_controller_manager, &self.controller_manager_port);
                command.args(&self.options.controller_manager_flags);
                command
            }
        }
    }
}

/// etcd does not listen on a socket that a killed one left.
fn remove_sockets(folder: &Path) -> Result<()> {
    for socket in [ETCD_SOCKET, ETCD_PEER_SOCKET].map(|name| folder.join(name)) {
        match fs::remove_file(&socket) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(Error::file("remove", &socket)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// Copies a folder.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let output = Command::new("cp").arg("--recursive").args([from, to]).output();
    let output = output.map_err(|source| Error::Start { program: "cp".into(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Failed { program: "cp".into(), status: output.status.to_string(), output: said })
}

/// A panic of one test while it held the lock leaves the processes as they are.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pid(child: &Child) -> Result<Pid> {
    i32::try_from(child.id())
        .map(Pid::from_raw)
        .map_err(|_| Error::Start { program: "process".into(), source: io::ErrorKind::InvalidData.into() })
}

fn write_credentials(folder: &Path, authority: &Authority, url: &str) -> Result<()> {
    let server = authority.server()?;
    let service_accounts = signing_key()?;
    let manager = authority.client("system:kube-controller-manager", &[], Duration::from_hours(365 * 24))?;
    write(&folder.join("server.pem"), &server.cert_pem)?;
    write(&folder.join("server.key"), &server.key_pem)?;
    write(&folder.join("service-accounts.key"), &service_accounts.private_pem)?;
    write(&folder.join("service-accounts.pem"), &service_accounts.public_pem)?;
    write(&folder.join("controller-manager.kubeconfig"), &kubeconfig::document(url, &manager).to_string())
}

/// One line for each answered request, without bodies.
fn audit_policy() -> serde_json::Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived"],
        "rules": [{"level": "Metadata"}],
    })
}

fn start_keeper(folder: &Path, linger: Duration) -> Result<Child> {
    Command::new("sh")
        .args(["-c", KEEPER, "keeper"])
        .arg(folder)
        .arg(linger.as_secs().to_string())
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|source| Error::Start { program: "sh".into(), source })
}

fn etcd(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.args([
        &format!("--data-dir={ETCD_DATA}"),
        &format!("--listen-client-urls=unix://{ETCD_SOCKET}"),
        &format!("--advertise-client-urls=unix://{ETCD_SOCKET}"),
        &format!("--listen-peer-urls=unix://{ETCD_PEER_SOCKET}"),
        &format!("--initial-advertise-peer-urls=unix://{ETCD_PEER_SOCKET}"),
        &format!("--initial-cluster=default=unix://{ETCD_PEER_SOCKET}"),
        // The data lives as long as the tests: no disk has to be waited for.
        "--unsafe-no-fsync",
    ]);
    command
}

fn apiserver(program: &Path, port: &Reservation) -> Command {
    let mut command = serving(program, port);
    command.args([
        &format!("--etcd-servers=unix://{ETCD_SOCKET}"),
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        "--client-ca-file=ca.pem",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        "--enable-bootstrap-token-auth=true",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file=service-accounts.pem",
        "--service-account-signing-key-file=service-accounts.key",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--allow-privileged=true",
    ]);
    command
}

fn controller_manager(program: &Path, port: &Reservation) -> Command {
    let mut command = serving(program, port);
    command.args([
        "--kubeconfig=controller-manager.kubeconfig",
        // Each controller acts as its own service account, as in a real cluster: policies name them.
        "--use-service-account-credentials=true",
        "--service-account-private-key-file=service-accounts.key",
        "--root-ca-file=ca.pem",
        "--cluster-signing-cert-file=ca.pem",
        "--cluster-signing-key-file=ca.key",
        "--leader-elect=false",
        "--namespace-sync-period=5s",
        "--kube-api-qps=500",
        "--kube-api-burst=1000",
        &format!("--controllers={}", CONTROLLERS.join(",")),
    ]);
    command
}

/// A server of Kubernetes on a port that is reserved for it.
fn serving(program: &Path, port: &Reservation) -> Command {
    let mut command = Command::new(program);
    command.args([
        "--bind-address=127.0.0.1",
        &format!("--secure-port={}", port.address().port()),
        "--permit-port-sharing=true",
        "--tls-cert-file=server.pem",
        "--tls-private-key-file=server.key",
        "--profiling=false",
    ]);
    command
}
