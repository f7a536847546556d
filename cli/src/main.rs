//! `hatrack`: what a person types.
//!
//! `args` says what can be typed, one file of `commands` does each thing, `cluster` is where machines and hats are kept, `view` turns
//! them into text, and `output` is the only place that writes.

mod args;
mod cluster;
mod commands;
mod errors;
mod forecast;
mod identity;
mod machine;
mod output;
mod registration;
mod starter;
mod view;

use std::process::ExitCode;

use clap::Parser;

use crate::args::Arguments;
use crate::output::Printer;

/// What a command came to; an error is the third way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Done, and the answer, if there was a question, is yes.
    Done,
    /// Done, and the answer is no.
    No,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Done => Self::SUCCESS,
            Outcome::No => Self::from(1),
        }
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let printer = Printer::new(arguments.color.into());
    commands::run(arguments.command, &printer).unwrap_or_else(|error| errors::report(&error, &printer).into())
}
