//! The one place that writes: data to stdout, everything else to stderr.

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use serde::Serialize;

use crate::args::Format;

/// Data did not go to stdout.
#[derive(Debug, thiserror::Error)]
#[error("failed to write to standard output")]
pub struct Unwritten(#[from] io::Error);

impl Unwritten {
    /// Whether whoever read the output has enough.
    pub fn is_unwanted(&self) -> bool {
        self.0.kind() == io::ErrorKind::BrokenPipe
    }
}

/// Styles by meaning; every text can be read without them.
pub mod style {
    use anstyle::{AnsiColor, Style};

    /// Headings and headers.
    pub const HEADING: Style = Style::new().bold();
    /// Works.
    pub const GOOD: Style = AnsiColor::Green.on_default();
    /// Works with a defect, or could not be told.
    pub const CARE: Style = AnsiColor::Yellow.on_default();
    /// Does not work.
    pub const ILL: Style = AnsiColor::Red.on_default();
    /// Commands and hints.
    pub const HINT: Style = AnsiColor::Cyan.on_default();
    /// What is there for completeness.
    pub const FAINT: Style = Style::new().dimmed();
    /// Nothing special.
    pub const PLAIN: Style = Style::new();

    /// A text in a style.
    pub fn paint(style: Style, text: &str) -> String {
        if text.is_empty() || style == PLAIN { text.to_owned() } else { format!("{style}{text}{style:#}") }
    }
}

/// Writes text, with colours where they are wanted.
#[derive(Debug)]
pub struct Printer {
    color: ColorChoice,
    /// Columns that a table may have; absent: as many as it takes.
    pub width: Option<usize>,
}

impl Printer {
    /// A printer for this process.
    pub fn new(color: ColorChoice) -> Self {
        Self { color, width: width() }
    }

    /// Writes data to stdout, at once.
    pub fn data(&self, text: &str) -> Result<(), Unwritten> {
        let mut stdout = AutoStream::new(io::stdout(), self.color).lock();
        stdout.write_all(text.as_bytes())?;
        Ok(stdout.flush()?)
    }

    /// Writes something about the data to stderr. A stderr that is gone is no reason to fail.
    pub fn note(&self, text: &str) {
        let mut stderr = AutoStream::new(io::stderr(), self.color).lock();
        _ = writeln!(stderr, "{text}");
    }

    /// Writes data for programs; `false` if the format is one for people.
    pub fn structured(&self, format: Format, data: &impl Serialize) -> anyhow::Result<bool> {
        match format {
            Format::Json => self.data(&format!("{}\n", serde_json::to_string_pretty(data)?))?,
            Format::Yaml => self.data(&serde_saphyr::to_string(data)?)?,
            Format::Table | Format::Wide | Format::Name => return Ok(false),
        }
        Ok(true)
    }
}

/// `COLUMNS`, else the columns of the terminal.
fn width() -> Option<usize> {
    let asked = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    asked.or_else(|| {
        let (width, _) = io::stdout().is_terminal().then(|| terminal_size::terminal_size_of(io::stdout()))??;
        Some(usize::from(width.0))
    })
}

/// Each text on a line of its own.
pub fn lines(texts: impl IntoIterator<Item = impl AsRef<str>>) -> String {
    texts.into_iter().fold(String::new(), |all, text| all + text.as_ref() + "\n")
}
