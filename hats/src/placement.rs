//! Placement: which node and which devices carry a wearer.
//!
//! Filter: registered, Ready, not cordoned, not banned, not set aside, nothing left to stop, room in its list of hats, every node expression true, enough
//! free devices of which every selector is true. Then prefer, in this order: the smallest devices that do (a small hat does not take the big GPU), the
//! fewest free devices left of the classes that are asked for (all classes, if none is), the fewest bindings on the node, the first name. Nothing is
//! ever taken from somebody to make room. Equal worlds give equal placements.
//!
//! Nodes that are alike stand on one shelf (`shelves`) and are judged together; only a hat whose expressions name
//! an individual node or device is tried on every node.
//!
//! An expression that fails on any node that could otherwise take the hat holds the request, even where another node would do: it means
//! something else than its author thinks, and a placement would depend on which nodes are up.

mod fit;
pub(crate) mod shelves;

use std::sync::Arc;
use std::time::Duration;

use hatrack_api::cluster_node::ClusterNodeStatus;

pub(crate) use self::fit::Fits;
use self::fit::{Fit, Suits, fit};
use crate::explain::{Misfit, Refusal};
use crate::moment::Moment;
use crate::world::{Id, NodeView, World};

/// Where a wearer goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// Name of the node.
    pub node: String,
    /// Names of the devices, sorted.
    pub devices: Vec<String>,
}

/// What is to be placed.
#[derive(Clone, Copy)]
pub(crate) struct Demand<'a> {
    /// Name of the hat.
    pub hat: &'a str,
    pub fits: &'a Fits,
    /// The binding: it does not go where it is still being stopped.
    pub binding: &'a Id,
    /// Whether devices that somebody has are left to them. Always, but in the simulator's proof that it would notice.
    pub exclusive: bool,
}

/// The best node so far.
struct Best<'a>(Option<(Suits, usize, &'a str)>);

impl<'a> Best<'a> {
    fn offer(&mut self, suits: Suits, node: &NodeView, name: &'a str) {
        let offered = (suits, node.load(), name);
        if self.0.is_none_or(|known| offered < known) {
            self.0 = Some(offered);
        }
    }
}

/// Finds the place, or says in which way each node does not fit.
pub(crate) fn place(world: &World, demand: Demand<'_>, steady: Duration) -> Result<Placement, Refusal> {
    let best = if !demand.fits.is_by_stock() || !demand.exclusive {
        try_each_node(world, demand, steady)
    } else if world.by_node.shelves.is_ranked(demand.hat) {
        by_rank(world, demand, steady)
    } else {
        try_each_shelf(world, demand, steady)
    };
    let placed = best?.0.and_then(|(_, _, name)| {
        let node = world.node(name)?;
        let devices = demand.on(world, node).ok()?.devices(node, demand.exclusive);
        Some(Placement { node: name.to_owned(), devices })
    });
    placed.ok_or_else(|| Refusal::NoNode(explain(world, demand, steady)))
}

/// The first shelf on which a node can be used, unless a node further back on it is worse than the first of the next.
fn by_rank<'a>(world: &'a World, demand: Demand<'_>, steady: Duration) -> Result<Best<'a>, Refusal> {
    let usable = |name: &&str| world.node(name).is_some_and(|node| obstacle(node, demand.binding, steady).is_none());
    if let Some(name) = world.by_node.shelves.failing(demand.hat).filter(usable).min() {
        return Err(failure(world, demand, name));
    }
    let mut best = Best(None);
    for (suits, first, mut names) in world.by_node.shelves.ranked(demand.hat) {
        if best.0.is_some_and(|known| known <= (*suits, first.0, &*first.1)) {
            break;
        }
        if let Some((name, node)) = names.find(usable).and_then(|name| Some((name, world.node(name)?))) {
            best.offer(*suits, node, name);
        }
    }
    Ok(best)
}

/// All that stand on a shelf are alike: the first that can be used stands for them.
fn try_each_shelf<'a>(world: &'a World, demand: Demand<'_>, steady: Duration) -> Result<Best<'a>, Refusal> {
    let usable = |name: &&str| world.node(name).is_some_and(|node| obstacle(node, demand.binding, steady).is_none());
    let firsts = world.by_node.shelves.iter().filter_map(|mut names| names.find(usable));
    try_nodes(world, demand, firsts)
}

