//! What `/metrics` and `/readyz` say ([`hatrack_service::pages`]).
//!
//! * In: the outputs of every other task. Out: answers over HTTP, and the status line of the service manager.
//!
//! An operator that waits for another to end is ready as well: it knows everything that it needs to take over.

use std::fmt;
use std::sync::Arc;

use hatrack_api::hat_binding::{HatBinding, Phase, condition};
use hatrack_service::pages::Pages;
use tokio::sync::watch;

use crate::canary::Canary;
use crate::clock;
use crate::decide::Progress;
use crate::leader::Leadership;
use crate::metrics::{Metrics, Values};
use crate::observe::Observed;

/// What the other tasks say.
pub struct View {
    /// The world.
    pub observed: Observed,
    /// Whether this operator leads.
    pub leadership: Leadership,
    /// Whether the operator's fence holds.
    pub canary: watch::Receiver<Canary>,
    /// What became of the last decision.
    pub progress: watch::Receiver<Progress>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

impl View {
    fn values(&self) -> Values {
        let (world, now) = (self.observed.world(), clock::now());
        let mut values = Values {
            grants: i64::try_from(world.grants().count()).unwrap_or(i64::MAX),
            leads: self.leadership.holds(),
            fence_holds: *self.canary.borrow() == Canary::Alive,
            ..Values::default()
        };
        for (_, binding) in world.bindings() {
            let phase = binding.status.as_ref().map_or(Phase::Pending, |status| status.phase);
            *values.bindings.entry(phase.as_str()).or_default() += 1;
            if phase == Phase::Pending {
                let created = binding.metadata.creation_timestamp.as_ref().map_or(now.wall, |time| time.0);
                values.queue_age = values.queue_age.max(now.wall.duration_since(created).as_secs_f64());
                *values.held.entry(held_by(binding)).or_default() += 1;
            }
        }
        for (_, node) in world.nodes().filter(|(_, node)| node.is_registered()) {
            let count = if node.is_ready(now.steady) { &mut values.nodes.0 } else { &mut values.nodes.1 };
            *count += 1;
        }
        values
    }

    /// One line on what this operator does.
    pub fn status(&self) -> String {
        let doubts = self.doubts();
        if !doubts.is_empty() {
            return doubts.join("; ");
        }
        match self.leadership.standing().holder {
            _ if self.leadership.holds() => "leads".to_owned(),
            Some(holder) => format!("waits: {holder} leads"),
            None => "waits".to_owned(),
        }
    }
}

/// The rule that holds a request; `Undecided` before the first decision on it.
fn held_by(binding: &HatBinding) -> String {
    let conditions = binding.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let admitted = conditions.iter().find(|found| found.type_ == condition::ADMITTED && found.status == "False");
    admitted.map_or_else(|| "Undecided".to_owned(), |condition| condition.reason.clone())
}

impl Pages for View {
    async fn metrics(&self) -> Result<String, fmt::Error> {
        self.metrics.text(&self.values())
    }

    fn doubts(&self) -> Vec<String> {
        let mut doubts = self.observed.subscribe().borrow().doubts();
        let standing = self.leadership.standing();
        if let Some(failure) = standing.failure {
            doubts.push(format!("who leads is not known: {failure}"));
        }
        doubts.extend(self.canary.borrow().doubt().map(|why| format!("no authority is granted: {why}")));
        if self.leadership.holds() {
            doubts.extend(
                self.progress
                    .borrow()
                    .failure
                    .as_ref()
                    .map(|why| format!("the last decision was not carried out: {why}")),
            );
        }
        doubts
    }
}
