//! Two operators: one leads, and whatever becomes of it, each transition has one record.

use hatrack_api::HatBinding;
use hatrack_api::hat_binding::Phase;
use hatrack_testbed::{Program, soon};
use kube::ResourceExt;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::{Duration, sleep};

use crate::cluster::{Bench, breakable, gone};

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
    for binding in &bindings {
        bench.phase(binding, Phase::Active).await;
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
    for binding in &bindings {
        bench.phase(binding, Phase::Active).await;
    }
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
