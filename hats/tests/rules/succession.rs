//! Who has a hat when a term ends.

use hatrack_api::hat_binding::Phase;
use hatrack_api::hat_swap::SwapEvent;
use hatrack_hats::throttles::Rule;
use serde_json::json;

use crate::stage::{Stage, spiffe};

fn shift(policy: &str) -> serde_json::Value {
    json!({"maxWearers": 1, "termSeconds": 100, "succession": {"policy": policy}, "throttles": {"cooldownSeconds": 50}})
}

#[test]
fn the_longest_waiting_eligible_request_succeeds_and_names_its_predecessor() {
    let mut stage = Stage::new();
    stage.hat(
        "shift",
        json!({"maxWearers": 1, "termSeconds": 100, "throttles": {"quorumGated": true, "quorumSize": 1}}),
    );
    let first = stage.ask("shift", "ann");
    stage.cosign(&first, "zoe");
    stage.settle();
    // The longest-waiting has no quorum: it is not eligible.
    stage.pass(1);
    let ineligible = stage.ask("shift", "bob");
    stage.pass(1);
    let (second, third) = (stage.ask("shift", "cem"), stage.ask("shift", "dan"));
    for uid in [&third, &second] {
        stage.cosign(uid, "zoe");
    }
    stage.pass(98);
    stage.settle();
    let phases = [&first, &ineligible, &second, &third].map(|uid| stage.phase(uid));
    assert_eq!(phases, [Phase::Expired, Phase::Pending, Phase::Active, Phase::Pending]);
    let record = stage.swaps(&second).pop().unwrap().spec;
    assert_eq!((record.event, record.reason.as_deref()), (SwapEvent::SwapOn, Some("Succeeded")));
    let previous = record.previous_wearer.unwrap();
    assert_eq!((previous.spiffe_id, previous.revoked_at.unwrap().0), (spiffe("ann"), stage.now.wall));
}

#[test]
fn renewal_keeps_the_holder_only_while_nobody_could_take_its_place() {
    let mut stage = Stage::new();
    stage.hat("shift", shift("Renew"));
    let holder = stage.ask("shift", "ann");
    stage.settle();
    stage.pass(100);
    stage.settle();
    assert_eq!(stage.records(&holder).last().unwrap(), &(SwapEvent::SwapOn, "Renewed".to_owned()));
    // A request that is held by something else does not end the term either.
    stage.hat("other", json!({"throttles": {"conflictsWith": ["shift"]}}));
    let other = stage.ask("other", "bob");
    stage.settle();
    let waiting = stage.ask("shift", "bob");
    stage.pass(100);
    stage.settle();
    assert_eq!((stage.phase(&holder), stage.phase(&waiting)), (Phase::Active, Phase::Pending));
    stage.delete(&other);
    stage.pass(100);
    stage.settle();
    assert_eq!((stage.phase(&holder), stage.phase(&waiting)), (Phase::Expired, Phase::Active));
}

#[test]
fn a_holder_on_probation_or_without_policy_is_not_renewed() {
    for missing in ["restore", "policy"] {
        let mut stage = Stage::new();
        stage.hat("shift", shift("Renew"));
        let holder = stage.ask("shift", "ann");
        stage.settle();
        if missing == "restore" {
            stage.judge(&holder, "boss", "Probation");
        } else {
            stage.world.forget_policy();
        }
        stage.settle();
        stage.pass(100);
        stage.settle();
        assert_eq!(stage.phase(&holder), Phase::Expired, "{missing}");
    }
}

#[test]
fn without_succession_only_a_request_made_afterwards_is_admitted() {
    let mut stage = Stage::new();
    stage.hat("shift", shift("None"));
    let first = stage.ask("shift", "ann");
    stage.settle();
    let before = stage.ask("shift", "bob");
    stage.pass(100);
    assert_eq!(stage.held_by(&before), Some(Rule::Succession));
    assert_eq!(stage.phase(&first), Phase::Expired);
    stage.pass(1);
    let after = stage.ask("shift", "cem");
    assert_eq!(stage.held_by(&after), None);
    assert_eq!(stage.phase(&after), Phase::Active);
}
