//! The table that `make bench` prints.

use std::io::{self, Write};

use anyhow::Result;

/// One measured value beside its target.
struct Row {
    what: &'static str,
    target: String,
    measured: String,
    met: Option<bool>,
    yardstick: String,
}

/// Rows in the order in which they were measured.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Adds a value that shall be at most `limit`, with the yardstick of the same run.
    pub(crate) fn at_most(&mut self, what: &'static str, limit: f64, value: f64, unit: &str, yardstick: String) {
        let target = format!("≤ {limit} {unit}");
        self.rows.push(Row {
            what,
            target,
            measured: format!("{value:.3} {unit}"),
            met: Some(value <= limit),
            yardstick,
        });
    }

    /// Adds a value that shall be at least `limit`, with the yardstick of the same run.
    pub(crate) fn at_least(&mut self, what: &'static str, limit: f64, value: f64, unit: &str, yardstick: String) {
        let target = format!("≥ {limit} {unit}");
        let met = Some(value >= limit);
        self.rows.push(Row { what, target, measured: format!("{value:.0} {unit}"), met, yardstick });
    }

    /// Adds a value that has no target of its own.
    pub(crate) fn beside(&mut self, what: &'static str, measured: String, yardstick: String) {
        self.rows.push(Row { what, target: String::new(), measured, met: None, yardstick });
    }

    /// Writes the table to standard output.
    pub(crate) fn print(&self) -> Result<()> {
        let mut out = io::stdout().lock();
        writeln!(out, "{:<44} {:>12} {:>18}        yardstick of the same run", "", "target", "measured")?;
        for Row { what, target, measured, met, yardstick } in &self.rows {
            let verdict = match met {
                Some(true) => "met",
                Some(false) => "MISSED",
                None => "",
            };
            writeln!(out, "{what:<44} {target:>12} {measured:>18} {verdict:<6} {yardstick}")?;
        }
        Ok(())
    }
}
