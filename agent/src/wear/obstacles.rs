//! What stands in the way of hats, and of which: one that cannot be started holds up no other.

use std::collections::BTreeMap;

/// What stands in the way of hats.
#[derive(Debug, Clone, Default)]
pub struct Obstacles {
    /// In the way of all of them: the service manager does not answer, or what is worn cannot be kept.
    pub all: Option<String>,
    /// By the name of the hat, why its files cannot be written. It is not started then.
    pub unwritten: BTreeMap<String, String>,
    /// By the name of the hat, why the service manager refuses to start or to stop its target. It is asked again.
    pub refused: BTreeMap<String, String>,
}

impl Obstacles {
    /// What stands in the way of one hat.
    pub fn of(&self, hat: &str) -> Option<&str> {
        self.refused.get(hat).or_else(|| self.unwritten.get(hat)).or(self.all.as_ref()).map(String::as_str)
    }

    /// Everything, each with what to do about it.
    pub fn each(&self) -> impl Iterator<Item = (&str, &'static str)> {
        let here = self.all.iter().chain(self.unwritten.values());
        let here = here.map(|why| {
            (why.as_str(), "hats are started over D-Bus: see wear.bus and wear.folder in the configuration")
        });
        let there = self.refused.values();
        here.chain(there.map(|why| (why.as_str(), "`systemctl status` of the target says more; it is asked again")))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.is_none() && self.unwritten.is_empty() && self.refused.is_empty()
    }
}
