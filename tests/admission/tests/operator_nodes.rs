//! What the operator may do to Kubernetes' Nodes: label them with hats, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hatrack_admission_tests::caller::Caller;
use hatrack_admission_tests::installed;
use hatrack_testbed::unique;
use serde_json::{Value, json};

const HAT: &str = "hat.node-restriction.kubernetes.io/executor";

fn node(fields: &Value) -> Value {
    let mut node =
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": unique("worker"), "labels": {"rack": "1"}}});
    node["metadata"].as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    node
}

fn labels(labels: &Value) -> Value {
    json!({"metadata": {"labels": labels}})
}

#[tokio::test]
async fn the_operator_labels_a_node_with_hats_and_changes_nothing_else() {
    let plane = installed().await;
    let administrator = Caller::administrator(&plane).await;
    for operator in [Caller::operator(&plane).await, Caller::operator_in_a_pod(&plane).await] {
        operator.may_write_nodes().await;
        let worker = node(&json!({"annotations": {"a": "1"}}));
        administrator.create(&worker).await.is_allowed();
        operator.merge(&worker, labels(&json!({HAT: "Active"}))).await.is_allowed();
        operator.merge(&worker, labels(&json!({HAT: null}))).await.is_allowed();
        let others = "the operator may change the labels hat.node-restriction.kubernetes.io/* of a Node, and no others";
        for change in
            [json!({"rack": "2"}), json!({"rack": null}), json!({"node-role.kubernetes.io/control-plane": ""})]
        {
            operator.merge(&worker, labels(&change)).await.is_forbidden(others);
        }
        for change in [
            json!({"spec": {"unschedulable": true}}),
            json!({"spec": {"taints": [{"key": "a", "effect": "NoExecute"}]}}),
            json!({"metadata": {"annotations": {"a": "2"}}}),
            json!({"metadata": {"finalizers": ["example.org/hold"]}}),
        ] {
            let nothing_else = "the operator may change the labels of hats on a Node, and nothing else";
            operator.merge(&worker, change).await.is_forbidden(nothing_else);
        }
        let neither = "the operator may label a Node, and neither make nor delete one nor write its status";
        operator.merge_status(&worker, json!({"phase": "Running"})).await.is_forbidden(neither);
        operator.delete(&worker).await.is_forbidden(neither);
        operator.create(&node(&json!({}))).await.is_forbidden(neither);
        administrator.merge(&worker, labels(&json!({"rack": "2", HAT: "x"}))).await.is_allowed();
    }
}
