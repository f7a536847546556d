//! `hatrack manual`: a page for each command.

use std::fs;

use anyhow::Context;
use clap::CommandFactory;

use crate::Outcome;
use crate::args::{Arguments, Manual};
use crate::output::Printer;

/// Writes the pages and prints where.
pub fn run(options: &Manual, printer: &Printer) -> anyhow::Result<Outcome> {
    let folder = options.folder.display();
    let write = || {
        fs::create_dir_all(&options.folder)?;
        clap_mangen::generate_to(Arguments::command(), &options.folder)
    };
    write().with_context(|| format!("failed to write the manual pages into `{folder}`"))?;
    printer.note(&format!("the manual is in `{folder}`: try `man -l {folder}/hatrack.1`"));
    Ok(Outcome::Done)
}
