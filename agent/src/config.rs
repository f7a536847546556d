//! The configuration: one typed file, the environment over it, flags over both.
//!
//! Every period is here, so that no test waits for a default.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use hatrack_api::cluster_node::{Class, Expects, InvalidName, Profile, check_name};
use hatrack_api::enrollment::{SHORTEST_LIFE, SIGNER};
use hatrack_discover::root::Root;
pub use hatrack_service::Period;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize};

/// Where the configuration is looked for when no flag names it.
pub const DEFAULT_PATH: &str = "/etc/hatrack/agent.toml";

/// The port on which adb's server listens unless told otherwise (AOSP `packages/modules/adb`, `DEFAULT_ADB_PORT`).
const ADB_PORT: u16 = 5037;

/// The port on which the agent serves its metrics unless told otherwise.
const LISTEN_PORT: u16 = 9470;

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
    /// A machine of which nothing can be seen.
    #[error("`root` is `{}`, which has neither `sys` nor `proc`", .0.display())]
    Root(PathBuf),
    /// The name cannot be a ClusterNode's.
    #[error("this machine cannot be registered under its name")]
    Name(#[source] InvalidName),
    /// Nothing says which work the machine is for.
    #[error("the class of this machine is not set")]
    NoClass,
    /// The API server is named in two ways, or in half of one.
    #[error("{0}")]
    Access(&'static str),
    /// A certificate that the API does not give.
    #[error("enrollment.lifetime ({0}) is shorter than 10 minutes")]
    Lifetime(Period),
    /// A Lease that ends before it is renewed.
    #[error("lease.duration ({duration}) is shorter than two times lease.period ({period})")]
    Lease {
        /// Time between renewals.
        period: Period,
        /// How long one lasts.
        duration: Period,
    },
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
                "name another file (`run --config FILE`, `check FILE`), or create this one: it needs at least `class = \"worker\"`"
            }
            Self::Syntax { .. } => "correct that line, then run `hatrack-agent check FILE`",
            Self::Root(_) => "leave `root` out, or name a folder with `sys/`, `proc/` and `etc/` of a machine in it",
            Self::Name(_) => "set `name` in the file, --name or HATRACK_NAME",
            Self::NoClass => {
                "set `class` in the file, --class or HATRACK_CLASS to one of control-plane, gpu-worker, phone-orchestrator, pi-ai-hat, worker"
            }
            Self::Access(_) => {
                "set one of [enrollment], api.kubeconfig, and all of api.server, api.ca, api.certificate and api.key"
            }
            Self::Lifetime(_) => "make enrollment.lifetime longer, or leave it out",
            Self::Lease { .. } => "make lease.duration four times lease.period",
            Self::Backoff { .. } => "make backoff.max longer, or leave it out",
        }
    }
}

/// Everything that can be configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Config {
    /// Name of the ClusterNode; the first label of the host name if absent.
    pub name: String,
    /// Class of the machine.
    pub class: Option<Class>,
    /// Profile of the machine.
    pub profile: Option<Profile>,
    /// Folder of what is kept over restarts.
    pub state_dir: PathBuf,
    /// Where `/metrics`, `/healthz` and `/readyz` are served. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// The tree that is discovered: `/`, or a copy of a machine's.
    pub root: PathBuf,
    /// What should be there; it goes into `spec` when the object is created, and belongs to people from then on.
    pub expects: Expected,
    /// How the API server is reached.
    pub api: Api,
    /// How this machine gets its certificate; absent, it has none of its own and `api` names one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enrollment: Option<Enrollment>,
    /// When the machine is looked at.
    pub discovery: Discovery,
    /// The Lease.
    pub lease: Lease,
    /// Waiting after failures.
    pub backoff: BackoffLimits,
    /// NVIDIA's management library.
    pub nvml: Nvml,
    /// The adb server.
    pub adb: Adb,
    /// Hats.
    pub wear: Wear,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: String::new(),
            class: None,
            profile: None,
            state_dir: PathBuf::from("/var/lib/hatrack"),
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, LISTEN_PORT)),
            root: PathBuf::from("/"),
            expects: Expected::default(),
            api: Api::default(),
            enrollment: None,
            discovery: Discovery::default(),
            lease: Lease::default(),
            backoff: BackoffLimits::default(),
            nvml: Nvml::default(),
            adb: Adb::default(),
            wear: Wear::default(),
        }
    }
}

