//! The seven rules and those beside them, with the traps that made earlier versions of them useless.

use hatrack_api::hat_binding::Phase;
use hatrack_api::hat_swap::SwapEvent;
use hatrack_hats::throttles::{Rule, identity_of};
use serde_json::json;

use crate::stage::{Stage, spiffe};

#[test]
fn without_a_policy_or_a_hat_a_request_is_held() {
    let mut stage = Stage::without_policy();
    stage.hat("observer", json!({}));
    let uid = stage.ask("observer", "ann");
    assert_eq!(stage.held_by(&uid), Some(Rule::Policy));
    stage.policy(json!({"throttles": {"warmupSeconds": 0}}));
    let unknown = stage.ask("nothing", "ann");
    assert_eq!(stage.held_by(&unknown), Some(Rule::HatExists));
    assert_eq!(stage.phase(&uid), Phase::Active);
    stage.hat("nothing", json!({}));
    stage.settle();
    assert_eq!(stage.phase(&unknown), Phase::Active);
}

#[test]
fn cooldown_counts_from_the_wearers_own_swap_off_of_this_hat() {
    let mut stage = Stage::new();
    stage.hat("executor", json!({"throttles": {"cooldownSeconds": 900}}));
    stage.hat("observer", json!({}));
    let first = stage.ask("executor", "ann");
    stage.settle();
    stage.delete(&first);
    stage.settle();
    let (again, other_hat, other_wearer) =
        (stage.ask("executor", "ann"), stage.ask("observer", "ann"), stage.ask("executor", "bob"));
    assert_eq!(stage.held_by(&again), Some(Rule::Cooldown));
    assert_eq!(stage.phase(&other_hat), Phase::Active);
    assert_eq!(stage.phase(&other_wearer), Phase::Active);
    // The hat's own value, not the policy's: at the second it is over, and not before.
    stage.pass(899);
    assert_eq!(stage.held_by(&again), Some(Rule::Cooldown));
    stage.pass(1);
    assert_eq!(stage.held_by(&again), None);
    assert_eq!(stage.phase(&again), Phase::Active);
}

#[test]
fn the_policys_cooldown_holds_where_the_hat_has_none() {
    let mut stage = Stage::new();
    stage.policy(json!({"throttles": {"cooldownSeconds": 10, "warmupSeconds": 0}}));
    stage.hat("executor", json!({}));
    let first = stage.ask("executor", "ann");
    stage.settle();
    stage.delete(&first);
    stage.settle();
    let again = stage.ask("executor", "ann");
    assert_eq!(stage.held_by(&again), Some(Rule::Cooldown));
    stage.pass(10);
    assert_eq!(stage.held_by(&again), None);
}

#[test]
fn a_request_that_was_never_worn_starts_no_cooldown() {
    let mut stage = Stage::new();
    stage.policy(json!({"throttles": {"cooldownSeconds": 900, "warmupSeconds": 0}}));
    stage.hat("gated", json!({"throttles": {"quorumGated": true, "quorumSize": 1}}));
    let first = stage.ask("gated", "ann");
    stage.settle();
    stage.delete(&first);
    stage.settle();
    assert_eq!(stage.records(&first).last().unwrap(), &(SwapEvent::SwapOff, "Withdrawn".to_owned()));
    let again = stage.ask("gated", "ann");
    stage.cosign(&again, "bob");
    assert_eq!(stage.held_by(&again), None);
}

#[test]
fn max_bindings_counts_live_bindings_with_or_without_status() {
    let mut stage = Stage::new();
    stage.policy(json!({"throttles": {"warmupSeconds": 0, "maxBindingsPerWearer": 2}}));
    stage.hat("observer", json!({}));
    stage.hat("gated", json!({"throttles": {"quorumGated": true}}));
    // All three are new at once: none has a status.
    let (first, second, third) =
        (stage.ask("observer", "ann"), stage.ask("gated", "ann"), stage.ask("observer", "ann"));
    let other = stage.ask("observer", "bob");
    assert_eq!(stage.held_by(&third), Some(Rule::MaxBindings));
    assert_eq!(stage.held(&second).unwrap().rule, Rule::Quorum);
    assert_eq!((stage.phase(&first), stage.phase(&other)), (Phase::Active, Phase::Active));
    stage.delete(&second);
    stage.settle();
    assert_eq!(stage.phase(&third), Phase::Active);
}

