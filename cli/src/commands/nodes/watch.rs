//! `hatrack nodes --watch`: the table, then a line for each change.

use std::collections::BTreeMap;

use hatrack_api::ClusterNode;
use k8s_openapi::jiff::{Timestamp, Unit};
use kube::ResourceExt;
use serde_json::json;

use super::{name_of, print, wanted};
use crate::Outcome;
use crate::args::{Format, Nodes};
use crate::cluster::Cluster;
use crate::cluster::watch::Change;
use crate::errors;
use crate::output::Printer;
use crate::output::style::{self, paint};
use crate::view::{changes, nodes};

/// Shows the nodes and what becomes of them, until it is stopped.
pub async fn run(options: &Nodes, cluster: &Cluster, printer: &Printer) -> anyhow::Result<Outcome> {
    let mut watch = cluster.watch()?;
    let mut follower = Follower { options, printer, known: BTreeMap::new(), started: false };
    let mut trouble = None;
    loop {
        match watch.next().await? {
            Change::All(nodes) => {
                if trouble.take().is_some() {
                    printer.note(&format!("{} the cluster can be seen again", paint(style::GOOD, "ok:")));
                }
                follower.all(nodes)?;
            }
            Change::Applied(node) => follower.applied(&node)?,
            Change::Gone(name) => follower.gone(&name)?,
            // Said once, and not at every attempt.
            Change::Trouble(error) => {
                let words = format!("{error:#}");
                if trouble.replace(words.clone()) != Some(words) {
                    errors::report(&error, printer);
                }
            }
        }
    }
}

struct Follower<'a> {
    options: &'a Nodes,
    printer: &'a Printer,
    known: BTreeMap<String, ClusterNode>,
    started: bool,
}

impl Follower<'_> {
    /// The first time these are what there is; later, what differs is what happened meanwhile.
    fn all(&mut self, mut found: Vec<ClusterNode>) -> anyhow::Result<()> {
        found.retain(|node| wanted(self.options, node));
        if !std::mem::replace(&mut self.started, true) && self.is_for_people() {
            nodes::sort(&mut found, self.options.sort);
            print(&found, &self.options.output, self.printer)?;
            self.printer.note(&nodes::summary(&found));
            self.known = found.into_iter().map(|node| (node.name_any(), node)).collect();
            return Ok(());
        }
        let here: Vec<_> = found.iter().map(ResourceExt::name_any).collect();
        let gone: Vec<_> = self.known.keys().filter(|name| !here.contains(name)).cloned().collect();
        gone.iter().try_for_each(|name| self.gone(name))?;
        found.iter().try_for_each(|node| self.applied(node))
    }

    fn applied(&mut self, node: &ClusterNode) -> anyhow::Result<()> {
        if !wanted(self.options, node) {
            return self.gone(&node.name_any());
        }
        let old = self.known.insert(node.name_any(), node.clone());
        if old.as_ref() == Some(node) {
            return Ok(());
        }
        if !self.is_for_people() {
            return self.event("Applied", node);
        }
        let name = node.name_any();
        match old.map(|old| changes::between(&old, node)) {
            Some(same) if same.is_empty() => Ok(()),
            Some(changes) => self.line(&name, &changes),
            None => self.line(&name, &arrival(node)),
        }
    }

    fn gone(&mut self, name: &str) -> anyhow::Result<()> {
        match self.known.remove(name) {
            None => Ok(()),
            Some(_) if self.is_for_people() => self.line(name, "gone"),
            Some(node) => self.event("Deleted", &node),
        }
    }

    fn is_for_people(&self) -> bool {
        matches!(self.options.output.output, Format::Table | Format::Wide)
    }

    fn line(&self, name: &str, what: &str) -> anyhow::Result<()> {
        let now = Timestamp::now().round(Unit::Second)?;
        let (now, name) = (paint(style::FAINT, &now.to_string()), paint(style::HEADING, name));
        Ok(self.printer.data(&format!("{now}  {name}  {what}\n"))?)
    }

    fn event(&self, kind: &str, node: &ClusterNode) -> anyhow::Result<()> {
        let text = match self.options.output.output {
            Format::Json => format!("{}\n", json!({"type": kind, "object": node})),
            Format::Yaml => format!("---\n{}", serde_saphyr::to_string(&json!({"type": kind, "object": node}))?),
            _ if kind == "Deleted" => format!("{} deleted\n", name_of(node)),
            _ => format!("{}\n", name_of(node)),
        };
        Ok(self.printer.data(&text)?)
    }
}

fn arrival(node: &ClusterNode) -> String {
    let words = [format!("new: {}", nodes::status(node)), node.spec.class.to_string(), nodes::trouble(node)];
    words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join("; ")
}
