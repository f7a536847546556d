//! Who has a hat when a term ends.

use hatrack_api::hat_binding::Phase;
use hatrack_api::hat_swap::SwapEvent;
use hatrack_hats::throttles::Rule;
use serde_json::json;

use crate::stage::{Stage, gpus, one_gpu, spiffe};

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

/// A hat for one GPU that is renewed, for so many wearers.
fn gpu_watch(most: u32) -> serde_json::Value {
    let mut spec = shift("Renew");
    spec["maxWearers"] = json!(most);
    spec["requirements"] = one_gpu("1Gi")["requirements"].clone();
    spec
}

#[test]
fn a_holder_gives_way_to_who_waits_for_its_device() {
    let mut stage = Stage::new();
    stage.node("n1", gpus(&["24Gi"]));
    stage.hat("watch", gpu_watch(1));
    let holder = stage.ask("watch", "ann");
    stage.settle();
    stage.wear("n1");
    stage.pass(100);
    stage.renew("n1");
    stage.settle();
    assert_eq!(stage.records(&holder).last().unwrap(), &(SwapEvent::SwapOn, "Renewed".to_owned()), "nobody waits");
    let waiting = stage.ask("watch", "bob");
    stage.settle();
    stage.pass(100);
    stage.renew("n1");
    stage.settle();
    assert_eq!((stage.phase(&holder), stage.phase(&waiting)), (Phase::Expired, Phase::Pending));
    stage.wear("n1");
    stage.settle();
    assert_eq!(stage.phase(&waiting), Phase::Active, "the stop was reported");
}

#[test]
fn of_several_holders_of_devices_one_gives_way_to_one_who_waits() {
    let mut stage = Stage::new();
    stage.node("n1", gpus(&["24Gi", "24Gi"]));
    stage.hat("watch", gpu_watch(2));
    let holders = ["ann", "bob"].map(|wearer| stage.ask("watch", wearer));
    stage.settle();
    stage.wear("n1");
    let waiting = stage.ask("watch", "cem");
    let term = |stage: &mut Stage| {
        stage.pass(100);
        stage.renew("n1");
        stage.settle();
        [&holders[0], &holders[1], &waiting].map(|uid| stage.phase(uid))
    };
    assert_eq!(term(&mut stage), [Phase::Expired, Phase::Active, Phase::Pending], "a device is about to be free");
    // The first never stops: its device is not about to be free any more.
    assert_eq!(term(&mut stage), [Phase::Expired, Phase::Expired, Phase::Pending]);
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
