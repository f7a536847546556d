//! Placement: which node and which devices carry a wearer.
//!
//! Filter: registered, Ready, not cordoned, not banned, nothing left to stop, room in its list of hats, every node expression true, enough free devices
//! of which every selector is true. Then prefer, in this order: the smallest devices that do (a small hat does not take the big GPU), the
//! fewest free devices left of the classes that are asked for (all classes, if none is), the fewest bindings on the node, the first name. Nothing is
//! ever taken from somebody to make room. Equal worlds give equal placements.
//!
//! Nodes that are alike stand on one shelf ([`shelves`]) and are judged together; only a hat whose expressions name
//! an individual node or device is tried on every node.
//!
//! An expression that fails on any node that could otherwise take the hat holds the request, even where another node would do: it means
//! something else than its author thinks, and a placement would depend on which nodes are up.

pub mod shelves;

use std::time::Duration;

use hatrack_api::cluster_node::{ClusterNodeStatus, Device, DeviceClass};
use hatrack_api::hat::{DeviceRequest, Requirements};
use hatrack_api::quantity;

use crate::explain::{Misfit, Refusal};
use crate::moment::Moment;
use crate::requirements::{Judge, Kind};
use crate::world::{NodeView, World};

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
    pub requirements: &'a Requirements,
    /// UID of the binding: it does not go where it is still being stopped.
    pub binding: &'a str,
    /// Whether devices that somebody has are left to them. Always, but in the simulator's proof that it would notice.
    pub exclusive: bool,
}

/// How well a node suits: the smaller, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Score {
    size: u128,
    left: usize,
    load: usize,
}

/// Finds the place, or says in which way each node does not fit.
pub(crate) fn place(world: &World, demand: Demand<'_>, steady: Duration) -> Result<Placement, Refusal> {
    let by_kind = demand.expressions().all(|expression| world.judge.is_by_kind(expression));
    let mut best: Option<(Score, String)> = None;
    for (_, names) in world.shelves.iter() {
        let mut candidates = names
            .iter()
            .filter(|name| world.node(name).is_some_and(|node| obstacle(node, demand.binding, steady).is_none()));
        // All that stand on a shelf are alike: the first that can be used stands for them.
        let tried: Vec<&String> = if by_kind { candidates.next().into_iter().collect() } else { candidates.collect() };
        for name in tried {
            let Some(node) = world.node(name) else { continue };
            match fit(&world.judge, node, demand) {
                Ok((score, _)) if best.as_ref().is_none_or(|(known, first)| (score, name) < (*known, first)) => {
                    best = Some((score, name.clone()));
                }
                Err(Misfit::Fails { expression, error }) => {
                    return Err(Refusal::Expression { expression, node: name.clone(), error });
                }
                Ok(_) | Err(_) => {}
            }
        }
    }
    let placed = best.and_then(|(_, name)| {
        let (_, mut devices) = fit(&world.judge, world.node(&name)?, demand).ok()?;
        devices.sort();
        Some(Placement { node: name, devices })
    });
    placed.ok_or_else(|| Refusal::NoNode(explain(world, demand, steady)))
}

/// Name of a node, and the devices that it would give or why it does not fit.
pub type Says = (String, Result<Vec<String>, Misfit>);

/// What each registered node says to a request, by its name.
/// `None` if there is no such request, no such hat, or the hat needs no node.
pub fn per_node(world: &World, uid: &str, now: Moment) -> Option<Vec<Says>> {
    let requirements = world.hat(&world.binding(uid)?.spec.hat)?.spec.requirements.as_ref()?;
    let demand = Demand { requirements, binding: uid, exclusive: true };
    let registered = world.nodes.iter().filter(|(_, node)| node.is_registered());
    let verdict = |node: &NodeView| match obstacle(node, uid, now.steady) {
        Some(obstacle) => Err(obstacle),
        None => fit(&world.judge, node, demand).map(|(_, devices)| devices),
    };
    Some(registered.map(|(name, node)| (name.clone(), verdict(node))).collect())
}

/// Why each node does not fit.
fn explain(world: &World, demand: Demand<'_>, steady: Duration) -> Vec<Misfit> {
    let registered = world.nodes.values().filter(|node| node.is_registered());
    registered
        .filter_map(|node| match obstacle(node, demand.binding, steady) {
            Some(obstacle) => Some(obstacle),
            None => fit(&world.judge, node, demand).err(),
        })
        .collect()
}

