//! Hats that need a machine: placed, stopped in two steps, moved when the machine is lost.

use hatrack_api::HatBinding;
use hatrack_api::hat_binding::Phase;
use hatrack_testbed::{timed, unique};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::cluster::{Bench, held, phase_of};
use crate::machine::{Machine, assigned, gpu};
use crate::refusal::Refusal;

/// A hat that needs one GPU of this model, with so much memory.
pub fn needs(model: &str, memory: &str) -> Value {
    let selectors = [
        format!("device.attributes.model == '{model}'"),
        format!("device.capacity.memory.compareTo(quantity('{memory}')) >= 0"),
    ];
    json!({"requirements": {"devices": [{"name": "gpu", "class": "gpu", "count": 1, "selectors": selectors}]}})
}

/// Whether a binding is Active on this node.
pub fn is_worn_on(binding: &HatBinding, node: &str) -> bool {
    phase_of(binding) == Phase::Active && binding.status.as_ref().unwrap().node_name.as_deref() == Some(node)
}

#[tokio::test]
async fn a_hat_goes_to_the_machine_that_can_wear_it_and_to_the_next_once_it_has_stopped() {
    let (bench, _) = Bench::shared().await;
    let model = unique("model");
    let small = Machine::join(&bench.admin, json!([gpu("gpu-0", &model, "16Gi")])).await;
    let large = Machine::join(&bench.admin, json!([gpu("gpu-0", &model, "80Gi")])).await;
    let hat = bench.hat(needs(&model, "24Gi")).await;
    let first = bench.ask(&hat, "ann").await;
    let active = bench.phase(&first, Phase::Active).await.status.unwrap();
    assert_eq!(
        (active.node_name.as_deref(), active.devices.as_slice()),
        (Some(&*large.name), &["gpu-0".to_owned()][..])
    );
    let node = large.until("the hat in its list", |node| !assigned(node).is_empty()).await.status.unwrap();
    assert_eq!(node.summary.unwrap().hats, Some(hat.clone()));
    assert_eq!(node.hats.unwrap()[0].grace_seconds, Some(5));
    let second = bench.ask(&hat, "bob").await;
    let waiting = bench.until(&second, "held", |binding| held(binding).is_some()).await;
    let (reason, message) = held(&waiting).unwrap();
    assert_eq!(reason, "Unschedulable");
    assert!(message.starts_with("0/") && message.contains("16Gi of memory (needs 24Gi)"), "{message}");
    bench.release(&first).await;
    bench.phase(&second, Phase::Active).await;
    let node = large.until("one hat", |node| assigned(node).len() == 1).await;
    assert_eq!(assigned(&node), [second.uid().unwrap()]);
    assert_eq!(bench.reasons(&second).await, ["Admitted"]);
    assert!(assigned(&small.nodes().get(&small.name).await.unwrap()).is_empty());
}

#[tokio::test]
async fn the_hats_of_a_lost_machine_move_once_it_is_fenced() {
    let (bench, _) = Bench::shared().await;
    let model = unique("model");
    let one = Machine::join(&bench.admin, json!([gpu("gpu-0", &model, "24Gi")])).await;
    let hat = bench.hat(needs(&model, "24Gi")).await;
    let binding = bench.ask(&hat, "ann").await;
    bench.phase(&binding, Phase::Active).await;
    let other = Machine::join(&bench.admin, json!([gpu("gpu-0", &model, "24Gi")])).await;
    other.readiness("True", "LeaseRenewed").await;
    one.connect(false);
    one.readiness("Unknown", "LeaseSilent").await;
    bench.until(&binding, "moved", |binding| is_worn_on(binding, &other.name)).await;
    assert_eq!(bench.reasons(&binding).await, ["Admitted", "NodeLost", "Moved"]);
    one.readiness("Unknown", "Fenced").await;
    let lease = one.leases().get(&one.name).await.unwrap();
    assert_eq!(lease.spec.unwrap().lease_transitions, Some(1));
    assert!(assigned(&one.nodes().get(&one.name).await.unwrap()).is_empty());
    one.connect(true);
    one.readiness("True", "LeaseRenewed").await;
}

