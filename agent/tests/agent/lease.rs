//! The Lease: what it says, and that nothing but an outage or a fence ends it.

use hatrack_api::cluster_node::NodeLease;
use hatrack_testbed::{Matcher, Response};
use http::{Method, StatusCode};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::cluster::Bench;
use crate::soon;

const MACHINE: &str = "server-8gpu";

fn renewed(lease: &NodeLease) -> Option<MicroTime> {
    lease.spec.as_ref()?.renew_time.clone()
}

#[tokio::test]
async fn the_operators_fence_is_taken_over_and_kept() {
    let bench = Bench::new(MACHINE).await;
    let agent = bench.direct().start();
    agent.ready().await;
    let fence = json!({"spec": {"leaseTransitions": 3}});
    let fenced = bench.leases().patch(&bench.name, &PatchParams::default(), &Patch::Merge(fence)).await.unwrap();
    let later = |lease: &NodeLease| renewed(lease) > renewed(&fenced);
    let lease = bench.lease_until("a renewal behind the fence", later).await;
    assert_eq!(lease.spec.unwrap().lease_transitions, Some(3));
    let line = agent.says("the operator had given this node up meanwhile").await;
    assert_eq!(line["transitions"], 3);
}

#[tokio::test]
async fn a_lease_that_is_deleted_is_made_anew() {
    let bench = Bench::new(MACHINE).await;
    let agent = bench.direct().start();
    agent.ready().await;
    let before = bench.leases().get(&bench.name).await.unwrap();
    bench.leases().delete(&bench.name, &DeleteParams::default()).await.unwrap();
    let after = bench.lease_until("another lease", |lease| lease.uid() != before.uid()).await;
    assert_eq!(after.spec.unwrap().holder_identity, before.spec.unwrap().holder_identity);
}

#[tokio::test]
async fn a_busy_server_that_asks_for_a_longer_pause_than_a_lease_lasts_is_asked_once_a_period() {
    let bench = Bench::new(MACHINE).await;
    let proxy = bench.proxy();
    let renewals = Matcher::new(Method::PUT, "/leases/");
    let busy = Response::failure(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", "slow down");
    proxy.answer(renewals.clone(), busy.header("Retry-After", "3600"), 3);
    let agent = bench.through(&proxy).start();
    soon("a renewal after three refusals", proxy.answered(&renewals, 4)).await;
    let busy = agent.metric("hatrack_agent_api_requests_total{verb=\"replace\",outcome=\"busy\"}").await;
    assert!((busy - 3.0).abs() < f64::EPSILON, "{busy}");
    agent.ready().await;
}

#[tokio::test]
async fn a_status_that_is_refused_does_not_end_the_lease() {
    let bench = Bench::new(MACHINE).await;
    let proxy = bench.proxy();
    let invalid = Response::failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", "status.system: Required value");
    proxy.answer(Matcher::new(Method::PATCH, "/status"), invalid, usize::MAX);
    let agent = bench.through(&proxy).start();
    agent.not_ready("refused as invalid: status.system: Required value").await;
    soon("renewals", proxy.answered(&Matcher::new(Method::PUT, "/leases/"), 5)).await;
    let text = agent.not_ready("refused as invalid").await;
    assert!(!text.contains("Lease"), "{text}");
    let renewal = bench.leases().get(&bench.name).await.unwrap();
    bench.lease_until("one more", |lease| renewed(lease) > renewed(&renewal)).await;
    proxy.restore().unwrap();
    agent.ready().await;
}

#[tokio::test]
async fn the_lease_stays_as_it_is_when_the_agent_stops() {
    let bench = Bench::new(MACHINE).await;
    let agent = bench.direct().start();
    agent.ready().await;
    assert!(agent.stop().await.success());
    let lease = bench.leases().get(&bench.name).await.unwrap().spec.unwrap();
    assert!(lease.holder_identity.is_some_and(|holder| !holder.is_empty()));
    assert_eq!(lease.lease_duration_seconds, Some(2));
}