/// What keeps a node from taking any hat, or this binding again.
fn obstacle(node: &NodeView, binding: &str, steady: Duration) -> Option<Misfit> {
    let spec = &node.node.spec;
    if spec.revoked == Some(true) {
        Some(Misfit::Revoked)
    } else if spec.unschedulable == Some(true) {
        Some(Misfit::Cordoned)
    } else if !node.is_ready(steady) {
        Some(Misfit::NotReady)
    } else if node.wears_unassigned() || node.remembers(binding) {
        Some(Misfit::Stopping)
    } else if node.carried() >= ClusterNodeStatus::MOST_HATS {
        Some(Misfit::Full)
    } else {
        None
    }
}

impl<'a> Demand<'a> {
    fn expressions(self) -> impl Iterator<Item = &'a String> {
        let devices = self.requirements.devices.iter().flat_map(|request| &request.selectors);
        self.requirements.node.iter().chain(devices)
    }

    /// One slot for each device that is asked for.
    fn slots(self) -> Vec<&'a DeviceRequest> {
        let requests = self.requirements.devices.iter();
        requests.flat_map(|request| std::iter::repeat_n(request, count(request))).collect()
    }
}

fn count(request: &DeviceRequest) -> usize {
    usize::try_from(request.count.unwrap_or(1)).unwrap_or(1).max(1)
}

/// Whether a node fits, how well, and with which devices.
fn fit(judge: &Judge, node: &NodeView, demand: Demand<'_>) -> Result<(Score, Vec<String>), Misfit> {
    for expression in &demand.requirements.node {
        match judge.judge(expression, (&node.node, node.kind), None) {
            Ok(true) => {}
            Ok(false) => return Err(Misfit::Expression(expression.clone())),
            Err(error) => return Err(Misfit::Fails { expression: expression.clone(), error }),
        }
    }
    let mut free: Vec<Candidate<'_>> = candidates(node, demand.exclusive);
    free.sort_by(|a, b| (a.size, &a.device.name).cmp(&(b.size, &b.device.name)));
    let mut suitable = vec![];
    for request in &demand.requirements.devices {
        let fitting = suitable_devices(judge, node, request, &free)?;
        if fitting.len() < count(request) {
            return Err(shortage(judge, node, request, &free, fitting.len(), demand.exclusive));
        }
        suitable.push(fitting);
    }
    let slots = demand.slots();
    let slot_candidates: Vec<&Vec<usize>> = demand
        .requirements
        .devices
        .iter()
        .zip(&suitable)
        .flat_map(|(request, fitting)| std::iter::repeat_n(fitting, count(request)))
        .collect();
    let Some(chosen) = matching(&slot_candidates, free.len()) else {
        return Err(Misfit::Contended(slots.first().map_or(DeviceClass::Gpu, |request| request.class)));
    };
    let asked = |class: DeviceClass| slots.is_empty() || slots.iter().any(|request| request.class == class);
    let left = free.iter().filter(|candidate| asked(candidate.device.class)).count() - chosen.len();
    let size = chosen.iter().map(|index| free[*index].size).sum();
    let names = chosen.iter().map(|index| free[*index].device.name.clone()).collect();
    Ok((Score { size, left, load: node.load() }, names))
}

struct Candidate<'a> {
    device: &'a Device,
    kind: Kind,
    size: u128,
}

fn candidates(node: &NodeView, exclusive: bool) -> Vec<Candidate<'_>> {
    let devices = node.devices().iter().zip(node.device_kinds.iter());
    devices
        .filter(|(device, _)| if exclusive { node.is_free(device) } else { device.health.is_usable() })
        .map(|(device, kind)| Candidate { device, kind: *kind, size: size(device) })
        .collect()
}

/// How much of a device is bound by taking it: its memory, where it says so.
fn size(device: &Device) -> u128 {
    let memory = device.capacity.get(hatrack_api::cluster_node::capacity::MEMORY);
    memory.and_then(|memory| quantity::to_whole(&memory.value)).unwrap_or(0)
}

