//! The Gatekeeper policies as they are committed, executed by a Rego engine over the table of cases: each case as a creation, as an
//! edit and in an audit.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use hatrack_gatekeeper_tests::{Case, cases, key};
use jiff::Timestamp;
use regorus::{Engine, Value as Rego};
use serde_json::{Value, json};

/// A ConstraintTemplate and its constraint.
struct Policy {
    name: String,
    rego: String,
    package: String,
    parameters: Value,
    kinds: Vec<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../k8s/policies/gatekeeper")
}

fn documents(file: &Path) -> Vec<Value> {
    serde_saphyr::from_multiple(&fs::read_to_string(file).unwrap()).unwrap()
}

/// Every policy that the kustomization lists.
fn policies() -> Vec<Policy> {
    let kustomization = documents(&folder().join("kustomization.yaml")).remove(0);
    let files = kustomization["resources"].as_array().unwrap().iter().map(|file| file.as_str().unwrap().to_owned());
    files.filter(|file| file != "sync.yaml").map(|file| policy(&file)).collect()
}

fn policy(file: &str) -> Policy {
    let documents = documents(&folder().join(file));
    let [template, constraint] = documents.as_slice() else { unreachable!("{file}: a template and a constraint") };
    let target = &template["spec"]["targets"][0];
    assert_eq!(target["target"], "admission.k8s.gatekeeper.sh", "{file}");
    let code = &target["code"][0];
    assert_eq!((&code["engine"], &code["source"]["version"]), (&json!("Rego"), &json!("v1")), "{file}");
    let kind = template["spec"]["crd"]["spec"]["names"]["kind"].as_str().unwrap();
    assert_eq!(template["metadata"]["name"], kind.to_lowercase(), "{file}: Gatekeeper asks for this name");
    assert_eq!(constraint["kind"], kind, "{file}");
    assert_eq!(constraint["spec"]["enforcementAction"], "deny", "{file}");
    let matched = &constraint["spec"]["match"]["kinds"][0];
    assert_eq!(matched["apiGroups"], json!(["society.zeta.io"]), "{file}");
    let rego = code["source"]["rego"].as_str().unwrap().to_owned();
    Policy {
        name: file.trim_end_matches(".yaml").to_owned(),
        package: rego.lines().next().unwrap().trim_start_matches("package ").to_owned(),
        parameters: constraint["spec"]["parameters"].clone(),
        kinds: matched["kinds"].as_array().unwrap().iter().map(|kind| kind.as_str().unwrap().to_owned()).collect(),
        rego,
    }
}

/// How an object comes to be judged.
#[derive(Clone, Copy, Debug)]
enum Occasion {
    Creation,
    /// An earlier version is in the inventory.
    Edit,
    /// The object itself is in the inventory, and there is no operation.
    Audit,
}

/// `data.inventory` as Gatekeeper makes it of what is synced.
fn inventory(objects: &[Value]) -> Value {
    let mut inventory = json!({"cluster": {}, "namespace": {}});
    for object in objects {
        let (version, kind) = (object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap());
        let scope = match object["metadata"]["namespace"].as_str() {
            Some(namespace) => &mut inventory["namespace"][namespace],
            None => &mut inventory["cluster"],
        };
        scope[version][kind][object["metadata"]["name"].as_str().unwrap()] = object.clone();
    }
    inventory
}

fn known_on(occasion: Occasion, case: &Case) -> Vec<Value> {
    let mut objects: Vec<Value> =
        case.objects.iter().filter(|object| key(object) != key(&case.review)).cloned().collect();
    match occasion {
        Occasion::Creation => {}
        Occasion::Edit => {
            let mut earlier = case.review.clone();
            earlier.as_object_mut().unwrap().remove("status");
            objects.push(earlier);
        }
        Occasion::Audit => objects.push(case.review.clone()),
    }
    objects
}

fn input(occasion: Occasion, case: &Case, policy: &Policy) -> Value {
    let mut review = json!({"object": case.review, "name": case.review["metadata"]["name"],
        "kind": {"group": "society.zeta.io", "version": "v1alpha1", "kind": case.review["kind"]}});
    match occasion {
        Occasion::Creation => review["operation"] = json!("CREATE"),
        Occasion::Edit => review["operation"] = json!("UPDATE"),
        Occasion::Audit => {}
    }
    json!({"review": review, "parameters": policy.parameters})
}

/// What a policy says: the messages of its violations.
fn violations(policy: &Policy, input: &Value, inventory: &Value) -> Vec<String> {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(true);
    engine.add_policy(policy.name.clone(), policy.rego.clone()).unwrap();
    engine.add_data(Rego::from_json_str(&json!({"inventory": inventory}).to_string()).unwrap()).unwrap();
    engine.set_input(Rego::from_json_str(&input.to_string()).unwrap());
    let found = engine.eval_rule(format!("data.{}.violation", policy.package)).unwrap();
    let found: Vec<Value> = serde_json::from_str(&found.to_json_str().unwrap()).unwrap();
    found.iter().map(|violation| violation["msg"].as_str().unwrap().to_owned()).collect()
}

fn judged(policies: &[Policy], case: &Case, occasion: Occasion) -> BTreeMap<String, Vec<String>> {
    let inventory = inventory(&known_on(occasion, case));
    let kind = case.review["kind"].as_str().unwrap();
    let asked = policies.iter().filter(|policy| policy.kinds.iter().any(|matched| matched == kind));
    let said =
        asked.map(|policy| (policy.name.clone(), violations(policy, &input(occasion, case, policy), &inventory)));
    said.filter(|(_, messages)| !messages.is_empty()).collect()
}

#[test]
fn each_case_is_denied_by_what_it_breaks_and_by_nothing_else() {
    let (policies, mut wrong) = (policies(), Vec::new());
    for case in cases(Timestamp::now()).unwrap() {
        for occasion in [Occasion::Creation, Occasion::Edit, Occasion::Audit] {
            let said = judged(&policies, &case, occasion);
            let denied: BTreeSet<String> = said.keys().cloned().collect();
            let says = |messages: &Vec<String>| messages.iter().any(|message| message.contains(&case.message));
            if denied != case.denied || !said.values().all(says) {
                wrong.push(format!(
                    "{} ({occasion:?}): expected {:?} `{}`, got {said:#?}",
                    case.name, case.denied, case.message
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn each_policy_denies_and_admits_something() {
    let cases = cases(Timestamp::now()).unwrap();
    for policy in policies() {
        let about = |case: &&Case| case.rule == policy.name;
        let denies = cases.iter().filter(about).filter(|case| case.denied.contains(&policy.name)).count();
        let admits = cases.iter().filter(about).filter(|case| case.denied.is_empty()).count();
        assert!(denies > 0 && admits > 0, "{}: {denies} denied, {admits} admitted", policy.name);
    }
}

#[test]
fn a_deletion_is_never_denied() {
    let (policies, cases) = (policies(), cases(Timestamp::now()).unwrap());
    for case in cases.iter().filter(|case| !case.denied.is_empty()) {
        let inventory = inventory(&known_on(Occasion::Audit, case));
        for policy in &policies {
            let mut input = input(Occasion::Audit, case, policy);
            input["review"]["operation"] = json!("DELETE");
            let kind = case.review["kind"].as_str().unwrap();
            if policy.kinds.iter().any(|matched| matched == kind) {
                assert_eq!(
                    violations(policy, &input, &inventory),
                    Vec::<String>::new(),
                    "{}: {}",
                    case.name,
                    policy.name
                );
            }
        }
    }
}
