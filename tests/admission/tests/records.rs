//! What only the operator writes: records, statuses, and its part of a node's status.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hatrack_admission_tests::caller::{Caller, binding};
use hatrack_admission_tests::{Outcome, eventually, installed};
use hatrack_api::{HatSwap, SYSTEM_NAMESPACE};
use hatrack_testbed::unique;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

fn record() -> Value {
    json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "HatSwap",
        "metadata": {"name": unique("record"), "namespace": SYSTEM_NAMESPACE},
        "spec": {"hat": "observer", "wearer": {"spiffeID": "spiffe://cluster.local/people/ann"}, "event": "SwapOn",
            "occurredAt": "2026-01-01T00:00:00Z"}})
}

#[tokio::test]
async fn records_are_the_operators() {
    let plane = installed().await;
    let others = [
        Caller::person(&plane).await,
        Caller::account(&plane).await,
        Caller::administrator(&plane).await,
        // It empties namespaces that go, and this one stays.
        Caller::namespace_controller(&plane).await,
    ];
    for operator in [Caller::operator(&plane).await, Caller::operator_in_a_pod(&plane).await] {
        let record = record();
        for other in &others {
            let refused = format!("{} may not write a HatSwap", other.user);
            other.create(&record).await.is_forbidden(&refused);
        }
        operator.create(&record).await.is_allowed();
        for other in &others {
            let refused = format!("{} may not write a HatSwap", other.user);
            other.merge(&record, json!({"metadata": {"labels": {"a": "b"}}})).await.is_forbidden(&refused);
            other.delete(&record).await.is_forbidden(&refused);
            let swaps: Api<HatSwap> = Api::namespaced(other.client.clone(), SYSTEM_NAMESPACE);
            let own = ListParams::default()
                .fields(&format!("metadata.name={}", record["metadata"]["name"].as_str().unwrap()));
            Outcome::of(swaps.delete_collection(&DeleteParams::default(), &own).await).is_forbidden(&refused);
        }
        operator
            .merge(&record, json!({"metadata": {"labels": {"society.zeta.io/hat": "observer"}}}))
            .await
            .is_allowed();
        operator.merge(&record, json!({"spec": {"event": "SwapOff"}})).await.is_refused(422, "a HatSwap is immutable");
        operator.delete(&record).await.is_allowed();
    }
}

#[tokio::test]
async fn a_record_has_no_owner_and_no_other_home() {
    let plane = installed().await;
    let operator = Caller::operator(&plane).await;
    let mut owned = record();
    owned["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "society.zeta.io/v1alpha1", "kind": "HatBinding", "name": "b", "uid": "u"}]);
    let refused = "a HatSwap lives in society-system and has no owner";
    operator.create(&owned).await.is_refused(422, refused);
    let mut elsewhere = record();
    elsewhere["metadata"]["namespace"] = json!("default");
    operator.create(&elsewhere).await.is_refused(422, refused);
    let kept = record();
    operator.create(&kept).await.is_allowed();
    let change = json!({"metadata": {"ownerReferences": owned["metadata"]["ownerReferences"]}});
    operator.merge(&kept, change).await.is_refused(422, refused);
}

#[tokio::test]
async fn a_namespace_with_bindings_can_still_go() {
    let plane = installed().await;
    let (admin, name) = (plane.admin().await.unwrap(), unique("team"));
    let namespaces: Api<Namespace> = Api::all(admin.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let caller = Caller::administrator(&plane).await;
    let mut asked = binding("observer", "spiffe://cluster.local/people/ann");
    asked["metadata"]["namespace"] = json!(name);
    caller.create(&asked).await.is_allowed();
    namespaces.delete(&name, &DeleteParams::default()).await.unwrap();
    eventually("the namespace has gone", async || namespaces.get_opt(&name).await.unwrap().is_none().then_some(()))
        .await;
}

#[tokio::test]
async fn statuses_are_the_operators() {
    let plane = installed().await;
    let (person, account) = (Caller::person(&plane).await, Caller::account(&plane).await);
    let hat = json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "Hat", "metadata": {"name": unique("hat")},
        "spec": {"authority": {"rules": []}}});
    person.create(&hat).await.is_allowed();
    let asked = binding(hat["metadata"]["name"].as_str().unwrap(), &account.spiffe_id);
    Caller::administrator(&plane).await.create(&asked).await.is_allowed();
    let policy =
        json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "HatPolicy", "metadata": {"name": "default"}});
    for (object, kind, status) in [
        (&hat, "hats", json!({"reputation": 100})),
        (&asked, "hatbindings", json!({"phase": "Active", "transitions": 1})),
        (&policy, "hatpolicies", json!({"activeHats": 0})),
    ] {
        for other in [&person, &account, &Caller::administrator(&plane).await] {
            let refused = format!("{} may not write the status of {kind}", other.user);
            other.merge_status(object, status.clone()).await.is_forbidden(&refused);
        }
        for operator in [Caller::operator(&plane).await, Caller::operator_in_a_pod(&plane).await] {
            operator.merge_status(object, status.clone()).await.is_allowed();
        }
    }
    person.merge(&asked, json!({"status": {"phase": "Released"}})).await.is_allowed();
    let stored: hatrack_api::HatBinding =
        Api::default_namespaced(person.client.clone()).get(asked["metadata"]["name"].as_str().unwrap()).await.unwrap();
    assert_eq!(stored.status.unwrap().phase.as_str(), "Active", "a write of the main resource leaves the status alone");
}

#[tokio::test]
async fn hats_and_readiness_of_a_node_are_not_a_persons() {
    let plane = installed().await;
    let (person, operator) = (Caller::person(&plane).await, Caller::operator(&plane).await);
    let node = json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "ClusterNode", "metadata": {"name": unique("node")},
        "spec": {"class": "worker"}});
    person.create(&node).await.is_allowed();
    let hats = json!({"hats": [{"binding": "u-1", "name": "executor", "wearer": "spiffe://cluster.local/people/ann", "phase": "Active"}]});
    let condition = |kind: &str| json!({"conditions": [{"type": kind, "status": "True", "reason": "R", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}]});
    for (status, refused) in [
        (hats.clone(), "only the operator gives or takes the hats of a node (status.hats)"),
        (json!({"summary": {"hats": "executor"}}), "only the operator writes status.summary.hats"),
        (condition("Ready"), "only the operator writes the conditions Ready and IdentityConflict"),
        (condition("IdentityConflict"), "only the operator writes the conditions Ready and IdentityConflict"),
    ] {
        for other in [&person, &Caller::administrator(&plane).await] {
            other.merge_status(&node, status.clone()).await.is_forbidden(refused);
        }
        operator.merge_status(&node, status).await.is_allowed();
    }
    person.merge_status(&node, json!({"hats": null})).await.is_forbidden("only the operator gives or takes the hats");
    person.merge_status(&node, json!({"conditions": []})).await.is_forbidden("only the operator writes the conditions");
    person.merge_status(&node, json!({"summary": {"gpus": "0/0", "hats": "executor"}})).await.is_allowed();
    person.merge(&node, json!({"spec": {"unschedulable": true}})).await.is_allowed();
}
