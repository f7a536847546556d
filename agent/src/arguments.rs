//! What the agent is called with. Flags win over the environment, and both over the file.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use hatrack_api::cluster_node::{Class, Profile};
use hatrack_discover::nvidia::probe;
use tracing_subscriber::filter::Targets;

use crate::config::{Config, ConfigError, DEFAULT_PATH, Period};
use crate::log::Format;

/// Finds what this machine has, registers it as a ClusterNode, and keeps that true.
#[derive(Debug, Parser)]
#[command(name = "hatrack-agent", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run until SIGTERM. SIGHUP makes it look at the machine again and read its credentials anew. Exit status: 0 stopped,
    /// 2 error, 3 stopped while the ClusterNode of this name belonged to another machine.
    Run(Box<Run>),
    /// Get this machine's certificate with the access of a kubeconfig, once, and end: on a Kubernetes worker, root does so with
    /// the kubelet's before the agent starts. Does nothing while there is a certificate. Exit status: 0 there is one, 2 there is none.
    Enroll(Box<Enroll>),
    /// Check a configuration file and print what is understood. Exit status: 0 good, 2 not.
    Check {
        /// The file.
        file: PathBuf,
    },
    /// Ask NVML; the agent runs this itself, so that a hanging driver can be left behind.
    #[command(name = probe::SUBCOMMAND, hide = true)]
    Probe {
        /// Go on until standard input ends.
        #[arg(long)]
        watch: bool,
    },
}

/// What `enroll` is called with.
#[derive(Debug, Args)]
pub struct Enroll {
    #[command(flatten)]
    pub run: Run,
    /// The kubeconfig file whose access makes the request, such as the kubelet's: /var/lib/rancher/k3s/agent/kubelet.kubeconfig.
    #[arg(long = "with", value_name = "KUBECONFIG")]
    pub access: PathBuf,
    /// The user to give the state folder and the certificate to: the one that the agent runs as.
    #[arg(long, value_name = "USER")]
    pub owner: Option<String>,
    /// How long to wait for the operator and the signer.
    #[arg(long, value_name = "PERIOD", default_value = "10m", value_parser = word::<Period>)]
    pub wait: Period,
}

/// What `run` is called with.
#[derive(Debug, Args)]
pub struct Run {
    /// The configuration file; /etc/hatrack/agent.toml, if it is there, when none is named.
    #[arg(long, env = "HATRACK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines look.
    #[arg(long, env = "HATRACK_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: Format,
    /// What is logged: a level, and others for parts of the program, `info,hyper_util=debug`.
    #[arg(long, env = "HATRACK_LOG", default_value = "info", value_name = "LEVELS")]
    pub log: Targets,
    /// Name of the ClusterNode.
    #[arg(long, env = "HATRACK_NAME")]
    name: Option<String>,
    /// Class of the machine.
    #[arg(long, env = "HATRACK_CLASS", value_parser = word::<Class>)]
    class: Option<Class>,
    /// Profile of the machine.
    #[arg(long, env = "HATRACK_PROFILE", value_parser = word::<Profile>)]
    profile: Option<Profile>,
    /// Folder of what is kept over restarts.
    #[arg(long, env = "HATRACK_STATE_DIR", value_name = "FOLDER")]
    state_dir: Option<PathBuf>,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "HATRACK_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// The tree to look at instead of this machine.
    #[arg(long, env = "HATRACK_ROOT", value_name = "FOLDER")]
    root: Option<PathBuf>,
    /// The kubeconfig file with the access to the API server.
    #[arg(long, env = "HATRACK_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The adb server to ask.
    #[arg(long, env = "HATRACK_ADB_SERVER", value_name = "ADDRESS:PORT")]
    adb_server: Option<SocketAddr>,
}

impl Run {
    /// The configuration: file, environment, flags.
    pub fn configuration(self) -> Result<Config, ConfigError> {
        let (path, optional) = self.config.map_or((PathBuf::from(DEFAULT_PATH), true), |path| (path, false));
        let mut config = Config::read(&path, optional)?;
        config.class = self.class.or(config.class);
        config.profile = self.profile.or(config.profile);
        if let Some(kubeconfig) = self.kubeconfig {
            config.api.by_kubeconfig(kubeconfig);
        }
        config.adb.server = self.adb_server.or(config.adb.server);
        config.name = self.name.unwrap_or(config.name);
        config.state_dir = self.state_dir.unwrap_or(config.state_dir);
        config.listen = self.listen.unwrap_or(config.listen);
        config.root = self.root.unwrap_or(config.root);
        config.complete()
    }
}

/// A word as it stands in manifests.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn flags_win_over_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.toml");
        std::fs::write(&file, "name = \"a\"\nclass = \"worker\"\nlisten = \"127.0.0.1:1\"\n").unwrap();
        let file = file.to_str().unwrap();
        let arguments = ["hatrack-agent", "run", "--config", file, "--name", "b", "--class", "pi-ai-hat"];
        let Command::Run(run) = Arguments::try_parse_from(arguments).unwrap().command else { panic!("not run") };
        let config = run.configuration().unwrap();
        assert_eq!((config.name.as_str(), config.class), ("b", Some(Class::PiAiHat)));
        assert_eq!(config.listen, "127.0.0.1:1".parse().unwrap());
        let wrong = ["hatrack-agent", "run", "--class", "gpu"];
        assert!(Arguments::try_parse_from(wrong).is_err());
    }

    #[test]
    fn a_kubeconfig_of_the_flags_replaces_the_files_access() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("agent.toml");
        let access = "[api]\nserver = \"https://a\"\nca = \"/a\"\ncertificate = \"/b\"\nkey = \"/c\"\n";
        std::fs::write(&file, format!("name = \"a\"\nclass = \"worker\"\n{access}")).unwrap();
        let file = file.to_str().unwrap();
        let arguments = ["hatrack-agent", "run", "--config", file, "--kubeconfig", "/k"];
        let Command::Run(run) = Arguments::try_parse_from(arguments).unwrap().command else { panic!("not run") };
        let api = run.configuration().unwrap().api;
        assert_eq!((api.kubeconfig, api.server), (Some(PathBuf::from("/k")), None));
    }
}
