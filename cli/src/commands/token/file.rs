//! Where the file of a token goes.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::Context;

use crate::output::Printer;

/// Where the file of a token goes.
pub enum Destination<'a> {
    /// Standard output.
    Stdout,
    /// A file that was not there before, and is its owner's alone.
    New(&'a Path, File),
}

impl<'a> Destination<'a> {
    /// Makes the file, if one is named.
    pub fn open(path: Option<&'a Path>) -> anyhow::Result<Self> {
        let Some(path) = path else { return Ok(Self::Stdout) };
        let file = File::options().write(true).create_new(true).mode(0o600).open(path);
        let file = file.with_context(|| format!("failed to create `{}`", path.display()))?;
        Ok(Self::New(path, file))
    }

    /// There is nothing to write.
    pub fn abandon(self) {
        if let Self::New(path, _) = self {
            _ = fs::remove_file(path);
        }
    }

    /// Writes everything, or leaves nothing.
    pub fn write(self, text: &str, printer: &Printer) -> anyhow::Result<()> {
        match self {
            Self::Stdout => Ok(printer.data(text)?),
            Self::New(path, mut file) => {
                let written = file.write_all(text.as_bytes()).and_then(|()| file.sync_all());
                if written.is_err() {
                    _ = fs::remove_file(path);
                }
                written.with_context(|| format!("failed to write `{}`", path.display()))
            }
        }
    }
}
