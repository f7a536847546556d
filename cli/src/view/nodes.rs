//! Nodes in rows: what people look for in three and in three hundred.

use hatrack_api::ClusterNode;
use hatrack_api::cluster_node::{Summary, condition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::table::{Cell, Column, Table};
use super::{age, amount, order};
use crate::args::Order;
use crate::output::style::{self, paint};

/// Whether a node is up, as the operator sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Readiness {
    /// It renews its Lease.
    Ready,
    /// Nobody says: there is no operator, or it lost sight of the node.
    Unknown,
    /// It does not.
    NotReady,
}

impl Readiness {
    /// The condition `Ready` of a node.
    pub fn of(node: &ClusterNode) -> Self {
        match find(node, condition::READY).map(|condition| condition.status.as_str()) {
            Some("True") => Self::Ready,
            Some("False") => Self::NotReady,
            _ => Self::Unknown,
        }
    }

    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Unknown => "Unknown",
            Self::NotReady => "NotReady",
        }
    }

    const fn style(self) -> anstyle::Style {
        match self {
            Self::Ready => style::GOOD,
            Self::Unknown => style::CARE,
            Self::NotReady => style::ILL,
        }
    }
}

/// A condition of a node.
pub fn find<'a>(node: &'a ClusterNode, kind: &str) -> Option<&'a Condition> {
    node.status.as_ref()?.conditions.as_deref()?.iter().find(|condition| condition.type_ == kind)
}

/// The status in words: `Ready,Cordoned`.
pub fn status(node: &ClusterNode) -> String {
    let mut words = vec![Readiness::of(node).as_str()];
    if node.spec.unschedulable == Some(true) {
        words.push("Cordoned");
    }
    if node.spec.revoked == Some(true) {
        words.push("Revoked");
    }
    if is(node, condition::IDENTITY_CONFLICT, "True") {
        words.push("Conflict");
    }
    words.join(",")
}

/// What is wrong with a node, the worst first; empty when nothing is known to be.
pub fn trouble(node: &ClusterNode) -> String {
    let mut troubles = Vec::new();
    if node.status.is_none() {
        troubles.push("it has not reported yet".to_owned());
    }
    if let Some(conflict) = find(node, condition::IDENTITY_CONFLICT).filter(|conflict| conflict.status == "True") {
        troubles.push(words(conflict));
    }
    if let Some(ready) = find(node, condition::READY).filter(|ready| ready.status != "True") {
        troubles.push(words(ready));
    }
    for kind in [condition::AS_EXPECTED, condition::DEVICES_HEALTHY] {
        troubles.extend(find(node, kind).filter(|condition| condition.status != "True").map(words));
    }
    troubles.join("; ")
}

fn words(condition: &Condition) -> String {
    if condition.message.is_empty() { condition.reason.clone() } else { condition.message.clone() }
}

fn is(node: &ClusterNode, kind: &str, status: &str) -> bool {
    find(node, kind).is_some_and(|condition| condition.status == status)
}

/// Larger is worse. That nobody watches a node is no trouble of the node.
fn rank(node: &ClusterNode) -> u8 {
    let unheard = find(node, condition::READY).is_some_and(|ready| ready.status == "Unknown");
    match Readiness::of(node) {
        _ if is(node, condition::IDENTITY_CONFLICT, "True") => 5,
        Readiness::NotReady => 4,
        _ if node.status.is_none() || unheard => 3,
        _ if is(node, condition::AS_EXPECTED, "False") => 2,
        _ if !trouble(node).is_empty() => 1,
        _ => 0,
    }
}

/// Sorts nodes for people.
pub fn sort(nodes: &mut [ClusterNode], by: Order) {
    let by_name = |a: &ClusterNode, b: &ClusterNode| order::natural(&a.name_any(), &b.name_any());
    match by {
        Order::Name => nodes.sort_by(by_name),
        Order::Trouble => nodes.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| by_name(a, b))),
    }
}

/// Nodes in rows, in the order given.
pub fn table(nodes: &[ClusterNode], wide: bool, now: Timestamp) -> Table {
    let mut table = Table::new(columns(wide));
    for node in nodes {
        table.row(row(node, wide, now));
    }
    table
}

