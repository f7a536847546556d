//! Nodes that are alike, together: the same kind, the same free devices, the same load, the same obstacles but for time.

use std::collections::BTreeMap;

use imbl::{OrdMap, OrdSet};

use crate::requirements::Kind;
use crate::world::NodeView;

/// What is equal among the nodes of a shelf.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Label {
    kind: Kind,
    free: Vec<(Kind, usize)>,
    load: usize,
}

/// All nodes, by what they have to offer.
#[derive(Clone, Debug, Default)]
pub struct Shelves(OrdMap<Label, OrdSet<String>>);

impl Shelves {
    /// Every shelf with the names of its nodes.
    pub fn iter(&self) -> impl Iterator<Item = (&Label, &OrdSet<String>)> {
        self.0.iter()
    }

    pub(crate) fn put(&mut self, name: &str, node: &NodeView) {
        if node.is_registered() {
            self.0.entry(label(node)).or_default().insert(name.to_owned());
        }
    }

    pub(crate) fn take(&mut self, name: &str, node: &NodeView) {
        let label = label(node);
        if let Some(names) = self.0.get_mut(&label) {
            names.remove(name);
            if names.is_empty() {
                self.0.remove(&label);
            }
        }
    }
}

fn label(node: &NodeView) -> Label {
    let mut free: BTreeMap<Kind, usize> = BTreeMap::new();
    for (device, kind) in node.devices().iter().zip(node.device_kinds.iter()) {
        if node.is_free(device) {
            *free.entry(*kind).or_default() += 1;
        }
    }
    Label { kind: node.kind, free: free.into_iter().collect(), load: node.load() }
}