#[test]
fn conflicts_hold_in_both_directions() {
    for (first, second) in [("designer", "executor"), ("executor", "designer")] {
        let mut stage = Stage::new();
        stage.hat("designer", json!({"throttles": {"conflictsWith": ["executor"]}}));
        stage.hat("executor", json!({}));
        let (worn, other) = (stage.ask(first, "ann"), stage.ask(first, "bob"));
        let held = stage.ask(second, "ann");
        assert_eq!(stage.held_by(&held), Some(Rule::Conflict), "{first} then {second}");
        assert_eq!(stage.phase(&other), Phase::Active);
        stage.delete(&worn);
        assert_eq!(stage.held_by(&held), None, "{first} then {second}");
    }
}

#[test]
fn of_two_conflicting_requests_at_once_one_is_admitted() {
    let mut stage = Stage::new();
    stage.hat("a", json!({"throttles": {"conflictsWith": ["b"]}}));
    stage.hat("b", json!({}));
    let (first, second) = (stage.ask("a", "ann"), stage.ask("b", "ann"));
    stage.settle();
    assert_eq!((stage.phase(&first), stage.phase(&second)), (Phase::Active, Phase::Pending));
}

#[test]
fn quorum_counts_distinct_others() {
    let gated = json!({"throttles": {"quorumGated": true, "quorumSize": 2}});
    for (signers, admitted) in [
        (vec![], false),
        (vec!["bob"], false),
        (vec!["bob", "bob"], false),
        (vec!["ann", "bob"], false),
        (vec!["bob", "cem"], true),
        (vec!["ann", "bob", "cem", "cem"], true),
    ] {
        let mut stage = Stage::new();
        stage.hat("designer", gated.clone());
        let uid = stage.ask("designer", "ann");
        for signer in &signers {
            stage.cosign(&uid, signer);
        }
        let held = stage.held_by(&uid);
        assert_eq!(held, (!admitted).then_some(Rule::Quorum), "{signers:?}");
        let expected = if admitted { SwapEvent::QuorumGrant } else { SwapEvent::Throttled };
        assert_eq!(stage.records(&uid).first().unwrap().0, expected, "{signers:?}");
    }
}

#[test]
fn the_policy_says_how_many_cosign_where_the_hat_does_not() {
    let mut stage = Stage::new();
    stage.policy(json!({"throttles": {"warmupSeconds": 0, "quorumDefaultSize": 1}}));
    stage.hat("designer", json!({"throttles": {"quorumGated": true}}));
    let uid = stage.ask("designer", "ann");
    assert_eq!(stage.held_by(&uid), Some(Rule::Quorum));
    stage.cosign(&uid, "bob");
    assert_eq!(stage.held_by(&uid), None);
    stage.policy(json!({"throttles": {"warmupSeconds": 0, "quorumDefaultSize": 2}}));
    let more = stage.ask("designer", "dan");
    stage.cosign(&more, "bob");
    assert_eq!(stage.held_by(&more), Some(Rule::Quorum));
}

#[test]
fn a_quorum_that_is_lost_in_the_warmup_is_missed_at_its_end() {
    let mut stage = Stage::new();
    let gated = |size: u32| json!({"throttles": {"quorumGated": true, "quorumSize": size, "warmupSeconds": 60}});
    stage.hat("designer", gated(1));
    let uid = stage.ask("designer", "ann");
    stage.cosign(&uid, "bob");
    stage.settle();
    stage.hat("designer", gated(2));
    stage.pass(60);
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Warmup);
    stage.cosign(&uid, "cem");
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Active);
}

#[test]
fn full_authority_comes_at_the_second_the_warmup_ends_and_not_before() {
    for (policy, hat, seconds) in [(600, None, 600), (600, Some(60), 60), (0, Some(60), 60), (600, Some(0), 0)] {
        let mut stage = Stage::new();
        stage.policy(json!({"throttles": {"warmupSeconds": policy}}));
        stage.hat("executor", hat.map_or(json!({}), |seconds| json!({"throttles": {"warmupSeconds": seconds}})));
        let uid = stage.ask("executor", "ann");
        stage.settle();
        if seconds > 0 {
            assert_eq!(stage.phase(&uid), Phase::Warmup);
            stage.pass(seconds - 1);
            stage.settle();
            assert_eq!(stage.phase(&uid), Phase::Warmup);
            stage.pass(1);
            stage.settle();
            assert_eq!(stage.records(&uid).last().unwrap().0, SwapEvent::WarmupEnd);
        } else {
            assert_eq!(stage.records(&uid), [(SwapEvent::SwapOn, "Admitted".to_owned())]);
        }
        assert_eq!(stage.phase(&uid), Phase::Active);
    }
}

