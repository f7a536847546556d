//! What wearers are granted, and the graph of who is who.

use hatrack_api::hat_binding::Phase;
use hatrack_hats::authority::{Grant, Scope};
use hatrack_hats::graph;
use serde_json::{Value, json};

use crate::stage::{Stage, gpus, one_gpu, spiffe};

fn with_account(name: &str) -> Value {
    json!({"wearer": {"spiffeID": spiffe(name), "serviceAccountRef": {"name": name, "namespace": "default"}}})
}

fn grants(stage: &Stage) -> Vec<Grant> {
    stage.world.grants().cloned().collect()
}

fn verbs(grant: &Grant) -> Vec<Vec<&str>> {
    grant.rules.iter().map(|rule| rule.verbs.iter().map(String::as_str).collect()).collect()
}

fn pods(verbs: &[&str]) -> Value {
    json!({"authority": {"rules": [{"verbs": verbs, "resources": ["pods"]}]}, "throttles": {"warmupSeconds": 60}})
}

#[test]
fn authority_is_read_in_the_warmup_full_when_active_and_gone_at_the_end() {
    let mut stage = Stage::new();
    stage.hat("executor", pods(&["get", "create", "delete"]));
    let uid = stage.ask_with("executor", "ann", with_account("ann"));
    let silent = stage.ask("executor", "bob");
    stage.settle();
    assert_eq!(verbs(&grants(&stage)[0]), [["get"]]);
    assert_eq!(grants(&stage)[0].scope, Scope::Namespace("default".to_owned()));
    assert_eq!(grants(&stage)[0].name(), format!("hatrack:hat:executor:{uid}"));
    stage.pass(60);
    stage.settle();
    assert_eq!(verbs(&grants(&stage)[0]), [["create", "delete", "get"]]);
    assert_eq!(grants(&stage).len(), 1, "a wearer without a service account has no role");
    assert!(stage.status(&silent).effective_authority.is_some(), "but it is shown what it may");
    stage.judge(&uid, "boss", "Probation");
    stage.settle();
    assert_eq!(verbs(&grants(&stage)[0]), [["get"]]);
    stage.delete(&uid);
    stage.settle();
    assert_eq!(grants(&stage), vec![]);
}

#[test]
fn authority_of_a_binding_that_vanished_is_taken_back() {
    let mut stage = Stage::new();
    stage.hat("executor", pods(&["get"]));
    let uid = stage.ask_with("executor", "ann", with_account("ann"));
    stage.settle();
    assert_eq!(grants(&stage).len(), 1);
    stage.world.forget_binding(&uid);
    stage.settle();
    assert_eq!(grants(&stage), vec![]);
}

#[test]
fn a_changed_hat_changes_what_its_wearers_may() {
    let mut stage = Stage::new();
    stage.hat("executor", pods(&["get", "create"]));
    stage.ask_with("executor", "ann", with_account("ann"));
    stage.settle();
    stage.pass(60);
    stage.settle();
    stage.hat("executor", pods(&["get"]));
    stage.settle();
    assert_eq!(verbs(&grants(&stage)[0]), [["get"]]);
}

#[test]
fn nothing_is_granted_that_makes_more_authority() {
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    for (rule, expected) in [
        (
            rule("", &["pods"], &["*"]),
            Some((vec!["create", "delete", "get", "list", "patch", "update", "watch"], vec!["pods"])),
        ),
        (
            rule("rbac.authorization.k8s.io", &["roles"], &["get", "create", "escalate", "bind"]),
            Some((vec!["get"], vec!["roles"])),
        ),
        (rule("rbac.authorization.k8s.io", &["roles"], &["create", "escalate"]), None),
        (rule("", &["serviceaccounts"], &["impersonate"]), None),
        (rule("", &["users"], &["impersonate-on:user-info:get"]), None),
        (rule("", &["serviceaccounts/token"], &["create"]), None),
        (rule("", &["pods/*", "pods"], &["get"]), Some((vec!["get"], vec!["pods"]))),
        (rule("authentication.k8s.io", &["*"], &["get"]), None),
        (rule("batch", &["*"], &["get", "create"]), Some((vec!["get"], vec!["cronjobs", "jobs"]))),
        (rule("example.org", &["*"], &["*"]), Some((vec!["get", "list", "watch"], vec!["*"]))),
    ] {
        let mut stage = Stage::new();
        stage.hat("some", json!({"authority": {"rules": [rule.clone()]}}));
        stage.ask_with("some", "ann", with_account("ann"));
        stage.settle();
        let found = grants(&stage).first().map(|grant| grant.rules[0].clone());
        let found = found.map(|rule| (rule.verbs, rule.resources.unwrap()));
        let expected = expected.map(|(verbs, resources)| {
            (verbs.into_iter().map(str::to_owned).collect(), resources.into_iter().map(str::to_owned).collect())
        });
        assert_eq!(found, expected, "{rule}");
    }
}

