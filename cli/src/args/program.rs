//! What can be typed about this program itself.

use std::path::PathBuf;

use clap::Args;
use clap_complete::Shell;

/// Ask NVML and print what it says: what the other commands run, so that a deadline can kill it.
#[derive(Debug, Args)]
pub struct ProbeNvml {
    /// Go on with each change
    #[arg(long)]
    pub watch: bool,
}

/// Make the keys and secrets of a cluster of your own.
///
/// In the repository of a cluster (`nix flake init --template github:hatrack/hatrack`): a key of yours, one for each host, the
/// join token, the key that phones trust, the rules of who reads which secret, and the limits of hats. What is there stays.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nix run .#init
  nix develop github:hatrack/hatrack --command hatrack init")]
pub struct Init {
    /// Trust domain of the SPIFFE ids of this cluster [default: the name of the folder]
    #[arg(long, value_name = "NAME")]
    pub trust_domain: Option<String>,
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
