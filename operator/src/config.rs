//! The configuration: one typed file, the environment over it, flags over both.
//!
//! Every period is here, so that no test waits for a default.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

use hatrack_api::cluster_node::check_name;
use hatrack_api::enrollment::SHORTEST_LIFE;
use hatrack_hats::Periods;
use hatrack_service::Period;
use hatrack_service::backoff::Pause;
use serde::{Deserialize, Serialize};

/// Where the configuration is looked for when no flag names it.
pub const DEFAULT_PATH: &str = "/etc/hatrack/operator.toml";

/// Where the access is looked for when nothing names it and the operator runs in no pod.
const DEFAULT_KUBECONFIG: &str = "/etc/hatrack/operator.kubeconfig";

/// The port on which the operator serves its metrics unless told otherwise.
const LISTEN_PORT: u16 = 9471;

/// Why there is no configuration to run with.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or cannot be read.
    #[error("failed to read `{}`", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The file is no TOML, or has a key or a value that is not known. The source names line and column.
    #[error("`{}` cannot be understood", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A machine of that name would hold the Lease that decides who leads.
    #[error("leader.lease (`{0}`) could be the Lease of a machine")]
    LeaseOfANode(String),
    /// Leading that outlasts the Lease, or ends before it could be renewed.
    #[error("leader.period ({period}), leader.deadline ({deadline}) and leader.duration ({duration}) do not grow")]
    Leader {
        /// Time between renewals.
        period: Period,
        /// How long after a renewal the operator leads.
        deadline: Period,
        /// How long the others wait.
        duration: Period,
    },
    /// No request for a certificate would be in order.
    #[error("enrollment.longest-life ({0}) is shorter than 10 minutes, which is the least that anybody can ask for")]
    LongestLife(Period),
    /// Waiting that ends before it begins.
    #[error("backoff.max ({max}) is shorter than backoff.min ({min})")]
    Backoff {
        /// After the first failure.
        min: Period,
        /// After many.
        max: Period,
    },
}

impl ConfigError {
    /// What to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => {
                "name another file (`run --config FILE`, `check FILE`), or create this one: an empty one will do"
            }
            Self::Syntax { .. } => "correct that line, then run `hatrack-operator check FILE`",
            Self::LeaseOfANode(_) => "put a dot into leader.lease: names of machines have none; or leave it out",
            Self::Leader { .. } => {
                "leave out leader.period, leader.deadline and leader.duration, or make each longer than the one before"
            }
            Self::LongestLife(_) => "make enrollment.longest-life longer, or leave it out",
            Self::Backoff { .. } => "make backoff.max longer, or leave it out",
        }
    }
}

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Where `/metrics`, `/healthz` and `/readyz` are served. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// How the API server is reached.
    pub api: Api,
    /// How operators agree on one that acts.
    pub leader: Leader,
    /// How long machines have.
    pub nodes: Nodes,
    /// How requests are handled.
    pub requests: Requests,
    /// How the operator's fence is tried.
    pub canary: Canary,
    /// Waiting after failures.
    pub backoff: BackoffLimits,
    /// How records are announced.
    pub announce: Announce,
    /// The server that hears of every record.
    pub nats: Nats,
    /// How machines get their certificates.
    pub enrollment: Enrollment,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, LISTEN_PORT)),
            api: Api::default(),
            leader: Leader::default(),
            nodes: Nodes::default(),
            requests: Requests::default(),
            canary: Canary::default(),
            backoff: BackoffLimits::default(),
            announce: Announce::default(),
            nats: Nats::default(),
            enrollment: Enrollment::default(),
        }
    }
}

/// How the API server is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Api {
    /// A kubeconfig file. Absent: the service account of the pod, or `/etc/hatrack/operator.kubeconfig` outside of one.
    pub kubeconfig: Option<PathBuf>,
    /// How long an answer may take.
    pub request_timeout: Period,
    /// How long a watch may be silent before it counts as dead, in whole seconds. The API server sends a bookmark each minute.
    pub watch_silence: Period,
    /// How long a watch may go on before everything of its kind is listed anew.
    pub resync: Period,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            request_timeout: Period::from_secs(10),
            watch_silence: Period::from_secs(150),
            resync: Period::from_secs(600),
        }
    }
}

