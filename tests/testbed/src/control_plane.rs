//! One control plane: shared by every test process of a run, or private to one test.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::OnceCell;

use crate::audit::{AUDIT_LOG, AuditEvent, AuditLog};
use crate::authority::{Authority, Identity, write};
use crate::binaries::Binaries;
use crate::error::{Error, Result};
use crate::folder::{Folder, Parent};
use crate::install;
use crate::kubeconfig;
use crate::servers::{Options, Server, Servers};

/// How long the shared control plane outlives its last user: the next test binary of the same
/// `cargo test` comes sooner, and need not start it again.
const LINGER: Duration = Duration::from_secs(10);

/// How long a certificate is valid when no test cares.
const DAY: Duration = Duration::from_hours(24);

/// A running control plane: etcd, kube-apiserver and kube-controller-manager on loopback.
pub struct ControlPlane {
    folder: Folder,
    url: String,
    authority: Authority,
}

impl ControlPlane {
    /// The control plane that all tests of all processes of this workspace share. The first user
    /// starts it; it ends some seconds after the last has gone, also when that one was killed.
    /// Tests keep out of each other's way by names ([`unique`](crate::unique)).
    ///
    /// # Errors
    /// When a program is missing or a server does not start; the end of the logs is in the message.
    /// After a failure this process does not try again.
    pub async fn shared() -> Result<Arc<Self>> {
        static SHARED: OnceCell<Result<Arc<ControlPlane>, String>> = OnceCell::const_new();
        let shared = SHARED.get_or_init(|| async { Self::join().await.map(Arc::new).map_err(|error| error.chain()) });
        shared.await.clone().map_err(Error::Shared)
    }

    /// A control plane of its own, for tests that kill, stop or configure servers. It ends when
    /// the value is dropped, and also when the process is killed.
    ///
    /// # Errors
    /// As [`ControlPlane::shared`].
    pub async fn private(options: Options) -> Result<PrivateControlPlane> {
        let binaries = blocking(Binaries::find).await?;
        let parent = Parent::open(&binaries)?;
        let folder = blocking(move || parent.lock()?.create("private")).await?;
        let servers = Servers::prepare(folder.path(), binaries, options, Duration::ZERO)?;
        // From here on the drop of `plane` ends what was started.
        let plane = PrivateControlPlane { plane: Self::of(folder, servers.url())?, servers };
        plane.servers.start_all().await?;
        Ok(plane)
    }

    /// Joins the control plane that runs, or starts it.
    async fn join() -> Result<Self> {
        let binaries = blocking(Binaries::find).await?;
        let parent = Parent::open(&binaries)?;
        // Held until the servers answer: other processes wait here rather than start their own.
        let attach = blocking(move || parent.lock()).await?;
        for (folder, url) in attach.running("shared")? {
            let plane = Self::of(folder, url)?;
            if plane.answers().await {
                return Ok(plane);
            }
            plane.folder.retire()?;
        }
        let folder = attach.create("shared")?;
        let options = Options { audit: false, ..Options::default() };
        let servers = Servers::prepare(folder.path(), binaries, options, LINGER)?;
        if let Err(error) = servers.start_all().await {
            servers.end();
            return Err(error);
        }
        folder.announce(&servers.url())?;
        Self::of(folder, servers.url())
    }

    fn of(folder: Folder, url: String) -> Result<Self> {
        let authority = Authority::load(folder.path())?;
        Ok(Self { folder, url, authority })
    }

    async fn answers(&self) -> bool {
        let Ok(client) = self.admin().await else { return false };
        let version = tokio::time::timeout(Duration::from_secs(30), client.apiserver_version());
        matches!(version.await, Ok(Ok(_)))
    }

    /// The address of the API server, as in a kubeconfig: `https://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The certificate of the authority that signed the API server's certificate, in PEM.
    pub fn ca_pem(&self) -> &str {
        self.authority.ca_pem()
    }

    /// The folder with the logs and keys of this control plane; it goes with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// An identity in `system:masters`, which may do anything that admission lets pass.
    pub fn admin_identity(&self) -> Result<Identity> {
        self.client_certificate("hatrack-testbed", &["system:masters"], DAY)
    }

    /// A client in `system:masters`.
    pub async fn admin(&self) -> Result<kube::Client> {
        self.client_for(&self.admin_identity()?).await
    }

    /// A client of the user that the policies know as the operator, with every right besides.
    pub async fn operator(&self) -> Result<kube::Client> {
        self.client_for(&self.client_certificate("society:operator", &["system:masters"], DAY)?).await
    }

    /// A client certificate for the user `common_name` in the groups `organizations` (two at
    /// most), which began five minutes ago and ends `lifetime` from now.
    pub fn client_certificate(
        &self,
        common_name: &str,
        organizations: &[&str],
        lifetime: Duration,
    ) -> Result<Identity> {
        self.authority.client(common_name, organizations, lifetime)
    }

    /// The identity of a machine: the user `society:node:<name>` in the group `society:nodes`.
    pub fn node_identity(&self, name: &str) -> Result<Identity> {
        self.client_certificate(&format!("society:node:{name}"), &["society:nodes"], DAY)
    }

    /// A client with the certificate of `identity`. It works on the runtime that made it: each
    /// test makes its own.
    pub async fn client_for(&self, identity: &Identity) -> Result<kube::Client> {
        kubeconfig::client(&self.url, identity).await
    }

    /// A client of `identity` that goes another way, such as through a
    /// [`FaultProxy`](crate::FaultProxy).
    pub async fn client_via(&self, url: &str, identity: &Identity) -> Result<kube::Client> {
        kubeconfig::client(url, identity).await
    }

