//! What each command does: one file for each.

mod bindings;
mod completions;
mod cosign;
mod discover;
mod follow;
mod graph;
mod hats;
mod init;
mod manual;
mod node;
mod nodes;
mod phones;
mod plan;
mod print;
mod register;
mod release;
mod schedule;
mod token;
mod r#try;
mod verdict;
mod wear;
mod why;

use std::process::ExitCode;

use hatrack_discover::nvidia::probe;

pub use self::cosign::OwnBinding;
pub use self::init::NotStarted;
pub use self::node::{NotConfirmed, StillWorn};
pub use self::schedule::NoFolder;
pub use self::token::{NoAuthority, NoTokens, StillUsable};
pub use self::wear::Elsewhere;
use crate::args::Command;
use crate::output::Printer;

/// Does what was typed.
pub fn run(command: Command, printer: &Printer) -> anyhow::Result<ExitCode> {
    match command {
        Command::Try(options) => finish(r#try::run(options, printer)),
        Command::Discover(options) => finish(discover::run(&options, printer)),
        Command::Register(options) => finish(register::run(options, printer)),
        Command::Nodes(options) => finish(nodes::run(&options, printer)),
        Command::Node(options) => finish(node::run(&options, printer)),
        Command::Token(options) => finish(token::run(&options, printer)),
        Command::Phones(options) => finish(phones::run(&options, printer)),
        Command::Hats(options) => finish(hats::run(&options, printer)),
        Command::Bindings(options) => finish(bindings::run(&options, printer)),
        Command::Why(options) => finish(why::run(&options, printer)),
        Command::Plan(options) => finish(plan::run(&options, printer)),
        Command::Schedule(options) => finish(schedule::run(&options, printer)),
        Command::Graph(options) => finish(graph::run(&options, printer)),
        Command::Wear(options) => finish(wear::run(options, printer)),
        Command::Release(options) => finish(release::run(&options, printer)),
        Command::Cosign(options) => finish(cosign::run(&options, printer)),
        Command::Verdict(options) => finish(verdict::run(&options, printer)),
        Command::Init(options) => Ok(init::run(&options)?.into()),
        Command::Completions(options) => Ok(completions::run(&options, printer)?.into()),
        Command::Manual(options) => Ok(manual::run(&options, printer)?.into()),
        // Before any runtime: NVML may never return.
        Command::ProbeNvml(options) => Ok(probe::run(options.watch)),
    }
}

fn finish<T: Into<ExitCode>>(command: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(command)?.into())
}
