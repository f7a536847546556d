//! `hatrack phones`: the phones of a node, slot by slot.

use std::collections::BTreeMap;

use hatrack_api::ClusterNode;
use hatrack_api::cluster_node::Device;
use kube::ResourceExt;
use serde::Serialize;

use crate::Outcome;
use crate::args::{Format, OutputOptions, Phones};
use crate::cluster::{Cluster, Missing};
use crate::output::{Printer, lines};
use crate::view::inventory::Layout;
use crate::view::{order, phones};

const SCHEMA: &str = "hatrack.phones/v1";

/// The phones of each node, in the order of their slots.
#[derive(Serialize)]
struct Document {
    schema: &'static str,
    nodes: BTreeMap<String, Vec<Device>>,
}

/// Shows the phones.
pub async fn run(options: &Phones, printer: &Printer) -> anyhow::Result<Outcome> {
    let cluster = Cluster::open(&options.cluster).await?;
    let mut nodes: Vec<ClusterNode> = match &options.node {
        Some(name) => {
            vec![cluster.get::<ClusterNode>(name).await?.ok_or_else(|| Missing::of::<ClusterNode>(name.clone()))?]
        }
        None => cluster.list::<ClusterNode>().await?.into_iter().filter(phones::concerns).collect(),
    };
    nodes.sort_by(|a, b| order::natural(&a.name_any(), &b.name_any()));
    print(&nodes, &options.output, printer)?;
    if nodes.is_empty() {
        printer.note("no node has a phone or expects one");
    }
    Ok(Outcome::Done)
}

fn print(nodes: &[ClusterNode], output: &OutputOptions, printer: &Printer) -> anyhow::Result<()> {
    let found = nodes.iter().map(|node| (node.name_any(), phones::of(node))).collect();
    if printer.structured(output.output, &Document { schema: SCHEMA, nodes: found })? {
        return Ok(());
    }
    let text = if output.output == Format::Name {
        lines(nodes.iter().flat_map(phones::of).map(|phone| phone.name))
    } else {
        let wide = output.output == Format::Wide;
        let layout = Layout { width: printer.width, headers: !output.no_headers, wide };
        nodes.iter().map(|node| phones::report(node, layout)).collect::<Vec<_>>().join("\n")
    };
    Ok(printer.data(&text)?)
}
