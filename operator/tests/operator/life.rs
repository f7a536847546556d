//! A request is held or admitted, worn, ended and succeeded, with one record for each transition.

use hatrack_api::hat_binding::Phase;
use hatrack_api::hat_swap::SwapEvent;
use hatrack_api::{Hat, HatBinding, HatPolicy};
use hatrack_testbed::soon;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::cluster::{Bench, gone, held, phase_of, until};

#[tokio::test]
async fn a_hat_warms_up_is_worn_for_its_term_and_goes_to_the_next() {
    let (bench, _) = Bench::shared().await;
    let hat = bench.hat(json!({"maxWearers": 1, "termSeconds": 4, "throttles": {"warmupSeconds": 2}})).await;
    let first = bench.ask(&hat, "ann").await;
    let warming = bench.phase(&first, Phase::Warmup).await;
    assert!(warming.finalizers().iter().any(|name| name == "society.zeta.io/swap-off"));
    let second = bench.ask(&hat, "bob").await;
    let waiting = bench.until(&second, "held", |binding| held(binding).is_some()).await;
    assert_eq!(held(&waiting).unwrap().0, "MaxWearers");
    let active = bench.phase(&first, Phase::Active).await;
    let status = active.status.unwrap();
    assert!(status.bound_at.is_some() && status.expires_at > status.bound_at);
    bench.phase(&first, Phase::Expired).await;
    bench.until(&second, "succeeds", |binding| phase_of(binding).is_worn()).await;
    assert_eq!(bench.reasons(&first).await, ["Admitted", "WarmedUp", "TermEnded"]);
    let (transitions, throttled) = bench.records(&second).await;
    assert_eq!(transitions[0].spec.reason.as_deref(), Some("Succeeded"));
    assert_eq!(transitions[0].spec.previous_wearer.as_ref().unwrap().spiffe_id, bench.spiffe("ann"));
    let [throttled] = throttled.as_slice() else { panic!("{throttled:#?}") };
    assert_eq!(
        (throttled.spec.event, throttled.spec.throttle_name.as_deref()),
        (SwapEvent::Throttled, Some("maxWearers"))
    );
}

#[tokio::test]
async fn a_request_is_held_with_a_reason_and_one_record_of_it() {
    let (bench, operator) = Bench::shared().await;
    let hat = bench.hat(json!({"throttles": {"quorumGated": true, "quorumSize": 2}})).await;
    let binding = bench.ask(&hat, "ann").await;
    let waiting = bench.until(&binding, "held", |binding| held(binding).is_some()).await;
    let (reason, message) = held(&waiting).unwrap();
    assert_eq!(reason, "Quorum");
    assert!(message.contains('2'), "{message}");
    let (transitions, throttled) = bench.records(&binding).await;
    assert!(transitions.is_empty());
    assert_eq!(throttled.len(), 1);
    assert!(operator.metric("hatrack_operator_held{reason=\"Quorum\"}").await >= 1.0);
    bench.release(&binding).await;
    gone(&bench.bindings(), &binding.name_any()).await;
    assert_eq!(bench.reasons(&binding).await, ["Withdrawn"]);
}

#[tokio::test]
async fn a_namespace_goes_and_the_end_of_its_hats_is_recorded() {
    let (bench, _) = Bench::shared().await;
    let hat = bench.hat(json!({"throttles": {"quorumGated": false}})).await;
    let bindings = [bench.ask(&hat, "ann").await, bench.ask(&hat, "bob").await];
    for binding in &bindings {
        bench.phase(binding, Phase::Active).await;
    }
    let namespaces: Api<Namespace> = Api::all(bench.admin.clone());
    namespaces.delete(&bench.namespace, &DeleteParams::default()).await.unwrap();
    gone(&namespaces, &bench.namespace).await;
    for binding in &bindings {
        assert_eq!(bench.reasons(binding).await, ["Admitted", "Released"]);
    }
}

#[tokio::test]
async fn a_status_that_was_lost_is_that_of_the_records_again() {
    let (bench, _) = Bench::shared().await;
    let hat = bench.hat(json!({"termSeconds": 3600})).await;
    let binding = bench.ask(&hat, "ann").await;
    let before = bench.phase(&binding, Phase::Active).await.status.unwrap();
    let bindings: Api<HatBinding> = Api::namespaced(bench.forger.clone(), &bench.namespace);
    let nothing = Patch::Merge(json!({"status": null}));
    let lost = bindings.patch_status(&binding.name_any(), &PatchParams::default(), &nothing).await.unwrap();
    assert_eq!(lost.status, None);
    let after = bench.phase(&binding, Phase::Active).await.status.unwrap();
    assert_eq!((after.transitions, &after.bound_at, &after.expires_at), (1, &before.bound_at, &before.expires_at));
    assert_eq!(bench.reasons(&binding).await, ["Admitted"]);
}

#[tokio::test]
async fn what_has_ended_is_kept_until_somebody_deletes_it() {
    let (bench, _) = Bench::shared().await;
    let hat = bench.hat(json!({"termSeconds": 1})).await;
    let binding = bench.ask(&hat, "ann").await;
    let ended = bench.phase(&binding, Phase::Expired).await;
    assert!(ended.status.unwrap().ended_at.is_some());
    bench.release(&binding).await;
    gone(&bench.bindings(), &binding.name_any()).await;
    assert_eq!(bench.reasons(&binding).await, ["Admitted", "TermEnded"]);
}

#[tokio::test]
async fn hats_and_the_policy_say_what_is_worn() {
    let (bench, _) = Bench::shared().await;
    let hat = bench.hat(json!({})).await;
    let binding = bench.ask(&hat, "ann").await;
    let wearer = bench.spiffe("ann");
    let worn = |hat: &Hat| hat.status.as_ref().is_some_and(|status| status.current_wearers == [wearer.clone()]);
    soon("a wearer", until(&bench.hats(), &hat, worn)).await;
    let policies: Api<HatPolicy> = Api::all(bench.admin.clone());
    let counts = |policy: &HatPolicy| policy.status.as_ref().is_some_and(|status| status.active_bindings >= Some(1));
    soon("a count", until(&policies, "default", counts)).await;
    bench.release(&binding).await;
    let over = |hat: &Hat| {
        let status = hat.status.as_ref().unwrap();
        status.current_wearers.is_empty() && status.lifetime_wearers == Some(1) && status.reputation == Some(100)
    };
    soon("a life", until(&bench.hats(), &hat, over)).await;
}
