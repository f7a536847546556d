//! Placement, and what happens when a node or a device is lost.

use std::time::Duration;

use hatrack_api::cluster_node::ClusterNodeStatus;
use hatrack_api::hat_binding::Phase;
use hatrack_api::hat_swap::SwapEvent;
use hatrack_hats::throttles::Rule;
use hatrack_hats::{Action, Periods, World};
use k8s_openapi::api::coordination::v1::Lease;
use serde_json::{Value, json};

use crate::stage::{Stage, gpus, one_gpu};

fn message(stage: &Stage, uid: &str) -> String {
    stage.held(uid).unwrap().message
}

#[test]
fn a_small_hat_does_not_take_the_big_gpu() {
    let mut stage = Stage::new();
    stage.node("a", gpus(&["80Gi"]));
    stage.node("b", gpus(&["80Gi", "16Gi"]));
    stage.hat("small", one_gpu("8Gi"));
    stage.hat("big", one_gpu("48Gi"));
    let small = stage.ask("small", "ann");
    stage.settle();
    let status = stage.status(&small);
    assert_eq!((status.node_name.as_deref(), status.devices), (Some("b"), vec!["gpu-1".to_owned()]));
    // Fewer free devices left: the node with one free GPU of its class goes first; of equals the first name.
    let big = stage.ask("big", "bob");
    stage.settle();
    assert_eq!(stage.status(&big).node_name.as_deref(), Some("a"));
}

#[test]
fn without_devices_wearers_spread_over_nodes_and_leave_the_gpus_alone() {
    let mut stage = Stage::new();
    stage.node("with-gpu", gpus(&["80Gi"]));
    stage.node("plain-1", json!([]));
    stage.node("plain-2", json!([]));
    stage.hat("job", json!({"requirements": {"node": ["node.cpu.threads > 1"]}}));
    let all: Vec<_> = ["ann", "bob", "cem", "dan"].iter().map(|wearer| stage.ask("job", wearer)).collect();
    stage.settle();
    let nodes: Vec<String> = all.iter().map(|uid| stage.status(uid).node_name.unwrap()).collect();
    assert_eq!(nodes, ["plain-1", "plain-2", "plain-1", "plain-2"]);
}

#[test]
fn a_picky_request_gets_its_device_beside_one_that_takes_any() {
    let mut stage = Stage::new();
    stage.node("n", gpus(&["24Gi", "16Gi"]));
    let picky = "device.capacity.memory.compareTo(quantity('24Gi')) >= 0";
    stage.hat("both", json!({"requirements": {"devices": [{"name": "any", "class": "gpu"}, {"name": "big", "class": "gpu", "selectors": [picky]}]}}));
    stage.hat("greedy", json!({"requirements": {"devices": [{"name": "a", "class": "gpu", "selectors": [picky]}, {"name": "b", "class": "gpu", "selectors": [picky]}]}}));
    let greedy = stage.ask("greedy", "bob");
    assert_eq!(stage.held_by(&greedy), Some(Rule::Unschedulable));
    assert_eq!(message(&stage, &greedy), "0/1 nodes: 1 has too few gpus for all requests together");
    let both = stage.ask("both", "ann");
    stage.settle();
    assert_eq!(stage.status(&both).devices, ["gpu-0", "gpu-1"]);
}

#[test]
fn several_requests_of_a_hat_take_the_smallest_devices_that_do_together() {
    let mut stage = Stage::new();
    stage.node("n", gpus(&["8Gi", "16Gi", "80Gi"]));
    let of = |name: &str, amounts: [&str; 2]| {
        let [one, other] = amounts.map(|amount| format!("device.capacity.memory.compareTo(quantity('{amount}')) == 0"));
        json!({"name": name, "class": "gpu", "selectors": [format!("{one} || {other}")]})
    };
    stage.hat("two", json!({"requirements": {"devices": [of("a", ["8Gi", "16Gi"]), of("b", ["8Gi", "80Gi"])]}}));
    let uid = stage.ask("two", "ann");
    stage.settle();
    assert_eq!(stage.status(&uid).devices, ["gpu-0", "gpu-1"], "the second has the 8Gi, and the 80Gi are left");
}

