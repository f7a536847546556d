//! The life of a binding: terms, verdicts, ends, crashes in between, and what is remembered.

use hatrack_api::hat_binding::{FINALIZER, Phase};
use hatrack_api::hat_swap::SwapEvent;
use hatrack_hats::throttles::Rule;
use hatrack_hats::{Action, World, decide};
use serde_json::json;

use crate::stage::{Stage, gpus, one_gpu, spiffe};

#[test]
fn a_deleted_binding_is_recorded_before_it_goes() {
    let mut stage = Stage::new();
    stage.hat("observer", json!({}));
    let uid = stage.ask("observer", "ann");
    let actions = stage.settle();
    assert!(
        matches!(&actions[0], Action::Finalize { binding } if *binding == uid),
        "the finalizer comes before the first record"
    );
    stage.delete(&uid);
    stage.settle();
    let last = stage.swaps(&uid).pop().unwrap().spec;
    assert_eq!((last.event, last.reason.as_deref()), (SwapEvent::SwapOff, Some("Released")));
    assert_eq!(last.previous_wearer.unwrap().spiffe_id, spiffe("ann"));
    assert!(stage.world.binding(&uid).is_none());
}

/// Nobody but the operator writes a status in a cluster; a folder has what people write into it.
#[test]
fn a_status_that_no_record_tells_of_comes_to_its_end_as_well() {
    for phase in [Phase::Pending, Phase::Warmup, Phase::Active, Phase::Probation] {
        let mut stage = Stage::new();
        stage.hat("observer", json!({}));
        let uid = stage.ask("observer", "ann");
        stage.change(&uid, |binding| {
            binding.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
            binding.status.get_or_insert_default().phase = phase;
        });
        stage.delete(&uid);
        stage.settle();
        let expected = if phase == Phase::Pending { "Withdrawn" } else { "Released" };
        assert_eq!(stage.records(&uid), [(SwapEvent::SwapOff, expected.to_owned())], "{phase}");
        assert!(stage.world.binding(&uid).is_none(), "{phase}");
    }
}

#[test]
fn a_foreign_finalizer_keeps_the_object_but_not_the_hat() {
    let mut stage = Stage::new();
    stage.hat("observer", json!({}));
    let uid = stage.ask("observer", "ann");
    stage.settle();
    stage.change(&uid, |binding| binding.metadata.finalizers.get_or_insert_default().push("example.org/x".to_owned()));
    stage.delete(&uid);
    stage.settle();
    let finalizers = stage.world.binding(&uid).unwrap().metadata.finalizers.clone().unwrap();
    assert_eq!(finalizers, ["example.org/x"]);
    assert_eq!(stage.phase(&uid), Phase::Released);
    assert!(!finalizers.contains(&FINALIZER.to_owned()));
}

#[test]
fn a_term_ends_at_its_second_and_absent_or_zero_means_no_end() {
    for (term, ends) in [(json!(3600), true), (json!(0), false), (json!(null), false)] {
        let mut stage = Stage::new();
        stage.hat("shift", json!({"termSeconds": term}));
        let uid = stage.ask("shift", "ann");
        stage.settle();
        stage.pass(3599);
        stage.settle();
        assert_eq!(stage.phase(&uid), Phase::Active);
        stage.pass(1);
        stage.settle();
        assert_eq!(stage.phase(&uid) == Phase::Expired, ends, "{term}");
    }
}

#[test]
fn verdicts_revoke_put_on_probation_and_restore() {
    let mut stage = Stage::new();
    stage.hat("executor", json!({}));
    let uid = stage.ask("executor", "ann");
    stage.settle();
    stage.judge(&uid, "boss", "Probation");
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Probation);
    stage.pass(10);
    stage.judge(&uid, "boss", "Restore");
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Active);
    stage.pass(10);
    stage.judge(&uid, "boss", "Revoke");
    stage.settle();
    stage.pass(10);
    stage.judge(&uid, "boss", "Restore");
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Revoked, "a revocation is final");
    let events: Vec<SwapEvent> = stage.records(&uid).into_iter().map(|(event, _)| event).collect();
    assert_eq!(events, [SwapEvent::SwapOn, SwapEvent::Probation, SwapEvent::SwapOn, SwapEvent::SwapOff]);
}

