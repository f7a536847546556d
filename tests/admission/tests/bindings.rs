//! Who may ask for a hat and for whom, and who may let a binding go.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hatrack_admission_tests::caller::{Caller, NAMESPACE, binding, with_spec};
use hatrack_admission_tests::installed;
use hatrack_testbed::unique;
use serde_json::{Value, json};

const FINALIZER: &str = hatrack_api::hat_binding::FINALIZER;
const FINALIZER_REFUSED: &str = "only the operator adds or removes the finalizer society.zeta.io/swap-off";

fn for_account(hat: &str, spiffe_id: &str, namespace: &str, name: &str) -> Value {
    let mut binding = binding(hat, spiffe_id);
    binding["spec"]["wearer"]["serviceAccountRef"] = json!({"namespace": namespace, "name": name});
    binding
}

fn takes(verb: &str, hat: &str) -> String {
    format!("to the hat {hat}: that takes the verb {verb} on it")
}

#[tokio::test]
async fn to_bind_oneself_takes_the_verb_wear() {
    let plane = installed().await;
    for caller in [Caller::person(&plane).await, Caller::account(&plane).await] {
        let (hat, other) = (unique("hat"), unique("hat"));
        let refused = format!("{} may not bind itself {}", caller.user, takes("wear", &hat));
        caller.create(&binding(&hat, &caller.spiffe_id)).await.is_forbidden(&refused);
        caller.may("assign", &hat).await;
        caller.create(&binding(&hat, &caller.spiffe_id)).await.is_forbidden(&refused);
        caller.may("wear", &hat).await;
        caller.create(&binding(&hat, &caller.spiffe_id)).await.is_allowed();
        caller.create(&binding(&other, &caller.spiffe_id)).await.is_forbidden(&takes("wear", &other));
    }
}

#[tokio::test]
async fn to_bind_somebody_else_takes_the_verb_assign() {
    let plane = installed().await;
    let (person, account) = (Caller::person(&plane).await, Caller::account(&plane).await);
    for (caller, wearer) in [(&person, &account), (&account, &person)] {
        let hat = unique("hat");
        caller.may("wear", &hat).await;
        let refused = format!("{} may not bind {} {}", caller.user, wearer.spiffe_id, takes("assign", &hat));
        caller.create(&binding(&hat, &wearer.spiffe_id)).await.is_forbidden(&refused);
        caller.may("assign", &hat).await;
        caller.create(&binding(&hat, &wearer.spiffe_id)).await.is_allowed();
    }
}

#[tokio::test]
async fn a_person_without_an_identity_is_nobody() {
    let plane = installed().await;
    let (stranger, hat) = (Caller::stranger(&plane).await, unique("hat"));
    stranger.may("wear", &hat).await;
    stranger.create(&binding(&hat, &stranger.spiffe_id)).await.is_forbidden(&takes("assign", &hat));
    let named_like_an_account = format!("spiffe://cluster.local/ns/{NAMESPACE}/sa/{}", stranger.user);
    stranger.create(&binding(&hat, &named_like_an_account)).await.is_forbidden(&takes("assign", &hat));
    stranger.may("assign", &hat).await;
    stranger.create(&binding(&hat, &named_like_an_account)).await.is_allowed();
}

#[tokio::test]
async fn a_role_with_every_verb_has_these_too() {
    let plane = installed().await;
    let (account, hat) = (Caller::account(&plane).await, unique("hat"));
    account.may("*", &hat).await;
    account.create(&binding(&hat, &account.spiffe_id)).await.is_allowed();
    account.create(&binding(&hat, "spiffe://cluster.local/people/somebody")).await.is_allowed();
}

