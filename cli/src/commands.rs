//! What each command does: one file for each.

mod completions;
mod discover;
mod init;
mod manual;
mod nodes;
mod phones;
mod register;
mod r#try;

use std::process::ExitCode;

use hatrack_discover::nvidia::probe;

pub use self::init::NotStarted;
use crate::Outcome;
use crate::args::Command;
use crate::output::Printer;

/// Does what was typed.
pub fn run(command: Command, printer: &Printer) -> anyhow::Result<ExitCode> {
    match command {
        Command::Try(options) => finish(r#try::run(options, printer)),
        Command::Discover(options) => finish(discover::run(&options, printer)),
        Command::Register(options) => finish(register::run(options, printer)),
        Command::Nodes(options) => finish(nodes::run(&options, printer)),
        Command::Phones(options) => finish(phones::run(&options, printer)),
        Command::Init(options) => Ok(init::run(&options)?.into()),
        Command::Completions(options) => Ok(completions::run(&options, printer)?.into()),
        Command::Manual(options) => Ok(manual::run(&options, printer)?.into()),
        // Before any runtime: NVML may never return.
        Command::ProbeNvml(options) => Ok(probe::run(options.watch)),
    }
}

fn finish(command: impl Future<Output = anyhow::Result<Outcome>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(command)?.into())
}