/// How operators agree on one that acts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Leader {
    /// Name of this operator in the Lease; the host name if absent.
    pub name: Option<String>,
    /// Name of the Lease in `society-system`. It has a dot, so that it is no machine's.
    pub lease: String,
    /// Time between two renewals.
    pub period: Period,
    /// How long after its last renewal an operator acts.
    pub deadline: Period,
    /// How long the others wait for a renewal before one of them takes over.
    pub duration: Period,
}

impl Default for Leader {
    fn default() -> Self {
        Self {
            name: None,
            lease: "hatrack.operator".to_owned(),
            period: Period::from_secs(2),
            deadline: Period::from_secs(10),
            duration: Period::from_secs(15),
        }
    }
}

/// How long machines have ([`Periods`]); for how long a node may be silent is `nodeGraceSeconds` of the HatPolicy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Nodes {
    /// How long a renewal of a Lease lasts: that of the agents, `lease.duration`.
    pub lease: Period,
    /// How long a node needs at most to stop a hat: `TimeoutStopSec` of its units.
    pub stop: Period,
    /// How long a lost device has to come back.
    pub device_grace: Period,
}

impl Default for Nodes {
    fn default() -> Self {
        Self { lease: Period::from_secs(40), stop: Period::from_secs(30), device_grace: Period::from_secs(60) }
    }
}

/// How requests are handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Requests {
    /// Least time between two texts of a held request.
    pub text: Period,
    /// How long a binding or a node that the API server refuses to have written is left alone.
    pub set_aside: Period,
}

impl Default for Requests {
    fn default() -> Self {
        Self { text: Period::from_secs(60), set_aside: Period::from_secs(30) }
    }
}

/// How the operator's fence is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Canary {
    /// Time between two tries while the fence holds.
    pub period: Period,
    /// Time between two tries until it does.
    pub retry: Period,
}

impl Default for Canary {
    fn default() -> Self {
        Self { period: Period::from_secs(60), retry: Period::from_secs(1) }
    }
}

/// Waiting after failures: doubled from `min` to `max`, each time with a random part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct BackoffLimits {
    /// After the first failure.
    pub min: Period,
    /// After many.
    pub max: Period,
}

impl Default for BackoffLimits {
    fn default() -> Self {
        Self { min: Period::from_millis(100), max: Period::from_secs(30) }
    }
}

impl BackoffLimits {
    /// Waiting within these limits.
    pub const fn pause(self) -> Pause {
        Pause::new(self.min.get(), self.max.get())
    }
}

/// How records are announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Announce {
    /// How old a record may be that is announced when nothing is remembered of what was announced before.
    pub replay: Period,
    /// Least time between two writes of what was announced.
    pub remember: Period,
}

impl Default for Announce {
    fn default() -> Self {
        Self { replay: Period::from_secs(600), remember: Period::from_secs(1) }
    }
}

/// The server that hears of every record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Nats {
    /// Its address, `nats://10.0.0.1:4222` or `tls://…`. Absent: none.
    pub url: Option<String>,
    /// A file with credentials, as `nsc` writes it.
    pub credentials: Option<PathBuf>,
    /// A file with the certificates of the authorities, in PEM, that may have signed that of the server. Absent: those of the system.
    pub certificate_authority: Option<PathBuf>,
    /// How long an answer may take.
    pub timeout: Period,
}

impl Default for Nats {
    fn default() -> Self {
        Self { url: None, credentials: None, certificate_authority: None, timeout: Period::from_secs(5) }
    }
}

/// How machines get their certificates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Enrollment {
    /// How many requests for one machine are decided within `window`; later ones wait.
    pub requests: NonZeroUsize,
    /// For how long a request counts. The cluster itself keeps one that was decided for an hour.
    pub window: Period,
    /// How soon a request that waits is looked at again.
    pub look_again: Period,
    /// The longest life of a certificate that a machine may ask for.
    pub longest_life: Period,
}

