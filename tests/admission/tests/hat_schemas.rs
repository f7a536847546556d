//! The schemas of the hat kinds on a real API server: each rule has a case that it refuses, by its own message, and one
//! beside it that it accepts.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use hatrack_admission_tests::caller::Caller;
use hatrack_admission_tests::installed;
use hatrack_api::{Hat, HatBinding, HatPolicy, HatSwap};
use hatrack_testbed::unique;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, CustomResourceExt};
use serde_json::{Value, json};

const WEARER: &str = "spiffe://cluster.local/ns/default/sa/ann";
/// Takes the place of the one who sends the request: admission lets nobody sign for others.
const SENDER: &str = "SENDER";

fn manifests(folder: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../k8s").join(folder)
}

fn resource<K: CustomResourceExt>(client: Client, namespace: Option<&str>) -> Api<kube::api::DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client, namespace, &K::api_resource()),
        None => Api::all_with(client, &K::api_resource()),
    }
}

/// What the API server says to one object and to a change of it.
struct Case {
    name: &'static str,
    created: Value,
    /// A JSON merge patch.
    changed: Option<Value>,
    /// A part of the message of the refusal.
    refused: Option<&'static str>,
}

fn accepts(name: &'static str, created: Value) -> Case {
    Case { name, created, changed: None, refused: None }
}

fn refuses(name: &'static str, created: Value, message: &'static str) -> Case {
    Case { name, created, changed: None, refused: Some(message) }
}

fn accepts_change(name: &'static str, created: Value, changed: Value) -> Case {
    Case { name, created, changed: Some(changed), refused: None }
}

fn refuses_change(name: &'static str, created: Value, changed: Value, message: &'static str) -> Case {
    Case { name, created, changed: Some(changed), refused: Some(message) }
}

/// Creates, changes, and compares: a refusal for another reason than the expected one is a failure.
async fn check<K: CustomResourceExt>(sender: &Caller, namespace: Option<&str>, cases: Vec<Case>) {
    let api = resource::<K>(sender.client.clone(), namespace);
    let resource = K::api_resource();
    for case in cases {
        let name = case.created["metadata"]["name"].as_str().map_or_else(|| unique("case"), str::to_owned);
        let mut object = json!({"apiVersion": resource.api_version, "kind": resource.kind, "metadata": {"name": name}});
        object["spec"] = fill(&case.created["spec"], &name, sender);
        let created = api.create(&PostParams::default(), &serde_json::from_value(object).unwrap()).await;
        let outcome = match (&case.changed, created) {
            (Some(change), Ok(_)) => {
                let change = Patch::Merge(json!({"spec": fill(change, &name, sender)}));
                api.patch(&name, &PatchParams::default(), &change).await
            }
            (Some(_), Err(error)) => panic!("{}: not even created: {error}", case.name),
            (None, created) => created,
        };
        match (outcome, case.refused) {
            (Ok(_), None) => {}
            (Err(kube::Error::Api(status)), Some(message)) => {
                assert!(status.message.contains(message), "{}: refused, but with: {}", case.name, status.message);
            }
            (Ok(_), Some(message)) => panic!("{}: accepted, not refused with: {message}", case.name),
            (Err(error), _) => panic!("{}: {error}", case.name),
        }
    }
}

/// Puts the object's own name where a case says `SELF`, and the sender's identity where it says `SENDER`.
fn fill(value: &Value, name: &str, sender: &Caller) -> Value {
    serde_json::from_str(&value.to_string().replace("SELF", name).replace(SENDER, &sender.spiffe_id)).unwrap()
}

/// Somebody with every verb on the hat of the cases: what is refused is refused by the schema.
async fn sender() -> Caller {
    let person = Caller::person(&*installed().await).await;
    person.may("*", "observer").await;
    person
}

fn hat(spec: &Value) -> Value {
    let mut whole = json!({"authority": {"rules": []}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"spec": whole})
}