#[test]
fn a_probation_in_the_warmup_goes_back_to_the_warmup() {
    let mut stage = Stage::new();
    stage.hat("executor", json!({"throttles": {"warmupSeconds": 100}}));
    let uid = stage.ask("executor", "ann");
    stage.settle();
    stage.judge(&uid, "boss", "Probation");
    stage.settle();
    stage.pass(10);
    stage.judge(&uid, "boss", "Restore");
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Warmup);
    stage.pass(90);
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Active);
}

#[test]
fn nobody_judges_themselves_and_a_verdict_counts_from_its_time_on() {
    let mut stage = Stage::new();
    stage.hat("executor", json!({}));
    let uid = stage.ask("executor", "ann");
    stage.settle();
    stage.judge(&uid, "ann", "Probation");
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Active);
    stage.pass(100);
    stage.judge(&uid, "boss", "Probation");
    let ahead = stage.now;
    stage.now = hatrack_hats::Moment { wall: "2026-01-01T12:00:10Z".parse().unwrap(), steady: ahead.steady };
    let plan = decide(&stage.world, stage.now);
    assert_eq!(stage.settle(), vec![]);
    assert_eq!(plan.wake_at.unwrap().wall.to_string(), "2026-01-01T12:01:40Z");
    stage.now = plan.wake_at.unwrap();
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Probation);
}

#[test]
fn a_request_on_probation_waits() {
    let mut stage = Stage::new();
    stage.hat("executor", json!({}));
    let uid = stage.ask("executor", "ann");
    stage.judge(&uid, "boss", "Probation");
    stage.settle();
    assert_eq!(stage.held(&uid).unwrap().rule.as_str(), "verdict");
    stage.pass(1);
    stage.judge(&uid, "boss", "Restore");
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Active);
}

#[test]
fn a_hat_that_is_deleted_comes_off_and_goes_on_again_when_it_is_back() {
    let mut stage = Stage::new();
    stage.hat("executor", json!({"throttles": {"cooldownSeconds": 900}}));
    let uid = stage.ask("executor", "ann");
    stage.settle();
    stage.world.forget_hat("executor");
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Pending);
    assert_eq!(stage.records(&uid).iter().rev().find(|(event, _)| *event == SwapEvent::SwapOff).unwrap().1, "HatGone");
    stage.hat("executor", json!({"throttles": {"cooldownSeconds": 900}}));
    stage.settle();
    assert_eq!(stage.records(&uid).last().unwrap(), &(SwapEvent::SwapOn, "Moved".to_owned()));
}

#[test]
fn what_is_worn_outlives_the_policy() {
    let mut stage = Stage::new();
    stage.hat("shift", json!({"termSeconds": 100}));
    let uid = stage.ask("shift", "ann");
    stage.settle();
    stage.world.forget_policy();
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Active);
    stage.pass(100);
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Expired);
}

/// A plan that breaks off after each of its actions, and once more with a world that has forgotten the statuses.
#[test]
fn whatever_was_recorded_is_finished_as_it_is() {
    let mut stage = Stage::new();
    stage.hat("gpu", json!({"termSeconds": 3600, "throttles": {"warmupSeconds": 60}, "requirements": one_gpu("1Gi")["requirements"]}));
    stage.node("n1", gpus(&["24Gi"]));
    let uid = stage.ask("gpu", "ann");
    let plan = decide(&stage.world, stage.now);
    for done in 0..=plan.actions.len() {
        let mut world = stage.world.clone();
        for action in &plan.actions[..done] {
            world.apply(action, stage.now.steady);
        }
        // The hat has other limits by then and the clock went on: the record counts.
        let mut later = stage.now;
        later.wall = "2026-01-01T12:00:07Z".parse().unwrap();
        let committed = world.swap(&format!("{uid}-1")).is_some();
        for action in decide(&world, later).actions {
            world.apply(&action, later.steady);
        }
        assert_eq!(decide(&world, later).actions, vec![], "after {done} actions");
        let record = world.swap(&format!("{uid}-1")).unwrap().spec.clone();
        let expected = if committed { "2026-01-01T12:00:00Z" } else { "2026-01-01T12:00:07Z" };
        assert_eq!(record.occurred_at.0.to_string(), expected, "after {done} actions");
        let status = world.binding(&uid).unwrap().status.clone().unwrap();
        assert_eq!(status.bound_at, Some(record.occurred_at), "after {done} actions");
        assert_eq!((status.transitions, status.devices), (1, vec!["gpu-0".to_owned()]));
    }
}

