//! What the rules of hats grant, the operator's fence admits: every seed hat, one that supervises, and one that asks for everything.
//! If the two disagreed, a hat would be Active and its authority refused for ever.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::time::Duration;

use hatrack_admission_tests::caller::{Caller, NAMESPACE};
use hatrack_admission_tests::installed;
use hatrack_api::access::{MANAGED_BY, hat_role_name};
use hatrack_api::{Hat, HatBinding, HatPolicy};
use hatrack_hats::authority::{Grant, Scope};
use hatrack_hats::{Moment, World, decide};
use hatrack_testbed::unique;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

fn seed(name: &str) -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../k8s/hats/{name}.yaml"));
    serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn hat(name: &str, spec: &Value) -> Value {
    json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "Hat", "metadata": {"name": name}, "spec": spec})
}

/// A hat whose author wanted too much, in every spelling.
fn greedy(quorum: bool) -> Value {
    let groups = [
        "",
        "*",
        "apps",
        "example.org",
        "rbac.authorization.k8s.io",
        "admissionregistration.k8s.io",
        "certificates.k8s.io",
        "authentication.k8s.io",
        "authorization.k8s.io",
        "society.zeta.io",
    ];
    let resources = ["*", "pods", "pods/*", "*/scale", "secrets", "serviceaccounts/token", "roles", "users", "signers"];
    let verbs =
        ["*", "get", "create", "escalate", "bind", "impersonate", "impersonate-on:user-info:get", "approve", "sign"];
    let rule = |group: &str, resource: &str, verb: &str| json!({"apiGroups": [group], "resources": [resource, "events"], "verbs": [verb, "list"]});
    // A hat has at most 64 rules: each spelling meets each other one of another kind.
    let mut rules: Vec<Value> = Vec::new();
    for (index, group) in groups.iter().enumerate() {
        for (offset, resource) in resources.iter().enumerate().step_by(2) {
            rules.push(rule(group, resource, verbs[(index + offset) % verbs.len()]));
        }
    }
    rules.push(json!({"apiGroups": groups, "resources": resources, "verbs": verbs}));
    hat("greedy", &json!({"authority": {"rules": rules}, "throttles": {"quorumGated": quorum, "quorumSize": 1}}))
}

/// What a wearer of the hat is granted once it is Active.
fn granted(mut hat: Value, others: &[Value]) -> Vec<Grant> {
    hat["spec"]["throttles"]["warmupSeconds"] = json!(0);
    let mut world = World::default();
    let policy = json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "HatPolicy", "metadata": {"name": "default"}, "spec": {}});
    world.observe_policy(serde_json::from_value::<HatPolicy>(policy).unwrap());
    for hat in others.iter().chain([&hat]) {
        world.observe_hat(serde_json::from_value::<Hat>(hat.clone()).unwrap());
    }
    let signers: Vec<Value> = (0..5).map(|index| json!({"spiffeID": format!("spiffe://x/{index}")})).collect();
    let binding = json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "HatBinding",
        "metadata": {"name": "asked", "namespace": NAMESPACE, "uid": unique("uid"), "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"hat": hat["metadata"]["name"], "cosignedBy": signers, "wearer": {
            "spiffeID": format!("spiffe://cluster.local/ns/{NAMESPACE}/sa/ann"),
            "serviceAccountRef": {"namespace": NAMESPACE, "name": "ann"}}}});
    world.observe_binding(serde_json::from_value::<HatBinding>(binding).unwrap(), Duration::ZERO);
    let now = Moment { wall: "2026-01-01T01:00:00Z".parse::<Timestamp>().unwrap(), steady: Duration::ZERO };
    for action in decide(&world, now).actions {
        world.apply(&action, now.steady);
    }
    world.grants().cloned().collect()
}

/// A grant as the operator writes it: a role and its binding.
fn objects(grant: &Grant) -> [Value; 2] {
    assert_eq!(grant.name(), hat_role_name(&grant.hat, &grant.binding));
    let mut metadata = json!({"name": grant.name(), "labels": {MANAGED_BY.0: MANAGED_BY.1}});
    let prefix = match &grant.scope {
        Scope::Cluster => "Cluster",
        Scope::Namespace(namespace) => {
            metadata["namespace"] = json!(namespace);
            ""
        }
    };
    let group = "rbac.authorization.k8s.io";
    let object = |kind: &str| json!({"apiVersion": format!("{group}/v1"), "kind": format!("{prefix}{kind}"), "metadata": metadata});
    let (mut role, mut binding) = (object("Role"), object("RoleBinding"));
    role["rules"] = json!(grant.rules);
    binding["roleRef"] = json!({"apiGroup": group, "kind": role["kind"], "name": grant.name()});
    binding["subjects"] =
        json!([{"kind": "ServiceAccount", "namespace": grant.subject.namespace, "name": grant.subject.name}]);
    [role, binding]
}

#[tokio::test]
async fn every_grant_is_admitted() {
    let plane = installed().await;
    let operator = Caller::operator(&plane).await;
    let below = seed("observer");
    let supervisor = json!({"authority": {"rules": []}, "supervises": ["observer"]});
    let hats = ["hat-designer", "policy-admin", "executor", "observer"].map(seed).into_iter();
    for hat in hats.chain([hat("supervisor", &supervisor), greedy(false), greedy(true)]) {
        let grants = granted(hat.clone(), std::slice::from_ref(&below));
        assert!(!grants.is_empty(), "nothing is granted by {}", hat["metadata"]["name"]);
        for object in grants.iter().flat_map(objects) {
            println!("{object}");
            operator.create(&object).await.is_allowed();
        }
    }
}
