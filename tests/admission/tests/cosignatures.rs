//! A co-signature is made by the co-signer itself, once, and is never that of the wearer.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hatrack_admission_tests::caller::{Caller, binding, with_spec};
use hatrack_admission_tests::installed;
use hatrack_testbed::{ControlPlane, unique};
use serde_json::{Value, json};

fn signed_by(callers: &[&Caller]) -> Value {
    let entries: Vec<Value> = callers.iter().map(|caller| json!({"spiffeID": caller.spiffe_id})).collect();
    json!({"spec": {"cosignedBy": entries}})
}

/// A hat, and a binding of somebody else to it that somebody made without a co-signature.
async fn asked(plane: &ControlPlane) -> (String, Value) {
    let (hat, wearer) = (unique("hat"), Caller::account(plane).await);
    wearer.may("wear", &hat).await;
    let binding = binding(&hat, &wearer.spiffe_id);
    wearer.create(&binding).await.is_allowed();
    (hat, binding)
}

async fn cosigners(plane: &ControlPlane, hat: &str) -> [Caller; 2] {
    let cosigners = [Caller::person(plane).await, Caller::account(plane).await];
    for cosigner in &cosigners {
        cosigner.may("cosign", hat).await;
    }
    cosigners
}

#[tokio::test]
async fn each_adds_its_own() {
    let plane = installed().await;
    let (hat, binding) = asked(&plane).await;
    let [person, account] = cosigners(&plane, &hat).await;
    let foreign = format!("{} may add only its own co-signature, not that of {}", person.spiffe_id, account.spiffe_id);
    person.merge(&binding, signed_by(&[&account])).await.is_forbidden(&foreign);
    person.merge(&binding, signed_by(&[&person, &account])).await.is_forbidden(&foreign);
    person.merge(&binding, signed_by(&[&person])).await.is_allowed();
    account.merge(&binding, signed_by(&[&person, &account])).await.is_allowed();
    person.merge(&binding, signed_by(&[&person, &account])).await.is_allowed();
}

#[tokio::test]
async fn two_apply_their_own_and_keep_each_others() {
    let plane = installed().await;
    let (hat, binding) = asked(&plane).await;
    let [person, account] = cosigners(&plane, &hat).await;
    person.apply(&binding, &signed_by(&[&person])).await.is_allowed();
    account.apply(&binding, &signed_by(&[&account])).await.is_allowed();
    let both = signed_by(&[&person, &account]);
    person.merge(&binding, both).await.is_allowed();
}

#[tokio::test]
async fn a_new_binding_brings_none_but_its_makers() {
    let plane = installed().await;
    let hat = unique("hat");
    let [person, account] = cosigners(&plane, &hat).await;
    person.may("assign", &hat).await;
    let wearer = "spiffe://cluster.local/people/somebody";
    let made = |callers: &[&Caller]| with_spec(binding(&hat, wearer), &signed_by(callers)["spec"]);
    person.create(&made(&[&account])).await.is_forbidden("may add only its own co-signature");
    person.create(&made(&[&person, &account])).await.is_forbidden("may add only its own co-signature");
    person.create(&made(&[&person])).await.is_allowed();
}

#[tokio::test]
async fn the_wearer_is_no_cosigner() {
    let plane = installed().await;
    let hat = unique("hat");
    for wearer in cosigners(&plane, &hat).await {
        wearer.may("wear", &hat).await;
        let own = binding(&hat, &wearer.spiffe_id);
        let signed = with_spec(binding(&hat, &wearer.spiffe_id), &signed_by(&[&wearer])["spec"]);
        wearer.create(&signed).await.is_forbidden("the wearer may not co-sign its own binding");
        wearer.create(&own).await.is_allowed();
        wearer.merge(&own, signed_by(&[&wearer])).await.is_forbidden("the wearer may not co-sign its own binding");
    }
}

#[tokio::test]
async fn it_takes_the_verb_cosign() {
    let plane = installed().await;
    let (hat, binding) = asked(&plane).await;
    let account = Caller::account(&plane).await;
    for verb in ["wear", "assign", "supervise"] {
        account.may(verb, &hat).await;
    }
    let refused = format!("{} may not co-sign for the hat {hat}: that takes the verb cosign on it", account.spiffe_id);
    account.merge(&binding, signed_by(&[&account])).await.is_forbidden(&refused);
    account.may("cosign", &hat).await;
    account.merge(&binding, signed_by(&[&account])).await.is_allowed();
}

#[tokio::test]
async fn who_has_no_identity_signs_nothing() {
    let plane = installed().await;
    let (hat, binding) = asked(&plane).await;
    let stranger = Caller::stranger(&plane).await;
    stranger.may("cosign", &hat).await;
    let refused = format!("{} has no SPIFFE id to co-sign with", stranger.user);
    stranger.merge(&binding, signed_by(&[&stranger])).await.is_forbidden(&refused);
    let operator = Caller::operator(&plane).await;
    operator.may("cosign", &hat).await;
    operator.merge(&binding, signed_by(&[&stranger])).await.is_forbidden("has no SPIFFE id to co-sign with");
    let [person, _] = cosigners(&plane, &hat).await;
    person.merge(&binding, signed_by(&[&person])).await.is_allowed();
    stranger.merge(&binding, json!({"metadata": {"labels": {"team": "a"}}})).await.is_allowed();
}

#[tokio::test]
async fn a_signature_is_neither_taken_back_nor_changed() {
    let plane = installed().await;
    let (hat, binding) = asked(&plane).await;
    let [person, account] = cosigners(&plane, &hat).await;
    person.merge(&binding, signed_by(&[&person])).await.is_allowed();
    for (caller, change) in [
        (&person, signed_by(&[])),
        (&person, json!({"spec": {"cosignedBy": null}})),
        (&account, signed_by(&[&account])),
    ] {
        caller.merge(&binding, change).await.is_refused(422, "spec.cosignedBy is append-only");
    }
    let altered = json!({"spec": {"cosignedBy": [{"spiffeID": person.spiffe_id, "attestation": "x"}]}});
    person.merge(&binding, altered).await.is_refused(422, "a co-signature is immutable");
    account.merge(&binding, signed_by(&[&person, &account])).await.is_allowed();
}