#[test]
fn devices_are_exclusive_until_the_stop_is_reported() {
    let mut stage = Stage::new();
    stage.node("n", gpus(&["24Gi"]));
    stage.hat("gpu", one_gpu("1Gi"));
    let (first, second) = (stage.ask("gpu", "ann"), stage.ask("gpu", "bob"));
    stage.settle();
    assert_eq!(message(&stage, &second), "0/1 nodes: 1 has every gpu in use");
    stage.wear("n");
    stage.delete(&first);
    stage.settle();
    assert_eq!(stage.phase(&second), Phase::Pending, "the first may still be running");
    stage.wear("n");
    stage.settle();
    assert_eq!(stage.phase(&second), Phase::Active);
}

#[test]
fn an_assignment_says_what_to_wear_and_ends_in_two_steps() {
    let mut stage = Stage::new();
    stage.policy(json!({"throttles": {"warmupSeconds": 0}, "nodeGraceSeconds": 77}));
    stage.node("n", gpus(&["24Gi"]));
    stage.hat("gpu", json!({"termSeconds": 60, "requirements": one_gpu("1Gi")["requirements"]}));
    let uid = stage.ask("gpu", "ann");
    stage.settle();
    let hats = |stage: &Stage| stage.world.node("n").unwrap().hats().to_vec();
    let hat = hats(&stage).remove(0);
    assert_eq!(
        (hat.binding.as_str(), hat.name.as_str(), hat.phase.as_str(), hat.grace_seconds),
        (uid.as_str(), "gpu", "Active", Some(77))
    );
    assert_eq!(hat.devices, ["gpu-0"]);
    stage.policy(json!({"throttles": {"warmupSeconds": 0}, "nodeGraceSeconds": 5}));
    stage.settle();
    assert_eq!(hats(&stage)[0].grace_seconds, Some(77), "the grace is stamped at the grant");
    stage.wear("n");
    stage.pass(60);
    stage.renew("n");
    stage.settle();
    assert_eq!(hats(&stage)[0].phase, "Expired");
    stage.wear("n");
    stage.settle();
    assert_eq!(hats(&stage), vec![]);
}

#[test]
fn a_binding_that_ends_before_its_node_was_told_frees_its_devices_at_once() {
    let mut stage = Stage::new();
    stage.node("n", gpus(&["24Gi"]));
    stage.hat("gpu", one_gpu("1Gi"));
    let first = stage.ask("gpu", "ann");
    let plan = hatrack_hats::decide(&stage.world, stage.now);
    for action in plan.actions.iter().take_while(|action| !matches!(action, Action::Assign { .. })) {
        stage.world.apply(action, stage.now.steady);
    }
    assert_eq!(stage.phase(&first), Phase::Active);
    let second = stage.ask("gpu", "bob");
    stage.delete(&first);
    stage.settle();
    assert_eq!(stage.phase(&second), Phase::Active);
}

#[test]
fn what_a_node_lacks_is_said_in_words() {
    let ready =
        |state: &str| json!([{"name": "gpu-0", "class": "gpu", "health": {"state": state, "reason": "NoDriver"}}]);
    let needs = |requirements: Value| json!({"requirements": requirements});
    let gpu = |count: u32| needs(json!({"devices": [{"name": "g", "class": "gpu", "count": count}]}));
    let selector = |text: &str| needs(json!({"devices": [{"name": "g", "class": "gpu", "selectors": [text]}]}));
    for (devices, hat, expected) in [
        (json!([]), gpu(1), "0/1 nodes: 1 has no gpu"),
        (ready("Unusable"), gpu(1), "0/1 nodes: 1 has no usable gpu (NoDriver)"),
        (gpus(&["1Gi"]), gpu(2), "0/1 nodes: 1 has 1 gpu (needs 2)"),
        (gpus(&["16Gi", "8Gi"]), one_gpu("24Gi"), "0/1 nodes: 1 gpu has 16Gi of memory (needs 24Gi)"),
        (
            gpus(&["16Gi"]),
            selector("device.attributes.model == 'H100'"),
            "0/1 nodes: 1 has no free gpu that meets `device.attributes.model == 'H100'`",
        ),
        (
            json!([]),
            needs(json!({"node": ["node.class == 'worker'"]})),
            "0/1 nodes: 1 does not meet `node.class == 'worker'`",
        ),
        (
            gpus(&["16Gi"]),
            selector("device.attributes.serial == 'other'"),
            "0/1 nodes: 1 has no free gpu that meets `device.attributes.serial == 'other'`",
        ),
    ] {
        let mut stage = Stage::new();
        stage.node("n", devices);
        stage.hat("some", hat);
        let uid = stage.ask("some", "ann");
        assert_eq!(stage.held_by(&uid), Some(Rule::Unschedulable), "{expected}");
        assert_eq!(message(&stage, &uid), expected);
    }
}

