//! What would happen, now and later, if nobody changes anything: the rules decide on a copy of the world, whose time goes on.
//!
//! Nodes that are there stay and stop at once what they are to stop; nodes that are away stay away.

use std::time::Duration;

use hatrack_api::HatSwap;
use hatrack_api::hat_binding::Phase;
use hatrack_api::hat_swap::SwapEvent;
use hatrack_hats::throttles::Held;
use hatrack_hats::{Action, Moment, World, decide, why};
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::cluster::society::{Society, obeyed};

/// Decisions that follow from each other at one time end before this many.
const MAX_ROUNDS: usize = 64;

/// How far to look.
#[derive(Debug, Clone, Copy)]
pub struct Horizon {
    /// The last time that matters.
    pub until: Timestamp,
    /// Most transitions after those that are due now.
    pub transitions: usize,
}

/// What would happen.
pub struct Forecast {
    /// The transitions that are due now.
    pub now: Vec<HatSwap>,
    /// Those that come later, in their order.
    pub later: Vec<HatSwap>,
    /// Whether more would follow than was looked at.
    pub is_cut: bool,
    /// The requests that stay held when what is due now is done, by UID.
    pub held: Vec<(String, Held)>,
    /// The world when what is due now is done.
    pub world: World,
}

/// Looks ahead from a moment, and no further than to a transition that is sought.
pub fn forecast(society: &Society, now: Moment, horizon: Horizon, is_sought: impl Fn(&HatSwap) -> bool) -> Forecast {
    let mut ahead = Ahead { society, world: society.world(now), at: now, records: vec![] };
    let mut wait = ahead.settle();
    let due = std::mem::take(&mut ahead.records);
    let world = ahead.world.clone();
    let mut is_cut = false;
    let mut is_found = due.iter().any(&is_sought);
    while let Some(step) = wait.filter(|_| !is_found) {
        let next = ahead.at.after(step);
        if next.wall > horizon.until {
            break;
        }
        if ahead.records.len() >= horizon.transitions {
            is_cut = true;
            break;
        }
        ahead.at = next;
        let known = ahead.records.len();
        wait = ahead.settle();
        is_found = ahead.records.iter().skip(known).any(&is_sought);
    }
    let held = held(&world, now);
    Forecast { now: due, later: ahead.records, is_cut, held, world }
}

/// The requests that wait, and for what.
fn held(world: &World, now: Moment) -> Vec<(String, Held)> {
    let pending = |phase: Option<Phase>| phase.unwrap_or_default() == Phase::Pending;
    let waiting = world.bindings().filter(|(_, binding)| pending(binding.status.as_ref().map(|status| status.phase)));
    waiting.filter_map(|(uid, _)| Some((uid.to_owned(), why(world, uid, now)?.err()?))).collect()
}

struct Ahead<'a> {
    society: &'a Society,
    world: World,
    at: Moment,
    records: Vec<HatSwap>,
}

impl Ahead<'_> {
    /// Decides and does until nothing more follows at this time; how long until something is due.
    fn settle(&mut self) -> Option<Duration> {
        self.society.renew(&mut self.world, self.at);
        let mut wait = None;
        for _ in 0..MAX_ROUNDS {
            let obeyed = self.obey();
            let plan = decide(&self.world, self.at);
            wait = plan.wake_at.map(|at| at.steady.saturating_sub(self.at.steady));
            if plan.actions.is_empty() && !obeyed {
                break;
            }
            for action in &plan.actions {
                self.world.apply(action, self.at.steady);
                if let Action::Record(swap) = action
                    && swap.spec.event != SwapEvent::Throttled
                {
                    self.records.push((**swap).clone());
                }
            }
            self.world.conclude(plan.outlook);
        }
        // A wait of nothing would not end.
        wait.map(|wait| wait.max(Duration::from_secs(1)))
    }

    /// The nodes do what they are told; whether there was anything to do.
    fn obey(&mut self) -> bool {
        let mut changed = false;
        for name in self.society.nodes.iter().map(ResourceExt::name_any) {
            let Some(view) = self.world.node(&name) else { continue };
            let mut node = view.object();
            let worn = obeyed(&node, self.at.wall, |_| false);
            if worn != view.worn() {
                node.status.get_or_insert_default().worn = Some(worn);
                let version = node.resource_version().and_then(|version| version.parse::<u64>().ok());
                node.metadata.resource_version = version.map(|version| (version + 1).to_string());
                self.world.observe_node(node, self.at.steady);
                changed = true;
            }
        }
        changed
    }
}
