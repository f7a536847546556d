//! Two operators: one leads, and whatever becomes of it, each transition has one record.

use std::collections::BTreeSet;

use hatrack_api::HatBinding;
use hatrack_api::access::hat_role_name;
use hatrack_api::hat_binding::Phase;
use hatrack_testbed::{FaultProxy, Program, soon, timed, unique};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::{Duration, sleep};

use crate::cluster::{Bench, breakable, gone, held, phase_of};
use crate::machine::{Machine, gpu};
use crate::program::Setup;

/// Requests at once: enough that a leader is killed in the middle of them.
const MANY: usize = 30;

async fn leads(operator: &Program) {
    let asked = async {
        while operator.metric("hatrack_operator_leads").await < 1.0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    soon("a leader", asked).await;
}

/// Waits until so many of the actions of this operator were done.
async fn acted(operator: &Program, action: &str, times: f64) {
    let name = format!("hatrack_operator_actions_total{{action=\"{action}\",outcome=\"done\"}}");
    let asked = async {
        while operator.metric(&name).await < times {
            sleep(Duration::from_millis(5)).await;
        }
    };
    soon(action, asked).await;
}

async fn ask_many(bench: &Bench, hat: &str) -> Vec<HatBinding> {
    let mut bindings = Vec::new();
    for number in 0..MANY {
        bindings.push(bench.ask(hat, &format!("sa-{number}")).await);
    }
    bindings
}

#[tokio::test]
async fn a_leader_that_is_killed_in_the_middle_leaves_no_record_twice() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let hat = bench.hat(json!({})).await;
    let setup = cluster.operator();
    let first = setup.start(cluster.plane.folder());
    leads(&first).await;
    let second = setup.start(cluster.plane.folder());
    second.ready().await;
    assert!(second.metric("hatrack_operator_leads").await < 1.0, "one leads");
    let before = first.metric("hatrack_operator_actions_total{action=\"record\",outcome=\"done\"}").await;
    let (bindings, ()) = tokio::join!(ask_many(&bench, &hat), async {
        acted(&first, "record", before + 5.0).await;
        first.signal(Signal::SIGKILL);
    });
    timed("a leader was killed, all are Active", all_active(&bench, &bindings)).await;
    for binding in &bindings {
        assert_eq!(bench.reasons(binding).await, ["Admitted"]);
    }
    leads(&second).await;
    assert!(
        second.metric("hatrack_operator_actions_total{action=\"record\",outcome=\"done\"}").await > 0.0,
        "both recorded"
    );
}

#[tokio::test]
async fn a_leader_that_was_stopped_for_a_while_overwrites_nothing() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let hat = bench.hat(json!({})).await;
    let setup = cluster.operator();
    let first = setup.start(cluster.plane.folder());
    leads(&first).await;
    let second = setup.start(cluster.plane.folder());
    second.ready().await;
    let (bindings, ()) = tokio::join!(ask_many(&bench, &hat), async {
        acted(&first, "record", 5.0).await;
        first.signal(Signal::SIGSTOP);
    });
    timed("a leader was stopped, all are Active", all_active(&bench, &bindings)).await;
    leads(&second).await;
    let statuses = statuses(&bench, &bindings).await;
    first.signal(Signal::SIGCONT);
    first.says("this operator does not lead any more").await;
    first.says("another operator leads").await;
    assert_eq!(self::statuses(&bench, &bindings).await, statuses);
    for binding in &bindings {
        assert_eq!(bench.reasons(binding).await, ["Admitted"]);
    }
}

async fn all_active(bench: &Bench, bindings: &[HatBinding]) {
    for binding in bindings {
        bench.phase(binding, Phase::Active).await;
    }
}

async fn statuses(bench: &Bench, bindings: &[HatBinding]) -> Vec<(Option<Phase>, Option<i64>)> {
    let mut statuses = Vec::new();
    for binding in bindings {
        let status = bench.bindings().get(&binding.name_any()).await.unwrap().status;
        statuses.push((status.as_ref().map(|status| status.phase), status.map(|status| status.transitions)));
    }
    statuses
}

#[tokio::test]
async fn a_leader_that_is_asked_to_stop_hands_over_at_once() {
    let cluster = breakable().await;
    let setup = cluster.operator();
    let first = setup.start(cluster.plane.folder());
    leads(&first).await;
    assert!(first.stop().await.success());
    let lease = cluster.leader().await;
    assert_eq!(lease.spec.unwrap().holder_identity, None);
    let second = setup.start(cluster.plane.folder());
    leads(&second).await;
    let bench = Bench::in_cluster(&cluster).await;
    let binding = bench.ask(&bench.hat(json!({})).await, "ann").await;
    bench.phase(&binding, Phase::Active).await;
    bench.release(&binding).await;
    gone(&bench.bindings(), &binding.name_any()).await;
}

