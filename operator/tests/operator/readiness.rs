//! Whether a machine is Ready, and whose Lease it is that is renewed.

use hatrack_api::ClusterNode;
use hatrack_api::hat_binding::Phase;
use hatrack_testbed::unique;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cluster::Bench;
use crate::machine::{Machine, condition, gpu};
use crate::placement::{is_worn_on, needs};

#[tokio::test]
async fn a_machine_is_ready_while_it_renews_its_lease() {
    let (bench, operator) = Bench::shared().await;
    let machine = Machine::join(&bench.admin, json!([])).await;
    let ready = machine.readiness("True", "LeaseRenewed").await;
    assert!(operator.metric("hatrack_operator_nodes{ready=\"true\"}").await >= 1.0);
    machine.connect(false);
    let silent = machine.readiness("Unknown", "LeaseSilent").await;
    assert!(silent.message.contains("is the machine up"), "{}", silent.message);
    assert!(silent.last_transition_time >= ready.last_transition_time);
    machine.connect(true);
    machine.readiness("True", "LeaseRenewed").await;
}

#[tokio::test]
async fn another_machine_of_the_same_name_is_a_conflict() {
    let (bench, _) = Bench::shared().await;
    let model = unique("model");
    let machine = Machine::join(&bench.admin, json!([gpu("gpu-0", &model, "24Gi")])).await;
    machine.readiness("True", "LeaseRenewed").await;
    let worn = bench.ask(&bench.hat(needs(&model, "24Gi")).await, "ann").await;
    bench.phase(&worn, Phase::Active).await;
    let other = Machine::join(&bench.admin, json!([gpu("gpu-0", &model, "24Gi")])).await;
    let pin = |id: &str| Patch::Merge(json!({"spec": {"hardwareID": id}}));
    // As a person lets another machine take the name, while the old one still renews the Lease.
    for id in ["", "another"] {
        machine.nodes().patch(&machine.name, &PatchParams::default(), &pin(id)).await.unwrap();
    }
    let conflict = |node: &ClusterNode| condition(node, "IdentityConflict").is_some_and(|found| found.status == "True");
    let node = machine.until("a conflict", conflict).await;
    let message = condition(&node, "IdentityConflict").unwrap().message;
    assert!(message.contains(&format!("hw-{}", machine.name)) && message.contains("another"), "{message}");
    machine.readiness("Unknown", "LeaseSilent").await;
    // The renewals of the old machine are none: its hat moves, and nobody waits for that.
    bench.until(&worn, "moved", |binding| is_worn_on(binding, &other.name)).await;
    assert_eq!(bench.reasons(&worn).await, ["Admitted", "NodeLost", "Moved"]);
    machine.readiness("Unknown", "Fenced").await;
    let unrelated = bench.ask(&bench.hat(json!({})).await, "bob").await;
    bench.phase(&unrelated, Phase::Active).await;
    for id in ["", &format!("hw-{}", machine.name)] {
        machine.nodes().patch(&machine.name, &PatchParams::default(), &pin(id)).await.unwrap();
    }
    machine.until("no conflict", |node| condition(node, "IdentityConflict").is_none()).await;
    machine.readiness("True", "LeaseRenewed").await;
}