#[tokio::test]
async fn the_spiffe_id_is_that_of_the_service_account() {
    let plane = installed().await;
    let (person, hat) = (Caller::person(&plane).await, unique("hat"));
    person.may("assign", &hat).await;
    person.may("wear", &hat).await;
    let own = "spiffe://cluster.local/ns/team-a/sa/ann";
    person.create(&for_account(&hat, own, "team-a", "ann")).await.is_allowed();
    for (name, spiffe_id) in [
        ("another name", "spiffe://cluster.local/ns/team-a/sa/bob"),
        ("another namespace", "spiffe://cluster.local/ns/team-b/sa/ann"),
        ("another trust domain", "spiffe://example.org/ns/team-a/sa/ann"),
        ("more behind it", "spiffe://cluster.local/ns/team-a/sa/ann/x"),
        ("a person, who would have two identities", person.spiffe_id.as_str()),
    ] {
        println!("{name}");
        let refused = format!("spec.wearer.serviceAccountRef is {own}, and spec.wearer.spiffeID says {spiffe_id}");
        person.create(&for_account(&hat, spiffe_id, "team-a", "ann")).await.is_refused(422, &refused);
    }
}

#[tokio::test]
async fn an_edit_does_not_walk_around_what_was_asked_at_creation() {
    let plane = installed().await;
    let (account, hat) = (Caller::account(&plane).await, unique("hat"));
    account.may("wear", &hat).await;
    let binding = binding(&hat, &account.spiffe_id);
    account.create(&binding).await.is_allowed();
    let other = json!({"spec": {"hat": unique("hat")}});
    account.merge(&binding, other).await.is_refused(422, "spec.hat is immutable");
    let other = json!({"spec": {"wearer": {"spiffeID": "spiffe://cluster.local/people/somebody"}}});
    account.merge(&binding, other).await.is_refused(422, "spec.wearer is immutable");
    account.merge(&binding, json!({"spec": {"requestedAt": "2026-01-01T00:00:00Z"}})).await.is_allowed();
}

#[tokio::test]
async fn the_finalizer_is_the_operators() {
    let plane = installed().await;
    let (person, hat) = (Caller::person(&plane).await, unique("hat"));
    person.may("wear", &hat).await;
    let finalizers = |names: &[&str]| json!({"metadata": {"finalizers": names}});
    for operator in [Caller::operator(&plane).await, Caller::operator_in_a_pod(&plane).await] {
        let asked = binding(&hat, &person.spiffe_id);
        let mut kept = asked.clone();
        kept["metadata"]["finalizers"] = json!([FINALIZER]);
        person.create(&kept).await.is_forbidden(FINALIZER_REFUSED);
        person.create(&asked).await.is_allowed();
        person.merge(&asked, finalizers(&[FINALIZER])).await.is_forbidden(FINALIZER_REFUSED);
        operator.merge(&asked, finalizers(&[FINALIZER])).await.is_allowed();
        person.merge(&asked, finalizers(&[FINALIZER, "example.org/mine"])).await.is_allowed();
        person.merge(&asked, finalizers(&["example.org/mine"])).await.is_forbidden(FINALIZER_REFUSED);
        person.merge(&asked, json!({"metadata": {"finalizers": null}})).await.is_forbidden(FINALIZER_REFUSED);
        person.delete(&asked).await.is_allowed();
        person.merge(&asked, finalizers(&[])).await.is_forbidden(FINALIZER_REFUSED);
        operator.merge(&asked, finalizers(&[])).await.is_allowed();
        person.merge(&asked, json!({})).await.is_refused(404, "not found");
    }
}

#[tokio::test]
async fn existing_manifests_of_bindings_apply() {
    let plane = installed().await;
    let (account, hat) = (Caller::account(&plane).await, unique("hat"));
    account.may("wear", &hat).await;
    let name = account.user.rsplit(':').next().unwrap();
    let request = for_account(&hat, &account.spiffe_id, NAMESPACE, name);
    let request = with_spec(request, &json!({"requestedAt": "2026-01-01T00:00:00Z", "cosignedBy": []}));
    account.create(&request).await.is_allowed();
    account.apply(&request, &json!({"spec": request["spec"]})).await.is_allowed();
}
