//! Which actions of a plan may be carried out side by side.
//!
//! A plan is in order, and mostly about many bindings that do not concern each other. What concerns one binding, node or grant stays in
//! its order, a *lane*. Lanes of one kind of action go side by side, a *batch*; the next batch begins when the one before is
//! complete. In particular nobody gets anything before everybody who leaves is recorded as gone, and authority is taken back
//! before anything that follows from that.
//!
//! Two requests that are admitted in one batch saw each other in the decision. If the record of one is refused the other is as good: a
//! request that is not admitted takes nothing away from anybody.

use std::collections::HashMap;

use hatrack_api::hat_swap::SwapEvent;
use hatrack_hats::Action;

/// Actions in their order.
pub type Lane = Vec<Action>;

/// Kinds of actions that go side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Somebody leaves.
    Off,
    /// Somebody gets something, or is held.
    On,
    Fence,
    Assign,
    Withdraw,
    Grant,
    Ledger,
    End,
    Collect,
}

/// `None`: what belongs to the record before or after it.
fn stage(action: &Action) -> Option<Stage> {
    match action {
        Action::Finalize { .. } | Action::SetStatus { .. } => None,
        Action::Record(swap) if swap.spec.event == SwapEvent::SwapOff => Some(Stage::Off),
        Action::Record(_) => Some(Stage::On),
        Action::Fence { .. } => Some(Stage::Fence),
        Action::Assign { .. } => Some(Stage::Assign),
        Action::Withdraw { .. } => Some(Stage::Withdraw),
        Action::Grant(_) => Some(Stage::Grant),
        Action::SetHatStatus { .. } | Action::SetPolicyStatus { .. } => Some(Stage::Ledger),
        Action::Unfinalize { .. } | Action::Delete { .. } => Some(Stage::End),
        Action::Collect { .. } => Some(Stage::Collect),
    }
}

/// What an action concerns; what concerns the same is in one lane.
fn concerns(action: &Action) -> String {
    match action {
        Action::Finalize { binding }
        | Action::SetStatus { binding, .. }
        | Action::Unfinalize { binding }
        | Action::Delete { binding } => binding.clone(),
        Action::Record(swap) => swap.spec.binding_ref.as_ref().map(|binding| binding.uid.clone()).unwrap_or_default(),
        Action::Fence { node, .. } | Action::Assign { node, .. } => node.clone(),
        Action::Withdraw { binding, scope } => format!("{binding} {scope:?}"),
        Action::Grant(grant) => format!("{} {:?}", grant.binding, grant.scope),
        Action::SetHatStatus { hat, .. } => hat.clone(),
        Action::SetPolicyStatus { .. } => String::new(),
        Action::Collect { swap } => swap.clone(),
    }
}

/// Lanes that go side by side, and which of them is whose.
#[derive(Default)]
struct Batch {
    lanes: Vec<Lane>,
    of: HashMap<String, usize>,
}

impl Batch {
    /// Puts an action behind what concerns the same.
    fn join(&mut self, action: Action) {
        let lane = *self.of.entry(concerns(&action)).or_insert(self.lanes.len());
        if lane == self.lanes.len() {
            self.lanes.push(vec![]);
        }
        self.lanes[lane].push(action);
    }
}

/// The batches of a plan, in order.
pub fn batches(actions: Vec<Action>) -> Vec<Vec<Lane>> {
    let mut batches: Vec<Batch> = vec![];
    let mut current: Option<Stage> = None;
    for action in actions {
        let wanted = stage(&action);
        let of_bindings = current.is_none() || matches!(current, Some(Stage::Off | Stage::On));
        let joins = match wanted {
            None => of_bindings,
            Some(stage) => current == Some(stage) || (current.is_none() && matches!(stage, Stage::Off | Stage::On)),
        };
        if !joins || batches.is_empty() {
            batches.push(Batch::default());
            current = None;
        }
        current = wanted.or(current);
        if let Some(batch) = batches.last_mut() {
            batch.join(action);
        }
    }
    batches.into_iter().map(|batch| batch.lanes).collect()
}