#[tokio::test]
async fn who_takes_over_decides_by_what_is_and_not_by_what_it_heard() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let hat = bench.hat(json!({"maxWearers": 1, "throttles": {"cooldownSeconds": 12}})).await;
    cluster.forget_leader().await;
    let first = cluster.operator().start(cluster.plane.folder());
    leads(&first).await;
    let proxy = FaultProxy::start(&cluster.plane, &cluster.identity()).unwrap();
    let second = Setup::new(&cluster.kubeconfig(proxy.url())).start(cluster.plane.folder());
    second.ready().await;
    let worn = bench.ask(&hat, "ann").await;
    bench.phase(&worn, Phase::Active).await;
    bench.release(&worn).await;
    gone(&bench.bindings(), &worn.name_any()).await;
    let waiting = bench.ask(&hat, "ann").await;
    let is_held = |binding: &HatBinding, rule: &str| held(binding).is_some_and(|(reason, _)| reason == rule);
    bench.until(&waiting, "held", |binding| is_held(binding, "Cooldown")).await;
    let known = async {
        while second.metric("hatrack_operator_held{reason=\"Cooldown\"}").await < 1.0 {
            sleep(Duration::from_millis(50)).await;
        }
    };
    soon("that the follower knows who waits", known).await;
    // From now on the follower hears nothing, as after a connection was lost without a trace; what it begins anew goes well.
    proxy.stale_watches();
    proxy.restore().unwrap();
    let unheard = bench.ask(&hat, "bob").await;
    bench.phase(&unheard, Phase::Active).await;
    assert!(first.stop().await.success());
    leads(&second).await;
    let decided = |binding: &HatBinding| phase_of(binding).is_worn() || is_held(binding, "MaxWearers");
    let waiting = bench.until(&waiting, "the end of the cooldown", decided).await;
    assert_eq!(phase_of(&waiting), Phase::Pending, "somebody else wears the hat");
    assert_eq!(bench.reasons(&waiting).await, [] as [String; 0]);
    assert_eq!(bench.reasons(&unheard).await, ["Admitted"]);
}

/// Devices for fewer than ask.
const DEVICES: usize = 12;

#[tokio::test]
async fn a_leader_that_is_cut_off_leaves_no_record_and_no_device_twice() {
    let cluster = breakable().await;
    let proxy = FaultProxy::start(&cluster.plane, &cluster.identity()).unwrap();
    for (fault, words) in [("cut", "is cut off"), ("stall", "is answered nothing")] {
        let bench = Bench::in_cluster(&cluster).await;
        let model = unique("model");
        let devices: Vec<_> = (0..DEVICES).map(|number| gpu(&format!("gpu-{number}"), &model, "24Gi")).collect();
        let machine = Machine::join(&bench.admin, json!(devices)).await;
        let wanted = json!([{"name": "gpu", "class": "gpu", "count": 1,
            "selectors": [format!("device.attributes.model == '{model}'")]}]);
        let hat = bench.hat(json!({"requirements": {"devices": wanted}})).await;
        cluster.forget_leader().await;
        let first = Setup::new(&cluster.kubeconfig(proxy.url())).start(cluster.plane.folder());
        leads(&first).await;
        let second = cluster.operator().start(cluster.plane.folder());
        second.ready().await;
        let before = first.metric("hatrack_operator_actions_total{action=\"record\",outcome=\"done\"}").await;
        let (bindings, ()) = tokio::join!(ask_many(&bench, &hat), async {
            acted(&first, "record", before + 3.0).await;
            // What was sent and not answered may have been done.
            if fault == "cut" { proxy.cut().await } else { proxy.stall() }
        });
        timed(&format!("a leader {words}, another leads"), leads(&second)).await;
        all_settled(&bench, &bindings).await;
        proxy.restore().unwrap();
        first.says("another operator leads").await;
        first.ready().await;
        is_given_once(&bench, &hat, &bindings, &machine.name).await;
    }
}

/// Waits until each is worn or held for want of a device.
async fn all_settled(bench: &Bench, bindings: &[HatBinding]) {
    let is_settled = |binding: &HatBinding| {
        phase_of(binding) == Phase::Active || held(binding).is_some_and(|(reason, _)| reason == "Unschedulable")
    };
    for binding in bindings {
        bench.until(binding, "worn or held", is_settled).await;
    }
}

/// Each device has one wearer, each transition one record, each wearer one role binding and nobody else any.
async fn is_given_once(bench: &Bench, hat: &str, bindings: &[HatBinding], node: &str) {
    let mut given = BTreeSet::new();
    let mut authorized = BTreeSet::new();
    for binding in bindings {
        let reasons = bench.reasons(binding).await;
        let status = bench.bindings().get(&binding.name_any()).await.unwrap().status.unwrap();
        if status.phase == Phase::Active {
            assert_eq!((reasons, status.node_name.as_deref()), (vec!["Admitted".to_owned()], Some(node)));
            assert!(status.devices.iter().all(|device| given.insert(device.clone())), "twice: {:?}", status.devices);
            authorized.insert(hat_role_name(hat, &binding.uid().unwrap()));
        } else {
            assert_eq!(reasons, [] as [String; 0]);
        }
    }
    assert_eq!(given.len(), DEVICES);
    let roles: Api<RoleBinding> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    let same = async {
        loop {
            let list = roles.list(&ListParams::default()).await.unwrap();
            if list.iter().map(ResourceExt::name_any).collect::<BTreeSet<_>>() == authorized {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    soon("a role binding for each wearer", same).await;
}

#[tokio::test]
async fn a_follower_that_is_killed_disturbs_nobody() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let hat = bench.hat(json!({})).await;
    cluster.forget_leader().await;
    let first = cluster.operator().start(cluster.plane.folder());
    leads(&first).await;
    let second = cluster.operator().start(cluster.plane.folder());
    second.ready().await;
    let leader = cluster.leader().await.spec.unwrap();
    let before = first.metric("hatrack_operator_actions_total{action=\"record\",outcome=\"done\"}").await;
    let (bindings, ()) = tokio::join!(ask_many(&bench, &hat), async {
        acted(&first, "record", before + 5.0).await;
        second.signal(Signal::SIGKILL);
    });
    timed("a follower was killed, all are Active", all_active(&bench, &bindings)).await;
    for binding in &bindings {
        assert_eq!(bench.reasons(binding).await, ["Admitted"]);
    }
    let still = cluster.leader().await.spec.unwrap();
    assert_eq!((still.holder_identity, still.lease_transitions), (leader.holder_identity, leader.lease_transitions));
    assert_eq!(first.count("this operator does not lead any more"), 0);
}
