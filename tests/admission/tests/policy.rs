//! The one HatPolicy: it stays, and it does not make people into service accounts.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hatrack_admission_tests::caller::Caller;
use hatrack_admission_tests::{Outcome, installed};
use hatrack_api::HatPolicy;
use hatrack_testbed::unique;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

const KEPT: &str = "the HatPolicy default may not be deleted";

fn policy(name: &str) -> Value {
    json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "HatPolicy", "metadata": {"name": name}, "spec": {}})
}

#[tokio::test]
async fn it_cannot_be_deleted() {
    let plane = installed().await;
    for caller in [Caller::person(&plane).await, Caller::operator(&plane).await] {
        caller.delete(&policy("default")).await.is_forbidden(KEPT);
    }
    let policies: Api<HatPolicy> = Api::all(plane.admin().await.unwrap());
    Outcome::of(policies.delete("default", &DeleteParams::default()).await).is_forbidden(KEPT);
    let all = policies.delete_collection(&DeleteParams::default(), &ListParams::default()).await;
    Outcome::of(all).is_forbidden(KEPT);
}

#[tokio::test]
async fn there_is_one() {
    let plane = installed().await;
    let person = Caller::person(&plane).await;
    person.create(&policy("second")).await.is_refused(422, "there is one HatPolicy, and its name is default");
    person.merge(&policy("default"), json!({"metadata": {"labels": {"team": "a"}}})).await.is_allowed();
}

#[tokio::test]
async fn an_identity_is_that_of_a_person() {
    let plane = installed().await;
    let stranger = Caller::stranger(&plane).await;
    let row = |user: &str, spiffe_id: &str| json!({"user": user, "spiffeID": spiffe_id});
    let person = &stranger.spiffe_id;
    for user in ["system:serviceaccount:default:ann", "system:anonymous", "society:operator", "society:node:gpu-1"] {
        let refused = format!("spec.identities: {user} is not a person");
        stranger.known_as(&row(user, person)).await.is_refused(422, &refused);
    }
    for account in ["spiffe://cluster.local/ns/default/sa/ann", "spiffe://example.org/ns/a/sa/b"] {
        let refused = format!("spec.identities: {account} is the identity of a service account");
        stranger.known_as(&row(&unique("person"), account)).await.is_refused(422, &refused);
    }
    stranger.known_as(&row(&unique("person"), "spiffe://cluster.local/ns/default/person/ann")).await.is_allowed();
}

#[tokio::test]
async fn a_dry_run_of_an_empty_one_is_the_defaults() {
    let plane = installed().await;
    let policies: Api<HatPolicy> = Api::all(plane.admin().await.unwrap());
    let stored = policies.get("default").await.unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let mut empty = stored.clone();
    empty.spec = hatrack_api::HatPolicySpec::default();
    Outcome::of(policies.replace("default", &dry_run, &empty).await).is_allowed();
}