impl Default for Enrollment {
    fn default() -> Self {
        Self {
            requests: REQUESTS,
            window: Period::from_secs(60 * 60),
            look_again: Period::from_secs(10),
            longest_life: Period::from_secs(30 * 24 * 60 * 60),
        }
    }
}

/// An agent that is refused asks six times an hour.
const REQUESTS: NonZeroUsize = NonZeroUsize::new(20).unwrap();

impl Config {
    /// Reads a file. One that is not there is an empty one if `optional`.
    pub fn read(path: &Path, optional: bool) -> Result<Self, ConfigError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if optional && error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(source) => return Err(ConfigError::Unreadable { path: path.to_owned(), source }),
        };
        Self::parse(&text).map_err(|source| ConfigError::Syntax { path: path.to_owned(), source: Box::new(source) })
    }

    fn parse(text: &str) -> Result<Self, toml::de::Error> {
        toml::from_str(text)
    }

    /// Checks what the types cannot.
    pub fn complete(self) -> Result<Self, ConfigError> {
        if check_name(&self.leader.lease).is_ok() {
            return Err(ConfigError::LeaseOfANode(self.leader.lease));
        }
        let Leader { period, deadline, duration, .. } = self.leader;
        if period >= deadline || deadline >= duration {
            return Err(ConfigError::Leader { period, deadline, duration });
        }
        let BackoffLimits { min, max } = self.backoff;
        if max < min {
            return Err(ConfigError::Backoff { min, max });
        }
        let longest = self.enrollment.longest_life;
        if longest.get() < SHORTEST_LIFE {
            return Err(ConfigError::LongestLife(longest));
        }
        Ok(self)
    }

    /// The lengths of time that the rules ask for.
    pub fn periods(&self) -> Periods {
        Periods {
            lease: self.nodes.lease.get(),
            stop: self.nodes.stop.get(),
            device_grace: self.nodes.device_grace.get(),
            text: self.requests.text.get(),
        }
    }
}

impl Api {
    /// How long a watch may last, in the whole seconds that the API server takes.
    pub fn watch_seconds(&self) -> u32 {
        u32::try_from(self.watch_silence.get().as_secs()).unwrap_or(u32::MAX).max(1)
    }

    /// The file with the access; `None` for the service account of the pod.
    pub fn file(&self) -> Option<PathBuf> {
        let in_a_pod = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        self.kubeconfig.clone().or_else(|| (!in_a_pod).then(|| PathBuf::from(DEFAULT_KUBECONFIG)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        for text in
            ["listn = \"127.0.0.1:1\"", "[leader]\nperiods = \"1s\"", "[nats]\nuri = \"nats://a\"", "[enrolment]"]
        {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains("line") && error.contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn what_types_cannot_check_is_checked() {
        let complete = |text: &str| Config::parse(text).unwrap().complete();
        assert!(complete("").is_ok());
        assert!(matches!(complete("[leader]\nlease = \"gpu-1\""), Err(ConfigError::LeaseOfANode(_))));
        for leader in ["period = \"10s\"", "deadline = \"20s\"", "duration = \"1s\""] {
            assert!(matches!(complete(&format!("[leader]\n{leader}")), Err(ConfigError::Leader { .. })), "{leader}");
        }
        let short = complete("[enrollment]\nlongest-life = \"9m\"");
        assert!(matches!(short, Err(ConfigError::LongestLife(_))));
        assert!(matches!(complete("[backoff]\nmin = \"1m\""), Err(ConfigError::Backoff { .. })));
    }

    #[test]
    fn the_defaults_are_those_of_the_rules() {
        assert_eq!(Config::default().periods(), Periods::default());
    }

    #[test]
    fn what_is_printed_is_a_configuration() {
        let config =
            Config::parse("listen = \"127.0.0.1:1\"\n[nodes]\nstop = \"5s\"\n[nats]\nurl = \"nats://a\"").unwrap();
        assert_eq!(Config::parse(&toml::to_string(&config).unwrap()).unwrap(), config);
    }
}
