//! What holds while not everything is applied yet, and when everything goes: on control planes of their own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use hatrack_admission_tests::caller::{Caller, binding};
use hatrack_admission_tests::{Outcome, eventually};
use hatrack_api::{HatBinding, SYSTEM_NAMESPACE};
use hatrack_testbed::{ControlPlane, Options, PrivateControlPlane};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, PostParams};
use serde_json::json;

fn manifests(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../k8s").join(path)
}

async fn plane_with(paths: &[&str]) -> PrivateControlPlane {
    let plane = ControlPlane::private(Options::default()).await.unwrap();
    for path in paths {
        plane.install(&manifests(path)).await.unwrap();
    }
    plane
}

/// What the API server says to a binding that an administrator would make.
async fn asked(plane: &ControlPlane) -> Outcome {
    let bindings: Api<HatBinding> = Api::default_namespaced(plane.admin().await.unwrap());
    let binding = serde_json::from_value(binding("observer", "spiffe://cluster.local/people/ann")).unwrap();
    Outcome::of(bindings.create(&PostParams::default(), &binding).await)
}

#[tokio::test]
async fn a_missing_parameter_or_its_kind_admits_nothing() {
    let plane = plane_with(&["namespace.yaml", "crds/hats.yaml", "crds/hatbindings.yaml"]).await;
    plane.install(&manifests("policies")).await.unwrap();
    asked(&plane).await.is_refused(422, "failed to find resource referenced by paramKind");
    plane.install(&manifests("crds")).await.unwrap();
    let without_its_object = "no params found for policy binding with `Deny` parameterNotFoundAction";
    eventually("the kind of the parameter is known", async || {
        let Outcome::Refused { message, .. } = asked(&plane).await else { panic!("admitted without its parameter") };
        message.contains(without_its_object).then_some(())
    })
    .await;
    plane.install(&manifests("hats/policy.yaml")).await.unwrap();
    eventually("the binding is admitted", async || matches!(asked(&plane).await, Outcome::Allowed).then_some(())).await;
}

#[tokio::test]
async fn the_system_namespace_takes_its_records_along_and_does_not_hang() {
    let plane = plane_with(&["."]).await;
    let (operator, administrator) = (Caller::operator(&plane).await, Caller::administrator(&plane).await);
    let record = json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "HatSwap",
        "metadata": {"name": "record", "namespace": SYSTEM_NAMESPACE},
        "spec": {"hat": "observer", "wearer": {"spiffeID": "spiffe://cluster.local/people/ann"}, "event": "SwapOn",
            "occurredAt": "2026-01-01T00:00:00Z"}});
    operator.create(&record).await.is_allowed();
    administrator.delete(&record).await.is_forbidden("may not write a HatSwap");
    let namespaces: Api<Namespace> = Api::all(administrator.admin.clone());
    namespaces.delete(SYSTEM_NAMESPACE, &DeleteParams::default()).await.unwrap();
    eventually("the namespace has gone", async || {
        namespaces.get_opt(SYSTEM_NAMESPACE).await.unwrap().is_none().then_some(())
    })
    .await;
}
