//! The operator was down, the API server was, or a watch brought nothing.

use hatrack_api::HatBinding;
use hatrack_api::access::hat_role_name;
use hatrack_api::hat_binding::Phase;
use hatrack_api::hat_swap::HatSwap;
use hatrack_testbed::{FaultProxy, Matcher, Server, soon, timed};
use http::Method;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Duration;

use crate::cluster::{Bench, breakable, gone, until};
use crate::program::Setup;

#[tokio::test]
async fn what_was_deleted_while_no_operator_ran_loses_its_authority_at_the_next_start() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let hat = bench.hat(json!({})).await;
    let operator = cluster.operator().start(cluster.plane.folder());
    let (orderly, forced) = (bench.ask(&hat, "ann").await, bench.ask(&hat, "bob").await);
    let bindings: Api<RoleBinding> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    let names = [&orderly, &forced].map(|binding| hat_role_name(&hat, &binding.uid().unwrap()));
    for name in &names {
        soon("the role binding", until(&bindings, name, |_| true)).await;
    }
    drop(operator);
    bench.release(&orderly).await;
    bench.release(&forced).await;
    // Somebody takes the finalizer off: nobody sees the binding go.
    let forger: Api<HatBinding> = Api::namespaced(bench.forger.clone(), &bench.namespace);
    let bare = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    forger.patch(&forced.name_any(), &PatchParams::default(), &bare).await.unwrap();
    gone(&bench.bindings(), &forced.name_any()).await;
    let _operator = cluster.operator().start(cluster.plane.folder());
    let roles: Api<Role> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    for name in &names {
        gone(&bindings, name).await;
        gone(&roles, name).await;
    }
    gone(&bench.bindings(), &orderly.name_any()).await;
    assert_eq!(bench.reasons(&orderly).await, ["Admitted", "Released"]);
}

#[tokio::test]
async fn an_api_server_that_was_away_is_found_again() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let hat = bench.hat(json!({})).await;
    let operator = cluster.operator().start(cluster.plane.folder());
    operator.ready().await;
    let before = bench.ask(&hat, "ann").await;
    bench.phase(&before, Phase::Active).await;
    cluster.plane.kill(Server::ApiServer).unwrap();
    operator.not_ready("are not watched").await;
    operator.says("the cluster cannot be watched").await;
    cluster.plane.start(Server::ApiServer).await.unwrap();
    operator.ready().await;
    cluster.forgive();
    let bench = Bench { admin: cluster.plane.admin().await.unwrap(), ..bench };
    let after = bench.ask(&hat, "bob").await;
    bench.phase(&after, Phase::Active).await;
    operator.ready().await;
    // Connections that break, connections that are refused: ten watches say each once.
    let said = operator.count("the cluster cannot be watched");
    assert!((1..=4).contains(&said), "{said}");
    for binding in [&before, &after] {
        assert_eq!(bench.reasons(binding).await, ["Admitted"]);
    }
}

#[tokio::test]
async fn a_record_that_somebody_else_made_first_is_finished_as_it_is() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let hat = bench.hat(json!({"termSeconds": 4})).await;
    let identity = cluster.identity();
    let proxy = FaultProxy::start(&cluster.plane, &identity).unwrap();
    let operator = Setup::new(&cluster.kubeconfig(proxy.url())).start(cluster.plane.folder());
    operator.ready().await;
    let binding = bench.ask(&hat, "ann").await;
    let active = bench.phase(&binding, Phase::Active).await;
    // From now on the operator hears nothing, and when the term ends it decides by what it knows.
    proxy.stale_watches();
    let uid = binding.uid().unwrap();
    let (first, _) = bench.records(&binding).await;
    let mut spec = first[0].spec.clone();
    let outcome = spec.outcome.as_mut().unwrap();
    outcome.phase = Phase::Revoked;
    outcome.ended_at = active.status.unwrap().bound_at;
    spec.event = hatrack_api::hat_swap::SwapEvent::SwapOff;
    (spec.reason, spec.message) = (Some("Revoked".to_owned()), Some("by somebody else".to_owned()));
    let mut record = HatSwap::new(&format!("{uid}-2"), spec);
    record.metadata.namespace = Some(hatrack_api::SYSTEM_NAMESPACE.to_owned());
    let swaps: Api<HatSwap> = Api::namespaced(bench.forger.clone(), hatrack_api::SYSTEM_NAMESPACE);
    swaps.create(&PostParams::default(), &record).await.unwrap();
    bench.phase(&binding, Phase::Revoked).await;
    assert_eq!(bench.reasons(&binding).await, ["Admitted", "Revoked"]);
    let overtaken = "hatrack_operator_actions_total{action=\"record\",outcome=\"overtaken\"}";
    assert!(operator.metric(overtaken).await > 0.0, "the record was there already");
}

