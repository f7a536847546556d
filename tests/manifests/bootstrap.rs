//! What the flake has k3s apply for Argo CD to begin with.

use serde_json::Value;

use crate::k8s;

/// A cluster that was installed by the flake and one to which a person gave the manifest are kept the same way.
#[test]
fn the_flake_makes_the_application_that_k8s_has() {
    let ours: Value = serde_saphyr::from_str(&std::fs::read_to_string(k8s("apps/hatrack.yaml")).unwrap()).unwrap();
    let texts = k8s("../tests/nix/texts/control-1/manifests.json");
    let applied: Value = serde_json::from_str(&std::fs::read_to_string(texts).unwrap()).unwrap();
    assert_eq!(applied["argocd-root"], ours);
}
