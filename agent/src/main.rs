//! hatrack-agent: on every machine, finds what it has, registers it, keeps it true.
//!
//! ```text
//!   kernel, NVML, adb ─> observe ──observations──┬──> publish ──> ClusterNode
//!                           ▲                    ├──> lease ────> Lease
//!             state file ───┘                    ├──> state ────> state file
//!                                                └──> serve ────> /metrics /healthz /readyz
//!   ClusterNode ─> own (list, watch) ──newest version──> publish, lease, observe, serve, wear
//!   wear (systemd) ──what is worn──> publish, lease, serve
//! ```
//!
//! Each box is a task on one thread. Its input is a channel that holds the newest value and no history, and so is its output:
//!
//! | task | input | output |
//! |---|---|---|
//! | [`observe`] | hotplug, NVML's and adb's views, SIGHUP, the state file once | newest `Observation`, `Activity` |
//! | [`enroll`] | the kept identity, the token file | certificate and key; `Enrolled` |
//! | [`own`] | list and watch of one object; answers to writes | newest version of the object |
//! | [`publish`] | newest `Observation`, newest version, newest `Wearing` | writes to the object; `Publication` |
//! | [`lease`] | newest `Observation`, newest version, newest `Wearing` | writes to the Lease; `Renewal` |
//! | [`state`] | newest `Observation` | the state file; `Kept` |
//! | [`wear`] | newest `Observation`, newest version, newest `Renewal`, systemd's signals | files and targets of hats; `Wearing` |
//! | [`serve`] | all outputs | HTTP |
//! | [`supervisor`] | all outputs | sd_notify |
//!
//! **A restart changes nothing in the object.** Names of devices come from the state file, else from the object, which is not written before it was
//! seen. The first write waits until NVML and the adb server have answered, up to `discovery.settle`, if the object shows this machine already. After
//! that only differences are written.
//!
//! **Identity.** The agent writes only while `spec.hardwareID` is its own ([`standing`]). While it is another machine's, the
//! agent runs on, not ready, and watches: a person who clears the field lets this machine take the name. Stopped in that
//! state, its exit status is 3. A machine without a hardware id to trust writes nothing.
//!
//! **Time.** Periods run on monotonic clocks, and timestamps come from the API server's clock ([`clock`]).

mod agent;
mod arguments;
mod client;
mod clock;
mod config;
mod enroll;
mod files;
mod lease;
mod metrics;
mod observe;
mod own;
mod publish;
mod serve;
mod standing;
mod state;
mod supervisor;
mod wear;

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use clap::Parser;
use hatrack_discover::nvidia::probe;
use hatrack_service::log;

use crate::arguments::{Arguments, Command, Enroll, Run};
use crate::config::{Config, ConfigError};
use crate::enroll::EnrollError;

/// The exit status for every error.
const ERROR: u8 = 2;

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(run) => start(*run),
        Command::Enroll(enroll) => enroll_once(*enroll),
        Command::Check { file } => check(&file),
        Command::Probe { watch } => return probe::run(watch),
    };
    done.unwrap_or_else(|error| {
        let hint = error.downcast_ref::<ConfigError>().map(ConfigError::hint);
        let hint = hint.or_else(|| error.downcast_ref::<EnrollError>().and_then(EnrollError::hint));
        let hint = hint.map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        _ = writeln!(std::io::stderr(), "error: {}{hint}", log::chain(error.as_ref()));
        ExitCode::from(ERROR)
    })
}

fn enroll_once(enroll: Enroll) -> anyhow::Result<ExitCode> {
    let Enroll { run, access, owner, wait } = enroll;
    log::begin(run.log_format, run.log.clone());
    let config = run.configuration()?;
    install_tls()?;
    enroll::once::run(&config, &access, owner.as_deref(), wait.get())?;
    Ok(ExitCode::SUCCESS)
}

fn install_tls() -> anyhow::Result<()> {
    match rustls::crypto::ring::default_provider().install_default() {
        Ok(()) => Ok(()),
        Err(_) => anyhow::bail!("failed to install the TLS implementation"),
    }
}

fn start(run: Run) -> anyhow::Result<ExitCode> {
    log::begin(run.log_format, run.log.clone());
    let config = run.configuration()?;
    install_tls()?;
    agent::run(config)
}

fn check(file: &std::path::Path) -> anyhow::Result<ExitCode> {
    let config = Config::read(file, false)?.complete()?;
    let text = toml::to_string(&config).context("failed to print the configuration")?;
    std::io::stdout().write_all(text.as_bytes()).context("failed to print the configuration")?;
    Ok(ExitCode::SUCCESS)
}
