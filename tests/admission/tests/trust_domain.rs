//! Service accounts have the identities of the trust domain that the policy names, and no others.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use hatrack_admission_tests::caller::{Caller, binding};
use hatrack_api::HatPolicy;
use hatrack_testbed::{ControlPlane, Options, PrivateControlPlane, unique};
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

const DOMAIN: &str = "example.org";

/// A control plane of its own: the trust domain is one for all in it.
async fn installed() -> PrivateControlPlane {
    let plane = ControlPlane::private(Options::default()).await.unwrap();
    plane.install(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../k8s")).await.unwrap();
    let policies: Api<HatPolicy> = Api::all(plane.admin().await.unwrap());
    let change = Patch::Merge(json!({"spec": {"trustDomain": DOMAIN}}));
    policies.patch("default", &PatchParams::default(), &change).await.unwrap();
    plane
}

/// An account that may do everything with a hat, once the policies have learned the name of the domain.
async fn account(plane: &ControlPlane, hat: &str) -> Caller {
    let mut account = Caller::account(plane).await;
    account.spiffe_id = account.spiffe_id.replace("cluster.local", DOMAIN);
    for verb in ["wear", "cosign", "supervise"] {
        account.may(verb, hat).await;
    }
    account.is_known_to_wear(hat).await;
    account
}

#[tokio::test]
async fn an_account_wears_signs_and_judges_by_the_domain_of_the_policy_alone() {
    let plane = installed().await;
    let hat = unique("hat");
    let [wearer, other] = [account(&plane, &hat).await, account(&plane, &hat).await];
    let of_default = |caller: &Caller| caller.spiffe_id.replace(DOMAIN, "cluster.local");

    let foreign = format!("may not bind {} to the hat {hat}: that takes the verb assign on it", of_default(&wearer));
    wearer.create(&binding(&hat, &of_default(&wearer))).await.is_forbidden(&foreign);
    let worn = binding(&hat, &wearer.spiffe_id);
    wearer.create(&worn).await.is_allowed();

    let signed = |id: &str| json!({"spec": {"cosignedBy": [{"spiffeID": id}]}});
    let foreign = format!("may add only its own co-signature, not that of {}", of_default(&other));
    other.merge(&worn, signed(&of_default(&other))).await.is_forbidden(&foreign);
    other.merge(&worn, signed(&other.spiffe_id)).await.is_allowed();

    let judged = |id: &str| {
        let verdict = json!({"by": id, "action": "Probation", "reason": "seen", "at": "2026-01-01T00:00:00Z"});
        json!({"spec": {"verdicts": [verdict]}})
    };
    let foreign = format!("may give a verdict only in its own name, not in that of {}", of_default(&other));
    other.merge(&worn, judged(&of_default(&other))).await.is_forbidden(&foreign);
    other.merge(&worn, judged(&other.spiffe_id)).await.is_allowed();
}
