//! hatrack-operator: watches the cluster, asks the rules of hats what to do, and does it.
//!
//! ```text
//!   watches ─> observe ──World──┬──> decide ──actions──> act ──> API server
//!                 ▲             ├──> readiness ────────────────> ClusterNode conditions
//!                 │             ├──> enroll, revocation ───────> requests for certificates, access of machines
//!                 └──answers────┤
//!                               └──> serve ──> /metrics /healthz /readyz
//!   Lease ──> leader ──who leads──> decide, readiness, announce, enroll, revocation
//!   forbidden requests ──> canary ──whether the fence bites──> act, enroll
//! ```
//!
//! | task | runs | input | output |
//! |---|---|---|---|
//! | [`observe`] | always | watches of every kind; answers to writes | the [`hatrack_hats::World`] |
//! | [`leader`] | always | the leader's Lease | `Leadership` |
//! | [`canary`] | always | the answers to requests that have to be refused | `Canary` |
//! | [`serve`] | always | all outputs | HTTP, sd_notify |
//! | [`decide`] | while leading | the World, the time | writes |
//! | [`announce`] | while leading | the records | Events, log lines, messages on NATS |
//! | [`enroll`] | while leading | requests for certificates, the World | approvals and denials; the first access of a machine |
//! | [`revocation`] | while leading | `spec.revoked` of ClusterNodes | the end of a machine's access |
//! | [`node_labels`] | while leading | `status.hats` of ClusterNodes | labels of Kubernetes' Nodes |
//! | [`readiness`] | while leading | the World, the time | the conditions `Ready` and `IdentityConflict` |
//!
//! **Nothing is decided before every kind was listed once**: a hat that is not known looks like one that was deleted.
//!
//! **One leads.** The others observe as well, so that who takes over knows everything already. The leader checks before each write
//! that it still leads; what a leader writes that was stopped between the check and the write is refused by its `resourceVersion`, or
//! is taken back by the next.
//!
//! **Time.** Terms are about the wall clock; silence, leading and waiting about the boot-time clock ([`clock`]).

mod announce;
mod arguments;
mod canary;
mod client;
mod clock;
mod config;
mod decide;
mod enroll;
mod failure;
mod leader;
mod metrics;
mod node_labels;
mod observe;
mod operator;
mod readiness;
mod revocation;
mod serve;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use hatrack_service::log;

use crate::arguments::{Arguments, Command, Run};
use crate::config::{Config, ConfigError};

/// The exit status for every error.
const ERROR: u8 = 2;

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(run) => start(*run),
        Command::Check { file } => check(&file),
    };
    done.unwrap_or_else(|error| {
        let hint = error.downcast_ref::<ConfigError>().map(ConfigError::hint);
        let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        _ = writeln!(std::io::stderr(), "error: {}{hint}", log::chain(error.as_ref()));
        ExitCode::from(ERROR)
    })
}

fn start(run: Run) -> anyhow::Result<ExitCode> {
    log::begin(run.log_format, run.log.clone());
    let config = run.configuration()?;
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        anyhow::bail!("failed to install the TLS implementation");
    }
    operator::run(config)
}

fn check(file: &std::path::Path) -> anyhow::Result<ExitCode> {
    let config = Config::read(file, false)?.complete()?;
    let text = toml::to_string(&config).context("failed to print the configuration")?;
    std::io::stdout().write_all(text.as_bytes()).context("failed to print the configuration")?;
    Ok(ExitCode::SUCCESS)
}