    /// The client configuration of `identity`.
    pub async fn config_for(&self, identity: &Identity) -> Result<kube::Config> {
        kubeconfig::config(&self.url, identity).await
    }

    /// A kubeconfig file of `identity`; it goes with the control plane.
    pub fn kubeconfig_for(&self, identity: &Identity) -> Result<PathBuf> {
        self.kubeconfig_via(&self.url, identity)
    }

    /// A kubeconfig file of `identity` for another way to this API server, such as a
    /// [`FaultProxy`](crate::FaultProxy).
    pub fn kubeconfig_via(&self, url: &str, identity: &Identity) -> Result<PathBuf> {
        static WRITTEN: AtomicU64 = AtomicU64::new(0);
        let number = WRITTEN.fetch_add(1, Ordering::Relaxed);
        let path = self.folder.path().join(format!("{}-{number}.kubeconfig", std::process::id()));
        write(&path, &kubeconfig::document(url, identity).to_string())?;
        Ok(path)
    }

    /// Applies the manifests of `dir` and waits until they have their effect: definitions are
    /// established, admission policies refuse, roles permit. Doing it again changes nothing.
    ///
    /// # Errors
    /// When a manifest cannot be read, is refused, or has no effect within a minute.
    pub async fn install(&self, dir: &Path) -> Result<()> {
        let lock = self.folder.path().join("install.lock");
        let _installing = blocking(move || crate::folder::lock(&lock)).await?;
        let record = self.folder.path().join("installed");
        let text = fs::read_to_string(&record).unwrap_or_default();
        let mut known: BTreeSet<String> = text.lines().map(String::from).collect();
        known.extend(install::install(&self.admin().await?, dir, &known).await?);
        let text: String = known.iter().flat_map(|line| [line, "\n"]).collect();
        fs::write(&record, text).map_err(Error::file("write", &record))
    }

    /// A certificate for a server of this control plane on loopback.
    pub fn server_identity(&self) -> Result<Identity> {
        self.authority.server()
    }
}

/// A control plane of one test, whose servers it may kill, stop and start again.
pub struct PrivateControlPlane {
    plane: ControlPlane,
    servers: Servers,
}

impl Deref for PrivateControlPlane {
    type Target = ControlPlane;

    fn deref(&self) -> &ControlPlane {
        &self.plane
    }
}

impl PrivateControlPlane {
    /// Kills `server` (SIGKILL) and waits until it is gone.
    pub fn kill(&self, server: Server) -> Result<()> {
        self.servers.kill(server)
    }

    /// Stops `server` where it is (SIGSTOP): connections stay and nothing is answered.
    pub fn stop(&self, server: Server) -> Result<()> {
        self.servers.signal(server, Signal::SIGSTOP)
    }

    /// Lets a stopped `server` go on (SIGCONT).
    pub fn resume(&self, server: Server) -> Result<()> {
        self.servers.signal(server, Signal::SIGCONT)
    }

    /// Starts `server` at the address it had, and waits until it answers. A server that runs is
    /// left alone.
    pub async fn start(&self, server: Server) -> Result<()> {
        self.servers.start(server)?;
        self.servers.ready(server).await
    }

    /// Waits until the API server is ready: it answers, and so does etcd behind it.
    pub async fn ready(&self) -> Result<()> {
        self.servers.ready(Server::ApiServer).await
    }

    /// Kills `server`, starts it again and waits until it answers.
    pub async fn restart(&self, server: Server) -> Result<()> {
        self.kill(server)?;
        self.start(server).await
    }

    /// A backup of everything that etcd holds now. etcd is killed for it and started again on its data.
    pub async fn back_up(&self) -> Result<Backup> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let folder = self.plane.folder.path().join(format!("backup-{}", MADE.fetch_add(1, Ordering::Relaxed)));
        self.kill(Server::Etcd)?;
        self.servers.back_up(&folder)?;
        self.start(Server::Etcd).await?;
        self.ready().await?;
        Ok(Backup(folder))
    }

    /// Lets everything be as it was when `backup` was made, as an administrator does who restores it: every server is stopped, and
    /// started again. What was written since is gone, and versions are counted from there again.
    pub async fn restore(&self, backup: &Backup) -> Result<()> {
        for server in [Server::ControllerManager, Server::ApiServer, Server::Etcd] {
            self.kill(server)?;
        }
        self.servers.restore(&backup.0)?;
        self.servers.start_all().await
    }

    /// Lets etcd be as it was when `backup` was made, as nobody should: the API server runs on, and answers out of what it remembers as
    /// well as out of etcd until it is restarted.
    pub async fn restore_etcd(&self, backup: &Backup) -> Result<()> {
        self.kill(Server::Etcd)?;
        self.servers.restore(&backup.0)?;
        self.start(Server::Etcd).await
    }

    /// Every request answered so far, oldest first; a request is in the log before its answer is
    /// sent. Empty without [`Options::audit`].
    pub fn audit(&self) -> Result<Vec<AuditEvent>> {
        self.audit_log().read_on()
    }

    /// The same, to be read on from its beginning.
    pub fn audit_log(&self) -> AuditLog {
        AuditLog::new(self.plane.folder.path().join(AUDIT_LOG))
    }

    /// The answered requests of `user`.
    pub fn requests_of(&self, user: &str) -> Result<Vec<AuditEvent>> {
        Ok(self.audit()?.into_iter().filter(|event| event.user == user).collect())
    }
}

/// What etcd held at a moment; it goes with the control plane.
#[derive(Debug)]
pub struct Backup(PathBuf);

impl Drop for PrivateControlPlane {
    fn drop(&mut self) {
        self.servers.end();
    }
}

/// Runs what waits for locks, compilers and disks where it blocks no test.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|ended| match ended.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(cancelled) => Err(Error::Shared(cancelled.to_string())),
    })
}
