//! `make bench`: what hatrack costs on this machine, beside the numbers that `docs/design.md` sets.
//!
//! Times depend on the machine, so each stands beside a yardstick of the same run: the bare work that it cannot be faster than.
//! The binary that is measured is named by `HATRACK_AGENT`.

mod agent;
mod answers;
mod discovery;
mod footprint;
mod machine;
mod registration;
mod sample;
mod table;

use std::path::PathBuf;

use anyhow::{Context, Result};
use hatrack_testbed::{ControlPlane, Options};

use crate::agent::Cluster;
use crate::table::Table;

#[tokio::main]
async fn main() -> Result<()> {
    let binary = std::env::var_os("HATRACK_AGENT").map(PathBuf::from);
    let binary = binary.context("HATRACK_AGENT names no agent: run `make bench`")?;
    let mut table = Table::default();
    discovery::measure(&mut table)?;
    footprint::measure_binary(&mut table, &binary)?;
    let plane = ControlPlane::private(Options { audit: false, ..Options::default() }).await?;
    let cluster = Cluster::install(&plane, binary).await?;
    registration::measure_start(&mut table, &plane, &cluster).await?;
    registration::measure_event(&mut table, &plane, &cluster).await?;
    footprint::measure_rest(&mut table, &plane, &cluster).await?;
    table.print()
}
