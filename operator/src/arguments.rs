//! What the operator is called with. Flags win over the environment, and both over the file.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use hatrack_service::log::Format;
use tracing_subscriber::filter::Targets;

use crate::config::{Config, ConfigError, DEFAULT_PATH};

/// Watches the cluster, asks the rules of hats what to do, and does it.
#[derive(Debug, Parser)]
#[command(name = "hatrack-operator", version)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run until SIGTERM. One of several operators leads, the others wait. Exit status: 0 stopped, 2 error.
    Run(Box<Run>),
    /// Check a configuration file and print what is understood. Exit status: 0 good, 2 not.
    Check {
        /// The file.
        file: PathBuf,
    },
}

/// What `run` is called with.
#[derive(Debug, Args)]
pub struct Run {
    /// The configuration file; /etc/hatrack/operator.toml, if it is there, when none is named.
    #[arg(long, env = "HATRACK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How log lines look.
    #[arg(long, env = "HATRACK_LOG_FORMAT", value_enum, default_value = "text")]
    pub log_format: Format,
    /// What is logged: a level, and others for parts of the program, `info,hyper_util=debug`.
    #[arg(long, env = "HATRACK_LOG", default_value = "info", value_name = "LEVELS")]
    pub log: Targets,
    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, env = "HATRACK_LISTEN", value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Name of this operator among those that may lead; the host name unless told otherwise.
    #[arg(long, env = "HATRACK_NAME")]
    name: Option<String>,
    /// The kubeconfig file with the access to the API server.
    #[arg(long, env = "HATRACK_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// The NATS server that hears of every record.
    #[arg(long, env = "HATRACK_NATS_URL", value_name = "URL")]
    nats_url: Option<String>,
}

impl Run {
    /// The configuration: file, environment, flags.
    pub fn configuration(self) -> Result<Config, ConfigError> {
        let (path, optional) = self.config.map_or((PathBuf::from(DEFAULT_PATH), true), |path| (path, false));
        let mut config = Config::read(&path, optional)?;
        config.listen = self.listen.unwrap_or(config.listen);
        config.api.kubeconfig = self.kubeconfig.or(config.api.kubeconfig);
        config.leader.name = self.name.or(config.leader.name);
        config.nats.url = self.nats_url.or(config.nats.url);
        config.complete()
    }
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
        let file = folder.path().join("operator.toml");
        std::fs::write(&file, "listen = \"127.0.0.1:1\"\n[api]\nkubeconfig = \"/a\"\n[nats]\nurl = \"nats://a\"\n")
            .unwrap();
        let file = file.to_str().unwrap();
        let arguments = ["hatrack-operator", "run", "--config", file, "--kubeconfig", "/b", "--nats-url", "nats://b"];
        let Command::Run(run) = Arguments::try_parse_from(arguments).unwrap().command else { panic!("not run") };
        let config = run.configuration().unwrap();
        assert_eq!(config.listen, "127.0.0.1:1".parse().unwrap());
        assert_eq!(config.api.kubeconfig, Some(PathBuf::from("/b")));
        assert_eq!(config.nats.url.as_deref(), Some("nats://b"));
    }
}
