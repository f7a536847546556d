//! `hatrack plan`: what would happen, now and later.

use hatrack_api::hat_binding::Phase;
use hatrack_api::{HatBinding, HatSwap};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde::Serialize;

use crate::Outcome;
use crate::args::{Format, OutputOptions, Plan};
use crate::cluster::kind::Kind;
use crate::cluster::{Cluster, society};
use crate::forecast::{Forecast, Horizon, forecast};
use crate::output::style::{self, paint};
use crate::output::{Printer, lines};
use crate::view::table::{Cell, Column, Table};
use crate::view::transitions::{self, Times};
use crate::view::{age, wearer};

const SCHEMA: &str = "hatrack.plan/v1";

/// Prints what would happen.
pub async fn run(options: &Plan, printer: &Printer) -> anyhow::Result<Outcome> {
    let society = Cluster::open(&options.cluster).await?.society().await?;
    let now = society::now();
    let horizon = Horizon { until: options.until, transitions: options.next };
    let ahead = forecast(&society, now, horizon, |_| false);
    print(&ahead, &options.output, now.wall, printer)?;
    printer.note(&summary(&ahead, options.until, now.wall));
    Ok(Outcome::Done)
}

/// What would happen, for programs.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema: &'static str,
    now: Vec<Transition>,
    later: Vec<Transition>,
    more: bool,
    held: Vec<Waiting>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Transition {
    at: String,
    binding: String,
    namespace: String,
    hat: String,
    wearer: String,
    event: &'static str,
    phase: Phase,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    devices: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Waiting {
    binding: String,
    namespace: String,
    hat: String,
    wearer: String,
    rule: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<String>,
}

impl Transition {
    fn of(record: &HatSwap) -> Self {
        let spec = &record.spec;
        let outcome = spec.outcome.clone().unwrap_or_default();
        let binding = spec.binding_ref.clone().unwrap_or_default();
        Self {
            at: spec.occurred_at.0.to_string(),
            binding: binding.name,
            namespace: binding.namespace,
            hat: spec.hat.clone(),
            wearer: spec.wearer.spiffe_id.clone(),
            event: spec.event.as_str(),
            phase: outcome.phase,
            reason: spec.reason.clone(),
            node: outcome.node_name,
            devices: outcome.devices,
        }
    }
}

fn print(ahead: &Forecast, output: &OutputOptions, now: Timestamp, printer: &Printer) -> anyhow::Result<()> {
    let document = Document {
        schema: SCHEMA,
        now: ahead.now.iter().map(Transition::of).collect(),
        later: ahead.later.iter().map(Transition::of).collect(),
        more: ahead.is_cut,
        held: held(ahead).map(|(binding, held)| waiting(binding, held)).collect(),
    };
    if printer.structured(output.output, &document)? {
        return Ok(());
    }
    if output.output == Format::Name {
        return Ok(printer.data(&lines(ahead.now.iter().chain(&ahead.later).map(transitions::binding)))?);
    }
    let wide = output.output == Format::Wide;
    let width = printer.width.filter(|_| !wide);
    let section = |title: &str, table: Table, rows: usize| {
        let title = paint(style::HEADING, title);
        (rows > 0).then(|| format!("{title}\n{}", table.render(width, !output.no_headers, 2)))
    };
    let sections = [
        section("Now", transitions::table(&ahead.now, Times::None, wide, now), ahead.now.len()),
        section("Later", transitions::table(&ahead.later, Times::Ahead, wide, now), ahead.later.len()),
        section("Held", held_table(ahead, now), ahead.held.len()),
    ];
    Ok(printer.data(&sections.into_iter().flatten().collect::<Vec<_>>().join("\n"))?)
}

fn held(ahead: &Forecast) -> impl Iterator<Item = (&HatBinding, &hatrack_hats::throttles::Held)> {
    ahead.held.iter().filter_map(|(uid, held)| Some((ahead.world.binding(uid)?, held)))
}

fn waiting(binding: &HatBinding, held: &hatrack_hats::throttles::Held) -> Waiting {
    Waiting {
        binding: binding.name_any(),
        namespace: binding.namespace().unwrap_or_default(),
        hat: binding.spec.hat.clone(),
        wearer: binding.spec.wearer.spiffe_id.clone(),
        rule: held.rule.as_str(),
        message: held.message.clone(),
        until: held.until.map(|until| until.to_string()),
    }
}

fn held_table(ahead: &Forecast, now: Timestamp) -> Table {
    let mut table = Table::new([
        Column::text("BINDING"),
        Column::text("HAT"),
        Column::text("WEARER").cut_to(12).spare(2),
        Column::text("RULE").spare(1),
        Column::text("FOR").spare(3),
        Column::text("WHY").cut_to(24),
    ]);
    let mut rows: Vec<_> = held(ahead).collect();
    rows.sort_by_key(|(binding, _)| binding.key());
    for (binding, held) in rows {
        table.row([
            Cell::plain(binding.name_any()),
            Cell::plain(&binding.spec.hat),
            Cell::plain(wearer::short(&binding.spec.wearer.spiffe_id)),
            Cell::plain(held.rule.reason()),
            Cell::optional(held.until.map(|until| age::between(now, until.max(now)))),
            Cell::plain(&held.message),
        ]);
    }
    table
}

fn summary(ahead: &Forecast, until: Timestamp, now: Timestamp) -> String {
    let count = |count: usize| match count {
        0 => "nothing".to_owned(),
        1 => "1 transition".to_owned(),
        count => format!("{count} transitions"),
    };
    let more = if ahead.is_cut { ", and more after that" } else { "" };
    // A moment has passed since it was typed.
    let span = age::between(now, until + SignedDuration::from_secs(2));
    format!(
        "{} now, {} within {span}{more}, if nobody changes anything",
        count(ahead.now.len()),
        count(ahead.later.len())
    )
}
