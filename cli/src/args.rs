//! What can be typed: `machines`, `node`, `token`, `hats` and `program` have the commands, `options` what several of them share.

mod hats;
mod machines;
mod node;
mod options;
mod program;
mod token;
mod values;

use clap::{Parser, Subcommand, ValueEnum};

pub use self::hats::{Bindings, Cosign, Graph, Hats, IdentityOptions, Plan, Release, Schedule, Verdict, Wear, Why};
pub use self::machines::{Discover, Nodes, Order, Phones, Register, Try};
pub use self::node::{Node, NodeVerb, OneNode, Remove};
pub use self::options::{ClusterOptions, Format, MachineOptions, OutputOptions};
pub use self::program::{Completions, Init, Manual, ProbeNvml};
pub use self::token::{CreateToken, ListTokens, RevokeToken, Token, TokenVerb};
pub use self::values::SkillAsked;

const EXIT_CODES: &str = "\
Exit codes: 0 done, 1 the answer is no, 2 error.
Data goes to stdout, everything else to stderr.";

/// Sees the machines of a cluster, what they have and what is wrong with it, and who wears which hat on them.
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
    Node(Node),
    Token(Token),
    Hats(Hats),
    Bindings(Bindings),
    Why(Why),
    Plan(Plan),
    Schedule(Schedule),
    Graph(Graph),
    Wear(Wear),
    Release(Release),
    Cosign(Cosign),
    Verdict(Verdict),
    Init(Init),
    Completions(Completions),
    Manual(Manual),
    #[command(name = hatrack_discover::nvidia::probe::SUBCOMMAND, hide = true)]
    ProbeNvml(ProbeNvml),
}
