//! Records in rows: what became of whom, when and where.

use hatrack_api::HatSwap;
use hatrack_api::hat_binding::Phase;
use hatrack_api::hat_swap::SwapEvent;
use k8s_openapi::jiff::Timestamp;

use super::table::{Cell, Column, Table};
use super::{age, bindings, wearer};

/// How the time of a record is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// Not at all: all have the same.
    None,
    /// How long it is until then.
    Ahead,
    /// How long ago it was.
    Ago,
}

/// Records in rows, in the order given.
pub fn table(records: &[HatSwap], times: Times, wide: bool, now: Timestamp) -> Table {
    let time = match times {
        Times::None => "",
        Times::Ahead => "IN",
        Times::Ago => "AGO",
    };
    let mut columns = vec![
        Column::number(time),
        Column::text("BINDING"),
        Column::text("HAT"),
        Column::text("WEARER").cut_to(12).spare(2),
        Column::text("BECOMES"),
        Column::text("REASON"),
        Column::text("NODE"),
        Column::text("DEVICES").cut_to(12).spare(1),
    ];
    if wide {
        columns.extend(["AT", "EVENT", "MESSAGE"].map(Column::text));
    }
    let mut table = Table::new(columns);
    for record in records {
        table.row(row(record, times, wide, now));
    }
    table
}

fn row(record: &HatSwap, times: Times, wide: bool, now: Timestamp) -> Vec<Cell> {
    let spec = &record.spec;
    let at = spec.occurred_at.0;
    let time = match times {
        Times::None => String::new(),
        Times::Ahead => age::between(now, at.max(now)),
        Times::Ago => age::between(at, now),
    };
    let outcome = spec.outcome.clone().unwrap_or_default();
    let mut cells = vec![
        Cell::plain(time),
        Cell::plain(binding(record)),
        Cell::plain(&spec.hat),
        Cell::plain(wearer::short(&spec.wearer.spiffe_id)),
        becomes(record),
        Cell::optional(spec.reason.clone()),
        Cell::optional(outcome.node_name),
        Cell::plain(outcome.devices.join(" ")),
    ];
    if wide {
        cells.extend([
            Cell::plain(at.to_string()),
            Cell::plain(spec.event.as_str()),
            Cell::optional(spec.message.clone()),
        ]);
    }
    cells
}

/// Name of the binding that a record is about.
pub fn binding(record: &HatSwap) -> String {
    record.spec.binding_ref.as_ref().map(|binding| binding.name.clone()).unwrap_or_default()
}

fn becomes(record: &HatSwap) -> Cell {
    let phase = record.spec.outcome.as_ref().map(|outcome| outcome.phase);
    match (record.spec.event, phase) {
        (SwapEvent::Throttled, _) => Cell::new("held", bindings::style_of(Phase::Pending)),
        (SwapEvent::QuorumGrant, _) => Cell::plain("granted"),
        (_, Some(phase)) => Cell::new(phase.as_str(), bindings::style_of(phase)),
        (event, None) => Cell::plain(event.as_str()),
    }
}
