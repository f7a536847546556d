//! Those who wear a hat.

use hatrack_api::HatBinding;
use imbl::{OrdMap, OrdSet};

use crate::action::Uid;
use crate::quorum;

/// The bindings of a hat that are worn.
#[derive(Clone, Debug, Default)]
pub(crate) struct Company {
    uids: OrdSet<Uid>,
    /// How many of them each identity has.
    wearers: OrdMap<String, usize>,
    /// How many of them are Active with a quorum.
    proofs: usize,
}

/// What of a binding counts in a company: the hat, the wearer, and whether it proves a quorum.
pub(super) fn share(binding: &HatBinding) -> (&str, &str, bool) {
    (&binding.spec.hat, &binding.spec.wearer.spiffe_id, quorum::proves_a_quorum(binding))
}

impl Company {
    pub(super) fn join(&mut self, uid: &str, binding: &HatBinding) {
        let (_, wearer, proves) = share(binding);
        self.uids.insert(uid.to_owned());
        *self.wearers.entry(wearer.to_owned()).or_default() += 1;
        self.proofs += usize::from(proves);
    }

    pub(super) fn leave(&mut self, uid: &str, binding: &HatBinding) {
        let (_, wearer, proves) = share(binding);
        self.uids.remove(uid);
        self.proofs -= usize::from(proves);
        match self.wearers.get_mut(wearer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => _ = self.wearers.remove(wearer),
        }
    }

    /// How many bindings these are.
    pub fn len(&self) -> usize {
        self.uids.len()
    }

    /// How many others than one these are.
    pub fn others_than(&self, uid: &str) -> usize {
        self.uids.len() - usize::from(self.uids.contains(uid))
    }

    /// Their identities, sorted, each once.
    pub fn wearers(&self) -> impl Iterator<Item = &String> {
        self.wearers.keys()
    }

    /// Whether one of them is Active with a quorum.
    pub fn proves_a_quorum(&self) -> bool {
        self.proofs > 0
    }
}