#[test]
fn the_reasons_of_all_nodes_are_summed() {
    let mut stage = Stage::new();
    for name in ["a", "b", "c"] {
        stage.node(name, json!([]));
    }
    stage.node("d", gpus(&["16Gi"]));
    stage.node("e", gpus(&["80Gi"]));
    stage.change_node("e", |node| node.spec.unschedulable = Some(true));
    stage.hat("gpu", one_gpu("24Gi"));
    let uid = stage.ask("gpu", "ann");
    stage.settle();
    assert_eq!(message(&stage, &uid), "0/5 nodes: 3 have no gpu, 1 gpu has 16Gi of memory (needs 24Gi), 1 is cordoned");
    stage.change_node("e", |node| node.spec.unschedulable = None);
    stage.settle();
    assert_eq!(stage.status(&uid).node_name.as_deref(), Some("e"));
}

#[test]
fn a_node_takes_no_more_hats_than_its_object_can_list() {
    let mut stage = Stage::new();
    stage.node("n", json!([]));
    stage.hat("job", json!({"requirements": {"node": ["node.cpu.threads > 1"]}}));
    let wearers: Vec<String> = (0..=ClusterNodeStatus::MOST_HATS).map(|number| format!("w{number}")).collect();
    let asked: Vec<_> = wearers.iter().map(|wearer| stage.ask("job", wearer)).collect();
    stage.settle();
    let worn = asked.iter().filter(|uid| stage.phase(uid) == Phase::Active).count();
    assert_eq!(worn, ClusterNodeStatus::MOST_HATS);
    assert_eq!(message(&stage, asked.last().unwrap()), "0/1 nodes: 1 is full of hats");
}

#[test]
fn cordoned_revoked_and_silent_nodes_take_nothing_new_and_keep_what_they_have() {
    let cordon: fn(&mut Stage) = |stage| stage.change_node("n", |node| node.spec.unschedulable = Some(true));
    let revoke: fn(&mut Stage) = |stage| stage.change_node("n", |node| node.spec.revoked = Some(true));
    let silence: fn(&mut Stage) = |stage| stage.pass(40);
    for (change, expected) in [(cordon, "1 is cordoned"), (revoke, "1 is revoked"), (silence, "1 is not ready")] {
        let mut stage = Stage::new();
        stage.node("n", gpus(&["24Gi", "24Gi"]));
        stage.hat("gpu", one_gpu("1Gi"));
        let worn = stage.ask("gpu", "ann");
        stage.settle();
        change(&mut stage);
        let held = stage.ask("gpu", "bob");
        stage.settle();
        assert_eq!(message(&stage, &held), format!("0/1 nodes: {expected}"));
        assert_eq!(stage.phase(&worn), Phase::Active);
    }
}

#[test]
fn gpus_that_the_device_plugin_hands_out_are_left_alone() {
    for (allocator, admitted) in [("device-plugin", false), ("hats", true)] {
        let mut stage = Stage::new();
        stage.node("n", gpus(&["24Gi"]));
        stage.change_node("n", |node| {
            let label = ("society.zeta.io/gpu-allocator".to_owned(), allocator.to_owned());
            node.metadata.labels = Some([label].into());
        });
        stage.hat("gpu", one_gpu("1Gi"));
        let uid = stage.ask("gpu", "ann");
        stage.settle();
        assert_eq!(stage.phase(&uid) == Phase::Active, admitted, "{allocator}");
        if !admitted {
            assert_eq!(message(&stage, &uid), "0/1 nodes: 1 has every gpu left to the device plugin");
        }
    }
}

