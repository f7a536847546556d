//! A node writes its own ClusterNode and Lease, of them only what is a node's to say, and nothing else.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hatrack_admission_tests::{Node, Outcome, installed};
use hatrack_api::SYSTEM_NAMESPACE;
use hatrack_testbed::unique;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde_json::json;

#[tokio::test]
async fn a_node_with_its_access_does_all_that_an_agent_does() {
    let node = Node::with_its_access(&installed().await).await;
    node.apply(&node.name, json!({"metadata": {"labels": {"society.zeta.io/class": "worker"}}, "spec": {"class": "worker", "expects": {"gpus": 1}}}))
        .await
        .is_allowed();
    node.apply(&node.name, json!({"metadata": {"labels": {"society.zeta.io/class": "worker"}}, "spec": {"class": "worker", "expects": {"gpus": 1}, "hardwareID": "a-1"}}))
        .await
        .is_allowed();
    let condition = json!({"type": "DevicesHealthy", "status": "True", "reason": "AllReady", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    node.apply_status(&node.name, json!({"summary": {"gpus": "0/0"}, "conditions": [condition], "devices": []}))
        .await
        .is_allowed();
    Outcome::of(node.nodes().get(&node.name).await).is_allowed();
    let own = ListParams::default().fields(&format!("metadata.name={}", node.name));
    Outcome::of(node.nodes().list(&own).await).is_allowed();
    node.apply_lease(SYSTEM_NAMESPACE, &node.name, json!({"leaseDurationSeconds": 40})).await.is_allowed();
    let leases = node.leases(SYSTEM_NAMESPACE);
    let lease = leases.get(&node.name).await.unwrap();
    Outcome::of(leases.replace(&node.name, &PostParams::default(), &lease).await).is_allowed();
}

#[tokio::test]
async fn a_node_with_its_access_reaches_nothing_else() {
    let plane = installed().await;
    let (node, other) = (Node::with_its_access(&plane).await, Node::with_its_access(&plane).await);
    other.register().await;
    let cannot = |verb: &str, what: &str| format!("cannot {verb} resource \"{what}\"");
    node.apply(&other.name, json!({"spec": {"class": "worker"}})).await.is_forbidden(&cannot("patch", "clusternodes"));
    node.apply_status(&other.name, json!({})).await.is_forbidden(&cannot("patch", "clusternodes/status"));
    node.apply_lease(SYSTEM_NAMESPACE, &other.name, json!({})).await.is_forbidden(&cannot("patch", "leases"));
    Outcome::of(node.nodes().get(&other.name).await).is_forbidden(&cannot("get", "clusternodes"));
    Outcome::of(node.nodes().list(&ListParams::default()).await).is_forbidden(&cannot("list", "clusternodes"));
    let delete = node.nodes().delete(&node.name, &DeleteParams::default()).await;
    Outcome::of(delete).is_forbidden(&cannot("delete", "clusternodes"));
}

#[tokio::test]
async fn a_node_writes_no_object_of_another() {
    let plane = installed().await;
    let (node, other) = (Node::with_wide_access(&plane).await, Node::with_wide_access(&plane).await);
    let foreign = format!("the node {} may not write the ClusterNode {}", node.name, other.name);
    node.apply(&other.name, json!({"spec": {"class": "worker"}})).await.is_forbidden(&foreign);
    other.register().await;
    node.apply(&other.name, json!({"spec": {"class": "gpu-worker", "hardwareID": "4c4c4544-0042"}}))
        .await
        .is_forbidden(&foreign);
    node.apply_status(&other.name, json!({"summary": {"gpus": "9/9"}})).await.is_forbidden(&foreign);
    let generated =
        serde_json::from_value(json!({"metadata": {"generateName": node.name}, "spec": {"class": "worker"}})).unwrap();
    let created = node.nodes().create(&PostParams::default(), &generated).await;
    Outcome::of(created).is_forbidden(&format!("the node {} may not write the ClusterNode {}", node.name, node.name));
    node.apply_lease(SYSTEM_NAMESPACE, &other.name, json!({}))
        .await
        .is_forbidden(&format!("the node {} may not write the Lease {}", node.name, other.name));
}

#[tokio::test]
async fn a_node_deletes_nothing() {
    let node = Node::with_wide_access(&installed().await).await;
    node.register().await;
    let delete = node.nodes().delete(&node.name, &DeleteParams::default()).await;
    Outcome::of(delete).is_forbidden("a node may not delete a ClusterNode");
    let own = ListParams::default().fields(&format!("metadata.name={}", node.name));
    let deleted = node.nodes().delete_collection(&DeleteParams::default(), &own).await;
    Outcome::of(deleted).is_forbidden("a node may not delete a ClusterNode");
    let lease = node.leases(SYSTEM_NAMESPACE).delete(&node.name, &DeleteParams::default()).await;
    Outcome::of(lease).is_forbidden("a node may not delete a Lease");
}

#[tokio::test]
async fn spec_is_a_persons() {
    let node = Node::with_wide_access(&installed().await).await;
    node.register().await;
    node.as_admin(json!({"spec": {"unschedulable": true, "expects": {"gpus": 8}}})).await;
    let spec = "a node may not change spec";
    for change in [
        json!({"class": "worker"}),
        json!({"profile": "edge"}),
        json!({"unschedulable": false}),
        json!({"unschedulable": null}),
        json!({"revoked": true}),
        json!({"expects": {"gpus": 1}}),
        json!({"expects": {"phones": 1}}),
        json!({"expects": null}),
    ] {
        println!("{change}");
        node.merge(json!({"spec": change})).await.is_forbidden(spec);
    }
    node.merge(json!({"spec": {"class": "gpu-worker"}})).await.is_allowed();
}

#[tokio::test]
async fn a_new_object_brings_nothing_that_is_a_persons() {
    let node = Node::with_wide_access(&installed().await).await;
    for spec in [json!({"class": "worker", "unschedulable": false}), json!({"class": "worker", "revoked": false})] {
        node.apply(&node.name, json!({"spec": spec})).await.is_forbidden("those are a person's");
    }
    for metadata in [
        json!({"labels": {"society.zeta.io/class": "gpu-worker"}}),
        json!({"labels": {"team": "a"}}),
        json!({"annotations": {"a": "b"}}),
        json!({"finalizers": ["a.b/c"]}),
        json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]}),
    ] {
        println!("{metadata}");
        let fields = json!({"metadata": metadata, "spec": {"class": "worker"}});
        node.apply(&node.name, fields).await.is_forbidden("no other metadata");
    }
}

