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

#[test]
fn a_kind_has_a_short_name_and_all_are_one_category() {
    let names = hatrack_api::crds::all().into_iter().map(|crd| {
        let names = crd.spec.names;
        assert_eq!(names.categories.unwrap_or_default(), ["society"], "{}", names.kind);
        (names.kind, names.short_names.unwrap_or_default().join(","))
    });
    let short = [("ClusterNode", "cn"), ("Hat", "ht"), ("HatBinding", "hb"), ("HatSwap", "hs"), ("HatPolicy", "hp")];
    assert_eq!(names.collect::<Vec<_>>(), short.map(|(kind, short)| (kind.to_owned(), short.to_owned())));
}

/// A list that is merged entry by entry keeps what its writer left out.
#[test]
fn a_writer_replaces_its_lists_as_a_whole_and_conditions_are_merged_by_type() {
    let crds = hatrack_api::crds::all();
    let node = serde_json::to_value(crds.iter().find(|crd| crd.spec.names.kind == "ClusterNode")).unwrap();
    let status = &node["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"];
    for list in ["devices", "storage", "interfaces", "hats", "worn"] {
        assert_eq!(status[list]["x-kubernetes-list-type"], "atomic", "{list}");
    }
    let conditions = &status["conditions"];
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(conditions["x-kubernetes-list-map-keys"], serde_json::json!(["type"]));
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
