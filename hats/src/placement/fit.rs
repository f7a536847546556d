//! Whether a node can meet what a hat asks for, with which devices, and how well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use hatrack_api::cluster_node::{Device, DeviceClass};
use hatrack_api::hat::{DeviceRequest, Requirements};

use super::shelves::Stock;
use crate::explain::Misfit;
use crate::requirements::{Judge, Kind};
use crate::world::NodeView;

/// How well a node suits, whatever it carries: the smaller, the better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Suits {
    /// What the smallest devices that do have together.
    size: u128,
    /// Free devices that are left of the classes that are asked for; of all classes, if none is.
    left: usize,
}

/// How a node meets requirements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    pub suits: Suits,
    /// Which of the available devices are taken, by their place among them.
    chosen: Vec<usize>,
}

impl Fit {
    /// Names of the devices on a node of this stock, sorted.
    pub fn devices(&self, node: &NodeView, exclusive: bool) -> Vec<String> {
        let available = node.available(exclusive);
        let chosen = self.chosen.iter().filter_map(|place| Some(&node.devices().get(*available.get(*place)?)?.name));
        let mut names: Vec<String> = chosen.cloned().collect();
        names.sort();
        names
    }
}

/// The requirements of a hat, and how each stock meets them. What is remembered is shared by all copies of a
/// [`World`](crate::World) and changes no result.
#[derive(Debug)]
pub(crate) struct Fits {
    requirements: Requirements,
    /// Whether nodes of equal stock meet them equally.
    by_stock: bool,
    known: Mutex<HashMap<Stock, Result<Arc<Fit>, Misfit>>>,
}

/// Stocks that are remembered for a hat; beyond that the memory starts anew.
const MAX_REMEMBERED: usize = 1 << 16;

impl Fits {
    pub fn new(judge: &Judge, requirements: Requirements) -> Self {
        let selectors = requirements.devices.iter().flat_map(|request| &request.selectors);
        let by_stock = requirements.node.iter().chain(selectors).all(|expression| judge.is_by_kind(expression));
        Self { requirements, by_stock, known: Mutex::default() }
    }

    pub fn requirements(&self) -> &Requirements {
        &self.requirements
    }

    pub fn is_by_stock(&self) -> bool {
        self.by_stock
    }

    /// How a node meets them with what is nobody's. What a misfit says may be true of this node alone.
    pub fn on(&self, judge: &Judge, node: &NodeView) -> Result<Arc<Fit>, Misfit> {
        let stock = node.stock();
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(stock) {
            return known.clone();
        }
        let answer = fit(judge, node, &self.requirements, true).map(Arc::new);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_REMEMBERED {
            known.clear();
        }
        known.insert(stock.clone(), answer.clone());
        answer
    }
}

fn count(request: &DeviceRequest) -> usize {
    usize::try_from(request.count.unwrap_or(1)).unwrap_or(1).max(1)
}

/// Whether a node fits, how well, and with which devices.
pub(crate) fn fit(judge: &Judge, node: &NodeView, requirements: &Requirements, exclusive: bool) -> Result<Fit, Misfit> {
    for expression in &requirements.node {
        match judge.judge(expression, (&node.node, node.kind), None) {
            Ok(true) => {}
            Ok(false) => return Err(Misfit::Expression(expression.clone())),
            Err(error) => return Err(Misfit::Fails { expression: expression.clone(), error }),
        }
    }
    let free: Vec<Candidate<'_>> = candidates(node, exclusive);
    let mut suitable = vec![];
    for request in &requirements.devices {
        let fitting = suitable_devices(judge, node, request, &free)?;
        if fitting.len() < count(request) {
            return Err(shortage(judge, node, request, &free, fitting.len(), exclusive));
        }
        suitable.push(fitting);
    }
    // One slot for each device that is asked for.
    let requests = requirements.devices.iter().zip(&suitable);
    let slots: Vec<&Vec<usize>> =
        requests.flat_map(|(request, fitting)| std::iter::repeat_n(fitting, count(request))).collect();
    let Some(chosen) = matching(&slots, free.len()) else {
        return Err(Misfit::Contended(requirements.devices.first().map_or(DeviceClass::Gpu, |request| request.class)));
    };
    let asked =
        |class: DeviceClass| slots.is_empty() || requirements.devices.iter().any(|request| request.class == class);
    let left = free.iter().filter(|candidate| asked(candidate.device.class)).count() - chosen.len();
    let size = chosen.iter().map(|index| free[*index].size).sum();
    Ok(Fit { suits: Suits { size, left }, chosen })
}

