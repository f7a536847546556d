//! What can be typed about hats.

use std::time::Duration;

use clap::builder::PossibleValue;
use clap::{Args, ValueEnum};
use hatrack_api::hat_binding::{ServiceAccountRef, VerdictAction};
use jiff::Timestamp;

use super::options::{ClusterOptions, OutputOptions};
use super::values::{SkillAsked, length, object_name, period, seconds, service_account, skill, time};

/// List the hats: who wears them, where and until when, who waits, and how their terms ended.
///
/// WORN is the number of wearers, and the most that there may be. With one name, everything about that hat: what it allows and
/// needs, its limits, its wearers, who waits for what, and its last records.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack hats
  hatrack hats repair
  hatrack hats --skill python=intermediate       hats whose wearers know Python at least so well
  hatrack hats repair --at 14:03                 who wore it then, and to whom it still stuck
  hatrack hats repair --at 2026-01-31T14:03:00Z --wearer spiffe://cluster.local/ns/farm/sa/ci
  hatrack hats -o json | jq -r '.items[] | select(.status.currentWearers == null) | .metadata.name'

--at tells by the records that are kept. With -o json or yaml it has `schema: hatrack.attribution/v1`.")]
pub struct Hats {
    /// Names of hats; all without one
    #[arg(value_name = "HAT", value_parser = object_name)]
    pub names: Vec<String>,

    /// Only hats with this skill (`python`), or with it at this level or a higher one (`python=expert`); repeated: with all of them
    #[arg(long, value_name = "NAME[=LEVEL]", value_parser = skill, conflicts_with = "names")]
    pub skill: Vec<SkillAsked>,

    /// Who answers for what was done with the hat at this time: RFC 3339, `2026-01-31 14:03` or `14:03`
    #[arg(long, value_name = "TIME", value_parser = time, requires = "names")]
    pub at: Option<Timestamp>,

    /// With --at: only this one, by SPIFFE id
    #[arg(long, value_name = "SPIFFE-ID", requires = "at")]
    pub wearer: Option<String>,

    #[command(flatten)]
    pub cluster: ClusterOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// List who asked for which hat, and what became of it: held ones last, with the reason.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack bindings
  hatrack bindings -n farm --hat repair --watch
  hatrack bindings -o json | jq -r '.items[] | select(.status.phase == \"Active\") | .spec.wearer.spiffeID'

With --watch, the table is followed by a line for each change, with its time. With --watch -o json,
each binding that is there, comes, changes or goes is a line {\"type\": \"Applied\" or \"Deleted\", \"object\": ...}.")]
pub struct Bindings {
    /// Names of bindings; all without one
    #[arg(value_name = "BINDING", value_parser = object_name)]
    pub names: Vec<String>,

    /// Only bindings of this hat
    #[arg(long, value_name = "HAT", value_parser = object_name)]
    pub hat: Option<String>,

    /// Only bindings of this namespace [default: all]
    #[arg(short, long, value_name = "NAME", value_parser = object_name)]
    pub namespace: Option<String>,

    /// Stay and show what changes
    #[arg(short, long)]
    pub watch: bool,

    #[command(flatten)]
    pub cluster: ClusterOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Say why a request is held, what each node says to it, and what would change it.
///
/// Exit code 0: it is worn; 1: it is not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack why repair-x7k2p
  hatrack why repair-x7k2p -n farm -o json | jq -r '.nodes[] | .node + \": \" + .says'

The JSON and YAML forms have `schema: hatrack.why/v1`.")]
pub struct Why {
    #[command(flatten)]
    pub binding: BindingName,
    #[command(flatten)]
    pub cluster: ClusterOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Show what would happen, now and later, if nobody changes anything; nothing is written.
///
/// The rules decide on a copy of the cluster whose time goes on: nodes that are there stay, and stop at once what they are to
/// stop. Where an operator runs, what is due now is done already.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack plan
  hatrack plan --until 8h --next 100
  hatrack plan --cluster lab -o json | jq -r '.later[] | .at + \" \" + .event + \" \" + .binding'

The JSON and YAML forms have `schema: hatrack.plan/v1`.")]
pub struct Plan {
    /// Look ahead until there are so many transitions
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub next: usize,

    /// How far to look: a time, or a length such as `8h` or `90m`
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = period)]
    pub until: Timestamp,

    #[command(flatten)]
    pub cluster: ClusterOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Be the operator of a cluster in a folder: decide, and write what was decided.
///
/// Without --watch once. Where a cluster is in Kubernetes, its operator does this. In a folder nobody watches machines: a node counts as
/// there while its manifest is there, unless its condition Ready says otherwise.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack schedule --cluster lab
  hatrack schedule --cluster lab --watch")]
pub struct Schedule {
    /// Stay, and decide again whenever the folder changes or something is due
    #[arg(short, long)]
    pub watch: bool,

