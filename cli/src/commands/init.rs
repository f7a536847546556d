//! `hatrack init`: hands over to `hatrack-init`, which comes with age and sops.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::Outcome;
use crate::args::Init;

const PROGRAM: &str = "hatrack-init";

/// Why keys and secrets are not made.
#[derive(Debug, thiserror::Error)]
#[error("failed to start `{PROGRAM}`")]
pub struct NotStarted(#[source] io::Error);

/// Becomes that program; returns only if it cannot.
pub fn run(options: &Init) -> anyhow::Result<Outcome> {
    let mut command = Command::new(PROGRAM);
    if let Some(domain) = &options.trust_domain {
        command.arg("--trust-domain").arg(domain);
    }
    Err(NotStarted(command.exec()).into())
}