/// [`Expects`], as it stands in the file.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Expected {
    /// Usable GPUs.
    #[serde(deserialize_with = "number_of_devices")]
    pub gpus: Option<i32>,
    /// Usable phones.
    #[serde(deserialize_with = "number_of_devices")]
    pub phones: Option<i32>,
    /// Usable accelerators.
    #[serde(deserialize_with = "number_of_devices")]
    pub accelerators: Option<i32>,
}

impl Expected {
    /// The same for `spec`; absent when nothing is expected.
    pub fn for_spec(self) -> Option<Expects> {
        let Self { gpus, phones, accelerators } = self;
        (self != Self::default()).then_some(Expects { gpus, phones, accelerators })
    }
}

fn number_of_devices<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i32>, D::Error> {
    let number = i64::deserialize(deserializer)?;
    let possible = i32::try_from(number).ok().filter(|number| (0..=Expects::MOST).contains(number));
    let refused =
        || D::Error::custom(format!("{number} devices cannot be expected: a node shows from 0 to {}", Expects::MOST));
    possible.ok_or_else(refused).map(Some)
}

/// How the API server is reached: by a kubeconfig file, or by an address and three PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Api {
    /// A kubeconfig file; `/etc/hatrack/kubeconfig` if nothing else is set.
    pub kubeconfig: Option<PathBuf>,
    /// Address of the API server, `https://10.0.0.1:6443`.
    pub server: Option<String>,
    /// Certificates of the authority that signed the API server's.
    pub ca: Option<PathBuf>,
    /// This machine's certificate.
    pub certificate: Option<PathBuf>,
    /// The key of that certificate.
    pub key: Option<PathBuf>,
    /// How long an answer may take.
    pub request_timeout: Period,
    /// How long a watch may be silent before it counts as dead. The API server sends a bookmark each minute.
    pub watch_silence: Period,
    /// How often the object is read anew, whatever the watch says.
    pub resync: Period,
}

impl Default for Api {
    fn default() -> Self {
        Self {
            kubeconfig: None,
            server: None,
            ca: None,
            certificate: None,
            key: None,
            request_timeout: Period::from_secs(10),
            watch_silence: Period::from_secs(150),
            resync: Period::from_secs(600),
        }
    }
}

/// How this machine gets its certificate, which is then kept in `kubeconfig` in the state folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Enrollment {
    /// The file that `hatrack token create` made for this machine. Absent: `hatrack-agent enroll` gets the first certificate.
    pub token_file: Option<PathBuf>,
    /// Address of the API server, if it is not the one in the token file.
    pub server: Option<String>,
    /// Who signs: `spec.signerName` of the request.
    pub signer: String,
    /// How long a certificate should last, at least 10 minutes; the signer may make it shorter.
    pub lifetime: Period,
    /// How long to wait after a refusal before asking again.
    pub retry_refused: Period,
}

impl Default for Enrollment {
    fn default() -> Self {
        Self {
            token_file: None,
            server: None,
            signer: SIGNER.to_owned(),
            lifetime: Period::from_secs(7 * 24 * 3600),
            retry_refused: Period::from_secs(600),
        }
    }
}

/// When the machine is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Discovery {
    /// Least time between two looks: what happens meanwhile is seen by the second one.
    pub coalesce: Period,
    /// Time between looks when nothing happens.
    pub full_pass: Period,
    /// How long the object stands as it is after a start, while NVML or the adb server has not answered.
    pub settle: Period,
}

impl Default for Discovery {
    fn default() -> Self {
        Self { coalesce: Period::from_millis(20), full_pass: Period::from_secs(300), settle: Period::from_secs(20) }
    }
}

/// The Lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Lease {
    /// Time between renewals.
    pub period: Period,
    /// How long a renewal lasts, at least one second.
    pub duration: Period,
}

impl Default for Lease {
    fn default() -> Self {
        Self { period: Period::from_secs(10), duration: Period::from_secs(40) }
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
        Self { min: Period::from_millis(500), max: Period::from_secs(30) }
    }
}

/// NVIDIA's management library.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Nvml {
    /// Whether it is asked.
    pub mode: NvmlMode,
    /// How long it may be silent.
    pub deadline: Period,
    /// Time between its reports when nothing happens.
    pub interval: Period,
}

impl Default for Nvml {
    fn default() -> Self {
        Self { mode: NvmlMode::Auto, deadline: Period::from_secs(10), interval: Period::from_secs(30) }
    }
}