#[tokio::test]
async fn a_hat_whose_device_is_lost_goes_on_with_another() {
    let (bench, _) = Bench::shared().await;
    let model = unique("model");
    let machine =
        Machine::join(&bench.admin, json!([gpu("gpu-0", &model, "24Gi"), gpu("gpu-1", &model, "24Gi")])).await;
    let hat = bench.hat(needs(&model, "24Gi")).await;
    let binding = bench.ask(&hat, "ann").await;
    let active = bench.phase(&binding, Phase::Active).await.status.unwrap();
    let left = if active.devices == ["gpu-0"] { "gpu-1" } else { "gpu-0" };
    machine.has(json!([gpu(left, &model, "24Gi")])).await;
    let moved =
        |binding: &HatBinding| phase_of(binding) == Phase::Active && binding.status.as_ref().unwrap().devices == [left];
    bench.until(&binding, "moved", moved).await;
    assert_eq!(bench.reasons(&binding).await, ["Admitted", "DeviceLost", "Moved"]);
}

/// Lets the operator write nothing of one node, as somebody's policy might.
async fn guard(bench: &Bench, machine: &Machine) -> Refusal {
    let matching = json!({
        "matchConstraints": {"resourceRules": [{"apiGroups": ["society.zeta.io"], "apiVersions": ["v1alpha1"],
            "resources": ["clusternodes/status"], "resourceNames": [machine.name], "operations": ["UPDATE"]}]},
        "matchConditions": [{"name": "operator", "expression": "request.userInfo.username == 'society:operator'"}],
    });
    let nodes: Api<hatrack_api::ClusterNode> = Api::all(bench.forger.clone());
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    let nothing = Patch::Merge(json!({"status": {"storage": []}}));
    let attempt = async || nodes.patch_status(&machine.name, &dry_run, &nothing).await;
    Refusal::begins(&bench.admin, ("Forbidden", "hands off"), matching, attempt).await
}

#[tokio::test]
async fn a_node_of_which_nothing_may_be_written_takes_nothing_more_and_stands_in_nobodys_way() {
    let (bench, operator) = Bench::shared().await;
    let (model, others) = (unique("model"), unique("model"));
    let guarded =
        Machine::join(&bench.admin, json!([gpu("gpu-0", &model, "24Gi"), gpu("gpu-1", &model, "24Gi")])).await;
    let other = Machine::join(&bench.admin, json!([gpu("gpu-0", &others, "24Gi")])).await;
    guarded.readiness("True", "LeaseRenewed").await;
    let refusal = guard(&bench, &guarded).await;
    let hat = bench.hat(needs(&model, "24Gi")).await;
    // Nobody knows yet that the machine cannot be told.
    let first = bench.ask(&hat, "ann").await;
    bench.phase(&first, Phase::Active).await;
    let line = operator.says(&format!(r#"Node(\"{}\")"#, guarded.name)).await;
    assert!(line["error"].as_str().unwrap().contains("hands off"), "{line}");
    let second = bench.ask(&hat, "bob").await;
    let says = |binding: &HatBinding| held(binding).is_some_and(|(_, said)| said.contains("is set aside"));
    let waiting = bench.until(&second, "held", says).await;
    let (reason, message) = held(&waiting).unwrap();
    assert_eq!(reason, "Unschedulable");
    assert!(message.contains("1 is set aside (the API server refuses what is to be written of it)"), "{message}");
    let third = bench.ask(&bench.hat(needs(&others, "24Gi")).await, "cem").await;
    bench.phase(&third, Phase::Active).await;
    let uid = third.uid().unwrap();
    other.until("the hat in its list", |node| assigned(node) == [uid.clone()]).await;
    assert_eq!(
        phase_of(&bench.bindings().get(&first.name_any()).await.unwrap()),
        Phase::Active,
        "it keeps what it has"
    );
    assert!(assigned(&guarded.nodes().get(&guarded.name).await.unwrap()).is_empty());
    refusal.ends().await;
    timed("a node may be written again, what it held is Active", bench.phase(&second, Phase::Active)).await;
    guarded.until("both hats in its list", |node| assigned(node).len() == 2).await;
    assert_eq!(bench.reasons(&first).await, ["Admitted"]);
}
