//! The manifests in `k8s/` that are made from the types are what the types say.
//! `UPDATE_MANIFESTS=1 cargo test -p hatrack-api --test manifests` writes them anew.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

const REFRESH: &str = "UPDATE_MANIFESTS=1 cargo test -p hatrack-api --test manifests";

fn compare(path: &str, content: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s").join(path);
    let generated = format!("# Generated from the types in api/: {REFRESH}\n{content}");
    if std::env::var_os("UPDATE_MANIFESTS").is_some() {
        std::fs::write(&path, &generated).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == generated, "{} differs from the types in api/: refresh it with `{REFRESH}`", path.display());
}

#[test]
fn committed_crds_are_those_of_the_types() {
    for crd in hatrack_api::crds::all() {
        compare(&format!("crds/{}.yaml", crd.spec.names.plural), &serde_saphyr::to_string(&crd).unwrap());
    }
}

#[test]
fn the_template_of_a_nodes_access_is_that_of_the_types() {
    let (role, binding) = hatrack_api::access::node("NAME");
    let [role, binding] = [serde_saphyr::to_string(&role).unwrap(), serde_saphyr::to_string(&binding).unwrap()];
    let usage = "# Template of what one node may do: sed s/NAME/gpu-1/ node.yaml | kubectl apply -f -\n";
    compare("rbac/node.yaml", &format!("{usage}{role}---\n{binding}"));
}

#[test]
fn every_field_of_every_crd_says_what_it_is() {
    for crd in hatrack_api::crds::all() {
        let crd = serde_json::to_value(&crd).unwrap();
        let mut silent = Vec::new();
        let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        for part in ["spec", "status"] {
            undescribed(part, &schema[part], &mut silent);
        }
        assert!(silent.is_empty(), "{}: no description: {silent:?}", crd["metadata"]["name"]);
    }
}

/// Paths of the properties below a schema that have no description.
fn undescribed(path: &str, schema: &serde_json::Value, silent: &mut Vec<String>) {
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if property["description"].as_str().unwrap_or_default().is_empty() {
            silent.push(path.clone());
        }
        undescribed(&path, property, silent);
    }
    for inner in ["items", "additionalProperties"] {
        if schema[inner].is_object() {
            undescribed(&format!("{path}[]"), &schema[inner], silent);
        }
    }
}
