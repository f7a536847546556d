//! `hatrack nodes`: the machines of the cluster.

use hatrack_api::{ClusterNode, GROUP};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::core::{ListMeta, ObjectList, TypeMeta};

mod watch;

use crate::Outcome;
use crate::args::{Format, Nodes, OutputOptions};
use crate::cluster::{Cluster, NoNode};
use crate::output::style::{self, paint};
use crate::output::{Printer, lines};
use crate::view::nodes;

/// Lists the nodes.
pub async fn run(options: &Nodes, printer: &Printer) -> anyhow::Result<Outcome> {
    let cluster = Cluster::open(&options.cluster).await?;
    if options.watch {
        return watch::run(options, &cluster, printer).await;
    }
    let mut found = cluster.nodes().await?;
    found.retain(|node| wanted(options, node));
    nodes::sort(&mut found, options.sort);
    print(&found, &options.output, printer)?;
    printer.note(&nodes::summary(&found));
    Ok(report_unknown(&options.names, &found, printer))
}

/// Names that no node has: the answer to those is no.
fn report_unknown(names: &[String], found: &[ClusterNode], printer: &Printer) -> Outcome {
    let unknown: Vec<_> = names.iter().filter(|name| found.iter().all(|node| node.name_any() != **name)).collect();
    for name in &unknown {
        printer.note(&format!("{} {}", paint(style::ILL, "no:"), NoNode((*name).clone())));
    }
    if unknown.is_empty() { Outcome::Done } else { Outcome::No }
}

fn wanted(options: &Nodes, node: &ClusterNode) -> bool {
    let named = options.names.is_empty() || options.names.contains(&node.name_any());
    named && options.class.is_none_or(|class| node.spec.class == class)
}

/// Prints nodes in the form that was asked for.
pub fn print(found: &[ClusterNode], output: &OutputOptions, printer: &Printer) -> anyhow::Result<()> {
    if printer.structured(output.output, &list(found))? {
        return Ok(());
    }
    let text = match output.output {
        Format::Name => lines(found.iter().map(name_of)),
        format => {
            let wide = format == Format::Wide;
            let width = printer.width.filter(|_| !wide);
            nodes::table(found, wide, Timestamp::now()).render(width, !output.no_headers, 0)
        }
    };
    Ok(printer.data(&text)?)
}

/// The name as kubectl takes it.
fn name_of(node: &ClusterNode) -> String {
    format!("clusternode.{GROUP}/{}", node.name_any())
}

fn list(found: &[ClusterNode]) -> ObjectList<ClusterNode> {
    let types = TypeMeta { api_version: "v1".to_owned(), kind: "List".to_owned() };
    ObjectList { types, metadata: ListMeta::default(), items: found.to_vec() }
}
