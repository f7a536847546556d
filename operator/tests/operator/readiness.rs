//! Whether a machine is Ready, and whose Lease it is that is renewed.

use hatrack_api::ClusterNode;
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::cluster::Bench;
use crate::machine::{Machine, condition};

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
    let machine = Machine::join(&bench.admin, json!([])).await;
    machine.readiness("True", "LeaseRenewed").await;
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
    for id in ["", &format!("hw-{}", machine.name)] {
        machine.nodes().patch(&machine.name, &PatchParams::default(), &pin(id)).await.unwrap();
    }
    machine.until("no conflict", |node| condition(node, "IdentityConflict").is_none()).await;
    machine.readiness("True", "LeaseRenewed").await;
}
