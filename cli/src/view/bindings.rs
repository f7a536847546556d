//! Bindings in rows: who has which hat, where and until when, and why others wait.

use std::cmp::Ordering;

use anstyle::Style;
use hatrack_api::HatBinding;
use hatrack_api::hat_binding::{Cosignature, HatBindingStatus, Phase, condition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::table::{Cell, Column, Table};
use super::{age, order, wearer};
use crate::cluster::kind::Kind;
use crate::output::style::{self, paint};

/// The phase of a binding; one that nobody decided on yet waits.
pub fn phase(binding: &HatBinding) -> Phase {
    binding.status.as_ref().map(|status| status.phase).unwrap_or_default()
}

/// The colour of a phase.
pub const fn style_of(phase: Phase) -> Style {
    match phase {
        Phase::Active => style::GOOD,
        Phase::Warmup | Phase::Pending => style::CARE,
        Phase::Probation | Phase::Revoked => style::ILL,
        Phase::Expired | Phase::Released => style::FAINT,
    }
}

/// A condition of a binding.
pub fn find<'a>(binding: &'a HatBinding, kind: &str) -> Option<&'a Condition> {
    binding.status.as_ref()?.conditions.iter().find(|condition| condition.type_ == kind)
}

/// What there is to say beside the phase: why it is held, and what limits it.
pub fn why(binding: &HatBinding, now: Timestamp) -> String {
    let status = binding.status.as_ref();
    let leaving = if binding.metadata.deletion_timestamp.is_some() { "is being released" } else { "" };
    match phase(binding) {
        phase if !leaving.is_empty() && !phase.is_ended() => leaving.to_owned(),
        Phase::Pending => match find(binding, condition::ADMITTED).filter(|admitted| admitted.status == "False") {
            Some(admitted) => admitted.message.clone(),
            None => "nobody has decided on it yet".to_owned(),
        },
        Phase::Warmup => status
            .and_then(|status| status.warmup_ends_at.as_ref())
            .map_or_else(String::new, |ends| format!("may only read for {}", age::between(now, ends.0.max(now)))),
        Phase::Probation => verdict(binding, "may only read, says"),
        Phase::Revoked => verdict(binding, "says"),
        Phase::Active | Phase::Expired | Phase::Released => String::new(),
    }
}

/// What the last verdict says: `says farm/lead: harmful`.
fn verdict(binding: &HatBinding, says: &str) -> String {
    let Some(verdict) = binding.spec.verdicts.iter().max_by_key(|verdict| verdict.at.0) else { return String::new() };
    let reason = verdict.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    format!("{says} {}{reason}", wearer::short(&verdict.by))
}

/// Who vouches for it, when, and on what evidence: `farm/ann, 3h ago: "reviewed"`.
pub fn vouched(binding: &HatBinding, now: Timestamp) -> Vec<String> {
    let words = |entry: &Cosignature| {
        let who = wearer::short(&entry.spiffe_id);
        let ago = entry.signed_at.as_ref().map(|at| format!(", {} ago", age::between(at.0.min(now), now)));
        // In quotes, with what would move a terminal's cursor written out.
        let evidence = entry.attestation.as_ref().map(|evidence| format!(": {evidence:?}"));
        format!("{who}{}{}", ago.unwrap_or_default(), evidence.unwrap_or_default())
    };
    binding.spec.cosigned_by.iter().map(words).collect()
}

/// Sorts for people: what has ended first, then what is worn, then what waits.
pub fn sort(bindings: &mut [HatBinding]) {
    let rank = |binding: &HatBinding| match phase(binding) {
        phase if phase.is_ended() => 0,
        phase if phase.is_worn() => 1,
        _ => 2,
    };
    let by_key = |a: &HatBinding, b: &HatBinding| -> Ordering { order::natural(&a.key(), &b.key()) };
    bindings.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| by_key(a, b)));
}

/// Bindings in rows, in the order given.
pub fn table(bindings: &[HatBinding], wide: bool, now: Timestamp) -> Table {
    let mut namespaces: Vec<_> = bindings.iter().map(ResourceExt::namespace).collect();
    namespaces.dedup();
    let mut columns = vec![
        Column::text("NAME"),
        Column::text("HAT"),
        Column::text("WEARER").cut_to(12).spare(2),
        Column::text("PHASE"),
        Column::text("NODE"),
        Column::number("SINCE").spare(3),
        Column::text("UNTIL").spare(1),
    ];
    if wide {
        columns.extend(["DEVICES", "COSIGNED-BY", "REQUESTED-AT", "EXPIRES-AT", "UID"].map(Column::text));
    }
    columns.push(Column::text("WHY").cut_to(24));
    let mut table = Table::new(columns);
    for binding in bindings {
        table.row(row(binding, namespaces.len() > 1, wide, now));
    }
    table
}