struct Candidate<'a> {
    device: &'a Device,
    kind: Kind,
    size: u128,
}

/// The devices that are given away, in this order.
fn candidates(node: &NodeView, exclusive: bool) -> Vec<Candidate<'_>> {
    let devices = node.devices();
    let candidate = |index: &usize| {
        let measure = node.measures[*index];
        Candidate { device: &devices[*index], kind: measure.kind, size: measure.size }
    };
    node.available(exclusive).iter().map(candidate).collect()
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

/// Gives each slot a device of its own, the smallest that do together. Devices are offered in the order of preference. One that finds a slot, where
/// others may change theirs for it (augmenting paths), is in: the sets that find slots are those of a transversal matroid, in which the
/// greedy choice is the best.
fn matching(slots: &[&Vec<usize>], devices: usize) -> Option<Vec<usize>> {
    let mut holds: Vec<Option<usize>> = vec![None; slots.len()];
    let finds_a_slot = |device: &usize| seat(*device, slots, &mut holds, &mut vec![false; slots.len()]);
    let chosen: Vec<usize> = (0..devices).filter(finds_a_slot).take(slots.len()).collect();
    (chosen.len() == slots.len()).then_some(chosen)
}

/// Puts a device into a slot that can have it, if need be by moving the one in there.
fn seat(device: usize, slots: &[&Vec<usize>], holds: &mut [Option<usize>], seen: &mut [bool]) -> bool {
    for (slot, suitable) in slots.iter().enumerate() {
        if suitable.binary_search(&device).is_err() || std::mem::replace(&mut seen[slot], true) {
            continue;
        }
        if holds[slot].is_none_or(|other| seat(other, slots, holds, seen)) {
            holds[slot] = Some(device);
            return true;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use fastrand::Rng;

    use super::*;

    /// The least that devices for every slot have together, by trying everything.
    fn least(slots: &[&Vec<usize>], sizes: &[u128], taken: &mut Vec<usize>) -> Option<u128> {
        let Some((first, rest)) = slots.split_first() else { return Some(0) };
        let mut best: Option<u128> = None;
        for device in first.iter().copied() {
            if taken.contains(&device) {
                continue;
            }
            taken.push(device);
            let size = least(rest, sizes, taken).map(|size| size + sizes[device]);
            taken.pop();
            best = best.into_iter().chain(size).min();
        }
        best
    }

    #[test]
    fn no_choice_of_devices_is_smaller_and_one_is_found_whenever_there_is_one() {
        let mut rng = Rng::new();
        println!("seed {}", rng.get_seed());
        let mut found = 0;
        for _ in 0..3000 {
            let mut sizes: Vec<u128> = (0..rng.usize(0..7)).map(|_| rng.u128(1..9)).collect();
            sizes.sort_unstable();
            let suitable = |rng: &mut Rng| (0..sizes.len()).filter(|_| rng.bool()).collect::<Vec<usize>>();
            let requests: Vec<Vec<usize>> = (0..rng.usize(0..5)).map(|_| suitable(&mut rng)).collect();
            let slots: Vec<&Vec<usize>> = requests.iter().collect();
            let chosen = matching(&slots, sizes.len());
            let size = chosen.map(|chosen| chosen.iter().map(|device| sizes[*device]).sum());
            assert_eq!(size, least(&slots, &sizes, &mut vec![]), "{requests:?} of {sizes:?}");
            found += usize::from(size.is_some() && slots.len() > 1);
        }
        assert!(found > 100, "{found} of several requests could be met");
    }
}