/// Whether NVML is asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NvmlMode {
    /// If NVIDIA's driver holds a GPU of the machine.
    #[default]
    Auto,
    /// Never: what it told earlier is taken back, and whether a GPU is divided by MIG is not known.
    Off,
}

/// The adb server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Adb {
    /// Its address. A phone orchestrator asks 127.0.0.1:5037 unless told otherwise, other classes ask none.
    pub server: Option<SocketAddr>,
    /// How long the server may take to answer.
    pub deadline: Period,
    /// How long one phone may take to tell of itself.
    pub phone_deadline: Period,
    /// Time between two checks that the server still answers.
    pub check: Period,
}

impl Default for Adb {
    fn default() -> Self {
        Self {
            server: None,
            deadline: Period::from_secs(5),
            phone_deadline: Period::from_secs(10),
            check: Period::from_secs(30),
        }
    }
}

/// Hats.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Wear {
    /// Folder of the files that the services of wearers read. It is emptied by a reboot.
    pub folder: PathBuf,
    /// D-Bus address of the bus on which the service manager is.
    pub bus: String,
    /// How long the service manager may take to answer.
    pub deadline: Period,
    /// How often units are looked at when nothing is heard of them.
    pub check: Period,
    /// How long the units of one wearer alone may take to stop while others wear the hat.
    pub patience: Period,
    /// How long a hat is worn without a renewal of the Lease if the operator says nothing else.
    pub grace: Period,
    /// How long the operator may take to end or to renew a term while it is heard.
    pub slack: Period,
    /// How long the operator may take to move hats after it had given this node up.
    pub fence_wait: Period,
}

impl Default for Wear {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("/run/hatrack/hats"),
            bus: "unix:path=/run/dbus/system_bus_socket".to_owned(),
            deadline: Period::from_secs(10),
            check: Period::from_secs(30),
            patience: Period::from_secs(30),
            grace: Period::from_secs(300),
            slack: Period::from_secs(5),
            fence_wait: Period::from_secs(60),
        }
    }
}

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

    /// Checks what the types cannot, and fills in what follows from the machine and from other values.
    pub fn complete(mut self) -> Result<Self, ConfigError> {
        if !["sys", "proc"].iter().any(|folder| self.root.join(folder).is_dir()) {
            return Err(ConfigError::Root(self.root));
        }
        if self.name.is_empty() {
            self.name = host_label(&Root::at(&self.root));
        }
        check_name(&self.name).map_err(ConfigError::Name)?;
        let class = self.class.ok_or(ConfigError::NoClass)?;
        if class == Class::PhoneOrchestrator && self.adb.server.is_none() {
            self.adb.server = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, ADB_PORT)));
        }
        if let Some(enrollment) = &self.enrollment {
            if self.api.is_named() {
                return Err(ConfigError::Access("the API server is named by [enrollment] and by [api]"));
            }
            if enrollment.server.as_deref().is_some_and(|server| !is_https(server)) {
                return Err(ConfigError::Access("enrollment.server is no address such as `https://10.0.0.1:6443`"));
            }
            if enrollment.lifetime.get() < SHORTEST_LIFE {
                return Err(ConfigError::Lifetime(enrollment.lifetime));
            }
            self.api.kubeconfig = Some(crate::enroll::file(&self.state_dir));
        }
        self.api.complete()?;
        let Lease { period, duration } = self.lease;
        if duration.get() < period.get() * 2 {
            return Err(ConfigError::Lease { period, duration });
        }
        let BackoffLimits { min, max } = self.backoff;
        if max < min {
            return Err(ConfigError::Backoff { min, max });
        }
        Ok(self)
    }
}

impl Api {
    /// Names the access by a kubeconfig instead of whatever named it before.
    pub fn by_kubeconfig(&mut self, kubeconfig: PathBuf) {
        (self.server, self.ca, self.certificate, self.key) = (None, None, None, None);
        self.kubeconfig = Some(kubeconfig);
    }

    fn is_named(&self) -> bool {
        [&self.kubeconfig, &self.ca, &self.certificate, &self.key].into_iter().any(Option::is_some)
            || self.server.is_some()
    }

    fn complete(&mut self) -> Result<(), ConfigError> {
        let parts = [self.server.is_some(), self.ca.is_some(), self.certificate.is_some(), self.key.is_some()];
        let (any, all) = (parts.contains(&true), !parts.contains(&false));
        match (&self.kubeconfig, any, all) {
            (Some(_), true, _) => Err(ConfigError::Access("the API server is named by a kubeconfig and by api.server")),
            (None, true, false) => Err(ConfigError::Access("the access to the API server is given in part")),
            (None, false, _) => {
                self.kubeconfig = Some(PathBuf::from("/etc/hatrack/kubeconfig"));
                Ok(())
            }
            (None, true, true) if !self.server.as_deref().is_some_and(is_https) => {
                Err(ConfigError::Access("api.server is no address such as `https://10.0.0.1:6443`"))
            }
            (Some(_), false, _) | (None, true, true) => Ok(()),
        }
    }
}

