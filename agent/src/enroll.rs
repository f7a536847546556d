//! This machine's identity: gets it, renews it, gets it anew when it has ended.
//!
//! * In: the kept identity, the token file, the hardware id of the newest [`Observation`]. Out: the file with the identity, which
//!   [`crate::client`] takes when it changes; [`Enrolled`] for `/readyz` and `/metrics`.
//!
//! ```text
//!   nothing, or ended ──token file──> authority fetched and compared ──┐
//!   two thirds of its life gone ──own certificate──────────────────────┴─> request ─> operator, signer ─> certificate
//! ```
//!
//! Two thirds are counted from when the certificate was received, since signers begin certificates in the past, and by the API server's
//! time carried on by the boot-time clock: a wall clock that is wrong ends nothing. Before the first answer of the API server a kept identity
//! is used whatever the wall clock says. The key never leaves this machine; it is kept beside its request until there is a certificate, so
//! that a restart goes on with the same request, and comes into its place together with the certificate in one file.
//!
//! Root moves the machine: the configuration, or a token file of the same authority, names another address, and the kept identity goes on
//! there. Another authority takes a token file that names its hash, and is asked only while the kept one's server says nothing.

mod authority;
mod identity;
pub mod once;
mod request;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hatrack_api::enrollment::{InvalidToken, TokenFile};
use hatrack_service::backoff::jittered;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

pub use self::authority::AuthorityError;
use self::identity::{Cluster, Identity, Issued};
pub use self::identity::{FILE_NAME, IdentityError};
use self::request::{Applicant, Pending};
use crate::client::ApiServer;
use crate::client::backoff::Backoff;
use crate::client::outcome::{Failure, Pace};
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::files::Folder;
use crate::log::{Trouble, chain};
use crate::observe::Observation;

/// Timers of the event loop stand still during suspend, and the API server's clock may be set right: no wait is longer, so that a renewal is
/// late by this much and no more.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// What is known of this machine's identity.
#[derive(Debug, Clone, Default)]
pub struct Enrolled {
    /// Until when the certificate is valid.
    pub expires: Option<Timestamp>,
    /// Why there is no certificate to work with, or no newer one although it is time.
    pub trouble: Option<String>,
}

/// Why a machine got no certificate.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// Nothing to begin with.
    #[error("this machine has no certificate, and there is no token file")]
    NoToken,
    /// The kubeconfig of `enroll` is not there yet, or cannot be used.
    #[error("failed to use the kubeconfig `{}`", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The token file cannot be read.
    #[error("failed to read the token file `{}`", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The token file is no TOML, or has other keys.
    #[error("the token file `{}` cannot be understood", path.display())]
    TokenSyntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value in the token file cannot be.
    #[error("the token file cannot be used")]
    Token(#[source] InvalidToken),
    /// The token file is another machine's.
    #[error("the token file is for {theirs}, and this machine is configured as {ours}")]
    AnotherMachine {
        /// Name and class in the token file.
        theirs: String,
        /// Name and class in the configuration.
        ours: String,
    },
    /// The machine cannot be told from others.
    #[error(
        "this machine has no hardware id to trust (SMBIOS UUID, device-tree serial number or permanent MAC address)"
    )]
    Nameless,
    /// The kept identity has shown itself to nobody, and there is no token for another cluster.
    #[error("this machine has a certificate for {server}, which has not answered since the agent started")]
    Silent {
        /// Its address.
        server: String,
    },
    /// The server is not the cluster's.
    #[error("failed to make sure of the cluster")]
    Authority(#[from] AuthorityError),
    /// The API server refused, or is away.
    #[error("failed to ask for a certificate")]
    Api(#[from] Failure),
    /// Somebody said no.
    #[error("the request for a certificate was refused: {0}")]
    Denied(String),
    /// The signer could not sign.
    #[error("the signer failed: {0}")]
    Failed(String),
    /// The request was removed before there was a certificate.
    #[error("the request for a certificate is gone: nobody approved it in time")]
    Gone,
    /// Key, certificate or their file.
    #[error("failed to keep this machine's identity")]
    Identity(#[from] IdentityError),
}

impl EnrollError {
    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::NoToken => Some(
                "make one with `hatrack token create NAME --class CLASS`, and name it in `enrollment.token-file`; on a Kubernetes worker \
                 `hatrack-agent enroll` gets the first certificate",
            ),
            Self::TokenFile { .. } => {
                Some("make one with `hatrack token create NAME --class CLASS`, and name it in `enrollment.token-file`")
            }
            Self::TokenSyntax { .. } | Self::Token(_) => {
                Some("make a new one: `hatrack token create NAME --class CLASS`")
            }
            Self::AnotherMachine { .. } => {
                Some("take the token file of this machine, or correct `name` and `class` in the configuration")
            }
            Self::Kubeconfig { .. } => Some("is the kubelet running? It is asked again until it is there"),
            Self::Nameless => Some(
                "give a virtual machine a UUID (QEMU: `-uuid`), or a machine a network card with a permanent address",
            ),
            Self::Silent { .. } => Some(
                "is it up, and is this still its address? Another one goes into `enrollment.server` or a new token file, and a cluster that was \
                 made anew takes a new token file: `hatrack token create NAME --class CLASS`; then `systemctl restart hatrack-agent`",
            ),
            Self::Authority(error) => error.hint(),
            Self::Api(Failure::Unauthorized { .. }) => Some(
                "the token has ended or was revoked: make a new one with `hatrack token create NAME --class CLASS`",
            ),
            Self::Api(Failure::Forbidden { .. }) => Some("apply k8s/rbac/enrollment.yaml"),
            Self::Api(failure) => failure.hint(),
            Self::Denied(_) => Some("the message says what to do; then the agent asks again by itself"),
            Self::Failed(_) => Some(
                "see the log of the signer, which is kube-controller-manager unless `enrollment.signer` names another",
            ),
            Self::Gone => Some("is hatrack-operator running? `kubectl get csr` shows what waits"),
            Self::Identity(_) => Some("make the state folder writable for the agent's user"),
        }
    }

    /// Whether the request is decided: the same key would lead to the same one.
    fn ends_request(&self) -> bool {
        matches!(self, Self::Denied(_) | Self::Failed(_) | Self::Gone)
    }

    /// How soon another try is worth it.
    fn wait(&self, backoff: &mut Backoff, refused: Duration) -> Duration {
        match self {
            Self::Denied(_) | Self::Failed(_) => jittered(refused),
            Self::Api(failure) => backoff.after(failure),
            Self::Silent { .. } | Self::Authority(_) | Self::Kubeconfig { .. } => backoff.again(Pace::Soon),
            _ => backoff.again(Pace::Late),
        }
    }
}

