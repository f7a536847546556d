//! Nodes that have the same to give, together: a shelf. On it, those that carry less come first, then the first names.
//!
//! A decision that places a hat ranks the shelves by how well they suit it ([`Ranking`]), and keeps the order while nodes move
//! from shelf to shelf.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::fit::{Fits, Suits};
use crate::requirements::{Judge, Kind};
use crate::world::{Name, NodeView};

/// What the nodes of a shelf have in common: their kind, and the kinds of their free devices in the order in which they are given away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stock {
    pub(crate) node: Kind,
    pub(crate) free: Arc<[Kind]>,
}

/// How many bindings a node carries, and its name.
type Place = (usize, Name);

/// Where a node stands: on which shelf, and how many bindings it carries.
#[derive(PartialEq, Eq)]
pub(crate) struct Spot(Stock, usize);

/// All nodes that could take a hat, by what they have to give.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelves {
    shelves: OrdMap<Stock, OrdSet<Place>>,
    rankings: BTreeMap<Name, Ranking>,
}

/// The shelves that suit a hat, the best first.
#[derive(Clone, Debug)]
struct Ranking {
    fits: Arc<Fits>,
    /// Shelves by how well they suit, then by their first node.
    order: OrdMap<(Suits, Place), Stock>,
    /// How well each of these suits.
    suits: OrdMap<Stock, Suits>,
    /// Those on which an expression fails.
    failing: OrdSet<Stock>,
}

impl Spot {
    /// `None`: it takes no hat at any time, as it is.
    pub fn of(node: &NodeView) -> Option<Self> {
        (node.is_registered() && !super::is_closed(node)).then(|| Self(node.stock().clone(), node.load()))
    }
}

impl Shelves {
    /// Names of the nodes on every shelf.
    pub fn iter(&self) -> impl Iterator<Item = impl Iterator<Item = &str>> {
        self.shelves.values().map(names)
    }

    /// Ranks the shelves for a hat from now on. `node` finds a node by its name.
    pub fn rank<'a>(
        &mut self,
        hat: &str,
        fits: &Arc<Fits>,
        judge: &Judge,
        node: impl Fn(&str) -> Option<&'a NodeView>,
    ) {
        if self.rankings.get(hat).is_some_and(|known| Arc::ptr_eq(&known.fits, fits)) {
            return;
        }
        let mut ranking = Ranking::of(fits);
        for first in self.shelves.values().filter_map(OrdSet::get_min) {
            if let Some(node) = node(&first.1) {
                ranking.add(judge, node, first);
            }
        }
        self.rankings.insert(hat.into(), ranking);
    }

    /// Whether there is an order for a hat.
    pub fn is_ranked(&self, hat: &str) -> bool {
        self.rankings.contains_key(hat)
    }

    /// The shelves that suit a ranked hat, the best first: how well, the first node, and all of them.
    pub fn ranked(&self, hat: &str) -> impl Iterator<Item = (&Suits, &Place, impl Iterator<Item = &str>)> {
        let ranks = self.rankings.get(hat).into_iter().flat_map(|ranking| &ranking.order);
        ranks.map(|((suits, first), stock)| (suits, first, self.names_on(stock)))
    }

    /// Names of the nodes on which an expression of a ranked hat fails.
    pub fn failing(&self, hat: &str) -> impl Iterator<Item = &str> {
        self.rankings.get(hat).into_iter().flat_map(|ranking| &ranking.failing).flat_map(|stock| self.names_on(stock))
    }

    fn names_on(&self, stock: &Stock) -> impl Iterator<Item = &str> {
        self.shelves.get(stock).into_iter().flat_map(names)
    }

    /// A node came, or is another one than it was when it stood at a spot.
    pub fn change(&mut self, judge: &Judge, name: &Name, before: Option<Spot>, node: &NodeView) {
        let after = Spot::of(node);
        if before == after {
            return;
        }
        if let Some(Spot(stock, load)) = before {
            self.take(&stock, &(load, name.clone()));
        }
        if let Some(Spot(stock, load)) = after {
            self.put(judge, stock, (load, name.clone()), node);
        }
    }

    fn take(&mut self, stock: &Stock, place: &Place) {
        let Some(places) = self.shelves.get_mut(stock) else { return };
        let was_first = places.get_min() == Some(place);
        places.remove(place);
        let first = places.get_min().cloned();
        if first.is_none() {
            self.shelves.remove(stock);
        }
        for ranking in self.rankings.values_mut().filter(|_| was_first) {
            ranking.replace(stock, place, first.as_ref());
        }
    }

    fn put(&mut self, judge: &Judge, stock: Stock, place: Place, node: &NodeView) {
        let first = self.shelves.get(&stock).and_then(OrdSet::get_min).cloned();
        for ranking in self.rankings.values_mut() {
            match &first {
                None => ranking.add(judge, node, &place),
                Some(first) if place < *first => ranking.replace(&stock, first, Some(&place)),
                Some(_) => {}
            }
        }
        self.shelves.entry(stock).or_default().insert(place);
    }
}

impl Ranking {
    /// Of no shelves yet.
    fn of(fits: &Arc<Fits>) -> Self {
        Self { fits: Arc::clone(fits), order: OrdMap::new(), suits: OrdMap::new(), failing: OrdSet::new() }
    }

    /// There is a shelf of what this node has, on which it is the first.
    fn add(&mut self, judge: &Judge, node: &NodeView, first: &Place) {
        let stock = node.stock();
        match self.fits.on(judge, node) {
            Ok(fit) => {
                self.suits.insert(stock.clone(), fit.suits);
                self.order.insert((fit.suits, first.clone()), stock.clone());
            }
            Err(misfit) if misfit.is_failure() => _ = self.failing.insert(stock.clone()),
            Err(_) => {}
        }
    }

    /// Another node is the first of a shelf. `None`: the shelf is empty, and goes.
    fn replace(&mut self, stock: &Stock, before: &Place, after: Option<&Place>) {
        if let Some(suits) = self.suits.get(stock).copied() {
            self.order.remove(&(suits, before.clone()));
            after.map(|first| self.order.insert((suits, first.clone()), stock.clone()));
        }
        if after.is_none() {
            self.suits.remove(stock);
            self.failing.remove(stock);
        }
    }
}

fn names(places: &OrdSet<Place>) -> impl Iterator<Item = &str> {
    places.iter().map(|(_, name)| &**name)
}