#[test]
fn a_lost_status_is_restored_from_the_records() {
    let mut stage = Stage::new();
    stage.hat("executor", json!({"throttles": {"warmupSeconds": 60}}));
    let uid = stage.ask("executor", "ann");
    stage.settle();
    stage.pass(60);
    stage.settle();
    let before = stage.status(&uid);
    stage.change(&uid, |binding| binding.status = None);
    stage.settle();
    let after = stage.status(&uid);
    assert_eq!((after.phase, after.transitions, after.bound_at), (before.phase, before.transitions, before.bound_at));
}

#[test]
fn stale_and_repeated_events_change_nothing() {
    let mut stage = Stage::new();
    stage.hat("observer", json!({}));
    let uid = stage.ask("observer", "ann");
    stage.change(&uid, |binding| binding.metadata.resource_version = Some("10".to_owned()));
    let stale = stage.world.binding(&uid).unwrap().clone();
    stage.settle();
    stage.change(&uid, |binding| binding.metadata.resource_version = Some("12".to_owned()));
    stage.world.observe_binding(stale.clone(), stage.now.steady);
    assert_eq!(stage.phase(&uid), Phase::Active);
    assert_eq!(stage.settle(), vec![]);
    stage.world.forget_binding(&uid);
    stage.world.observe_binding(stale, stage.now.steady);
    assert!(stage.world.binding(&uid).is_none(), "what is gone does not come back");
}

#[test]
fn who_answers_for_a_hat_at_a_time() {
    let mut stage = Stage::new();
    stage.hat("executor", json!({"throttles": {"stickyAttributionSeconds": 600}}));
    let first = stage.ask("executor", "ann");
    stage.settle();
    stage.pass(3600);
    stage.delete(&first);
    stage.settle();
    let second = stage.ask("executor", "bob");
    stage.pass(60);
    stage.settle();
    let world: &World = &stage.world;
    let (first, second) = (first.as_str(), second.as_str());
    let at = |time: &str| -> Vec<&str> {
        let time = format!("2026-01-01T{time}Z").parse().unwrap();
        let uids = world.attributed("executor", time).into_iter().map(|stay| stay.binding);
        uids.map(|uid| if uid == first { first } else { second }).collect()
    };
    assert_eq!(at("11:59:59"), Vec::<&str>::new());
    assert_eq!(at("12:00:00"), [first]);
    assert_eq!(at("13:00:30"), [first], "the hat is off and sticks");
    assert_eq!(at("13:03:00"), [first, second]);
    assert_eq!(at("13:10:00"), [second]);
    let stay = world.attribution(&spiffe("ann"), "executor", "2026-01-01T13:03:00Z".parse().unwrap()).unwrap();
    assert!(!stay.wears_at("2026-01-01T13:03:00Z".parse().unwrap()));
    assert_eq!(world.attribution(&spiffe("cem"), "executor", "2026-01-01T13:03:00Z".parse().unwrap()), None);
}

#[test]
fn the_policy_says_for_how_long_a_hat_sticks_where_the_hat_does_not() {
    for (own, expected) in
        [(json!({}), "2026-01-01T12:00:33Z"), (json!({"stickyAttributionSeconds": 5}), "2026-01-01T12:00:05Z")]
    {
        let mut stage = Stage::new();
        stage.policy(json!({"throttles": {"warmupSeconds": 0, "stickyAttributionSeconds": 33}}));
        stage.hat("executor", json!({"throttles": own}));
        let uid = stage.ask("executor", "ann");
        stage.settle();
        stage.delete(&uid);
        stage.settle();
        let outcome = stage.swaps(&uid).pop().unwrap().spec.outcome.unwrap();
        assert_eq!(outcome.sticky_attribution_ends_at.unwrap().0.to_string(), expected);
    }
}