#[cfg(test)]
mod tests {
    use hatrack_api::HatSwap;
    use hatrack_api::hat_binding::HatBindingStatus;
    use hatrack_hats::authority::Scope;
    use serde_json::json;

    use super::*;

    fn finalize(uid: &str) -> Action {
        Action::Finalize { binding: uid.to_owned() }
    }

    fn record(uid: &str, event: &str) -> Action {
        let spec = json!({"hat": "h", "wearer": {"spiffeID": "spiffe://x/a"}, "event": event, "occurredAt": "2026-01-01T00:00:00Z",
            "bindingRef": {"name": "b", "namespace": "n", "uid": uid}});
        Action::Record(HatSwap::new("r", serde_json::from_value(spec).unwrap()).into())
    }

    fn status(uid: &str) -> Action {
        Action::SetStatus { binding: uid.to_owned(), status: Box::new(HatBindingStatus::default()) }
    }

    fn withdraw(uid: &str) -> Action {
        Action::Withdraw { binding: uid.to_owned(), scope: Scope::Cluster }
    }

    fn assign(node: &str) -> Action {
        Action::Assign { node: node.to_owned(), hats: [].into() }
    }

    #[test]
    fn what_concerns_one_binding_stays_in_order_and_others_go_beside_it() {
        let plan = vec![
            finalize("a"),
            record("a", "SwapOn"),
            status("a"),
            finalize("b"),
            record("b", "WarmupBegin"),
            status("b"),
            record("c", "Throttled"),
            status("c"),
        ];
        let lanes = vec![plan[..3].to_vec(), plan[3..6].to_vec(), plan[6..].to_vec()];
        assert_eq!(batches(plan), vec![lanes]);
    }

    #[test]
    fn nobody_gets_anything_before_everybody_who_leaves_is_gone() {
        let plan = vec![
            record("a", "SwapOff"),
            status("a"),
            record("b", "SwapOff"),
            status("b"),
            withdraw("a"),
            withdraw("b"),
            record("c", "SwapOn"),
            status("c"),
            assign("n"),
            assign("m"),
            finalize("d"),
            record("d", "SwapOn"),
        ];
        let one = |range: std::ops::Range<usize>| plan[range].to_vec();
        let wanted = vec![
            vec![one(0..2), one(2..4)],
            vec![one(4..5), one(5..6)],
            vec![one(6..8)],
            vec![one(8..9), one(9..10)],
            vec![one(10..12)],
        ];
        assert_eq!(batches(plan), wanted);
    }

    #[test]
    fn who_comes_and_who_leaves_do_not_go_side_by_side() {
        let plan = vec![record("a", "SwapOn"), status("a"), record("b", "SwapOff"), status("b"), record("a", "SwapOn")];
        let sizes: Vec<usize> = batches(plan).iter().map(Vec::len).collect();
        assert_eq!(sizes, [1, 1, 1]);
    }

    #[test]
    fn every_action_is_in_one_batch_in_its_order() {
        let rng = &mut fastrand::Rng::new();
        println!("seed {}", rng.get_seed());
        for _ in 0..200 {
            let uid = |rng: &mut fastrand::Rng| ["a", "b", "c"][rng.usize(..3)].to_owned();
            let plan: Vec<Action> = (0..rng.usize(..30))
                .map(|_| match rng.u32(..7) {
                    0 => finalize(&uid(rng)),
                    1 => record(&uid(rng), "SwapOn"),
                    2 => record(&uid(rng), "SwapOff"),
                    3 => status(&uid(rng)),
                    4 => withdraw(&uid(rng)),
                    5 => Action::Unfinalize { binding: uid(rng) },
                    _ => assign(&uid(rng)),
                })
                .collect();
            let batches = batches(plan.clone());
            assert_eq!(batches.iter().flatten().map(Vec::len).sum::<usize>(), plan.len());
            for concern in ["a", "b", "c"] {
                let of = |action: &&Action| concerns(action) == concern;
                let before: Vec<&Action> = plan.iter().filter(of).collect();
                let after: Vec<&Action> = batches.iter().flatten().flatten().filter(of).collect();
                assert_eq!(before, after);
            }
        }
    }
}