#[test]
fn a_failing_expression_holds_and_names_itself_the_node_and_the_error() {
    let mut stage = Stage::new();
    stage.node("good", gpus(&["24Gi"]));
    stage.node("odd", json!([{"name": "gpu-0", "class": "gpu", "health": {"state": "Ready", "reason": "Sysfs"}}]));
    stage.hat("gpu", one_gpu("1Gi"));
    let uid = stage.ask("gpu", "ann");
    assert_eq!(stage.held_by(&uid), Some(Rule::Unschedulable));
    let text = message(&stage, &uid);
    for part in ["device.capacity.memory.compareTo(quantity('1Gi')) >= 0", "node odd", "No such key: memory"] {
        assert!(text.contains(part), "{part} is not in: {text}");
    }
    stage.hat("gpu", json!({"requirements": {"node": ["node.class =="]}}));
    stage.settle();
    assert!(message(&stage, &uid).contains("`node.class ==` of the hat does not compile"), "{}", message(&stage, &uid));
    stage.hat(
        "gpu",
        json!({"requirements": {"devices": [{"name": "g", "class": "gpu",
        "selectors": ["has(device.capacity.memory) && device.capacity.memory.compareTo(quantity('1Gi')) >= 0"]}]}}),
    );
    stage.settle();
    assert_eq!(stage.status(&uid).node_name.as_deref(), Some("good"));
}

#[test]
fn a_silent_node_is_fenced_after_its_grace_and_its_hats_move() {
    let mut stage = Stage::new();
    stage.policy(json!({"throttles": {"warmupSeconds": 0, "cooldownSeconds": 900}, "nodeGraceSeconds": 100}));
    stage.node("a", gpus(&["24Gi"]));
    stage.hat("gpu", json!({"termSeconds": 10_000, "requirements": one_gpu("1Gi")["requirements"]}));
    let uid = stage.ask("gpu", "ann");
    stage.settle();
    let ends = stage.status(&uid).expires_at;
    stage.node("b", gpus(&["24Gi"]));
    // 100 s of grace, 30 s to stop, one hundredth.
    stage.pass(130);
    stage.renew("b");
    assert!(!stage.settle().iter().any(|action| matches!(action, Action::Fence { .. })));
    stage.pass(1);
    stage.renew("b");
    let actions = stage.settle();
    let place = |wanted: fn(&Action) -> bool| actions.iter().position(wanted).unwrap();
    let fence = place(|action| matches!(action, Action::Fence { node, transitions: 1 } if node == "a"));
    let record = place(|action| matches!(action, Action::Record(_)));
    assert!(fence < record, "first the fence, then the hats");
    assert_eq!(stage.status(&uid).node_name.as_deref(), Some("b"));
    assert_eq!(stage.status(&uid).expires_at, ends, "the end of the term is kept");
    let records: Vec<String> = stage.records(&uid).into_iter().map(|(_, reason)| reason).collect();
    assert_eq!(records, ["Admitted", "NodeLost", "Moved"]);
    assert_eq!(stage.world.node("a").unwrap().hats(), []);
}

#[test]
fn a_node_that_vanished_is_a_reason_to_wait_and_not_to_move() {
    let mut stage = Stage::new();
    stage.node("a", gpus(&["24Gi"]));
    stage.hat("gpu", one_gpu("1Gi"));
    let uid = stage.ask("gpu", "ann");
    stage.settle();
    stage.world.forget_node("a");
    for _ in 0..60 {
        stage.pass(10);
        stage.renew("a");
        stage.settle();
    }
    assert_eq!(stage.phase(&uid), Phase::Active, "the machine renews its Lease: it is alive");
    stage.pass(333);
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Pending);
    assert_eq!(stage.records(&uid).iter().filter(|(event, _)| *event == SwapEvent::SwapOff).count(), 1);
}