/// What is to be done about the identity.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// Nothing for this long.
    In(Duration),
    /// A newer certificate, by the one there is.
    Renewal,
    /// A first certificate, or one after the last has ended.
    Enrollment,
}

/// Keeps the identity of this machine.
pub struct Keeper {
    enrollment: config::Enrollment,
    desk: Desk,
    server: Arc<ApiServer>,
    clock: Arc<Clock>,
    observations: watch::Receiver<Option<Arc<Observation>>>,
    enrolled: watch::Sender<Enrolled>,
    /// How long the server of a kept identity may take to answer for the first time.
    patience: Duration,
    backoff: Backoff,
    trouble: Trouble,
    damage: Trouble,
}

impl Keeper {
    /// Nothing has been looked at yet.
    pub fn new(
        config: &Config,
        enrollment: config::Enrollment,
        server: Arc<ApiServer>,
        clock: Arc<Clock>,
        observations: watch::Receiver<Option<Arc<Observation>>>,
        enrolled: watch::Sender<Enrolled>,
    ) -> Self {
        let desk = Desk::new(config, &enrollment, Arc::clone(&clock));
        let backoff = Backoff::new(config.backoff);
        let patience = config.api.request_timeout.get();
        let (trouble, damage) = (Trouble::default(), Trouble::default());
        Self { enrollment, desk, server, clock, observations, enrolled, patience, backoff, trouble, damage }
    }

    /// Runs without end.
    pub async fn run(mut self) {
        loop {
            match self.turn().await {
                Ok(wait) => {
                    self.backoff.reset();
                    self.trouble.log_end("this machine has its certificate");
                    sleep(wait.min(LONGEST_WAIT)).await;
                }
                Err(error) => {
                    self.trouble.log("this machine gets no certificate", &error, error.hint());
                    self.enrolled.send_modify(|enrolled| enrolled.trouble = Some(chain(&error)));
                    sleep(error.wait(&mut self.backoff, self.enrollment.retry_refused.get())).await;
                }
            }
        }
    }