/// Indexes of the free devices that a request can have.
fn suitable_devices(
    judge: &Judge,
    node: &NodeView,
    request: &DeviceRequest,
    free: &[Candidate<'_>],
) -> Result<Vec<usize>, Misfit> {
    let mut fitting = vec![];
    for (index, candidate) in free.iter().enumerate().filter(|(_, candidate)| candidate.device.class == request.class) {
        if failing(judge, node, request, (candidate.device, candidate.kind))?.is_none() {
            fitting.push(index);
        }
    }
    Ok(fitting)
}

/// The first selector that is not true of a device.
fn failing<'a>(
    judge: &Judge,
    node: &NodeView,
    request: &'a DeviceRequest,
    device: (&Device, Kind),
) -> Result<Option<&'a String>, Misfit> {
    for selector in &request.selectors {
        match judge.judge(selector, (&node.node, node.kind), Some(device)) {
            Ok(true) => {}
            Ok(false) => return Ok(Some(selector)),
            Err(error) => return Err(Misfit::Fails { expression: selector.clone(), error }),
        }
    }
    Ok(None)
}

/// Why a node has too few devices for a request.
fn shortage(
    judge: &Judge,
    node: &NodeView,
    request: &DeviceRequest,
    free: &[Candidate<'_>],
    fitting: usize,
    exclusive: bool,
) -> Misfit {
    let class = request.class;
    let present: Vec<&Device> = node.devices().iter().filter(|device| device.class == class).collect();
    let Some(unusable) = present.first().filter(|_| present.iter().all(|device| !device.health.is_usable())) else {
        let of_class: Vec<&Candidate<'_>> = free.iter().filter(|candidate| candidate.device.class == class).collect();
        return match of_class.last() {
            None if present.is_empty() => Misfit::NoDevice(class),
            None if node.leaves_to_kubernetes(class) => Misfit::LeftToKubernetes(class),
            None => Misfit::InUse(class),
            Some(_) if fitting > 0 || request.selectors.is_empty() => {
                let usable = present.iter().filter(|device| device.health.is_usable()).count();
                let free = if fitting > 0 { fitting } else { of_class.len() };
                Misfit::TooFew {
                    class,
                    has: free,
                    needs: count(request),
                    in_use: exclusive && free < usable && usable >= count(request),
                }
            }
            Some(largest) => unmet(judge, node, request, largest),
        };
    };
    Misfit::Unusable { class, reason: unusable.health.reason.clone() }
}

/// In which way the largest free device does not do: the amount that is missing, if a selector asks for one.
fn unmet(judge: &Judge, node: &NodeView, request: &DeviceRequest, largest: &Candidate<'_>) -> Misfit {
    let selector = match failing(judge, node, request, (largest.device, largest.kind)) {
        Ok(Some(selector)) => selector.clone(),
        Ok(None) => return Misfit::InUse(request.class),
        Err(misfit) => return misfit,
    };
    let needed = judge.needed_capacity(&selector);
    let amounts = needed.and_then(|(name, needs)| {
        let has = largest.device.capacity.get(&name)?.value.0.clone();
        Some(Misfit::TooSmall { class: request.class, capacity: name, has, needs })
    });
    amounts.unwrap_or(Misfit::Selector { class: request.class, selector })
}

/// Gives each slot a device of its own (augmenting paths); candidates come in the order of preference. Slots with the fewest
/// candidates choose first, so that the picky ones are served from the small devices too.
fn matching(slots: &[&Vec<usize>], devices: usize) -> Option<Vec<usize>> {
    let mut owner: Vec<Option<usize>> = vec![None; devices];
    let mut order: Vec<usize> = (0..slots.len()).collect();
    order.sort_by_key(|slot| (slots[*slot].len(), *slot));
    for slot in order {
        let mut seen = vec![false; devices];
        if !augment(slot, slots, &mut owner, &mut seen) {
            return None;
        }
    }
    Some((0..devices).filter(|device| owner[*device].is_some()).collect())
}

fn augment(slot: usize, slots: &[&Vec<usize>], owner: &mut [Option<usize>], seen: &mut [bool]) -> bool {
    if let Some(free) = slots[slot].iter().find(|device| owner[**device].is_none()) {
        owner[*free] = Some(slot);
        return true;
    }
    for &device in slots[slot] {
        if std::mem::replace(&mut seen[device], true) {
            continue;
        }
        if owner[device].is_some_and(|other| augment(other, slots, owner, seen)) {
            owner[device] = Some(slot);
            return true;
        }
    }
    false
}