#[test]
fn a_node_that_comes_back_wearing_something_unknown_takes_nothing_until_it_stopped() {
    let mut stage = Stage::new();
    stage.node("a", gpus(&["24Gi"]));
    stage.change_node("a", |node| {
        let worn = json!([{"binding": "stranger", "state": "Running", "since": "2026-01-01T00:00:00Z"}]);
        node.status.get_or_insert_default().worn = serde_json::from_value(worn).unwrap();
    });
    stage.hat("gpu", one_gpu("1Gi"));
    let uid = stage.ask("gpu", "ann");
    stage.settle();
    assert_eq!(message(&stage, &uid), "0/1 nodes: 1 is still stopping a hat");
    stage.wear("a");
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Active);
}

#[test]
fn a_lost_device_has_a_minute_to_come_back() {
    let present = gpus(&["24Gi"]);
    for (away, moved) in [(59, false), (60, true)] {
        let mut stage = Stage::new();
        stage.node("a", present.clone());
        stage.hat("gpu", one_gpu("1Gi"));
        let uid = stage.ask("gpu", "ann");
        stage.settle();
        stage.wear("a");
        let set = |stage: &mut Stage, devices: Value| {
            stage.change_node("a", |node| {
                node.status.get_or_insert_default().devices = serde_json::from_value(devices).unwrap();
            });
        };
        set(&mut stage, json!([]));
        stage.settle();
        stage.pass(away);
        stage.renew("a");
        stage.settle();
        assert_eq!(stage.phase(&uid) == Phase::Pending, moved, "{away} s");
        set(&mut stage, present.clone());
        stage.settle();
        // The agent reports the stop, the assignment goes, the report goes: then it can come back here.
        for _ in 0..3 {
            stage.wear("a");
            stage.settle();
        }
        assert_eq!(stage.phase(&uid), Phase::Active, "{away} s");
    }
}

#[test]
fn a_renewal_by_another_machine_is_none() {
    let mut stage = Stage::new();
    stage.node_with("a", json!({"class": "gpu-worker", "hardwareID": "mine"}), json!({"devices": gpus(&["24Gi"])}));
    let lease = |holder: &str, time: &str| {
        serde_json::from_value(
            json!({"metadata": {"name": "a"}, "spec": {"holderIdentity": holder, "renewTime": time}}),
        )
        .unwrap()
    };
    stage.world.observe_lease(&lease("other", "2026-01-01T00:00:00.000000Z"), stage.now.steady);
    assert!(!stage.world.node("a").unwrap().is_ready(stage.now.steady));
    stage.world.observe_lease(&lease("mine", "2026-01-01T00:00:01.000000Z"), stage.now.steady);
    assert!(stage.world.node("a").unwrap().is_ready(stage.now.steady));
}

#[test]
fn equal_worlds_give_equal_plans() {
    let plan = || {
        let mut stage = Stage::new();
        for index in (0..20).rev() {
            stage.node(&format!("n{index:02}"), gpus(&["24Gi", "16Gi", "80Gi"]));
        }
        stage.hat("gpu", one_gpu("20Gi"));
        for index in 0..50 {
            stage.ask("gpu", &format!("w{index}"));
        }
        hatrack_hats::decide(&stage.world, stage.now)
    };
    assert_eq!(plan(), plan());
}

