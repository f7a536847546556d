//! What the schema of a ClusterNode accepts and refuses, and what `kubectl get` shows of one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::needless_pass_by_value, reason = "a literal object reads better without a reference")]

use hatrack_admission_tests::{Node, installed, table_row};
use hatrack_testbed::unique;
use serde_json::{Value, json};

fn device(changes: Value) -> Value {
    let mut device = json!({"name": "gpu-1", "class": "gpu", "health": {"state": "Ready", "reason": "NvmlReport"}});
    device.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    device
}

#[tokio::test]
async fn a_name_that_fits_no_certificate_is_refused() {
    let node = Node::with_wide_access(&installed().await).await;
    let as_admin = Node { client: node.admin.clone(), ..node };
    let long = format!("{}-{}", unique("n"), "x".repeat(60))[..52].to_owned();
    for name in [long.as_str(), &format!("{}.b", unique("a"))] {
        let outcome = as_admin.apply(name, json!({"spec": {"class": "worker"}})).await;
        outcome.is_refused(422, "the name must be a DNS label of at most 51 characters");
    }
    as_admin.apply(&long[..51], json!({"spec": {"class": "worker"}})).await.is_allowed();
}

#[tokio::test]
async fn the_class_stays_while_hats_are_worn() {
    let node = Node::with_wide_access(&installed().await).await;
    node.register().await;
    let as_admin = Node { client: node.admin.clone(), ..node.clone() };
    let hat =
        json!({"binding": "u-1", "name": "executor", "wearer": "spiffe://cluster.local/ns/a/sa/b", "phase": "Active"});
    node.status_as_operator(json!({"hats": [hat]})).await;
    as_admin.merge(json!({"spec": {"class": "worker"}})).await.is_refused(422, "cannot change while hats are worn");
    node.status_as_operator(json!({"hats": []})).await;
    as_admin.merge(json!({"spec": {"class": "worker"}})).await.is_allowed();
}

#[tokio::test]
async fn the_schema_refuses_what_no_agent_may_write() {
    let node = Node::with_wide_access(&installed().await).await;
    node.register().await;
    let cases = [
        ("class", json!({"devices": [device(json!({"class": "toaster"}))]}), "Unsupported value: \"toaster\""),
        ("name", json!({"devices": [device(json!({"name": "GPU_1"}))]}), "should match"),
        (
            "state",
            json!({"devices": [device(json!({"health": {"state": "Fine", "reason": "R"}}))]}),
            "Unsupported value: \"Fine\"",
        ),
        (
            "reason",
            json!({"devices": [device(json!({"health": {"state": "Ready", "reason": "no word"}}))]}),
            "should match",
        ),
        ("node", json!({"devices": [device(json!({"nodes": ["/etc/shadow"]}))]}), "should match"),
        (
            "two kinds",
            json!({"devices": [device(json!({"attributes": {"a": {"int": 1, "bool": true}}}))]}),
            "attributes",
        ),
        ("no kind", json!({"devices": [device(json!({"attributes": {"a": {}}}))]}), "attributes"),
        (
            "long text",
            json!({"devices": [device(json!({"attributes": {"a": {"string": "x".repeat(65)}}}))]}),
            "Too long",
        ),
        ("summary", json!({"summary": {"gpus": "many"}}), "should match"),
    ];
    for (what, status, reason) in cases {
        println!("{what}");
        node.merge_status(status).await.is_refused(422, reason);
    }
    let whole = device(
        json!({"attributes": {"resource.kubernetes.io/pciBusID": {"string": "0000:3b:00.0"}, "numaNode": {"int": 0}},
        "capacity": {"memory": {"value": "80Gi"}}, "nodes": ["/dev/nvidia0"]}),
    );
    node.merge_status(json!({"devices": [whole], "summary": {"gpus": "1/1"}})).await.is_allowed();
}

#[tokio::test]
async fn an_unknown_class_is_refused() {
    let node = Node::with_wide_access(&installed().await).await;
    node.apply(&node.name, json!({"spec": {"class": "mainframe"}}))
        .await
        .is_refused(422, "Unsupported value: \"mainframe\"");
    node.apply(&node.name, json!({"spec": {}})).await.is_refused(422, "spec.class: Required value");
}

#[tokio::test]
async fn kubectl_get_shows_what_one_wants_to_know() {
    let node = Node::with_wide_access(&installed().await).await;
    node.register().await;
    let ready = json!({"type": "Ready", "status": "True", "reason": "LeaseRenewed", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    let summary = json!({"gpus": "7/8", "phones": "0/0", "accelerators": "1/1", "hats": "executor, observer"});
    node.status_as_operator(json!({"conditions": [ready], "summary": summary})).await;
    let row = table_row(&node.admin, &format!("/apis/society.zeta.io/v1alpha1/clusternodes/{}", node.name)).await;
    let (age, row) = row.split_last().unwrap();
    let shown: Vec<_> = row.iter().map(|(column, cell)| format!("{column}={cell}")).collect();
    let name = format!("Name={}", node.name);
    let is_age = age.1.ends_with('s') && age.1.trim_end_matches('s').parse::<u32>().is_ok();
    assert!(age.0 == "Age" && is_age, "{age:?}");
    assert_eq!(
        shown,
        [
            &name,
            "Class=gpu-worker",
            "Ready=True",
            "GPUs=7/8",
            "Phones=0/0",
            "Accelerators=1/1",
            "Hats=executor, observer"
        ]
    );
}
