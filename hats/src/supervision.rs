//! Supervision: which hat watches over which, and what supervisors say about a wearer.
//!
//! `supervises` is direct: who supervises a supervisor does not thereby supervise those below. The graph has no cycle. A hat on a
//! cycle, or one that names a hat which does not exist, is not put on: who is above whom could not be told.
//!
//! Verdicts count from their `at` on, so that one that is dated ahead waits. A Revoke is final. Of Probation and
//! Restore the latest counts, among equal times the last in the list. Nobody judges themselves. Whether `by` is the writer's own
//! identity and may `supervise` is for admission, which knows the authorizer; here it is taken as written.

use std::collections::BTreeSet;

use hatrack_api::HatBinding;
use hatrack_api::hat_binding::{Verdict, VerdictAction};
use jiff::Timestamp;

use crate::throttles::{Held, Request, Rule};
use crate::world::World;

/// What keeps a hat out of the supervision graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The hats of a cycle, from this one back to itself.
    Cycle(Vec<String>),
    /// A hat that it supervises and that does not exist.
    Unknown(String),
}

impl std::fmt::Display for Flaw {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cycle(hats) => write!(f, "hats supervise each other in a cycle: {}", hats.join(" -> ")),
            Self::Unknown(hat) => write!(f, "it supervises {hat}, which does not exist"),
        }
    }
}

/// Whether a hat has its place in the supervision graph.
pub fn flaw(world: &World, hat: &str) -> Option<Flaw> {
    let supervised = &world.hat(hat)?.spec.supervises;
    if let Some(unknown) = supervised.iter().find(|name| world.hat(name).is_none()) {
        return Some(Flaw::Unknown(unknown.clone()));
    }
    let mut visited = BTreeSet::new();
    let mut paths: Vec<Vec<String>> = vec![vec![hat.to_owned()]];
    while let Some(path) = paths.pop() {
        let last = path.last().and_then(|name| world.hat(name));
        for next in last.into_iter().flat_map(|hat| &hat.spec.supervises) {
            let longer = || path.iter().chain([next]).cloned().collect();
            if next == hat {
                return Some(Flaw::Cycle(longer()));
            }
            if visited.insert(next.clone()) {
                paths.push(longer());
            }
        }
    }
    None
}

pub(crate) fn no_cycle(request: &Request<'_>) -> Result<(), Held> {
    match flaw(request.world, &request.binding.spec.hat) {
        Some(flaw) => Err(Held::new(Rule::SupervisorCycle, flaw.to_string())),
        None => Ok(()),
    }
}

/// What supervisors say at a time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing<'a> {
    /// The verdict that counts; `None`: nobody has said anything.
    pub verdict: Option<&'a Verdict>,
    /// When the next verdict begins to count.
    pub next: Option<Timestamp>,
}

impl<'a> Standing<'a> {
    /// The verdict that counts, if it is this one.
    pub fn says(&self, action: VerdictAction) -> Option<&'a Verdict> {
        self.verdict.filter(|verdict| verdict.action == action)
    }
}

/// What supervisors say about a binding at a time.
pub fn standing(binding: &HatBinding, now: Timestamp) -> Standing<'_> {
    let others = binding.spec.verdicts.iter().filter(|verdict| verdict.by != binding.spec.wearer.spiffe_id);
    let (due, ahead): (Vec<&Verdict>, Vec<&Verdict>) = others.partition(|verdict| verdict.at.0 <= now);
    let revoked =
        due.iter().filter(|verdict| verdict.action == VerdictAction::Revoke).min_by_key(|verdict| verdict.at.0);
    // `max_by_key` takes the last of equals.
    let verdict = revoked.or_else(|| due.iter().max_by_key(|verdict| verdict.at.0)).copied();
    Standing { verdict, next: ahead.iter().map(|verdict| verdict.at.0).min() }
}

pub(crate) fn no_probation(request: &Request<'_>) -> Result<(), Held> {
    let standing = standing(request.binding, request.now);
    let Some(verdict) = standing.says(VerdictAction::Probation) else { return Ok(()) };
    let why = verdict.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let message = format!("{} put it on probation{why}: a Restore lets it pass", verdict.by);
    Err(Held { rule: Rule::Verdict, message, until: standing.next })
}