/// A certificate proves nothing over a connection without TLS.
fn is_https(server: &str) -> bool {
    server.parse::<http::Uri>().is_ok_and(|uri| uri.scheme() == Some(&http::uri::Scheme::HTTPS) && uri.host().is_some())
}

/// The first label of the host name; empty where the kernel does not tell.
fn host_label(root: &Root) -> String {
    let host = root.text("/proc/sys/kernel/hostname").ok().flatten().unwrap_or_default();
    host.split('.').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(text: &str) -> Result<Config, ConfigError> {
        Config::parse(text).unwrap().complete()
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_place() {
        for text in ["class = \"worker\"\nclas = 1", "[lease]\nperiods = \"1s\"", "[expects]\nphonez = 20"] {
            let error = Config::parse(text).unwrap_err().to_string();
            assert!(error.contains("line") && error.contains("unknown field"), "{error}");
        }
    }

    #[test]
    fn a_value_that_cannot_be_is_refused() {
        for text in [
            "class = \"gpu\"",
            "[lease]\nperiod = \"0s\"",
            "[lease]\nperiod = 10",
            "[expects]\nphones = -1",
            "[nvml]\nmode = \"on\"",
            "listen = \"9470\"",
        ] {
            let error = Config::parse(text).expect_err(text).to_string();
            assert!(error.contains("column"), "{error}");
        }
    }

    #[test]
    fn what_types_cannot_check_is_checked() {
        assert!(matches!(complete("name = \"a\""), Err(ConfigError::NoClass)));
        let root = complete("name = \"a\"\nclass = \"worker\"\nroot = \"/no/such/machine\"");
        assert!(matches!(root, Err(ConfigError::Root(_))));
        assert!(matches!(complete("name = \"A\"\nclass = \"worker\""), Err(ConfigError::Name(_))));
        let base = "name = \"a\"\nclass = \"worker\"\n";
        for api in ["[api]\nserver = \"https://a\"", "[api]\nkubeconfig = \"k\"\nserver = \"https://a\""] {
            assert!(matches!(complete(&format!("{base}{api}")), Err(ConfigError::Access(_))), "{api}");
        }
        for server in ["10.0.0.1:6443", "http://10.0.0.1:6443", "https://", "no address"] {
            let api = format!("{base}[api]\nserver = \"{server}\"\nca = \"a\"\ncertificate = \"c\"\nkey = \"k\"");
            assert!(matches!(complete(&api), Err(ConfigError::Access(_))), "{server}");
            assert!(complete(&api.replace(server, "https://10.0.0.1:6443")).is_ok());
        }
        let lease = format!("{base}[lease]\nperiod = \"30s\"");
        assert!(matches!(complete(&lease), Err(ConfigError::Lease { .. })));
        let backoff = format!("{base}[backoff]\nmin = \"1m\"");
        assert!(matches!(complete(&backoff), Err(ConfigError::Backoff { .. })));
    }

    #[test]
    fn defaults_follow_from_the_machine_and_the_class() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("proc/sys/kernel")).unwrap();
        std::fs::write(folder.path().join("proc/sys/kernel/hostname"), "phones-1.example.org\n").unwrap();
        let root = folder.path().display();
        let config = complete(&format!("class = \"phone-orchestrator\"\nroot = \"{root}\"")).unwrap();
        assert_eq!(config.name, "phones-1");
        assert_eq!(config.adb.server, Some("127.0.0.1:5037".parse().unwrap()));
        assert_eq!(config.api.kubeconfig.as_deref(), Some(Path::new("/etc/hatrack/kubeconfig")));
        let worker = complete(&format!("class = \"worker\"\nroot = \"{root}\"")).unwrap();
        assert_eq!(worker.adb.server, None);
    }

    #[test]
    fn what_is_printed_is_a_configuration() {
        let config = complete("name = \"a\"\nclass = \"worker\"\n[expects]\ngpus = 8").unwrap();
        assert_eq!(Config::parse(&toml::to_string(&config).unwrap()).unwrap(), config);
    }
}
