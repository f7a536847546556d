//! The question before what cannot be undone by a command.

use std::io::{self, BufRead};

use crate::output::Printer;

/// Nobody said that it shall be done.
#[derive(Debug, thiserror::Error)]
#[error("the name `{name}` was not typed: nothing was changed")]
pub struct NotConfirmed {
    name: String,
}

/// Asks for the name of the node, unless `yes` has answered already.
pub fn ask(name: &str, yes: bool, what: &str, printer: &Printer) -> anyhow::Result<()> {
    if yes {
        return Ok(());
    }
    printer.note(&format!("{what}\nType the name of the node to go on:"));
    let mut typed = String::new();
    io::stdin().lock().read_line(&mut typed)?;
    if typed.trim() == name { Ok(()) } else { Err(NotConfirmed { name: name.to_owned() }.into()) }
}