fn columns(wide: bool) -> Vec<Column> {
    let mut columns = vec![
        Column::text("NAME"),
        Column::text("STATUS"),
        Column::text("CLASS").spare(2),
        Column::number("GPUS"),
        Column::number("PHONES"),
        Column::number("ACCEL").spare(1),
        Column::text("HATS").cut_to(8).spare(3),
        Column::number("AGE").spare(4),
    ];
    if wide {
        columns.extend(["PROFILE", "ADDRESS", "SYSTEM", "KERNEL", "MEMORY", "HARDWARE-ID"].map(Column::text));
    }
    columns.push(Column::text("TROUBLE").cut_to(16));
    columns
}

fn row(node: &ClusterNode, wide: bool, now: Timestamp) -> Vec<Cell> {
    let summary = node.status.as_ref().and_then(|status| status.summary.clone()).unwrap_or_default();
    let Summary { gpus, phones, accelerators, .. } = summary;
    let created = node.metadata.creation_timestamp.as_ref().map(|created| age::between(created.0, now));
    let mut cells = vec![
        Cell::plain(node.name_any()),
        Cell::new(
            status(node),
            if is(node, condition::IDENTITY_CONFLICT, "True") { style::ILL } else { Readiness::of(node).style() },
        ),
        Cell::plain(node.spec.class.as_str()),
        usable(gpus),
        usable(phones),
        usable(accelerators),
        Cell::plain(hats(node)),
        Cell::optional(created),
    ];
    if wide {
        cells.extend(details(node));
    }
    cells.push(Cell::plain(trouble(node)));
    cells
}

fn details(node: &ClusterNode) -> [Cell; 6] {
    let status = node.status.clone().unwrap_or_default();
    let system = status.system.unwrap_or_default();
    let address = status.identity.unwrap_or_default().addresses.into_iter().next();
    [
        Cell::optional(node.spec.profile.map(hatrack_api::cluster_node::Profile::as_str)),
        Cell::optional(address),
        Cell::optional(system.os_image),
        Cell::plain(system.kernel_version),
        Cell::optional(system.memory.as_ref().map(amount::memory)),
        Cell::optional(node.spec.hardware_id.clone()),
    ]
}

fn hats(node: &ClusterNode) -> String {
    let summary = node.status.as_ref().and_then(|status| status.summary.as_ref());
    summary.and_then(|summary| summary.hats.clone()).unwrap_or_default()
}

/// `7/8`, marked where a device cannot be used; nothing where there is none.
fn usable(summary: Option<String>) -> Cell {
    match summary.as_deref().and_then(counts) {
        Some((_, 0)) => Cell::new("-", style::FAINT),
        Some((usable, present)) if usable < present => Cell::new(summary.unwrap_or_default(), style::CARE),
        Some(_) => Cell::optional(summary),
        None => Cell::new("?", style::CARE),
    }
}

/// Usable and present devices of `7/8`.
fn counts(summary: &str) -> Option<(u64, u64)> {
    let (usable, present) = summary.split_once('/')?;
    Some((usable.parse().ok()?, present.parse().ok()?))
}

/// All nodes in one line: `300 nodes: 290 Ready, 7 NotReady, 3 Unknown · 20 GPUs, 19 usable`.
pub fn summary(nodes: &[ClusterNode]) -> String {
    let noun = if nodes.len() == 1 { "node" } else { "nodes" };
    let count = |readiness| nodes.iter().filter(|node| Readiness::of(node) == readiness).count();
    let states = [Readiness::Ready, Readiness::NotReady, Readiness::Unknown].map(|state| (count(state), state));
    let states: Vec<_> = states
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| paint(state.style(), &format!("{count} {}", state.as_str())))
        .collect();
    if nodes.is_empty() {
        return "no nodes".to_owned();
    }
    let mut parts = vec![format!("{} {noun}: {}", nodes.len(), states.join(", "))];
    let summaries = || nodes.iter().filter_map(|node| node.status.as_ref()?.summary.as_ref());
    parts.extend(total(summaries().map(|summary| &summary.gpus), "GPUs"));
    parts.extend(total(summaries().map(|summary| &summary.phones), "phones"));
    parts.extend(total(summaries().map(|summary| &summary.accelerators), "accelerators"));
    parts.join(" · ")
}

fn total<'a>(summaries: impl Iterator<Item = &'a Option<String>>, noun: &str) -> Option<String> {
    let sum = summaries.filter_map(|summary| counts(summary.as_deref()?));
    let (usable, present) = sum.fold((0, 0), |(usable, all), (u, a)| (usable + u, all + a));
    let noun = if present == 1 { noun.trim_end_matches('s') } else { noun };
    match present {
        0 => None,
        _ if usable == present => Some(format!("{present} {noun}")),
        _ => Some(format!("{present} {noun}, {usable} usable")),
    }
}
