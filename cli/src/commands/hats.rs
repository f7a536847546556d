//! `hatrack hats`: the hats, and who answers for one at a time.

use hatrack_api::Hat;
use hatrack_hats::world::Stay;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use serde::Serialize;

use super::nodes::report_unknown;
use crate::Outcome;
use crate::args::{Format, Hats};
use crate::cluster::society::{self, Society};
use crate::cluster::{Cluster, Missing};
use crate::output::style::{self, paint};
use crate::output::{Printer, lines};
use crate::view::inventory::Layout;
use crate::view::table::{Cell, Column, Table};
use crate::view::{hats, wearer};

const SCHEMA: &str = "hatrack.attribution/v1";

/// Lists the hats.
pub async fn run(options: &Hats, printer: &Printer) -> anyhow::Result<Outcome> {
    let society = Cluster::open(&options.cluster).await?.society().await?;
    let mut found: Vec<Hat> = society.hats.clone();
    found.retain(|hat| options.names.is_empty() || options.names.contains(&hat.name_any()));
    found.retain(|hat| options.skill.iter().all(|asked| hats::has_skill(hat, asked)));
    hats::sort(&mut found);
    if let (Some(at), [name]) = (options.at, options.names.as_slice()) {
        return attribute(options, &society, name, at, printer);
    }
    let now = Timestamp::now();
    let output = &options.output;
    let for_people = matches!(output.output, Format::Table | Format::Wide);
    if let ([_], [hat], true) = (options.names.as_slice(), found.as_slice(), for_people) {
        let wide = output.output == Format::Wide;
        let layout = Layout { width: printer.width, headers: !output.no_headers, wide };
        printer.data(&hats::report(hat, &society, layout, now))?;
    } else {
        super::print::objects(&found, output, printer, |wide| hats::table(&found, &society, wide, now))?;
        printer.note(&hats::summary(&found, &society));
    }
    Ok(report_unknown(&options.names, &found, printer))
}

/// Those who answer for what was done with a hat.
#[derive(Serialize)]
struct Attribution<'a> {
    schema: &'static str,
    hat: &'a str,
    at: String,
    stays: Vec<StayOf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct StayOf {
    wearer: String,
    /// `worn`, or `sticky`: it had come off a short while before.
    state: &'static str,
    from: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sticky_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<String>,
    binding: String,
}

fn attribute(
    options: &Hats,
    society: &Society,
    hat: &str,
    at: Timestamp,
    printer: &Printer,
) -> anyhow::Result<Outcome> {
    let is_recorded = society.swaps.iter().any(|swap| swap.spec.hat == hat);
    if !is_recorded && society.hats.iter().all(|known| known.name_any() != hat) {
        return Err(Missing::of::<Hat>(hat).into());
    }
    let world = society.world(society::now());
    let stays = match &options.wearer {
        Some(wearer) => world.attribution(wearer, hat, at).into_iter().collect(),
        None => world.attributed(hat, at),
    };
    print(options, hat, at, &stays, printer)?;
    if stays.is_empty() {
        let words = match &options.wearer {
            Some(wearer) => {
                format!("{} neither wore {hat} at {at}, nor did it still stick to them", wearer::short(wearer))
            }
            None => format!("nobody wore {hat} at {at}, and it stuck to nobody"),
        };
        printer.note(&format!("{} {words}, by the records that are kept", paint(style::ILL, "no:")));
        return Ok(Outcome::No);
    }
    Ok(Outcome::Done)
}

fn print(options: &Hats, hat: &str, at: Timestamp, stays: &[Stay], printer: &Printer) -> anyhow::Result<()> {
    let text = |time: Timestamp| time.to_string();
    let state = |stay: &Stay| if stay.wears_at(at) { "worn" } else { "sticky" };
    let told = |stay: &Stay| StayOf {
        wearer: stay.wearer.clone(),
        state: state(stay),
        from: text(stay.from),
        to: stay.to.map(text),
        sticky_until: stay.sticky_until.map(text),
        node: stay.node.clone(),
        binding: stay.binding.clone(),
    };
    let document = Attribution { schema: SCHEMA, hat, at: text(at), stays: stays.iter().map(told).collect() };
    let output = &options.output;
    if printer.structured(output.output, &document)? {
        return Ok(());
    }
    if output.output == Format::Name {
        return Ok(printer.data(&lines(stays.iter().map(|stay| &stay.wearer)))?);
    }
    let wide = output.output == Format::Wide;
    let mut columns = ["WEARER", "WAS", "NODE", "FROM", "TO", "STICKY-UNTIL"].map(Column::text).to_vec();
    if wide {
        columns.push(Column::text("BINDING"));
    }
    let mut table = Table::new(columns);
    for stay in stays {
        let mut cells = vec![
            Cell::plain(if wide { stay.wearer.clone() } else { wearer::short(&stay.wearer) }),
            Cell::plain(state(stay)),
            Cell::optional(stay.node.clone()),
            Cell::plain(text(stay.from)),
            Cell::plain(stay.to.map_or_else(|| "still worn".to_owned(), text)),
            Cell::optional(stay.sticky_until.map(text)),
        ];
        if wide {
            cells.push(Cell::plain(&stay.binding));
        }
        table.row(cells);
    }
    Ok(printer.data(&table.render(printer.width.filter(|_| !wide), !output.no_headers, 0))?)
}