    /// Does what is due; for how long there is nothing more to do.
    async fn turn(&mut self) -> Result<Duration, EnrollError> {
        let token = self.token();
        let identity = self.kept(token.as_ref().ok()).await?;
        if let Some(identity) = &identity {
            self.clock.is_after(identity.received);
            self.enrolled.send_modify(|enrolled| enrolled.expires = Some(identity.expires));
        }
        match self.due(identity.as_ref(), &token).await? {
            Due::In(wait) => {
                self.enrolled.send_modify(|enrolled| enrolled.trouble = None);
                return Ok(wait);
            }
            Due::Renewal => {
                let Some(identity) = identity else { return Ok(Duration::ZERO) };
                let applicant = self.applicant().await?;
                self.desk.apply(&self.server, &identity.cluster, &applicant).await?;
            }
            Due::Enrollment => {
                self.enrolled.send_modify(|enrolled| {
                    enrolled.trouble.get_or_insert_with(|| "asking for a certificate".to_owned());
                });
                let token = token?;
                let applicant = self.applicant().await?;
                let server = self.enrollment.server.as_deref().unwrap_or(&token.server);
                let authority = authority::fetch(server, &token.ca_hashes).await?;
                let cluster = Cluster { server: server.to_owned(), authority };
                self.desk.apply(&self.server.with(cluster.by_token(&token.token)), &cluster, &applicant).await?;
            }
        }
        self.server.renewed();
        Ok(Duration::ZERO)
    }

    /// The kept identity, if there is one to use, at the address that root names now.
    async fn kept(&mut self, token: Option<&TokenFile>) -> Result<Option<Identity>, EnrollError> {
        let identity = match self.desk.on_disk(Identity::load).await {
            Err(error @ IdentityError::Damaged(_)) => {
                self.damage.log("the kept identity cannot be used: a new one is needed", &error, None);
                return Ok(None);
            }
            kept => kept?,
        };
        let Some(mut identity) = identity else { return Ok(None) };
        self.damage.log_end("there is an identity to use again");
        let of_token = token.filter(|token| authority::is_named(&identity.cluster.authority, &token.ca_hashes));
        let named = self.enrollment.server.as_ref().or(of_token.map(|token| &token.server));
        let Some(server) = named.filter(|server| **server != identity.cluster.server).cloned() else {
            return Ok(Some(identity));
        };
        tracing::info!(before = identity.cluster.server, now = server, "the API server has another address");
        identity.cluster.server.clone_from(&server);
        self.desk.on_disk(move |folder| identity::rename_server(folder, &server)).await?;
        self.server.renewed();
        Ok(Some(identity))
    }

    /// What is due by the API server's time. While it says nothing, an identity stands whatever the wall clock says, unless root has brought a
    /// token of another authority: the cluster of this identity may be gone for good.
    async fn due(
        &self,
        identity: Option<&Identity>,
        token: &Result<TokenFile, EnrollError>,
    ) -> Result<Due, EnrollError> {
        let Some(identity) = identity else { return Ok(Due::Enrollment) };
        if timeout(self.patience, self.clock.known()).await.is_ok() {
            return Ok(due(identity, self.clock.now()));
        }
        match token {
            Ok(token) if !authority::is_named(&identity.cluster.authority, &token.ca_hashes) => Ok(Due::Enrollment),
            _ => Err(EnrollError::Silent { server: identity.cluster.server.clone() }),
        }
    }

    fn token(&self) -> Result<TokenFile, EnrollError> {
        let path = self.enrollment.token_file.as_ref().ok_or(EnrollError::NoToken)?;
        let text =
            std::fs::read_to_string(path).map_err(|source| EnrollError::TokenFile { path: path.clone(), source })?;
        // What the service manager hands over in place of a file that is not there.
        if text.trim().is_empty() {
            return Err(EnrollError::NoToken);
        }
        let token: TokenFile = toml::from_str(&text)
            .map_err(|source| EnrollError::TokenSyntax { path: path.clone(), source: Box::new(source) })?;
        token.check().map_err(EnrollError::Token)?;
        let (theirs, ours) =
            (format!("{} ({})", token.name, token.class), format!("{} ({})", self.desk.name, self.desk.class));
        if theirs == ours { Ok(token) } else { Err(EnrollError::AnotherMachine { theirs, ours }) }
    }

    async fn applicant(&mut self) -> Result<Applicant, EnrollError> {
        let seen = self.observations.wait_for(Option::is_some).await;
        let hardware_id = seen.ok().and_then(|seen| seen.as_ref()?.inventory().hardware_id.clone());
        Ok(self.desk.applicant(hardware_id.ok_or(EnrollError::Nameless)?))
    }
}