#[test]
fn reputation_and_wearers_follow_from_the_records() {
    let mut stage = Stage::new();
    stage.hat("executor", json!({}));
    let reputation = |stage: &Stage| stage.world.hat("executor").unwrap().status.clone().unwrap();
    let (ann, bob) = (stage.ask("executor", "ann"), stage.ask("executor", "bob"));
    stage.settle();
    assert_eq!(reputation(&stage).reputation, None);
    assert_eq!(reputation(&stage).current_wearers, [spiffe("ann"), spiffe("bob")]);
    stage.delete(&ann);
    stage.settle();
    assert_eq!(reputation(&stage).reputation, Some(100));
    stage.judge(&bob, "boss", "Revoke");
    stage.settle();
    // One well, one revoked: 100 * (1 + 1) / (1 + 2 + 1).
    assert_eq!(reputation(&stage).reputation, Some(50));
    let again = stage.ask("executor", "ann");
    stage.settle();
    assert_eq!(reputation(&stage).lifetime_wearers, Some(2), "ann is counted once");
    assert_eq!(stage.phase(&again), Phase::Active);
    stage.pass(1);
    stage.judge(&again, "boss", "Probation");
    stage.settle();
    // And one probation: 100 * 2 / 5.
    assert_eq!(reputation(&stage).reputation, Some(40));
}

#[test]
fn the_policys_status_counts() {
    let mut stage = Stage::new();
    stage.hat("observer", json!({}));
    stage.ask("observer", "ann");
    stage.ask("observer", "bob");
    let status = |actions: &[Action]| {
        actions.iter().rev().find_map(|action| match action {
            Action::SetPolicyStatus { status } => Some((**status).clone()),
            _ => None,
        })
    };
    let first = status(&stage.settle()).unwrap();
    assert_eq!((first.active_hats, first.active_bindings, first.swaps_last_24h), (Some(1), Some(2), Some(2)));
    assert_eq!(first.last_reconciled_at.unwrap().0, stage.now.wall);
    stage.pass(24 * 3600);
    assert_eq!(status(&stage.settle()).unwrap().swaps_last_24h, Some(0));
}

#[test]
fn ended_bindings_and_old_records_are_collected() {
    let mut stage = Stage::new();
    stage.policy(json!({"throttles": {"warmupSeconds": 0, "cooldownSeconds": 0}, "ttlSecondsAfterEnd": 100, "swapRetentionDays": 2}));
    stage.hat("shift", json!({"termSeconds": 10}));
    stage.hat("long", json!({}));
    let (short, long) = (stage.ask("shift", "ann"), stage.ask("long", "ann"));
    stage.settle();
    stage.pass(10);
    stage.settle();
    stage.pass(99);
    stage.settle();
    assert_eq!(stage.phase(&short), Phase::Expired);
    stage.pass(1);
    stage.settle();
    assert!(stage.world.binding(&short).is_none());
    stage.pass(2 * 24 * 3600);
    stage.settle();
    assert!(stage.world.swap(&format!("{short}-1")).is_none());
    assert!(stage.world.swap(&format!("{long}-1")).is_some(), "the last record of a binding is kept");
}

/// Numbers of the records of a binding that are kept.
fn kept(stage: &Stage, uid: &str) -> Vec<i64> {
    let names = stage.world.swaps().filter_map(|(name, _)| name.strip_prefix(uid)?.strip_prefix('-')?.parse().ok());
    let mut numbers: Vec<i64> = names.collect();
    numbers.sort_unstable();
    numbers
}

const DAY: u64 = 24 * 3600;

#[test]
fn a_binding_that_is_renewed_past_the_retention_keeps_one_record_that_restores_its_status() {
    let mut stage = Stage::new();
    stage.policy(json!({"throttles": {"warmupSeconds": 0}, "swapRetentionDays": 1}));
    stage.hat("shift", json!({"termSeconds": 3600, "succession": {"policy": "Renew"}}));
    let uid = stage.ask("shift", "ann");
    stage.settle();
    for _ in 0..60 {
        stage.pass(3600);
        stage.settle();
    }
    // Those of the last 24 hours, and what was on when they began.
    assert_eq!(kept(&stage, &uid), (37..=61).collect::<Vec<_>>());
    // Its last renewal is without an end: nothing is recorded of it from then on.
    stage.hat("shift", json!({"succession": {"policy": "Renew"}}));
    stage.pass(3600);
    stage.settle();
    for _ in 0..2 {
        stage.pass(DAY);
        stage.settle();
    }
    assert_eq!(kept(&stage, &uid), [62]);
    let before = stage.status(&uid);
    assert_eq!((before.phase, before.transitions), (Phase::Active, 62));
    stage.change(&uid, |binding| binding.status = None);
    let done = stage.settle();
    let times = |status: &hatrack_api::HatBindingStatus| (status.bound_at.clone(), status.expires_at.clone());
    let after = stage.status(&uid);
    assert_eq!((after.phase, after.transitions, times(&after)), (Phase::Active, 62, times(&before)));
    assert!(!done.iter().any(|action| matches!(action, Action::Record(_))), "{done:?}");
}

