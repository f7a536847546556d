//! `hatrack nodes`: the machines of the cluster.

use hatrack_api::ClusterNode;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::follow::{self, Story};
use crate::Outcome;
use crate::args::{Nodes, OutputOptions};
use crate::cluster::kind::Kind;
use crate::cluster::{Cluster, Missing};
use crate::output::Printer;
use crate::output::style::{self, paint};
use crate::view::{changes, nodes};

/// Lists the nodes.
pub async fn run(options: &Nodes, printer: &Printer) -> anyhow::Result<Outcome> {
    let cluster = Cluster::open(&options.cluster).await?;
    if options.watch {
        return follow::run(cluster.watch()?, options, options.output.output, printer).await;
    }
    let mut found = cluster.list::<ClusterNode>().await?;
    found.retain(|node| options.wants(node));
    nodes::sort(&mut found, options.sort);
    print(&found, &options.output, printer)?;
    printer.note(&nodes::summary(&found));
    Ok(report_unknown(&options.names, &found, printer))
}

/// Names that no object has: the answer to those is no.
pub fn report_unknown<K: Kind>(names: &[String], found: &[K], printer: &Printer) -> Outcome {
    let unknown: Vec<_> = names.iter().filter(|name| found.iter().all(|object| object.name_any() != **name)).collect();
    for name in &unknown {
        printer.note(&format!("{} {}", paint(style::ILL, "no:"), Missing::of::<K>((*name).clone())));
    }
    if unknown.is_empty() { Outcome::Done } else { Outcome::No }
}

impl Story<ClusterNode> for Nodes {
    fn wants(&self, node: &ClusterNode) -> bool {
        let named = self.names.is_empty() || self.names.contains(&node.name_any());
        named && self.class.is_none_or(|class| node.spec.class == class)
    }

    fn begin(&self, found: &mut Vec<ClusterNode>, printer: &Printer) -> anyhow::Result<()> {
        nodes::sort(found, self.sort);
        print(found, &self.output, printer)?;
        printer.note(&nodes::summary(found));
        Ok(())
    }

    fn arrival(&self, node: &ClusterNode) -> String {
        let words = [format!("new: {}", nodes::status(node)), node.spec.class.to_string(), nodes::trouble(node)];
        words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("; ")
    }

    fn change(&self, old: &ClusterNode, new: &ClusterNode) -> String {
        changes::between(old, new)
    }
}

/// Prints nodes in the form that was asked for.
pub fn print(found: &[ClusterNode], output: &OutputOptions, printer: &Printer) -> anyhow::Result<()> {
    super::print::objects(found, output, printer, |wide| nodes::table(found, wide, Timestamp::now()))
}