#[test]
fn reading_everything_does_not_read_secrets() {
    let mut stage = Stage::new();
    stage.hat(
        "observer",
        json!({"authority": {"rules": [{"apiGroups": ["", "*"], "resources": ["*"], "verbs": ["get"]}]}}),
    );
    stage.ask_with("observer", "ann", with_account("ann"));
    stage.settle();
    let resources: Vec<String> =
        grants(&stage)[0].rules.iter().flat_map(|rule| rule.resources.clone().unwrap()).collect();
    assert!(resources.contains(&"pods".to_owned()) && resources.contains(&"hats".to_owned()));
    assert!(
        !resources
            .iter()
            .any(|resource| resource == "secrets" || resource == "*" || resource.starts_with("tokenreviews"))
    );
}

#[test]
fn namespaces_are_the_hats_else_the_cluster_if_gated_else_the_bindings() {
    let rules = json!([{"verbs": ["get"], "resources": ["pods"]}]);
    let named = |names: &[&str]| names.iter().map(|name| Scope::Namespace((*name).to_owned())).collect::<Vec<_>>();
    for (namespaces, gated, expected) in [
        (json!([]), false, named(&["default"])),
        (json!([]), true, vec![Scope::Cluster]),
        (json!(["b", "a"]), true, named(&["a", "b"])),
        (json!(["kube-system", "society-system", "a"]), false, named(&["a"])),
    ] {
        let mut stage = Stage::new();
        stage.hat("some", json!({"authority": {"rules": rules, "namespaces": namespaces}, "throttles": {"quorumGated": gated, "quorumSize": 1}}));
        let uid = stage.ask_with("some", "ann", with_account("ann"));
        stage.cosign(&uid, "bob");
        stage.settle();
        assert_eq!(stage.phase(&uid), Phase::Active);
        let scopes: Vec<Scope> = grants(&stage).into_iter().map(|grant| grant.scope).collect();
        assert_eq!(scopes, expected, "{namespaces} {gated}");
    }
}

#[test]
fn a_hat_that_becomes_gated_holds_in_the_cluster_only_for_who_has_a_quorum() {
    let scopes = |stage: &Stage| grants(stage).into_iter().map(|grant| grant.scope).collect::<Vec<_>>();
    let rules = json!({"rules": [{"verbs": ["get", "create"], "resources": ["configmaps"]}]});
    let mut stage = Stage::new();
    stage.hat("some", json!({"authority": rules}));
    let uid = stage.ask_with("some", "ann", with_account("ann"));
    stage.settle();
    let own = vec![Scope::Namespace("default".to_owned())];
    assert_eq!(scopes(&stage), own);
    stage.hat("some", json!({"authority": rules, "throttles": {"quorumGated": true, "quorumSize": 1}}));
    stage.settle();
    assert_eq!(stage.phase(&uid), Phase::Active, "what is worn stays on");
    assert_eq!(scopes(&stage), own, "nobody has vouched for it");
    assert_eq!(stage.status(&uid).effective_authority.unwrap().namespaces, ["default"]);
    stage.cosign(&uid, "bob");
    stage.settle();
    assert_eq!(scopes(&stage), [Scope::Cluster]);
    assert_eq!(stage.status(&uid).effective_authority.unwrap().namespaces, Vec::<String>::new());
}