#[test]
fn who_had_a_hat_is_known_for_as_long_as_records_are_kept_however_long_ago_it_went_on() {
    let mut stage = Stage::new();
    stage.policy(json!({"throttles": {"warmupSeconds": 0, "stickyAttributionSeconds": 60}, "swapRetentionDays": 3}));
    stage.hat("long", json!({"termSeconds": 10 * DAY, "succession": {"policy": "Renew"}}));
    let uid = stage.ask("long", "ann");
    stage.settle();
    let ago = |stage: &Stage, days: i64| stage.now.wall - jiff::SignedDuration::from_hours(24 * days);
    let wears = |stage: &Stage, days| stage.world.attribution(&spiffe("ann"), "long", ago(stage, days)).is_some();
    stage.pass(10 * DAY);
    stage.settle();
    stage.pass(2 * DAY);
    stage.settle();
    assert_eq!(kept(&stage, &uid), [1, 2], "renewed two days ago, and on a day before that");
    assert!(wears(&stage, 3) && wears(&stage, 1));
    stage.pass(DAY);
    stage.delete(&uid);
    stage.settle();
    assert_eq!(kept(&stage, &uid), [2, 3]);
    stage.pass(2 * DAY);
    stage.settle();
    assert_eq!(kept(&stage, &uid), [2, 3], "off for two days, and on a day before that");
    assert!(wears(&stage, 3) && !wears(&stage, 1));
    stage.pass(DAY);
    stage.settle();
    assert_eq!(kept(&stage, &uid), Vec::<i64>::new());
}

#[test]
fn an_exception_from_the_quorum_is_restored_as_one_however_old_it_is() {
    let mut stage = Stage::new();
    let bootstrap = json!({"hat": "first", "wearer": spiffe("ann")});
    stage.policy(json!({"throttles": {"warmupSeconds": 0}, "swapRetentionDays": 1, "bootstrap": bootstrap}));
    stage.hat("first", json!({"throttles": {"quorumGated": true, "quorumSize": 1}}));
    let uid = stage.ask("first", "ann");
    stage.settle();
    for verdict in ["Probation", "Restore"] {
        stage.pass(1);
        stage.judge(&uid, "boss", verdict);
        stage.settle();
    }
    stage.pass(3 * DAY);
    stage.settle();
    assert_eq!(kept(&stage, &uid), [1, 4], "the grant of its quorum, and the last");
    stage.change(&uid, |binding| binding.status = None);
    stage.settle();
    assert_eq!((stage.phase(&uid), stage.status(&uid).transitions), (Phase::Active, 4));
    let second = stage.ask("first", "bob");
    stage.cosign(&second, "ann");
    stage.settle();
    stage.settle();
    assert_eq!((stage.phase(&uid), stage.phase(&second)), (Phase::Expired, Phase::Active));
    assert_eq!(stage.records(&uid).last().unwrap().1, "BootstrapEnded");
}

#[test]
fn what_holds_a_request_is_recorded_once_however_long_it_holds() {
    let mut stage = Stage::new();
    stage.policy(json!({"throttles": {"warmupSeconds": 0}, "swapRetentionDays": 1}));
    stage.hat("gated", json!({"throttles": {"quorumGated": true, "quorumSize": 1}}));
    let uid = stage.ask("gated", "ann");
    for _ in 0..5 {
        stage.settle();
        stage.pass(DAY);
    }
    assert_eq!(stage.records(&uid).len(), 1);
    let name = format!("{uid}-0-throttled-quorum");
    assert!(stage.world.swap(&name).is_some());
    stage.cosign(&uid, "bob");
    stage.settle();
    stage.pass(DAY);
    stage.settle();
    assert!(stage.world.swap(&name).is_none(), "nothing holds it any more");
}

#[test]
fn a_record_outlives_its_retention_while_its_cooldown_runs() {
    let mut stage = Stage::new();
    stage.policy(json!({"throttles": {"warmupSeconds": 0}, "swapRetentionDays": 1}));
    stage.hat("rare", json!({"throttles": {"cooldownSeconds": 3 * 24 * 3600}}));
    let uid = stage.ask("rare", "ann");
    stage.settle();
    stage.delete(&uid);
    stage.settle();
    stage.pass(2 * 24 * 3600);
    let again = stage.ask("rare", "ann");
    stage.settle();
    assert_eq!(stage.held(&again).unwrap().rule.as_str(), "cooldown");
    stage.pass(24 * 3600);
    stage.settle();
    assert_eq!(stage.phase(&again), Phase::Active);
}