fn try_each_node<'a>(world: &'a World, demand: Demand<'_>, steady: Duration) -> Result<Best<'a>, Refusal> {
    let usable = |node: &NodeView| node.is_registered() && obstacle(node, demand.binding, steady).is_none();
    try_nodes(world, demand, world.nodes().filter(|(_, node)| usable(node)).map(|(name, _)| name))
}

/// An expression that fails on one of them counts more than a place on another.
fn try_nodes<'a>(
    world: &'a World,
    demand: Demand<'_>,
    names: impl Iterator<Item = &'a str>,
) -> Result<Best<'a>, Refusal> {
    let mut best = Best(None);
    let mut failing: Option<&str> = None;
    for name in names {
        let Some(node) = world.node(name) else { continue };
        match demand.on(world, node) {
            Ok(fit) => best.offer(fit.suits, node, name),
            Err(misfit) if misfit.is_failure() && failing.is_none_or(|known| name < known) => failing = Some(name),
            Err(_) => {}
        }
    }
    failing.map_or(Ok(best), |name| Err(failure(world, demand, name)))
}

/// The expression that fails on a node.
fn failure(world: &World, demand: Demand<'_>, name: &str) -> Refusal {
    match world.node(name).map(|node| demand.on(world, node)) {
        Some(Err(Misfit::Fails { expression, error })) => {
            Refusal::Expression { expression, node: name.to_owned(), error }
        }
        _ => Refusal::NoNode(vec![]),
    }
}

/// Name of a node, and the devices that it would give or why it does not fit.
pub type Says = (String, Result<Vec<String>, Misfit>);

/// What each registered node says to a request, by its name.
/// `None` if there is no such request, no such hat, or the hat needs no node.
pub fn per_node(world: &World, uid: &str, now: Moment) -> Option<Vec<Says>> {
    let id = Id::from(uid);
    let hat = &world.bound(&id)?.spec.hat;
    let fits = world.fits(hat)?;
    let demand = Demand { hat, fits, binding: &id, exclusive: true };
    let registered = world.nodes.iter().filter(|(_, node)| node.is_registered());
    let verdict = |node: &NodeView| match obstacle(node, &id, now.steady) {
        Some(obstacle) => Err(obstacle),
        None => demand.alone_on(world, node).map(|fit| fit.devices(node, true)),
    };
    Some(registered.map(|(name, node)| (name.to_string(), verdict(node))).collect())
}

/// Why each node does not fit.
fn explain(world: &World, demand: Demand<'_>, steady: Duration) -> Vec<Misfit> {
    let registered = world.nodes.values().filter(|node| node.is_registered());
    registered
        .filter_map(|node| match obstacle(node, demand.binding, steady) {
            Some(obstacle) => Some(obstacle),
            None => demand.alone_on(world, node).err(),
        })
        .collect()
}

/// What keeps a node from taking any hat, or this binding again.
fn obstacle(node: &NodeView, binding: &Id, steady: Duration) -> Option<Misfit> {
    let spec = &node.node.spec;
    if spec.revoked == Some(true) {
        Some(Misfit::Revoked)
    } else if spec.unschedulable == Some(true) {
        Some(Misfit::Cordoned)
    } else if node.is_set_aside() {
        Some(Misfit::SetAside)
    } else if !node.is_ready(steady) {
        Some(Misfit::NotReady)
    } else if node.wears_unassigned() || node.remembers(binding) {
        Some(Misfit::Stopping)
    } else if is_full(node) {
        Some(Misfit::Full)
    } else {
        None
    }
}

/// Whether a node takes no hat at any time, as it is.
fn is_closed(node: &NodeView) -> bool {
    let spec = &node.node.spec;
    let is_barred = spec.revoked == Some(true) || spec.unschedulable == Some(true) || node.is_set_aside();
    is_barred || node.wears_unassigned() || is_full(node)
}

fn is_full(node: &NodeView) -> bool {
    node.carried() >= ClusterNodeStatus::MOST_HATS
}

impl Demand<'_> {
    /// How a node meets it, as far as can be remembered.
    fn on(&self, world: &World, node: &NodeView) -> Result<Arc<Fit>, Misfit> {
        if self.exclusive && self.fits.is_by_stock() {
            self.fits.on(&world.judge, node)
        } else {
            self.alone_on(world, node).map(Arc::new)
        }
    }

    /// How this very node meets it.
    fn alone_on(&self, world: &World, node: &NodeView) -> Result<Fit, Misfit> {
        fit(&world.judge, node, self.fits.requirements(), self.exclusive)
    }
}