#[test]
fn deleting_and_asking_again_does_not_make_the_day_longer() {
    let mut stage = Stage::new();
    stage.policy(json!({"throttles": {"cooldownSeconds": 0, "warmupSeconds": 0, "maxNewHatsPerDay": 2}}));
    stage.hat("observer", json!({}));
    for _ in 0..2 {
        let uid = stage.ask("observer", "ann");
        stage.settle();
        assert_eq!(stage.phase(&uid), Phase::Active);
        stage.delete(&uid);
        stage.settle();
        assert!(stage.world.binding(&uid).is_none(), "a released binding goes");
        stage.pass(3600);
    }
    let third = stage.ask("observer", "ann");
    let other = stage.ask("observer", "bob");
    assert_eq!(stage.held_by(&third), Some(Rule::NewHats));
    assert_eq!(stage.phase(&other), Phase::Active);
    stage.pass(22 * 3600 - 1);
    assert_eq!(stage.held_by(&third), Some(Rule::NewHats));
    stage.pass(1);
    assert_eq!(stage.held_by(&third), None);
}

#[test]
fn a_hat_on_a_cycle_is_not_put_on_and_one_beside_it_is() {
    let mut stage = Stage::new();
    stage.hat("a", json!({"supervises": ["b"]}));
    stage.hat("b", json!({"supervises": ["c"]}));
    stage.hat("c", json!({"supervises": ["a"]}));
    stage.hat("above", json!({"supervises": ["a"]}));
    let on: Vec<_> = ["a", "b", "c"].iter().map(|hat| stage.ask(hat, hat)).collect();
    let above = stage.ask("above", "boss");
    for uid in &on {
        assert_eq!(stage.held_by(uid), Some(Rule::SupervisorCycle));
    }
    assert_eq!(stage.phase(&above), Phase::Active);
    stage.hat("c", json!({}));
    stage.settle();
    for uid in &on {
        assert_eq!(stage.phase(uid), Phase::Active);
    }
}

#[test]
fn a_hat_that_supervises_an_unknown_one_waits_for_it() {
    let mut stage = Stage::new();
    stage.hat("boss", json!({"supervises": ["later"]}));
    let uid = stage.ask("boss", "ann");
    assert_eq!(stage.held_by(&uid), Some(Rule::SupervisorCycle));
    stage.hat("later", json!({}));
    assert_eq!(stage.held_by(&uid), None);
}

#[test]
fn a_spiffe_id_that_is_not_the_service_accounts_is_held() {
    for (domain, name, admitted) in [(None, "ann", true), (None, "bob", false), (Some("other.org"), "ann", false)] {
        let mut stage = Stage::new();
        stage.policy(json!({"throttles": {"warmupSeconds": 0}, "trustDomain": domain}));
        stage.hat("observer", json!({}));
        let wearer = json!({"spiffeID": spiffe("ann"), "serviceAccountRef": {"name": name, "namespace": "default"}});
        let uid = stage.ask_with("observer", "ann", json!({"wearer": wearer}));
        assert_eq!(stage.held_by(&uid), (!admitted).then_some(Rule::Identity), "{domain:?} {name}");
    }
}

#[test]
fn users_have_the_identities_that_the_policy_gives_them() {
    let policy = serde_json::from_value(json!({"trustDomain": "example.org",
        "identities": [{"user": "ann@example.org", "spiffeID": "spiffe://example.org/people/ann"}]}))
    .unwrap();
    for (user, expected) in [
        ("system:serviceaccount:jobs:runner", Some("spiffe://example.org/ns/jobs/sa/runner")),
        ("ann@example.org", Some("spiffe://example.org/people/ann")),
        ("bob@example.org", None),
        ("system:serviceaccount:jobs", None),
    ] {
        assert_eq!(identity_of(&policy, user).as_deref(), expected, "{user}");
    }
}

#[test]
fn max_wearers_limits_those_who_wear_and_absent_means_no_limit() {
    for (limit, worn) in [(Some(1), 1), (Some(2), 2), (None, 3)] {
        let mut stage = Stage::new();
        stage.hat("one", json!({"maxWearers": limit}));
        let all: Vec<_> = ["ann", "bob", "cem"].iter().map(|wearer| stage.ask("one", wearer)).collect();
        stage.settle();
        let on = all.iter().filter(|uid| stage.phase(uid) == Phase::Active).count();
        assert_eq!(on, worn, "{limit:?}");
    }
}

