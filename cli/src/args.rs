//! What can be typed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use hatrack_api::cluster_node::{Class, Expects, Profile, check_name};

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 the answer is no, 2 error.
Data goes to stdout, everything else to stderr.";

/// Sees the machines of a cluster, what they have and what is wrong with it.
///
/// Everything works without a cluster: `hatrack try` shows this machine, and `--cluster DIR` keeps a cluster in a
/// folder of manifests. Without it, the cluster is the one of the kubeconfig.
#[derive(Debug, Parser)]
#[command(name = "hatrack", version, after_help = EXIT_CODES, max_term_width = 100)]
pub struct Arguments {
    /// Colours: `auto` (on a terminal, unless NO_COLOR is set), `always` or `never`
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t = Color::Auto, hide_possible_values = true, hide_default_value = true, help_heading = "Global options")]
    pub color: Color,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    Auto,
    Always,
    Never,
}

impl From<Color> for anstream::ColorChoice {
    fn from(color: Color) -> Self {
        match color {
            Color::Auto => Self::Auto,
            Color::Always => Self::Always,
            Color::Never => Self::Never,
        }
    }
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Try(Try),
    Discover(Discover),
    Register(Register),
    Nodes(Nodes),
    Phones(Phones),
    Completions(Completions),
    Manual(Manual),
    #[command(name = hatrack_discover::nvidia::probe::SUBCOMMAND, hide = true)]
    ProbeNvml(ProbeNvml),
}

/// Ask NVML and print what it says: what the other commands run, so that a deadline can kill it.
#[derive(Debug, Args)]
pub struct ProbeNvml {
    /// Go on with each change
    #[arg(long)]
    pub watch: bool,
}

/// Show what this machine has and how it looks as a node, in a folder: no cluster needed.
///
/// Discovers this machine, registers it in a new folder of manifests and says what was found, what cannot be used, why,
/// and what to type next. Nothing but that folder is written.
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

/// Print a completion script for a shell.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack completions bash > ~/.local/share/bash-completion/completions/hatrack
  hatrack completions zsh > ~/.zfunc/_hatrack
  hatrack completions fish > ~/.config/fish/completions/hatrack.fish")]
pub struct Completions {
    /// The shell
    pub shell: Shell,
}

/// Write the manual pages into a folder.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack manual /usr/local/share/man/man1
  hatrack manual . && man ./hatrack-nodes.1")]
pub struct Manual {
    /// Folder for the pages; it is made if there is none
    #[arg(value_name = "DIR")]
    pub folder: PathBuf,
}

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
#[derive(Debug, Args)]
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

fn node_name(text: &str) -> Result<String, String> {
    check_name(text).map(|()| text.to_owned()).map_err(|error| error.to_string())
}

fn class() -> impl TypedValueParser<Value = Class> {
    one_of(Class::ALL, Class::as_str)
}

fn profile() -> impl TypedValueParser<Value = Profile> {
    use Profile::{CloudHub, Community, Edge, HomeBusiness, Leaf};
    one_of([CloudHub, Community, HomeBusiness, Edge, Leaf], Profile::as_str)
}

/// One of a few values by its name in manifests; shells complete the names.
fn one_of<T, const N: usize>(values: [T; N], name: fn(T) -> &'static str) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    let find = move |text: String| values.into_iter().find(|value| name(*value) == text);
    PossibleValuesParser::new(values.map(name)).try_map(move |text| find(text).ok_or("the name is unknown"))
}

fn expects(text: &str) -> Result<Expects, String> {
    let mut expects = Expects::default();
    for part in text.split(',') {
        let (kind, number) = part.split_once('=').ok_or_else(|| format!("`{part}` is not KIND=N"))?;
        let number = number.parse().ok().filter(|number| (0..=256).contains(number));
        let number = Some(number.ok_or_else(|| format!("`{part}`: a number from 0 to 256 is needed"))?);
        match kind {
            "gpus" => expects.gpus = number,
            "phones" => expects.phones = number,
            "accelerators" => expects.accelerators = number,
            _ => return Err(format!("`{kind}` is none of gpus, phones, accelerators")),
        }
    }
    Ok(expects)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|wait| !wait.is_zero()).ok_or_else(|| "a number of seconds above 0 is needed".to_owned())
}
