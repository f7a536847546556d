//! `hatrack node`: what only a person says of a machine.

mod confirm;

use hatrack_api::ClusterNode;
use hatrack_api::cluster_node::{ClusterNodeStatus, WornState};

pub use self::confirm::NotConfirmed;
use crate::Outcome;
use crate::args::{Node, NodeVerb, OneNode, Remove};
use crate::cluster::upkeep::Amendment;
use crate::cluster::{Cluster, Missing};
use crate::output::Printer;
use crate::output::style::{self, paint};

/// Hats are worn on a node that is to go.
#[derive(Debug, thiserror::Error)]
#[error("hats are worn on {node}: {}", hats.join(", "))]
pub struct StillWorn {
    /// The node.
    pub node: String,
    hats: Vec<String>,
}

/// Does what was typed, and says what follows from it.
pub async fn run(options: &Node, printer: &Printer) -> anyhow::Result<Outcome> {
    let done = match &options.verb {
        NodeVerb::Cordon(node) => cordon(node).await?,
        NodeVerb::Uncordon(node) => uncordon(node).await?,
        NodeVerb::Revoke(node) => revoke(node).await?,
        NodeVerb::Repin(confirmed) => repin(&confirmed.node, confirmed.yes, printer).await?,
        NodeVerb::Remove(options) => remove(options, printer).await?,
    };
    printer.note(&format!("{} {done}", paint(style::GOOD, "ok:")));
    Ok(Outcome::Done)
}

/// A cluster and a node of it.
async fn find(options: &OneNode) -> anyhow::Result<(Cluster, ClusterNode)> {
    let cluster = Cluster::open(&options.cluster).await?;
    let node =
        cluster.get::<ClusterNode>(&options.name).await?.ok_or_else(|| Missing::of::<ClusterNode>(&options.name))?;
    Ok((cluster, node))
}

async fn cordon(options: &OneNode) -> anyhow::Result<String> {
    let (cluster, node) = find(options).await?;
    let name = &options.name;
    if node.spec.unschedulable == Some(true) {
        return Ok(format!("{name} was cordoned already"));
    }
    cluster.amend(&node, Amendment::Unschedulable(true)).await?;
    let worn = hats(&node);
    Ok(if worn.is_empty() {
        format!("{name} is cordoned: it gets no new hats")
    } else {
        format!("{name} is cordoned: it gets no new hats, and {} goes on to its end there", worn.join(", "))
    })
}

async fn uncordon(options: &OneNode) -> anyhow::Result<String> {
    let (cluster, node) = find(options).await?;
    let name = &options.name;
    if node.spec.unschedulable != Some(true) {
        return Ok(format!("{name} was not cordoned"));
    }
    cluster.amend(&node, Amendment::Unschedulable(false)).await?;
    Ok(format!("{name} can get hats again"))
}

async fn revoke(options: &OneNode) -> anyhow::Result<String> {
    let (cluster, node) = find(options).await?;
    let name = &options.name;
    if node.spec.revoked == Some(true) {
        return Ok(format!("{name} was revoked already"));
    }
    cluster.amend(&node, Amendment::Revoked).await?;
    Ok(if cluster.is_folder() {
        format!("{name} is revoked: it gets no hats, and `hatrack register` refuses it")
    } else {
        format!(
            "{name} is revoked: the operator takes away what the machine may do, moves its hats, and gives no certificate \
             under this name"
        )
    })
}

async fn repin(options: &OneNode, yes: bool, printer: &Printer) -> anyhow::Result<String> {
    let (cluster, node) = find(options).await?;
    let name = &options.name;
    let Some(pinned) = node.spec.hardware_id.as_deref().filter(|id| !id.is_empty()) else {
        return Ok(format!("{name} was free for another machine already"));
    };
    confirm::ask(
        name,
        yes,
        &format!("{name} is the machine {pinned}. The next one under this name takes its place."),
        printer,
    )?;
    cluster.amend(&node, Amendment::NoMachine).await?;
    Ok(format!("{name} is free for another machine: the next one that registers under this name keeps it"))
}

async fn remove(options: &Remove, printer: &Printer) -> anyhow::Result<String> {
    let (cluster, node) = find(&options.confirmed.node).await?;
    let name = &options.confirmed.node.name;
    let worn = hats(&node);
    if !worn.is_empty() && !options.force {
        return Err(StillWorn { node: name.clone(), hats: worn }.into());
    }
    confirm::ask(name, options.confirmed.yes, &format!("{name} and what it may do will be removed."), printer)?;
    let removed = cluster.remove(&node).await?;
    Ok(format!("{name} is removed: {}", removed.join(", ")))
}

/// The hats that a node is to wear or still wears, each once.
fn hats(node: &ClusterNode) -> Vec<String> {
    let nothing = ClusterNodeStatus::default();
    let status = node.status.as_ref().unwrap_or(&nothing);
    let mut hats: Vec<_> = status.hats.iter().flatten().map(|hat| hat.name.clone()).collect();
    let is_listed = |binding: &str| status.hats.iter().flatten().any(|hat| hat.binding == binding);
    // One that is not listed any more and has not been reported as stopped has no name here but its binding's.
    let still = status.worn.iter().flatten().filter(|worn| worn.state != WornState::Stopped);
    let worn = still.filter(|worn| !is_listed(&worn.binding));
    hats.extend(worn.map(|worn| format!("binding {}", worn.binding)));
    hats.sort_unstable();
    hats.dedup();
    hats
}