    #[command(flatten)]
    pub cluster: ClusterOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Draw the hats, their wearers and the nodes as a graph, in DOT.
///
/// Hats are boxes, wearers ellipses, nodes 3-D boxes. Edges say who wears what and where, who supervises, what conflicts, who
/// vouched for whom, and who succeeded whom.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack graph | dot -Tsvg > hats.svg
  hatrack graph --cluster lab | dot -Tpng | display")]
pub struct Graph {
    #[command(flatten)]
    pub cluster: ClusterOptions,
}

/// Ask for a hat; with a command, wait for it, run the command while it is worn, and take it off.
///
/// You are who HatPolicy `default` says that the user of your kubeconfig is, or the service account that you name. Asking
/// again for a hat that you have asked for changes nothing.
///
/// A command gets HATRACK_HAT, HATRACK_WEARER, HATRACK_BINDING and, where the hat has them, HATRACK_NODE, HATRACK_DEVICES,
/// HATRACK_EXPIRES_AT, NVIDIA_VISIBLE_DEVICES and ANDROID_SERIAL. It is ended (SIGTERM, then SIGKILL) when the hat ends, and its
/// exit code is that of this one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack wear observer
  hatrack wear trainer --timeout 10m -- python train.py
  hatrack wear repair -n farm --as-service-account farm/ci -- ./repair-phones")]
pub struct Wear {
    /// Name of the hat
    #[arg(value_name = "HAT", value_parser = object_name)]
    pub hat: String,

    /// Command to run while the hat is worn, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    pub command: Vec<String>,

    /// Longest wait for the hat, such as `90s` or `10m`; without it as long as it takes
    #[arg(long, value_name = "TIME", value_parser = length)]
    pub timeout: Option<Duration>,

    /// Seconds that the command has to end after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub stop_timeout: Duration,

    /// Name of the binding [default: a new one that begins with the hat's]
    #[arg(long, value_name = "NAME", value_parser = object_name)]
    pub name: Option<String>,

    /// Namespace of the binding [default: that of the kubeconfig; in a folder `default`]
    #[arg(short, long, value_name = "NAME", value_parser = object_name)]
    pub namespace: Option<String>,

    #[command(flatten)]
    pub identity: IdentityOptions,
    #[command(flatten)]
    pub cluster: ClusterOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

/// Take a hat off, or a request for one back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack release repair-x7k2p
  hatrack release -n farm repair-x7k2p")]
pub struct Release {
    #[command(flatten)]
    pub binding: BindingName,
    #[command(flatten)]
    pub cluster: ClusterOptions,
}

/// Vouch for a request for a hat that needs co-signers.
///
/// It takes the verb `cosign` on the hat, which the wearers of a supervising hat have. A co-signature cannot be taken back.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack cosign designer-m3q9z
  hatrack cosign designer-m3q9z --attestation \"reviewed: change 4711\"")]
pub struct Cosign {
    #[command(flatten)]
    pub binding: BindingName,

    /// Evidence that is carried with the co-signature
    #[arg(long, value_name = "TEXT")]
    pub attestation: Option<String>,

    #[command(flatten)]
    pub identity: IdentityOptions,
    #[command(flatten)]
    pub cluster: ClusterOptions,
}

/// Judge a wearer as a supervisor: revoke the hat, put it on probation, or restore it.
///
/// It takes the verb `supervise` on the hat, which the wearers of a supervising hat have. A revocation is final; on probation a
/// wearer may only read.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack verdict repair-x7k2p probation --reason \"flashed the wrong image\"
  hatrack verdict repair-x7k2p restore
  hatrack verdict repair-x7k2p revoke --reason \"again\"")]
pub struct Verdict {
    #[command(flatten)]
    pub binding: BindingName,

    /// What is to happen
    #[arg(value_enum)]
    pub action: Action,

    /// Why, for people and for the record
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,

    #[command(flatten)]
    pub identity: IdentityOptions,
    #[command(flatten)]
    pub cluster: ClusterOptions,
}

/// A verdict as it is typed.
#[derive(Debug, Clone, Copy)]
pub struct Action(pub VerdictAction);

impl ValueEnum for Action {
    fn value_variants<'a>() -> &'a [Self] {
        &[Self(VerdictAction::Revoke), Self(VerdictAction::Probation), Self(VerdictAction::Restore)]
    }

    fn to_possible_value(&self) -> Option<PossibleValue> {
        let (name, help) = match self.0 {
            VerdictAction::Revoke => ("revoke", "take the hat off for good"),
            VerdictAction::Probation => ("probation", "reduce it to reading"),
            VerdictAction::Restore => ("restore", "end a probation"),
        };
        Some(PossibleValue::new(name).help(help))
    }
}

/// One binding.
#[derive(Debug, Args)]
pub struct BindingName {
    /// Name of the binding
    #[arg(value_name = "BINDING", value_parser = object_name)]
    pub name: String,

    /// Namespace of the binding [default: that of the kubeconfig; in a folder `default`]
    #[arg(short, long, value_name = "NAME", value_parser = object_name)]
    pub namespace: Option<String>,
}

/// Who acts.
#[derive(Debug, Args)]
#[command(next_help_heading = "Identity")]
pub struct IdentityOptions {
    /// A service account, in place of the one whose kubeconfig it is
    #[arg(long, value_name = "NAMESPACE/NAME", value_parser = service_account)]
    pub as_service_account: Option<ServiceAccountRef>,
}
