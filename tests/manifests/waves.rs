//! The order in which Argo CD applies `k8s/`.
//!
//! Argo CD sorts what it applies by wave, then by kind (namespaces first, then definitions), and waits for the health of a wave
//! before the next.

use kube::api::DynamicObject;

use crate::kubectl::built;
use crate::{k8s, named};

fn wave(object: &DynamicObject) -> i32 {
    let annotations = object.metadata.annotations.as_ref();
    let wave = annotations.and_then(|annotations| annotations.get("argocd.argoproj.io/sync-wave"));
    wave.map_or(0, |wave| wave.parse().unwrap())
}

/// What has to be there before an object of this kind does what it is for.
fn expected(kind: &str) -> i32 {
    match kind {
        "Namespace" | "CustomResourceDefinition" => 0,
        "HatPolicy" => 1,
        "ValidatingAdmissionPolicy" | "ValidatingAdmissionPolicyBinding" => 2,
        "ServiceAccount" | "ClusterRole" | "ClusterRoleBinding" | "Role" | "RoleBinding" => 3,
        "Deployment" => 4,
        "Hat" => 5,
        other => panic!("in which wave is a {other} applied?"),
    }
}

#[tokio::test]
async fn each_kind_has_its_wave_and_kubectl_goes_in_the_same_order() {
    let objects = built(&k8s("")).await;
    for object in objects.iter().chain(&built(&k8s("operator")).await) {
        assert_eq!(wave(object), expected(&object.types.as_ref().unwrap().kind), "{}", named(object));
    }
    assert!(objects.is_sorted_by_key(wave), "{:#?}", objects.iter().map(named).collect::<Vec<_>>());
}
