//! What can be typed about one machine of the cluster.

use clap::{Args, Subcommand};

use super::options::ClusterOptions;
use super::values::node_name;

/// Say what only a person says of a node: cordon it, ban it, give its name to another machine, take it away.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack node cordon gpu-1         before work on the machine: what is worn there goes on to its end
  hatrack node uncordon gpu-1
  hatrack node repin gpu-1          its board was replaced
  hatrack node revoke gpu-1         it was stolen
  hatrack node remove gpu-1         it is gone for good")]
pub struct Node {
    #[command(subcommand)]
    pub verb: NodeVerb,
}

#[derive(Debug, Subcommand)]
pub enum NodeVerb {
    /// Give the node no new hats; those that are worn there go on to their end
    Cordon(OneNode),
    /// Let the node take hats again
    Uncordon(OneNode),
    /// Ban the machine: the operator takes its rights away, and no certificate is given under this name
    ///
    /// Sets `spec.revoked`. The operator removes the ClusterRoleBinding of the node, which ends what the machine may do at once,
    /// with its certificate still valid, and moves its hats. To lift the ban, remove the node and enroll the machine
    /// anew with another token.
    Revoke(OneNode),
    /// Let another machine take the name, as after a replaced board
    ///
    /// Clears `spec.hardwareID`: the next machine that presents itself under this name is pinned to it.
    Repin(Confirmed),
    /// Take the node out of the cluster: its object, its Lease and its rights
    ///
    /// A node where hats are worn is refused: cordon it first and wait for their end, or say --force.
    Remove(Remove),
}

#[derive(Debug, Args)]
pub struct OneNode {
    /// Name of the node
    #[arg(value_parser = node_name)]
    pub name: String,

    #[command(flatten)]
    pub cluster: ClusterOptions,
}

/// A node, for what cannot be undone by a command.
#[derive(Debug, Args)]
pub struct Confirmed {
    #[command(flatten)]
    pub node: OneNode,

    /// Do not ask for the name of the node once more
    #[arg(short, long)]
    pub yes: bool,
}

#[derive(Debug, Args)]
pub struct Remove {
    #[command(flatten)]
    pub confirmed: Confirmed,

    /// Remove it although hats are worn there
    #[arg(long)]
    pub force: bool,
}
