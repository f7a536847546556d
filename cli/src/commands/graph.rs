//! `hatrack graph`: hats, wearers and nodes in DOT.

use hatrack_hats::graph;

use crate::Outcome;
use crate::args::Graph;
use crate::cluster::{Cluster, society};
use crate::output::Printer;

/// Prints the graph.
pub async fn run(options: &Graph, printer: &Printer) -> anyhow::Result<Outcome> {
    let society = Cluster::open(&options.cluster).await?.society().await?;
    printer.data(&graph::dot(&society.world(society::now())))?;
    Ok(Outcome::Done)
}
