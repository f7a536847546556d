//! What each command does: one file for each.

mod discover;
mod nodes;
mod register;
mod r#try;

use clap::CommandFactory;

use crate::Outcome;
use crate::args::{Arguments, Command};
use crate::output::Printer;

/// Does what was typed.
pub async fn run(command: Command, printer: &Printer) -> anyhow::Result<Outcome> {
    match command {
        Command::Try(options) => r#try::run(options, printer).await,
        Command::Discover(options) => discover::run(&options, printer).await,
        Command::Register(options) => register::run(options, printer).await,
        Command::Nodes(options) => nodes::run(&options, printer).await,
        Command::Phones(_) => Ok(Outcome::Done),
        Command::Completions(options) => completions(&options, printer),
        Command::Manual(options) => manual(&options),
    }
}

fn completions(options: &crate::args::Completions, printer: &Printer) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Arguments::command(), "hatrack", &mut script);
    printer.data(&String::from_utf8(script)?)?;
    Ok(Outcome::Done)
}

fn manual(options: &crate::args::Manual) -> anyhow::Result<Outcome> {
    clap_mangen::generate_to(Arguments::command(), &options.folder)?;
    Ok(Outcome::Done)
}
