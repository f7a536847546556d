//! What can be typed about the tokens of machines.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use hatrack_api::cluster_node::Class;

use super::options::{ClusterOptions, OutputOptions};
use super::values::{class, https_address, length, node_name};

/// Make, list and take back the tokens with which machines enroll.
///
/// A machine that is no member of Kubernetes asks for its first certificate with a token that was made for its name and class. A
/// token is a Secret of `kube-system`, so all this takes the rights of a cluster administrator.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack token create phones-1 --class phone-orchestrator --output-file phones-1.token
  hatrack token list
  hatrack token revoke phones-1")]
pub struct Token {
    #[command(subcommand)]
    pub verb: TokenVerb,
}

#[derive(Debug, Subcommand)]
pub enum TokenVerb {
    Create(CreateToken),
    /// List the tokens of machines, without what is secret of them
    List(ListTokens),
    /// Take the tokens of a machine, or one of them, back
    ///
    /// Nobody enrolls with it any more, at once. A machine that has its certificate keeps it: `hatrack node revoke` ends that.
    Revoke(RevokeToken),
}

/// Make a token for a machine, and write the file that it enrolls with.
///
/// The file goes to stdout, or into a new file that only its owner reads. It names the cluster's API server and the hash of its
/// authority, so that the machine gives the token to no other. Whoever has it can become that machine until the token ends.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hatrack token create phones-1 --class phone-orchestrator --output-file phones-1.token
  token=$(hatrack token create pi-1 --class pi-ai-hat --ttl 1h) &&
    ssh root@pi-1 'install -D -m 600 /dev/stdin /var/lib/hatrack-enrollment/token.toml' <<<\"$token\"
  token=$(hatrack token create phones-1 --class phone-orchestrator) &&
    sops set hosts/phones-1/secrets.yaml '[\"enrollment-phones-1\"]' \"$(jq -Rs . <<<\"$token\")\"")]
pub struct CreateToken {
    /// Name of the node that the machine is to be
    #[arg(value_parser = node_name)]
    pub name: String,

    /// Class of the machine, as its agent is configured
    #[arg(long, value_parser = class())]
    pub class: Class,

    /// How long the token can be used, as `90m` or `24h`
    #[arg(long, value_name = "LENGTH", default_value = "24h", value_parser = length)]
    pub ttl: Duration,

    /// Address of the API server for the machine [default: the one of the kubeconfig]
    #[arg(long, value_name = "URL", value_parser = https_address)]
    pub server: Option<String>,

    /// A new file to write, with mode 0600, in place of stdout
    #[arg(long, value_name = "FILE")]
    pub output_file: Option<PathBuf>,

    /// Take the tokens back that were made for this name before
    #[arg(long)]
    pub replace: bool,

    #[command(flatten)]
    pub cluster: ClusterOptions,
}

#[derive(Debug, Args)]
pub struct ListTokens {
    #[command(flatten)]
    pub cluster: ClusterOptions,
    #[command(flatten)]
    pub output: OutputOptions,
}

#[derive(Debug, Args)]
pub struct RevokeToken {
    /// Name of the node that the tokens are for, or the first part of one token
    // What is no name of a node is no id either.
    #[arg(value_name = "NAME|ID", value_parser = node_name)]
    pub of: String,

    #[command(flatten)]
    pub cluster: ClusterOptions,
}