#[test]
fn a_binding_that_is_set_aside_stays_as_it_is_in_nobodys_way() {
    let mut stage = Stage::new();
    stage.hat("one", json!({"maxWearers": 1, "termSeconds": 10}));
    stage.hat("other", json!({"termSeconds": 10}));
    let (kept, other) = (stage.ask("one", "ann"), stage.ask("other", "bob"));
    stage.settle();
    let next = stage.ask("one", "eve");
    stage.world.set_aside(&kept);
    stage.pass(10);
    stage.settle();
    assert_eq!(stage.phase(&kept), Phase::Active, "nothing of it can be written");
    assert_eq!(stage.phase(&other), Phase::Expired);
    assert_eq!(stage.held(&next).map(|held| held.rule), Some(Rule::MaxWearers), "it still counts");
    stage.world.take_up(&kept);
    stage.settle();
    assert_eq!((stage.phase(&kept), stage.phase(&next)), (Phase::Expired, Phase::Active));
}

#[test]
fn what_was_left_out_of_a_plan_is_looked_at_again_and_nothing_else() {
    let mut stage = Stage::new();
    stage.hat("plain", json!({"authority": {"rules": [{"verbs": ["get"], "resources": ["pods"]}]}}));
    stage.hat("other", json!({}));
    for number in 0..20 {
        stage.ask("other", &format!("wearer-{number}"));
    }
    stage.settle();
    let account = json!({"spiffeID": spiffe("ann"), "serviceAccountRef": {"name": "ann", "namespace": "default"}});
    stage.ask_with("plain", "ann", json!({"wearer": account}));
    let plan = decide(&stage.world, stage.now);
    let is_grant = |action: &&Action| matches!(action, Action::Grant(_));
    let (left_out, done): (Vec<&Action>, Vec<&Action>) = plan.actions.iter().partition(is_grant);
    for action in done {
        stage.world.apply(action, stage.now.steady);
    }
    assert_eq!(left_out.len(), 1);
    // The first decision after it looks at what was done as well.
    let mut outlook = plan.outlook.clone();
    for _ in 0..2 {
        stage.world.conclude(outlook);
        for action in &left_out {
            stage.world.leave_open(action);
        }
        let again = decide(&stage.world, stage.now);
        assert_eq!(again.actions.iter().collect::<Vec<_>>(), left_out);
        outlook = again.outlook;
    }
    let questions = decide(&stage.world, stage.now).questions;
    assert_eq!(questions, 3, "what authority ann lacks and, once it is given, what she lacks and has too much");
    stage.settle();
    stage.settle();
    assert_eq!(decide(&stage.world, stage.now).questions, 0);
}

#[test]
fn an_ended_binding_that_is_taken_up_again_goes() {
    let mut stage = Stage::new();
    stage.hat("plain", json!({}));
    let uid = stage.ask("plain", "ann");
    stage.settle();
    stage.delete(&uid);
    stage.world.set_aside(&uid);
    stage.settle();
    stage.world.take_up(&uid);
    stage.settle();
    assert!(stage.world.binding(&uid).is_none());
    // As when its record and its status could be written, and only its end could not.
    let uid = stage.ask("plain", "ann");
    stage.settle();
    stage.delete(&uid);
    for action in decide(&stage.world, stage.now).actions {
        if !matches!(action, Action::Unfinalize { .. }) {
            stage.world.apply(&action, stage.now.steady);
        }
    }
    stage.world.set_aside(&uid);
    stage.settle();
    assert!(stage.world.binding(&uid).is_some());
    stage.world.take_up(&uid);
    stage.settle();
    assert!(stage.world.binding(&uid).is_none());
}

#[test]
fn what_was_concluded_of_another_world_closes_nothing_of_this_one() {
    let mut other = Stage::new();
    other.hat("plain", json!({}));
    other.ask("plain", "a");
    let plan = decide(&other.world, other.now);
    let mut stage = Stage::new();
    stage.hat("plain", json!({}));
    let uid = stage.ask("plain", "b");
    stage.world.conclude(plan.outlook);
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Active);
}
