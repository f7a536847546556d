//! `hatrack completions`: the script that makes a shell know what can be typed.

use clap::CommandFactory;

use crate::Outcome;
use crate::args::{Arguments, Completions};
use crate::output::Printer;

/// Prints the script.
pub fn run(options: &Completions, printer: &Printer) -> anyhow::Result<Outcome> {
    let mut script = Vec::new();
    clap_complete::generate(options.shell, &mut Arguments::command(), "hatrack", &mut script);
    printer.data(&String::from_utf8(script)?)?;
    Ok(Outcome::Done)
}