/// Bindings in rows, without the reasons of those that wait.
pub fn short_table(bindings: &[HatBinding], now: Timestamp) -> Table {
    let columns = ["HAT", "WEARER", "PHASE", "NODE", "UNTIL", "DEVICES"].map(Column::text);
    let [hat, who, phase, node, until, devices] = columns;
    let mut table = Table::new([hat, who, phase, node, until, devices.cut_to(12).spare(1)]);
    for binding in bindings {
        let status = binding.status.clone().unwrap_or_default();
        let ends = match status.phase {
            Phase::Warmup => why(binding, now),
            _ => self::until(&status, now),
        };
        table.row([
            Cell::plain(&binding.spec.hat),
            Cell::plain(wearer::short(&binding.spec.wearer.spiffe_id)),
            Cell::new(status.phase.as_str(), style_of(status.phase)),
            Cell::optional(status.node_name),
            Cell::plain(ends),
            Cell::plain(status.devices.join(" ")),
        ]);
    }
    table
}

fn row(binding: &HatBinding, with_namespace: bool, wide: bool, now: Timestamp) -> Vec<Cell> {
    let status = binding.status.clone().unwrap_or_default();
    let phase = status.phase;
    let mut cells = vec![
        Cell::plain(if with_namespace { binding.key() } else { binding.name_any() }),
        Cell::plain(&binding.spec.hat),
        Cell::plain(wearer::short(&binding.spec.wearer.spiffe_id)),
        Cell::new(phase.as_str(), style_of(phase)),
        Cell::optional(status.node_name.clone()),
        Cell::optional(since(binding, &status).map(|since| age::between(since, now))),
        Cell::plain(until(&status, now)),
    ];
    if wide {
        let cosigners = binding.spec.cosigned_by.iter().map(|entry| wearer::short(&entry.spiffe_id));
        cells.extend([
            Cell::plain(status.devices.join(" ")),
            Cell::plain(cosigners.collect::<Vec<_>>().join(" ")),
            Cell::optional(binding.spec.requested_at.as_ref().map(|at| at.0.to_string())),
            Cell::optional(status.expires_at.as_ref().map(|ends| ends.0.to_string())),
            Cell::optional(binding.uid()),
        ]);
    }
    cells.push(Cell::plain(why(binding, now)));
    cells
}

/// Since when it is what it is: worn, ended, or asked for.
fn since(binding: &HatBinding, status: &HatBindingStatus) -> Option<Timestamp> {
    let asked = binding.metadata.creation_timestamp.as_ref();
    let since = match status.phase {
        phase if phase.is_ended() => status.ended_at.as_ref(),
        phase if phase.is_worn() => status.bound_at.as_ref(),
        _ => asked,
    };
    since.or(asked).map(|time| time.0)
}

/// `in 59m`, or that it has no end.
pub fn until(status: &HatBindingStatus, now: Timestamp) -> String {
    match (&status.expires_at, status.phase.is_worn()) {
        (_, false) => String::new(),
        (None, true) => "no end".to_owned(),
        (Some(ends), true) => format!("in {}", age::between(now, ends.0.max(now))),
    }
}

/// All bindings in one line: `12 bindings: 7 Active, 2 Warmup, 3 Pending`.
pub fn summary(bindings: &[HatBinding]) -> String {
    let noun = if bindings.len() == 1 { "binding" } else { "bindings" };
    let count = |wanted| bindings.iter().filter(|binding| phase(binding) == wanted).count();
    let counts = Phase::ALL.map(|phase| (count(phase), phase)).into_iter().filter(|(count, _)| *count > 0);
    let words: Vec<_> = counts.map(|(count, phase)| paint(style_of(phase), &format!("{count} {phase}"))).collect();
    if words.is_empty() { "no bindings".to_owned() } else { format!("{} {noun}: {}", bindings.len(), words.join(", ")) }
}

/// What changed about a binding, in words that can stand in a log; empty when nothing that a person wants to hear of did.
pub fn changes(old: &HatBinding, new: &HatBinding, now: Timestamp) -> String {
    let (before, after) = (old.status.clone().unwrap_or_default(), new.status.clone().unwrap_or_default());
    let mut words = vec![];
    let is_other = before.phase != after.phase;
    if is_other {
        let node = after.node_name.as_ref().filter(|_| after.phase.is_worn());
        let place = node.map(|node| format!(" on {node}")).unwrap_or_default();
        words.push(format!("{} -> {}{place}", before.phase, after.phase));
    } else if before.node_name != after.node_name {
        words.push(format!("on {}", after.node_name.as_deref().unwrap_or("no node")));
    } else if let (Some(old), Some(new)) = (&before.expires_at, &after.expires_at)
        && new.0 > old.0
    {
        words.push(format!("renewed until {}", new.0));
    }
    let signed = new.spec.cosigned_by.len().saturating_sub(old.spec.cosigned_by.len());
    let signers = new.spec.cosigned_by.iter().rev().take(signed);
    words.extend(signers.map(|entry| format!("co-signed by {}", wearer::short(&entry.spiffe_id))));
    let reason = why(new, now);
    // How long a warmup still takes is another text at each look.
    if (is_other || after.phase == Phase::Pending) && reason != why(old, now) && !reason.is_empty() {
        words.push(reason);
    }
    words.join("; ")
}