/// Two thirds of what was left of the certificate when it was received.
fn due(identity: &Identity, now: Timestamp) -> Due {
    if now >= identity.expires {
        return Due::Enrollment;
    }
    let life = identity.expires.duration_since(identity.received);
    let renewal = identity.received + SignedDuration::from_secs(life.as_secs() / 3 * 2);
    match Duration::try_from(renewal.duration_since(now)) {
        Ok(wait) if !wait.is_zero() => Due::In(wait),
        _ => Due::Renewal,
    }
}

/// Where requests are made and certificates are put away.
#[derive(Debug, Clone)]
struct Desk {
    folder: PathBuf,
    name: String,
    class: String,
    signer: String,
    lifetime: Duration,
    clock: Arc<Clock>,
}

impl Desk {
    fn new(config: &Config, enrollment: &config::Enrollment, clock: Arc<Clock>) -> Self {
        Self {
            folder: config.state_dir.clone(),
            name: config.name.clone(),
            class: config.class.map(|class| class.to_string()).unwrap_or_default(),
            signer: enrollment.signer.clone(),
            lifetime: enrollment.lifetime.get(),
            clock,
        }
    }

    fn applicant(&self, hardware_id: String) -> Applicant {
        Applicant {
            name: self.name.clone(),
            class: self.class.clone(),
            hardware_id,
            signer: self.signer.clone(),
            lifetime: self.lifetime,
        }
    }

    /// Asks for a certificate with a key that outlives a restart, waits for it, and puts it away.
    async fn apply(&self, server: &ApiServer, cluster: &Cluster, applicant: &Applicant) -> Result<(), EnrollError> {
        let pending = self.on_disk(Pending::load_or_create).await?;
        match self.ask(server, cluster, applicant, &pending).await {
            Ok(issued) => {
                let put_away = move |folder: &Path| {
                    let folder = Folder::make(folder).map_err(IdentityError::file("open", folder))?;
                    issued.put_away(&folder, &pending)
                };
                Ok(self.on_disk(put_away).await?)
            }
            Err(error) => {
                if error.ends_request() {
                    self.on_disk(Pending::forget).await?;
                }
                Err(error)
            }
        }
    }

    /// Asks for a certificate and waits for it.
    async fn ask(
        &self,
        server: &ApiServer,
        cluster: &Cluster,
        applicant: &Applicant,
        pending: &Pending,
    ) -> Result<Issued, EnrollError> {
        let certificate = request::certificate(server, applicant, pending).await?;
        let issued = Identity::issued(cluster.clone(), &certificate, pending, &applicant.name, self.clock.now())?;
        tracing::info!(name = applicant.name, expires = %issued.expires, "received a certificate");
        Ok(issued)
    }

    /// Works in the folder on another thread: a disk that is slow to sync must not hold up the Lease.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Path) -> Result<T, IdentityError> + Send + 'static,
    ) -> Result<T, IdentityError> {
        let folder = self.folder.clone();
        let done = spawn_blocking(move || work(&folder)).await;
        done.unwrap_or_else(|error| Err(IdentityError::file("use", &self.folder)(io::Error::other(error))))
    }
}

/// The file with the identity.
pub fn file(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE_NAME)
}

/// The object of a request.
fn object(applicant: &Applicant, name: &str, pem: &str) -> serde_json::Value {
    use hatrack_api::enrollment::{CLASS_ANNOTATION, HARDWARE_ID_ANNOTATION, USAGE};
    json!({
        "apiVersion": "certificates.k8s.io/v1",
        "kind": "CertificateSigningRequest",
        "metadata": {"name": name, "annotations": {
            HARDWARE_ID_ANNOTATION: applicant.hardware_id, CLASS_ANNOTATION: applicant.class,
        }},
        "spec": {
            "request": k8s_openapi::ByteString(pem.as_bytes().to_vec()),
            "signerName": applicant.signer,
            "usages": [USAGE],
            "expirationSeconds": applicant.lifetime.as_secs(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_renewed_at_two_thirds_of_what_was_left_when_it_came() {
        let at = |seconds: i64| Timestamp::from_second(1_000_000 + seconds).unwrap();
        let cluster = Cluster { server: "https://a".to_owned(), authority: vec![] };
        let identity = Identity { cluster, received: at(0), expires: at(600) };
        assert_eq!(due(&identity, at(0)), Due::In(Duration::from_secs(400)));
        assert_eq!(due(&identity, at(399)), Due::In(Duration::from_secs(1)));
        assert_eq!(due(&identity, at(400)), Due::Renewal);
        assert_eq!(due(&identity, at(599)), Due::Renewal);
        assert_eq!(due(&identity, at(600)), Due::Enrollment);
    }
}