#[test]
fn secrets_and_ways_into_pods_are_given_in_namespaces_alone() {
    let rules = json!([
        {"verbs": ["get", "create"], "resources": ["configmaps", "secrets", "pods/exec", "pods/attach"]},
        {"verbs": ["get"], "resources": ["nodes/proxy", "pods/ephemeralcontainers"]},
    ]);
    for (namespaces, expected) in [
        (json!([]), vec![vec!["configmaps"]]),
        (
            json!(["a"]),
            vec![
                vec!["configmaps", "pods/attach", "pods/exec", "secrets"],
                vec!["nodes/proxy", "pods/ephemeralcontainers"],
            ],
        ),
    ] {
        let mut stage = Stage::new();
        stage.hat("some", json!({"authority": {"rules": rules, "namespaces": namespaces}, "throttles": {"quorumGated": true, "quorumSize": 1}}));
        let uid = stage.ask_with("some", "ann", with_account("ann"));
        stage.cosign(&uid, "bob");
        stage.settle();
        let resources: Vec<Vec<String>> =
            grants(&stage)[0].rules.iter().map(|rule| rule.resources.clone().unwrap()).collect();
        assert_eq!(resources, expected, "{namespaces}");
        let shown = stage.status(&uid).effective_authority.unwrap().rules;
        assert_eq!(shown.into_iter().map(|rule| rule.resources).collect::<Vec<_>>(), expected, "{namespaces}");
    }
}

#[test]
fn who_wears_a_supervising_hat_may_supervise_and_cosign_the_hats_below() {
    let mut stage = Stage::new();
    stage.hat("below", json!({}));
    stage.hat("boss", json!({"supervises": ["below"], "throttles": {"warmupSeconds": 60}}));
    stage.ask_with("boss", "ann", with_account("ann"));
    stage.settle();
    assert_eq!(grants(&stage), vec![], "not while warming up");
    stage.pass(60);
    stage.settle();
    let all = grants(&stage);
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].scope, Scope::Cluster);
    assert_eq!(all[0].rules[0].resource_names.as_deref(), Some(["below".to_owned()].as_slice()));
    assert_eq!(verbs(&all[0])[0], ["cosign", "supervise"]);
}

#[test]
fn the_graph_shows_who_is_what_to_whom() {
    let mut stage = Stage::new();
    stage.node("n1", gpus(&["24Gi"]));
    stage.hat("below", json!({"throttles": {"conflictsWith": ["boss"]}}));
    stage.hat("boss", json!({"supervises": ["below"], "throttles": {"conflictsWith": ["below"]}}));
    stage.hat("gpu", json!({"maxWearers": 1, "termSeconds": 10, "requirements": one_gpu("1Gi")["requirements"], "throttles": {"stickyAttributionSeconds": 0}}));
    stage.ask("gpu", "ann");
    stage.settle();
    let next = stage.ask("gpu", "b\"ob");
    stage.cosign(&next, "zoe");
    stage.pass(10);
    stage.settle();
    stage.wear("n1");
    stage.settle();
    stage.wear("n1");
    stage.settle();
    assert_eq!(stage.phase(&next), Phase::Active);
    let dot = graph::dot(&stage.world);
    for line in [
        "\"hat:boss\" -> \"hat:below\" [label=\"supervises\"];",
        "\"hat:below\" -> \"hat:boss\" [label=\"conflicts\", style=dashed, dir=none];",
        "\"wearer:spiffe://cluster.local/ns/default/sa/b\\\"ob\" -> \"hat:gpu\" [label=\"Active\", style=solid];",
        "-> \"node:n1\" [label=\"runs on\"];",
        "\"node:n1\" [label=\"n1\", shape=box3d];",
        "[label=\"cosigned by\", color=gray];",
        "-> \"wearer:spiffe://cluster.local/ns/default/sa/ann\" [label=\"succeeded as gpu\", color=blue];",
    ] {
        assert!(dot.contains(line), "{line} is not in\n{dot}");
    }
    assert_eq!(dot.matches("conflicts").count(), 1, "one edge for each pair");
}