#[tokio::test]
async fn what_the_watch_brings_before_the_answer_to_an_older_write_counts() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let hat = bench.hat(json!({})).await;
    let proxy = FaultProxy::start(&cluster.plane, &cluster.identity()).unwrap();
    let operator = Setup::new(&cluster.kubeconfig(proxy.url())).start(cluster.plane.folder());
    operator.ready().await;
    proxy.answer_late(Matcher::new(Method::PATCH, "/hatbindings/"), Duration::from_secs(1));
    let binding = bench.ask(&hat, "ann").await;
    bench.phase(&binding, Phase::Active).await;
    let bindings: Api<HatBinding> = Api::namespaced(bench.forger.clone(), &bench.namespace);
    let nothing = Patch::Merge(json!({"status": null}));
    bindings.patch_status(&binding.name_any(), &PatchParams::default(), &nothing).await.unwrap();
    timed(
        "a status was lost before the answer to the last write came, it is written anew",
        bench.phase(&binding, Phase::Active),
    )
    .await;
    assert_eq!(bench.reasons(&binding).await, ["Admitted"]);
}

/// Answers come a second late: what somebody does to a role binding as soon as it is there is known before the operator's own write is.
#[tokio::test]
async fn a_grant_that_is_changed_or_deleted_before_its_making_is_answered_is_made_whole() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let proxy = FaultProxy::start(&cluster.plane, &cluster.identity()).unwrap();
    let operator = Setup::new(&cluster.kubeconfig(proxy.url())).start(cluster.plane.folder());
    operator.ready().await;
    proxy.answer_late(Matcher::new(Method::PATCH, "/rolebindings/"), Duration::from_secs(1));
    let roles: Api<RoleBinding> = Api::namespaced(bench.admin.clone(), &bench.namespace);

    let hat = bench.hat(json!({})).await;
    let name = hat_role_name(&hat, &bench.ask(&hat, "ann").await.uid().unwrap());
    let made = until(&roles, &name, |_| true).await;
    let nobody = Patch::Merge(json!({"subjects": []}));
    roles.patch(&name, &PatchParams::default(), &nobody).await.unwrap();
    let is_whole = |bound: &RoleBinding| bound.subjects == made.subjects;
    timed("a grant was changed before the answer to its making came, it is whole", until(&roles, &name, is_whole))
        .await;

    let hat = bench.hat(json!({})).await;
    let name = hat_role_name(&hat, &bench.ask(&hat, "bob").await.uid().unwrap());
    let made = until(&roles, &name, |_| true).await.uid();
    roles.delete(&name, &DeleteParams::default()).await.unwrap();
    let is_anew = |bound: &RoleBinding| bound.uid() != made;
    timed("a grant was deleted before the answer to its making came, it is made anew", until(&roles, &name, is_anew))
        .await;
}

#[tokio::test]
async fn it_starts_without_access_and_says_what_it_lacks() {
    let cluster = breakable().await;
    let folder = cluster.plane.folder();
    let missing = folder.join("not-there-yet.kubeconfig");
    let operator = Setup::new(&missing).start(folder);
    let why = operator.not_ready("there is no usable access to the API server").await;
    assert!(why.contains("not-there-yet.kubeconfig"), "{why}");
    let line = operator.says("the cluster cannot be watched").await;
    assert!(line["hint"].as_str().unwrap().contains("api.kubeconfig"), "{line}");
    std::fs::copy(cluster.kubeconfig(cluster.plane.url()), &missing).unwrap();
    operator.ready().await;
}

#[tokio::test]
async fn a_certificate_that_expires_is_told_and_its_successor_is_taken() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let hat = bench.hat(json!({})).await;
    let folder = cluster.plane.folder();
    let file = folder.join("renewed.kubeconfig");
    let short = cluster.plane.client_certificate("society:operator", &[], Duration::from_secs(10)).unwrap();
    std::fs::rename(cluster.plane.kubeconfig_for(&short).unwrap(), &file).unwrap();
    let operator = Setup::new(&file).start(folder);
    operator.ready().await;
    operator.not_ready("Unauthorized").await;
    let line = operator.says("the leader's Lease cannot be written").await;
    assert!(line["hint"].as_str().unwrap().contains("renew the operator's certificate"), "{line}");
    let binding = bench.ask(&hat, "ann").await;
    std::fs::rename(cluster.kubeconfig(cluster.plane.url()), &file).unwrap();
    timed("the operator has a new certificate, what was asked for is Active", bench.phase(&binding, Phase::Active))
        .await;
    operator.ready().await;
    assert_eq!(bench.reasons(&binding).await, ["Admitted"]);
}