#[tokio::test]
async fn hats_have_an_authority_and_a_name_of_their_own() {
    check::<Hat>(
        &sender().await,
        None,
        vec![
            accepts("authority alone", hat(&json!({}))),
            refuses("no authority", json!({"spec": {}}), "spec.authority: Required value"),
            refuses(
                "a dot in the name",
                json!({"metadata": {"name": "a.b"}, "spec": {"authority": {}}}),
                "the name must be a DNS label of at most 63 characters",
            ),
            refuses(
                "a long name",
                json!({"metadata": {"name": "x".repeat(64)}, "spec": {"authority": {}}}),
                "the name must be a DNS label of at most 63 characters",
            ),
            accepts("supervises another", hat(&json!({"supervises": ["other"]}))),
            refuses(
                "supervises itself",
                hat(&json!({"supervises": ["other", "SELF"]})),
                "a hat cannot supervise itself",
            ),
            accepts("conflicts with another", hat(&json!({"throttles": {"conflictsWith": ["other"]}}))),
            refuses(
                "conflicts with itself",
                hat(&json!({"throttles": {"conflictsWith": ["SELF"]}})),
                "a hat cannot conflict with itself",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn hats_that_hold_in_the_cluster_hold_no_keys() {
    let refused =
        "a quorum-gated hat without authority.namespaces holds in the whole cluster, system namespaces included";
    let of = |resource: &str, namespaces: Value, gated: Value| {
        let rule = json!({"apiGroups": [""], "resources": ["configmaps", resource], "verbs": ["get"]});
        hat(&json!({"authority": {"rules": [rule], "namespaces": namespaces}, "throttles": {"quorumGated": gated}}))
    };
    let mut cases = vec![
        accepts("others", of("pods", json!(null), json!(true))),
        accepts("not gated", of("secrets", json!(null), json!(false))),
        accepts("gated or not is not said", of("secrets", json!(null), json!(null))),
        accepts("namespaces", of("secrets", json!(["a"]), json!(true))),
        refuses("no namespace", of("secrets", json!([]), json!(true)), refused),
        refuses_change(
            "becomes gated",
            of("secrets", json!(null), json!(false)),
            json!({"throttles": {"quorumGated": true}}),
            refused,
        ),
    ];
    for resource in ["secrets", "pods/exec", "pods/attach", "pods/ephemeralcontainers", "nodes/proxy"] {
        cases.push(refuses(resource, of(resource, json!(null), json!(true)), refused));
    }
    check::<Hat>(&sender().await, None, cases).await;
}

#[tokio::test]
async fn hats_have_numbers_and_words_that_can_be() {
    let gpus = |count: u32| json!({"requirements": {"devices": [{"name": "gpu", "class": "gpu", "count": count}, {"name": "one", "class": "phone"}]}});
    check::<Hat>(
        &sender().await,
        None,
        vec![
            accepts("64 devices", hat(&gpus(63))),
            refuses("65 devices", hat(&gpus(64)), "a wearer can have at most 64 devices"),
            refuses(
                "a quorum of none",
                hat(&json!({"throttles": {"quorumSize": 0}})),
                "should be greater than or equal to 1",
            ),
            refuses(
                "a negative cooldown",
                hat(&json!({"throttles": {"cooldownSeconds": -1}})),
                "should be greater than or equal to 0",
            ),
            refuses("no wearers at all", hat(&json!({"maxWearers": 0})), "should be greater than or equal to 1"),
            refuses(
                "an unknown succession",
                hat(&json!({"succession": {"policy": "Coup"}})),
                "Unsupported value: \"Coup\"",
            ),
            refuses(
                "an unknown level",
                hat(&json!({"skills": [{"name": "a", "level": "guru"}]})),
                "Unsupported value: \"guru\"",
            ),
            refuses(
                "a rule without verbs",
                hat(&json!({"authority": {"rules": [{"resources": ["pods"]}]}})),
                "verbs: Required value",
            ),
        ],
    )
    .await;
}

fn binding(spec: &Value) -> Value {
    let mut whole = json!({"hat": "observer", "wearer": {"spiffeID": WEARER}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    json!({"spec": whole})
}

fn verdict(by: &str, action: &str, at: &str) -> Value {
    json!({"by": by, "action": action, "at": at})
}

#[tokio::test]
async fn bindings_keep_their_hat_and_wearer() {
    check::<HatBinding>(
        &sender().await,
        Some("default"),
        vec![
            accepts("hat and wearer", binding(&json!({}))),
            refuses(
                "no SPIFFE id",
                binding(&json!({"wearer": {"spiffeID": "https://example.org/ann"}})),
                "spec.wearer.spiffeID in body should match",
            ),
            refuses(
                "a trust domain alone",
                binding(&json!({"wearer": {"spiffeID": "spiffe://cluster.local"}})),
                "spec.wearer.spiffeID in body should match",
            ),
            refuses("no hat name", binding(&json!({"hat": "Not A Hat"})), "spec.hat in body should match"),
            accepts_change(
                "the time of the request",
                binding(&json!({})),
                json!({"requestedAt": "2026-01-01T00:00:00Z"}),
            ),
            refuses_change("another hat", binding(&json!({})), json!({"hat": "executor"}), "spec.hat is immutable"),
            refuses_change(
                "another wearer",
                binding(&json!({})),
                json!({"wearer": {"spiffeID": SENDER}}),
                "spec.wearer is immutable",
            ),
            refuses_change(
                "another service account",
                binding(&json!({})),
                json!({"wearer": {"serviceAccountRef": {"name": "ann", "namespace": "default"}}}),
                "spec.wearer is immutable",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn bindings_only_gain_cosigners() {
    let signed = |entries: Value| binding(&json!({"cosignedBy": entries}));
    check::<HatBinding>(
        &sender().await,
        Some("default"),
        vec![
            accepts_change("one more co-signer", signed(json!([])), json!({"cosignedBy": [{"spiffeID": SENDER}]})),
            refuses_change(
                "a co-signer less",
                signed(json!([{"spiffeID": SENDER}])),
                json!({"cosignedBy": []}),
                "spec.cosignedBy is append-only",
            ),
            refuses_change(
                "all co-signers gone",
                signed(json!([{"spiffeID": SENDER}])),
                json!({"cosignedBy": null}),
                "spec.cosignedBy is append-only",
            ),
            refuses_change(
                "another co-signer instead",
                signed(json!([{"spiffeID": SENDER}])),
                json!({"cosignedBy": [{"spiffeID": "spiffe://cluster.local/ns/a/sa/c"}]}),
                "spec.cosignedBy is append-only",
            ),
            refuses_change(
                "a changed co-signature",
                signed(json!([{"spiffeID": SENDER}])),
                json!({"cosignedBy": [{"spiffeID": SENDER, "attestation": "x"}]}),
                "a co-signature is immutable",
            ),
            refuses(
                "a co-signer twice",
                signed(json!([{"spiffeID": SENDER}, {"spiffeID": SENDER}])),
                "Duplicate value",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn bindings_only_gain_verdicts() {
    let (first, second) = ("2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z");
    let judged = |entries: Value| binding(&json!({"verdicts": entries}));
    check::<HatBinding>(
        &sender().await,
        Some("default"),
        vec![
            accepts_change(
                "one more verdict",
                judged(json!([verdict(SENDER, "Probation", first)])),
                json!({"verdicts": [verdict(SENDER, "Probation", first), verdict(SENDER, "Restore", second)]}),
            ),
            refuses_change(
                "a verdict less",
                judged(json!([verdict(SENDER, "Probation", first)])),
                json!({"verdicts": []}),
                "spec.verdicts is append-only",
            ),
            refuses_change(
                "all verdicts gone",
                judged(json!([verdict(SENDER, "Probation", first)])),
                json!({"verdicts": null}),
                "spec.verdicts is append-only",
            ),
            refuses_change(
                "a changed verdict",
                judged(json!([verdict(SENDER, "Revoke", first)])),
                json!({"verdicts": [verdict(SENDER, "Restore", first)]}),
                "a verdict is immutable",
            ),
            refuses(
                "a verdict on oneself",
                judged(json!([verdict(WEARER, "Restore", first)])),
                "nobody gives a verdict on themselves",
            ),
            refuses(
                "an unknown verdict",
                judged(json!([verdict(SENDER, "Promote", first)])),
                "Unsupported value: \"Promote\"",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn swaps_are_immutable() {
    let swap = json!({"spec": {"hat": "observer", "wearer": {"spiffeID": WEARER}, "event": "SwapOn", "occurredAt": "2026-01-01T00:00:00Z"}});
    let of = |event: &str| {
        let mut swap = swap.clone();
        swap["spec"]["event"] = json!(event);
        swap
    };
    check::<HatSwap>(
        &Caller::operator(&*installed().await).await,
        Some("society-system"),
        vec![
            accepts("the required fields", swap.clone()),
            refuses("an unknown event", of("SwapSideways"), "Unsupported value: \"SwapSideways\""),
            refuses_change("another event", swap.clone(), json!({"event": "SwapOff"}), "a HatSwap is immutable"),
            refuses_change("a reason afterwards", swap.clone(), json!({"reason": "Forged"}), "a HatSwap is immutable"),
            accepts_change("nothing", swap.clone(), json!({"event": "SwapOn"})),
        ],
    )
    .await;
}

#[tokio::test]
async fn there_is_one_policy() {
    let bad_bootstrap = json!({"spec": {"bootstrap": {"hat": "hat-designer"}}});
    check::<HatPolicy>(
        &sender().await,
        None,
        vec![
            refuses(
                "another name",
                json!({"metadata": {"name": "second"}, "spec": {}}),
                "there is one HatPolicy, and its name is default",
            ),
            refuses("a bootstrap for nobody", bad_bootstrap, "spec.bootstrap.wearer: Required value"),
            refuses(
                "a trust domain with a scheme",
                json!({"spec": {"trustDomain": "spiffe://a"}}),
                "spec.trustDomain in body should match",
            ),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_seed_hats_apply_and_come_back_as_they_were() {
    let plane = installed().await;
    plane.install(&manifests("hats")).await.unwrap();
    let client = plane.admin().await.unwrap();
    for name in ["hat-designer", "policy-admin", "executor", "observer"] {
        let text = std::fs::read_to_string(manifests("hats").join(format!("{name}.yaml"))).unwrap();
        let committed: Hat = serde_saphyr::from_str(&text).unwrap();
        let stored: Hat = Api::all(client.clone()).get(name).await.unwrap();
        assert_eq!(stored.spec, committed.spec, "{name}");
    }
    let policies: Api<HatPolicy> = Api::all(client);
    assert_eq!(policies.get("default").await.unwrap().spec.trust_domain.as_deref(), Some("cluster.local"));
    let empty: HatPolicy =
        serde_json::from_value(json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "HatPolicy", "metadata": {"name": "default"}, "spec": {}})).unwrap();
    let dry_run = PatchParams { dry_run: true, ..PatchParams::apply("admission-test").force() };
    policies.patch("default", &dry_run, &Patch::Apply(&empty)).await.unwrap();
}