#[test]
fn whoever_runs_the_rules_says_how_long_machines_have() {
    let mut stage = Stage::new();
    let second = Duration::from_secs(1);
    stage.world =
        World::new(Periods { lease: second * 5, stop: second * 2, device_grace: second * 3, ..Periods::default() });
    stage.policy(json!({"nodeGraceSeconds": 10, "throttles": {"warmupSeconds": 0}}));
    stage.node("a", gpus(&["24Gi", "24Gi"]));
    stage.hat("gpu", one_gpu("20Gi"));
    let uid = stage.ask("gpu", "ann");
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Active);
    let lost = stage.status(&uid).devices[0].clone();
    stage.change_node("a", |node| {
        node.status.as_mut().unwrap().devices.as_mut().unwrap().retain(|device| device.name != lost);
    });
    stage.pass(2);
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Active, "the device has 3 s to come back");
    stage.pass(1);
    stage.settle();
    assert_ne!(stage.status(&uid).devices, [lost]);
    stage.pass(2);
    assert!(!stage.world.node("a").unwrap().is_ready(stage.now.steady), "a renewal lasts 5 s");
    stage.pass(7);
    stage.settle();
    assert!(!stage.world.node("a").unwrap().is_fenced(), "10 s of grace, 2 s to stop, and a hundredth");
    stage.pass(1);
    stage.settle();
    assert!(stage.world.node("a").unwrap().is_fenced());
}

