//! A verdict is given by a supervisor of the hat, in its own name, and never on oneself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hatrack_admission_tests::caller::{Caller, binding, with_spec};
use hatrack_admission_tests::installed;
use hatrack_testbed::{ControlPlane, unique};
use serde_json::{Value, json};

fn verdict(by: &Caller, action: &str, day: u32) -> Value {
    json!({"by": by.spiffe_id, "action": action, "reason": "seen", "at": format!("2026-01-{day:02}T00:00:00Z")})
}

fn given(verdicts: &[&Value]) -> Value {
    json!({"spec": {"verdicts": verdicts}})
}

/// A hat, its wearer, and the wearer's binding.
async fn worn(plane: &ControlPlane) -> (String, Caller, Value) {
    let (hat, wearer) = (unique("hat"), Caller::account(plane).await);
    wearer.may("wear", &hat).await;
    let binding = binding(&hat, &wearer.spiffe_id);
    wearer.create(&binding).await.is_allowed();
    (hat, wearer, binding)
}

#[tokio::test]
async fn each_speaks_for_itself() {
    let plane = installed().await;
    let (hat, _, binding) = worn(&plane).await;
    let (person, account) = (Caller::person(&plane).await, Caller::account(&plane).await);
    for supervisor in [&person, &account] {
        supervisor.may("supervise", &hat).await;
    }
    let (of_person, of_account) = (verdict(&person, "Probation", 1), verdict(&account, "Revoke", 2));
    let foreign =
        format!("{} may give a verdict only in its own name, not in that of {}", person.spiffe_id, account.spiffe_id);
    person.merge(&binding, given(&[&of_account])).await.is_forbidden(&foreign);
    person.merge(&binding, given(&[&of_person, &of_account])).await.is_forbidden(&foreign);
    person.merge(&binding, given(&[&of_person])).await.is_allowed();
    account.merge(&binding, given(&[&of_person, &of_account])).await.is_allowed();
    person.merge(&binding, given(&[&of_person, &of_account, &verdict(&person, "Restore", 3)])).await.is_allowed();
}

#[tokio::test]
async fn it_takes_the_verb_supervise() {
    let plane = installed().await;
    let (hat, _, binding) = worn(&plane).await;
    let account = Caller::account(&plane).await;
    for verb in ["wear", "assign", "cosign"] {
        account.may(verb, &hat).await;
    }
    let refused =
        format!("{} does not supervise the hat {hat}: that takes the verb supervise on it", account.spiffe_id);
    account.merge(&binding, given(&[&verdict(&account, "Revoke", 1)])).await.is_forbidden(&refused);
    account.may("supervise", &hat).await;
    account.merge(&binding, given(&[&verdict(&account, "Revoke", 1)])).await.is_allowed();
}

#[tokio::test]
async fn nobody_judges_themselves() {
    let plane = installed().await;
    let (hat, wearer, binding) = worn(&plane).await;
    wearer.may("supervise", &hat).await;
    let restore = verdict(&wearer, "Restore", 1);
    wearer.merge(&binding, given(&[&restore])).await.is_refused(422, "nobody gives a verdict on themselves");
    let other = Caller::person(&plane).await;
    wearer
        .merge(&binding, given(&[&verdict(&other, "Restore", 1)]))
        .await
        .is_forbidden("may give a verdict only in its own name");
}

#[tokio::test]
async fn a_hat_does_not_supervise_itself() {
    let plane = installed().await;
    let (person, name) = (Caller::person(&plane).await, unique("hat"));
    let hat = json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "Hat", "metadata": {"name": name},
        "spec": {"authority": {"rules": []}}});
    let supervising = |supervised: &str| with_spec(hat.clone(), &json!({"supervises": [supervised]}));
    person.create(&supervising(&name)).await.is_refused(422, "a hat cannot supervise itself");
    person.create(&supervising("another")).await.is_allowed();
    let change = json!({"spec": {"supervises": ["another", name]}});
    person.merge(&hat, change).await.is_refused(422, "a hat cannot supervise itself");
}

#[tokio::test]
async fn who_has_no_identity_judges_nobody() {
    let plane = installed().await;
    let (hat, _, binding) = worn(&plane).await;
    let stranger = Caller::stranger(&plane).await;
    stranger.may("supervise", &hat).await;
    let refused = format!("{} has no SPIFFE id to judge with", stranger.user);
    stranger.merge(&binding, given(&[&verdict(&stranger, "Revoke", 1)])).await.is_forbidden(&refused);
}

#[tokio::test]
async fn a_verdict_is_neither_taken_back_nor_changed() {
    let plane = installed().await;
    let (hat, _, binding) = worn(&plane).await;
    let supervisor = Caller::person(&plane).await;
    supervisor.may("supervise", &hat).await;
    supervisor.merge(&binding, given(&[&verdict(&supervisor, "Probation", 1)])).await.is_allowed();
    supervisor.merge(&binding, given(&[])).await.is_refused(422, "spec.verdicts is append-only");
    let altered = given(&[&verdict(&supervisor, "Restore", 1)]);
    supervisor.merge(&binding, altered).await.is_refused(422, "a verdict is immutable");
}
