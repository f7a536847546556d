//! Options that several commands have.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use super::values::seconds;

/// Where a machine is looked at.
#[derive(Debug, Args)]
#[command(next_help_heading = "Machine")]
pub struct MachineOptions {
    /// Read a copy of a machine's tree; its drivers and servers are not asked
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,

    /// The adb server to ask [default: 127.0.0.1:5037, and none with --root]
    #[arg(long, value_name = "ADDRESS")]
    pub adb_server: Option<SocketAddr>,

    /// Seconds to wait for NVML and for the adb server
    #[arg(long, value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub deadline: Duration,
}

/// Which cluster.
#[derive(Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub struct ClusterOptions {
    /// Folder of manifests that is the cluster; without it, the kubeconfig says which
    #[arg(long, value_name = "DIR", env = "HATRACK_CLUSTER", hide_env_values = true)]
    pub cluster: Option<PathBuf>,

    /// Context of the kubeconfig
    #[arg(long, value_name = "NAME", conflicts_with = "cluster")]
    pub context: Option<String>,
}

/// In which form.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputOptions {
    /// Form of the data
    #[arg(short, long, value_name = "FORM", value_enum, default_value_t = Format::Table)]
    pub output: Format,

    /// Leave out the headers of tables
    #[arg(long)]
    pub no_headers: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people; fits the terminal.
    Table,
    /// A table with everything, however wide.
    Wide,
    /// For programs.
    Json,
    /// For programs and people.
    Yaml,
    /// Names alone, one on a line.
    Name,
}
