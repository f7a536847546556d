//! Nodes that have the same to give, together: a shelf. On it, those that carry less come first, then the first names.
//!
//! A decision that places a hat ranks the shelves by how well they suit it ([`Ranking`]), and keeps the order while nodes move
//! from shelf to shelf.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::{OrdMap, OrdSet};

use super::fit::{Fits, Suits};
use crate::requirements::{Judge, Kind};
use crate::world::NodeView;

/// What the nodes of a shelf have in common: their kind, and the kinds of their free devices in the order in which they are given away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stock {
    pub(crate) node: Kind,
    pub(crate) free: Vec<Kind>,
}

/// How many bindings a node carries, and its name.
type Place = (usize, String);

/// How well the first node of a shelf suits: the smaller, the better.
type Rank = (Suits, Place, Stock);

/// All nodes that could take a hat, by what they have to give.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shelves {
    shelves: OrdMap<Stock, OrdSet<Place>>,
    rankings: BTreeMap<String, Ranking>,
}

/// The shelves that suit a hat, the best first.
#[derive(Clone, Debug)]
struct Ranking {
    fits: Arc<Fits>,
    order: OrdSet<Rank>,
    /// Those on which an expression fails.
    failing: OrdSet<Stock>,
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
        let mut ranking = Ranking { fits: Arc::clone(fits), order: OrdSet::new(), failing: OrdSet::new() };
        for (stock, places) in &self.shelves {
            let first = places.get_min().and_then(|place| Some((place, node(&place.1)?)));
            if let Some((place, node)) = first {
                ranking.move_first(judge, stock, node, None, Some(place));
            }
        }
        self.rankings.insert(hat.to_owned(), ranking);
    }

    /// Whether there is an order for a hat.
    pub fn is_ranked(&self, hat: &str) -> bool {
        self.rankings.contains_key(hat)
    }

    /// The shelves that suit a ranked hat, the best first: how well, the first node, and all of them.
    pub fn ranked(&self, hat: &str) -> impl Iterator<Item = (&Suits, &Place, impl Iterator<Item = &str>)> {
        let ranks = self.rankings.get(hat).into_iter().flat_map(|ranking| &ranking.order);
        ranks.map(|(suits, first, stock)| (suits, first, self.names_on(stock)))
    }

    /// Names of the nodes on which an expression of a ranked hat fails.
    pub fn failing(&self, hat: &str) -> impl Iterator<Item = &str> {
        self.rankings.get(hat).into_iter().flat_map(|ranking| &ranking.failing).flat_map(|stock| self.names_on(stock))
    }

    fn names_on(&self, stock: &Stock) -> impl Iterator<Item = &str> {
        self.shelves.get(stock).into_iter().flat_map(names)
    }

    /// A node comes to its shelf, if it can take a hat at all.
    pub fn put(&mut self, judge: &Judge, name: &str, node: &NodeView) {
        if node.is_registered() && !super::is_closed(node) {
            self.change(judge, node, |places| _ = places.insert((node.load(), name.to_owned())));
        }
    }

    /// A node leaves its shelf.
    pub fn take(&mut self, judge: &Judge, name: &str, node: &NodeView) {
        if node.is_registered() && !super::is_closed(node) {
            self.change(judge, node, |places| _ = places.remove(&(node.load(), name.to_owned())));
        }
    }

    fn change(&mut self, judge: &Judge, node: &NodeView, change: impl FnOnce(&mut OrdSet<Place>)) {
        let stock = node.stock();
        let places = self.shelves.entry(stock.clone()).or_default();
        let before = places.get_min().cloned();
        change(places);
        let after = places.get_min().cloned();
        if after.is_none() {
            self.shelves.remove(&stock);
        }
        if before != after && !self.rankings.is_empty() {
            for ranking in self.rankings.values_mut() {
                ranking.move_first(judge, &stock, node, before.as_ref(), after.as_ref());
            }
        }
    }
}

impl Ranking {
    /// Another node is the first of a shelf; `node` is one that is or was on it.
    fn move_first(
        &mut self,
        judge: &Judge,
        stock: &Stock,
        node: &NodeView,
        before: Option<&Place>,
        after: Option<&Place>,
    ) {
        match self.fits.on(judge, stock, node) {
            Ok(fit) => {
                let rank = |first: &Place| (fit.suits, first.clone(), stock.clone());
                before.map(|first| self.order.remove(&rank(first)));
                after.map(|first| self.order.insert(rank(first)));
            }
            Err(misfit) if misfit.is_failure() && after.is_some() => _ = self.failing.insert(stock.clone()),
            Err(misfit) if misfit.is_failure() => _ = self.failing.remove(stock),
            Err(_) => {}
        }
    }
}

fn names(places: &OrdSet<Place>) -> impl Iterator<Item = &str> {
    places.iter().map(|(_, name)| name.as_str())
}