#[test]
fn a_hold_is_recorded_once_per_reason_and_its_text_changes_once_a_minute() {
    let mut stage = Stage::new();
    stage.hat("designer", json!({"throttles": {"quorumGated": true, "quorumSize": 3}}));
    let uid = stage.ask("designer", "ann");
    stage.settle();
    let message =
        |stage: &Stage| stage.status(&uid).conditions.iter().find(|c| c.type_ == "Admitted").unwrap().message.clone();
    let first = message(&stage);
    stage.cosign(&uid, "bob");
    assert_eq!(stage.settle(), vec![], "the text is younger than a minute");
    assert_eq!(message(&stage), first);
    stage.pass(60);
    stage.settle();
    assert_ne!(message(&stage), first);
    let throttled =
        |stage: &Stage| stage.records(&uid).iter().filter(|(event, _)| *event == SwapEvent::Throttled).count();
    assert_eq!(throttled(&stage), 1);
    stage.hat("designer", json!({"supervises": ["gone"], "throttles": {"quorumGated": true}}));
    stage.settle();
    assert_eq!(throttled(&stage), 2);
}

#[test]
fn the_first_designer_is_bootstrapped_once_and_until_there_was_a_quorum() {
    let mut stage = Stage::new();
    stage.policy(json!({"throttles": {"cooldownSeconds": 0, "warmupSeconds": 0}, "bootstrap": {"hat": "designer", "wearer": spiffe("eve")}}));
    stage.hat("designer", json!({"throttles": {"quorumGated": true, "quorumSize": 1}}));
    let (other, first) = (stage.ask("designer", "adam"), stage.ask("designer", "eve"));
    assert_eq!(stage.held_by(&other), Some(Rule::Quorum));
    assert_eq!(
        stage.records(&first),
        [(SwapEvent::QuorumGrant, "Bootstrap".to_owned()), (SwapEvent::SwapOn, "Admitted".to_owned())]
    );
    let second = stage.ask("designer", "eve");
    assert_eq!(stage.held_by(&second), Some(Rule::Quorum), "one binding, not one wearer");
    stage.cosign(&other, "eve");
    stage.settle();
    assert_eq!(stage.phase(&other), Phase::Active);
    assert_eq!(stage.phase(&first), Phase::Expired);
    assert_eq!(stage.records(&first).last().unwrap(), &(SwapEvent::SwapOff, "BootstrapEnded".to_owned()));
    stage.delete(&other);
    stage.settle();
    assert_eq!(stage.held_by(&second), Some(Rule::Quorum), "the exception does not come back");
}

#[test]
fn the_exception_does_not_come_back_with_a_hat_that_is_made_anew() {
    let mut stage = Stage::new();
    stage.policy(json!({"throttles": {"cooldownSeconds": 0, "warmupSeconds": 0}, "bootstrap": {"hat": "designer", "wearer": spiffe("eve")}}));
    let gated = json!({"throttles": {"quorumGated": true, "quorumSize": 1}});
    stage.hat("designer", gated.clone());
    let other = stage.ask("designer", "adam");
    stage.cosign(&other, "eve");
    stage.settle();
    assert_eq!(stage.phase(&other), Phase::Active);
    stage.delete(&other);
    stage.settle();
    stage.world.forget_hat("designer");
    stage.settle();
    stage.hat("designer", gated);
    let again = stage.ask("designer", "eve");
    assert_eq!(stage.held_by(&again), Some(Rule::Quorum));
}

#[test]
fn a_bootstrapped_wearer_that_gets_its_own_quorum_stays() {
    let mut stage = Stage::new();
    stage.policy(json!({"throttles": {"warmupSeconds": 0}, "bootstrap": {"hat": "designer", "wearer": spiffe("eve")}}));
    stage.hat("designer", json!({"throttles": {"quorumGated": true, "quorumSize": 1}}));
    let uid = stage.ask("designer", "eve");
    stage.settle();
    stage.cosign(&uid, "adam");
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Active);
    assert_eq!(stage.records(&uid).last().unwrap(), &(SwapEvent::QuorumGrant, "Quorum".to_owned()));
}
