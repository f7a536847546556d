//! What can be typed about machines.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use hatrack_api::cluster_node::{Class, Expects, Profile};

use super::options::{ClusterOptions, MachineOptions, OutputOptions};
use super::values::{class, expects, node_name, profile};

/// Show what this machine has, and who wears which hat on it, in a folder: no cluster needed.
///
/// Discovers this machine, registers it in a new folder of manifests, puts the first hats and two for hardware there, lets
/// two imagined wearers ask for them, and says who wears what, until when, and why not. Nothing but that folder is written.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack try                     this machine, in a new folder below /tmp
  hatrack try --cluster lab       the same in ./lab, which stays
  hatrack try --root copied/tree  another machine, from a copy of its /sys, /proc and /etc")]
pub struct Try {
    #[command(flatten)]
    pub machine: MachineOptions,

    /// Folder of manifests to register in [default: a new one in the folder for temporary files]
    #[arg(long, value_name = "DIR", help_heading = "Cluster")]
    pub cluster: Option<PathBuf>,
}

/// Show what this machine has; needs no cluster and writes nothing.
///
/// Reads sysfs and procfs, and asks NVML and the adb server, each with a deadline. What is present and cannot be used is
/// listed with its reason; what could not be told is said as such.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack discover
  hatrack discover -o json | jq '.devices[] | select(.health.state != \"Ready\")'
  hatrack discover --root copied/tree

The JSON and YAML forms are an inventory with `schema: hatrack.discover/v1`.")]
pub struct Discover {
    #[command(flatten)]
    pub machine: MachineOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Register this machine as a node of the cluster, or bring its node up to date.
///
/// Writes the ClusterNode of this machine: what it is (`spec`, only where it is not set or an option says so) and what it
/// has (`status`). Where hatrack-agent runs, it does this by itself. Another machine under the same name is refused.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack register --cluster lab
  hatrack register --cluster lab --name phones-1 --class phone-orchestrator --expect phones=20
  hatrack register --name gpu-1 --class gpu-worker")]
pub struct Register {
    /// Name of the node [default: the host name up to its first dot]
    #[arg(long, value_parser = node_name)]
    pub name: Option<String>,

    /// Class of the node [default: what the node has, else what fits the devices found]
    #[arg(long, value_parser = class())]
    pub class: Option<Class>,

    /// How much the machine and its surroundings can carry
    #[arg(long, value_parser = profile())]
    pub profile: Option<Profile>,

    /// What should be usable there: gpus=N, phones=N, accelerators=N, separated by commas
    #[arg(long, value_name = "KIND=N,...", value_parser = expects)]
    pub expect: Option<Expects>,

    #[command(flatten)]
    pub machine: MachineOptions,
    #[command(flatten)]
    pub cluster: ClusterOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// List the nodes of the cluster: the ill ones last, where the eye is.
///
/// STATUS is `Ready` or `NotReady` as the operator sees the node's Lease, and `Unknown` where nobody looks, as in a folder.
/// GPUS, PHONES and ACCEL (accelerators) are usable/present. TROUBLE is what is
/// wrong with it; `-o wide` has it in full.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack nodes
  hatrack nodes --cluster lab -o wide
  hatrack nodes --class phone-orchestrator --watch
  hatrack nodes -o json | jq -r '.items[].metadata.name'

With --watch, the table is followed by a line for each change, with its time. With --watch -o json,
each node that is there, comes, changes or goes is a line {\"type\": \"Applied\" or \"Deleted\", \"object\": ...}.")]
pub struct Nodes {
    /// Names of nodes; all without one
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,

    /// Only nodes of this class
    #[arg(long, value_parser = class())]
    pub class: Option<Class>,

    /// Stay and show what changes
    #[arg(short, long)]
    pub watch: bool,

    /// Order of the rows
    #[arg(long, value_enum, default_value_t = Order::Trouble)]
    pub sort: Order,

    #[command(flatten)]
    pub cluster: ClusterOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Order {
    /// By name, the ill ones last.
    Trouble,
    /// By name.
    Name,
}

/// Show the phones of a node slot by slot: state, reason and what to do.
///
/// A slot is the USB controller and the chain of hub ports below it: it stays over reboots and replugs. Where fewer
/// phones are there than the node expects, the free ports of its hubs are listed as well.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack phones phones-1
  hatrack phones --cluster lab
  hatrack phones phones-1 -o json | jq -r '.nodes[][] | select(.health.state != \"Ready\") | .name'

The JSON and YAML forms hold the phones by node, with `schema: hatrack.phones/v1`.")]
pub struct Phones {
    /// Name of the node; without it, every node with phones
    #[arg(value_name = "NODE")]
    pub node: Option<String>,

    #[command(flatten)]
    pub cluster: ClusterOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}