#[test]
fn a_lease_that_was_silent_for_the_last_operator_is_so_until_it_is_renewed() {
    for (reason, ready) in [("LeaseRenewed", true), ("LeaseSilent", false), ("Fenced", false), ("NoLease", true)] {
        let mut stage = Stage::new();
        let status = if reason == "LeaseRenewed" { "True" } else { "Unknown" };
        let condition = json!({"type": "Ready", "status": status, "reason": reason, "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
        stage.node_with("a", json!({"class": "worker"}), json!({"conditions": [condition]}));
        stage.renew("a");
        assert_eq!(stage.world.node("a").unwrap().is_ready(stage.now.steady), ready, "met: {reason}");
        stage.pass(1);
        stage.renew("a");
        assert!(stage.world.node("a").unwrap().is_ready(stage.now.steady), "renewed: {reason}");
    }
}

#[test]
fn that_a_lease_is_renewed_again_is_no_news() {
    let mut stage = Stage::new();
    stage.node("a", json!([]));
    let lease = |second: u64, holder: &str| {
        let time = format!("2026-01-01T00:01:{second:02}.000000Z");
        serde_json::from_value(
            json!({"metadata": {"name": "a"}, "spec": {"renewTime": time, "holderIdentity": holder}}),
        )
        .unwrap()
    };
    let observe = |stage: &mut Stage, second, holder| {
        stage.pass(1);
        stage.world.observe_lease(&lease(second, holder), stage.now.steady)
    };
    assert!(!observe(&mut stage, 1, "mine"));
    stage.pass(60);
    assert!(observe(&mut stage, 2, "mine"), "it is back");
    stage.change_node("a", |node| node.spec.hardware_id = Some("mine".to_owned()));
    assert!(observe(&mut stage, 3, "another"), "a rival");
    assert!(!observe(&mut stage, 4, "another"));
    assert!(observe(&mut stage, 5, "mine"), "no rival any more");
}

#[test]
fn renewals_of_another_machine_end_no_silence_and_its_fence_goes_on() {
    let mut stage = Stage::new();
    let lease = |second: u64, holder: &str| -> Lease {
        let time = format!("2026-01-01T00:01:{second:02}.000000Z");
        let spec = json!({"renewTime": time, "holderIdentity": holder, "leaseTransitions": 7});
        serde_json::from_value(json!({"metadata": {"name": "a", "resourceVersion": second.to_string()}, "spec": spec}))
            .unwrap()
    };
    stage.node_with("a", json!({"class": "worker", "hardwareID": "mine"}), json!({"devices": gpus(&["24Gi"])}));
    let met = |stage: &Stage| stage.world.node("a").unwrap().clone();
    stage.pass(5);
    // As after a start: the Lease is met when the machine is known.
    stage.world.observe_lease(&lease(1, "another"), stage.now.steady);
    let view = met(&stage);
    assert!(!view.is_ready(stage.now.steady), "the machine has renewed nothing");
    assert_eq!(view.silence(stage.now.steady), Some(Duration::from_secs(5)));
    assert_eq!(view.lease.as_ref().unwrap().transitions, 7, "the next fence has a higher number");
    assert!(!view.is_renewed_in(&lease(2, "another")));
    assert!(view.is_renewed_in(&lease(2, "mine")));
    stage.world.observe_lease(&lease(3, "mine"), stage.now.steady);
    stage.pass(5);
    stage.world.observe_lease(&lease(4, "another"), stage.now.steady);
    stage.world.observe_lease(&lease(2, "mine"), stage.now.steady);
    let view = met(&stage);
    assert_eq!(view.silence(stage.now.steady), Some(Duration::from_secs(5)), "late news are none");
    assert_eq!(view.rival.as_deref(), Some("another"));
    assert!(view.is_ready(stage.now.steady), "for as long as a renewal lasts");
    stage.world.observe_lease(&lease(5, "mine"), stage.now.steady);
    assert_eq!((met(&stage).silence(stage.now.steady), met(&stage).rival), (Some(Duration::ZERO), None));
}

#[test]
fn a_node_that_is_set_aside_takes_nothing_new_and_keeps_what_it_has() {
    let mut stage = Stage::new();
    stage.node("a", gpus(&["24Gi", "24Gi"]));
    stage.node("b", json!([]));
    stage.hat("gpu", json!({"termSeconds": 20, "requirements": one_gpu("1Gi")["requirements"]}));
    stage.hat("job", json!({"requirements": {"node": ["node.cpu.threads > 1"]}}));
    let worn = stage.ask("gpu", "ann");
    stage.settle();
    stage.wear("a");
    stage.world.set_aside_node("a");
    let (held, other) = (stage.ask("gpu", "bob"), stage.ask("job", "cem"));
    stage.settle();
    let refused = "1 is set aside (the API server refuses what is to be written of it)";
    assert_eq!(message(&stage, &held), format!("0/2 nodes: 1 has no gpu, {refused}"));
    assert_eq!(stage.phase(&worn), Phase::Active);
    assert_eq!(stage.status(&other).node_name.as_deref(), Some("b"), "it is in nobody's way");
    stage.pass(20);
    stage.renew("a");
    let actions = stage.settle();
    assert_eq!(stage.phase(&worn), Phase::Expired);
    assert!(!actions.iter().any(|action| matches!(action, Action::Assign { node, .. } if node == "a")));
    assert_eq!(stage.phase(&held), Phase::Pending, "nobody has told the machine to stop");
    stage.change_node("a", |_| {});
    stage.settle();
    assert_eq!(stage.phase(&held), Phase::Pending, "whoever changes it often would stand in everybody's way");
    stage.world.take_up_node("a");
    stage.settle();
    assert_eq!(stage.status(&held).devices, ["gpu-1"], "it is tried again");
    let hats = stage.world.node("a").unwrap().hats().to_vec();
    assert_eq!(hats.iter().map(|hat| hat.phase.as_str()).collect::<Vec<_>>(), ["Expired", "Active"]);
}

#[test]
fn a_node_that_is_set_aside_is_not_fenced_and_its_hats_do_not_move() {
    let lose: fn(&mut Stage) = |stage| stage.pass(500);
    let unplug: fn(&mut Stage) = |stage| {
        stage.change_node("a", |node| node.status.as_mut().unwrap().devices = Some(vec![]));
        stage.world.set_aside_node("a");
        for _ in 0..2 {
            stage.settle();
            stage.pass(30);
            stage.renew("a");
        }
    };
    for (happens, cause) in [(lose, "NodeLost"), (unplug, "DeviceLost")] {
        let mut stage = Stage::new();
        stage.node("a", gpus(&["24Gi"]));
        stage.hat("gpu", one_gpu("1Gi"));
        let uid = stage.ask("gpu", "ann");
        stage.settle();
        stage.world.set_aside_node("a");
        happens(&mut stage);
        stage.node("b", gpus(&["24Gi"]));
        stage.settle();
        assert_eq!(stage.status(&uid).node_name.as_deref(), Some("a"), "{cause}: it may still run there");
        assert!(!stage.world.node("a").unwrap().is_fenced());
        stage.world.take_up_node("a");
        stage.settle();
        assert_eq!(stage.status(&uid).node_name.as_deref(), Some("b"), "{cause}");
        assert!(stage.records(&uid).iter().any(|(_, reason)| reason == cause));
    }
}
