//! `make bench`: what hatrack costs on this machine, beside the numbers that `docs/design.md` sets.
//!
//! Times depend on the machine, so each stands beside a yardstick of the same run: the bare work that it cannot be faster than.
//! The binaries that are measured are named by `HATRACK_AGENT` and `HATRACK_OPERATOR`. Arguments name the topics to measure ([`TOPICS`]), none of them meaning all.

mod agent;
mod answers;
mod discovery;
mod fleet;
mod footprint;
mod load;
mod machine;
mod operator;
mod placement;
mod registration;
mod sample;
mod table;

use std::path::PathBuf;

use anyhow::{Context, Result};
use hatrack_testbed::{ControlPlane, Options};

use crate::agent::Cluster;
use crate::table::Table;

/// What can be measured alone.
const TOPICS: [&str; 8] = ["placement", "discovery", "binary", "start", "event", "rest", "operator", "load"];

#[tokio::main]
async fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if let Some(unknown) = wanted.iter().find(|topic| !TOPICS.contains(&topic.as_str())) {
        anyhow::bail!("`{unknown}` is no topic: {}", TOPICS.join(", "));
    }
    let is_wanted = |topic: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == topic);
    let mut table = Table::default();
    let measured = measure(&mut table, is_wanted).await;
    // What was measured before something failed was measured.
    table.print()?;
    measured
}

/// Measures the topics that are wanted, one after the other.
async fn measure(table: &mut Table, is_wanted: impl Fn(&str) -> bool) -> Result<()> {
    let agent = std::env::var_os("HATRACK_AGENT").map(PathBuf::from);
    let agent = || agent.clone().context("HATRACK_AGENT names no agent: run `make bench`");
    if is_wanted("placement") {
        placement::measure(table)?;
    }
    if is_wanted("discovery") {
        discovery::measure(table)?;
    }
    if is_wanted("binary") {
        footprint::measure_binary(table, &agent()?)?;
    }
    if ["start", "event", "rest"].into_iter().any(&is_wanted) {
        let plane = ControlPlane::private(Options { audit: false, ..Options::default() }).await?;
        let cluster = Cluster::install(&plane, agent()?).await?;
        if is_wanted("start") {
            registration::measure_start(table, &plane, &cluster).await?;
        }
        if is_wanted("event") {
            registration::measure_event(table, &plane, &cluster).await?;
        }
        if is_wanted("rest") {
            footprint::measure_rest(table, &plane, &cluster).await?;
        }
    }
    if is_wanted("operator") {
        let plane = ControlPlane::private(Options { audit: false, ..Options::default() }).await?;
        operator::measure(table, &plane).await?;
    }
    if is_wanted("load") {
        let plane = ControlPlane::private(Options { audit: false, ..Options::default() }).await?;
        load::measure(table, &plane).await?;
    }
    Ok(())
}