#[tokio::test]
async fn the_hardware_id_is_pinned_once() {
    let node = Node::with_wide_access(&installed().await).await;
    node.apply(&node.name, json!({"spec": {"class": "worker"}})).await.is_allowed();
    node.merge(json!({"spec": {"hardwareID": "a-1"}})).await.is_allowed();
    node.merge(json!({"spec": {"hardwareID": "a-2"}})).await.is_refused(422, "spec.hardwareID is pinned");
    node.merge(json!({"spec": {"hardwareID": ""}})).await.is_forbidden("may not change or clear it");
    node.merge(json!({"spec": {"hardwareID": null}})).await.is_forbidden("may not change or clear it");
    node.as_admin(json!({"spec": {"hardwareID": null}})).await;
    node.merge(json!({"spec": {"hardwareID": "a-2"}})).await.is_allowed();
}

#[tokio::test]
async fn metadata_of_an_object_is_a_persons() {
    let node = Node::with_wide_access(&installed().await).await;
    node.register().await;
    for metadata in [
        json!({"labels": {"society.zeta.io/class": "control-plane"}}),
        json!({"annotations": {"a": "b"}}),
        json!({"finalizers": ["a.b/c"]}),
        json!({"ownerReferences": [{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]}),
    ] {
        println!("{metadata}");
        node.merge(json!({"metadata": metadata})).await.is_forbidden("labels, annotations, finalizers or owners");
    }
}

#[tokio::test]
async fn hats_and_readiness_are_the_operators() {
    let node = Node::with_wide_access(&installed().await).await;
    node.register().await;
    let hat =
        json!({"binding": "u-1", "name": "executor", "wearer": "spiffe://cluster.local/ns/a/sa/b", "phase": "Active"});
    let condition = |kind: &str, status: &str| json!({"type": kind, "status": status, "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    node.merge_status(json!({"hats": [hat]})).await.is_forbidden("may not give or drop itself a hat");
    node.merge_status(json!({"summary": {"hats": "executor"}})).await.is_forbidden("may not write status.summary.hats");
    for kind in ["Ready", "IdentityConflict"] {
        let status = json!({"conditions": [condition(kind, "True")]});
        node.merge_status(status).await.is_forbidden("may not write the conditions Ready and IdentityConflict");
    }
    node.status_as_operator(json!({"hats": [hat], "conditions": [condition("Ready", "False")]})).await;
    node.merge_status(json!({"hats": []})).await.is_forbidden("may not give or drop itself a hat");
    node.merge_status(json!({"hats": null})).await.is_forbidden("may not give or drop itself a hat");
    for conditions in [json!([]), json!([condition("Ready", "True")]), json!([condition("AsExpected", "True")])] {
        let status = json!({"conditions": conditions});
        node.merge_status(status).await.is_forbidden("may not write the conditions Ready and IdentityConflict");
    }
    let own = json!({"conditions": [condition("Ready", "False"), condition("AsExpected", "True")]});
    node.merge_status(own).await.is_allowed();
}

#[tokio::test]
async fn a_lease_is_renewed_where_it_belongs_and_keeps_its_transitions() {
    let node = Node::with_wide_access(&installed().await).await;
    node.apply_lease(SYSTEM_NAMESPACE, &node.name, json!({"leaseTransitions": 1}))
        .await
        .is_forbidden("begins with no transitions");
    node.apply_lease(SYSTEM_NAMESPACE, &node.name, json!({"leaseDurationSeconds": 40})).await.is_allowed();
    node.apply_lease(SYSTEM_NAMESPACE, &node.name, json!({"leaseTransitions": 1}))
        .await
        .is_forbidden("may not change spec.leaseTransitions");
    node.apply_lease("kube-node-lease", &node.name, json!({})).await.is_forbidden("only in society-system");
}

#[tokio::test]
async fn a_kubelet_keeps_its_own_lease_and_writes_no_cluster_node() {
    let plane = installed().await;
    let node = Node::with_wide_access(&plane).await;
    let user = format!("system:node:{}", node.name);
    node.grant_widely(&user).await;
    let certificate = plane.client_certificate(&user, &["system:nodes"], std::time::Duration::from_hours(1)).unwrap();
    let kubelet = Node { client: plane.client_for(&certificate).await.unwrap(), ..node };
    kubelet.apply_lease("kube-node-lease", &kubelet.name, json!({"leaseTransitions": 3})).await.is_allowed();
    kubelet.apply(&kubelet.name, json!({"spec": {"class": "worker"}})).await.is_forbidden("not that of a kubelet");
}

#[tokio::test]
async fn the_group_alone_is_no_way_around_the_policy() {
    let plane = installed().await;
    let node = Node::with_wide_access(&plane).await;
    let user = unique("somebody");
    node.grant_widely(&user).await;
    let certificate = plane.client_certificate(&user, &["society:nodes"], std::time::Duration::from_hours(1)).unwrap();
    let other = Node { name: user, client: plane.client_for(&certificate).await.unwrap(), ..node };
    other
        .apply(&other.name, json!({"spec": {"class": "worker"}}))
        .await
        .is_forbidden("only the identity society:node:<name>");
    other.apply_lease(SYSTEM_NAMESPACE, &other.name, json!({})).await.is_forbidden("may not write the Lease");
}
