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

/// The binding of a hat that somebody wears, and a person who supervises it.
async fn supervised(plane: &ControlPlane) -> (Value, Caller) {
    let (hat, _, binding) = worn(plane).await;
    let supervisor = Caller::person(plane).await;
    supervisor.may("supervise", &hat).await;
    (binding, supervisor)
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

/// The list has an entry for each text of a time; what is compared are times.
#[tokio::test]
async fn a_verdict_is_not_changed_by_another_text_of_its_time() {
    let plane = installed().await;
    let (binding, supervisor) = supervised(&plane).await;
    let at = |action: &str, at: &str| json!({"by": supervisor.spiffe_id, "action": action, "at": at});
    supervisor.merge(&binding, given(&[&at("Revoke", "2026-01-01T00:00:00Z")])).await.is_allowed();
    for text in ["2026-01-01T00:00:00+00:00", "2026-01-01T00:00:00.0Z", "2026-01-01T01:00:00+01:00"] {
        let altered = given(&[&at("Restore", text)]);
        supervisor.merge(&binding, altered).await.is_refused(422, "spec.verdicts[0].at in body should match");
        let both = given(&[&at("Revoke", "2026-01-01T00:00:00Z"), &at("Revoke", text)]);
        supervisor.merge(&binding, both).await.is_refused(422, "spec.verdicts[1].at in body should match");
    }
}

#[tokio::test]
async fn nobody_fills_the_list_so_that_a_hat_can_always_be_revoked() {
    let plane = installed().await;
    let (hat, _, binding) = worn(&plane).await;
    let (eager, other) = (Caller::person(&plane).await, Caller::person(&plane).await);
    for supervisor in [&eager, &other] {
        supervisor.may("supervise", &hat).await;
    }
    let eight: Vec<Value> = (1..=8).map(|day| verdict(&eager, "Restore", day)).collect();
    let with = |more: &[Value]| given(&eight.iter().chain(more).collect::<Vec<_>>());
    eager.merge(&binding, with(&[])).await.is_allowed();
    let ninth = with(&[verdict(&eager, "Restore", 9)]);
    eager.merge(&binding, ninth).await.is_refused(422, "one supervisor gives at most 8 verdicts beside Revoke");
    let revokes: Vec<Value> = (10..=12).map(|day| verdict(&eager, "Revoke", day)).collect();
    eager.merge(&binding, with(&revokes)).await.is_refused(422, "one supervisor gives at most 2 verdicts to Revoke");
    eager.merge(&binding, with(&revokes[..1])).await.is_allowed();
    let of_both = [revokes[0].clone(), verdict(&other, "Revoke", 13)];
    other.merge(&binding, with(&of_both)).await.is_allowed();
}

#[tokio::test]
async fn a_verdict_is_neither_taken_back_nor_changed() {
    let plane = installed().await;
    let (binding, supervisor) = supervised(&plane).await;
    supervisor.merge(&binding, given(&[&verdict(&supervisor, "Probation", 1)])).await.is_allowed();
    supervisor.merge(&binding, given(&[])).await.is_refused(422, "spec.verdicts is append-only");
    let altered = given(&[&verdict(&supervisor, "Restore", 1)]);
    supervisor.merge(&binding, altered).await.is_refused(422, "a verdict is immutable");
}
