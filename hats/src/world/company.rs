//! Those who wear a hat.

use imbl::OrdMap;

use super::Name;

/// The bindings of a hat that are worn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Company {
    size: usize,
    /// How many of them each identity has.
    wearers: OrdMap<Name, usize>,
    /// How many of them are Active with a quorum.
    proofs: usize,
}

impl Company {
    pub(super) fn join(&mut self, wearer: &str, proves_a_quorum: bool) {
        self.size += 1;
        self.proofs += usize::from(proves_a_quorum);
        match self.wearers.get_mut(wearer) {
            Some(count) => *count += 1,
            None => _ = self.wearers.insert(wearer.into(), 1),
        }
    }

    pub(super) fn leave(&mut self, wearer: &str, proved_a_quorum: bool) {
        self.size -= 1;
        self.proofs -= usize::from(proved_a_quorum);
        match self.wearers.get_mut(wearer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = self.wearers.remove(wearer),
        }
    }

    /// How many bindings these are.
    pub fn len(&self) -> usize {
        self.size
    }

    /// Their identities, sorted, each once.
    pub fn wearers(&self) -> impl Iterator<Item = &Name> {
        self.wearers.keys()
    }

    /// Whether one of them is Active with a quorum.
    pub fn proves_a_quorum(&self) -> bool {
        self.proofs > 0
    }
}
