//! The API server is away, slow, busy or half there.

use std::time::Duration;

use hatrack_testbed::{FaultProxy, Matcher, Response, timed};
use http::{Method, StatusCode};
use serde_json::json;

use crate::cluster::{Bench, system_name};
use crate::program::Agent;
use crate::soon;

const MACHINE: &str = "server-8gpu";

fn writes() -> Matcher {
    Matcher::new(Method::PATCH, "/clusternodes/")
}

fn status_writes() -> Matcher {
    Matcher::new(Method::PATCH, "/status")
}

#[tokio::test]
async fn it_starts_without_the_api_and_registers_when_it_comes() {
    let bench = Bench::new(MACHINE).await;
    let proxy = bench.proxy();
    proxy.cut().await;
    let agent = bench.through(&proxy).start();
    agent.not_ready("has not been read yet").await;
    agent.says("the API server cannot be reached").await;
    proxy.restore().unwrap();
    agent.ready().await;
    assert_eq!(bench.node().await.status.unwrap().devices.unwrap().len(), 8);
}

#[tokio::test]
async fn after_an_outage_the_newest_state_goes_out_and_no_older_one() {
    let bench = Bench::new(MACHINE).await;
    let proxy = bench.proxy();
    let agent = bench.through(&proxy).start();
    agent.ready().await;
    proxy.cut().await;
    let mut looks = 0.0;
    for name in ["Lost 1", "Lost 2", "Lost 3"] {
        bench.rename_system(name);
        agent.look_again();
        agent.looked(looks + 1.0).await;
        looks += 1.0;
    }
    agent.not_ready("cannot be reached").await;
    bench.rename_system("Found");
    agent.look_again();
    agent.looked(looks + 1.0).await;
    proxy.clear();
    proxy.restore().unwrap();
    let found = bench.node_until("the newest name", |node| system_name(node) == Some("Found"));
    timed("the API server can be reached again, the newest state is shown", found).await;
    agent.ready().await;
    let written: Vec<_> = proxy.requests().into_iter().filter(|request| request.path.ends_with("/status")).collect();
    assert_eq!(written.len(), 1, "{written:#?}");
}

#[tokio::test]
async fn a_stalled_connection_is_given_up() {
    let bench = Bench::new(MACHINE).await;
    let proxy = bench.proxy();
    let agent = bench.through(&proxy).start();
    agent.ready().await;
    proxy.stall();
    agent.not_ready("did not answer within 2s").await;
    proxy.restore().unwrap();
    agent.ready().await;
}

#[tokio::test]
async fn server_errors_are_tried_again() {
    let bench = Bench::new(MACHINE).await;
    let proxy = bench.proxy();
    proxy.answer(writes(), Response::failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "etcd is away"), 3);
    let agent = bench.through(&proxy).start();
    agent.says("500 Internal Server Error: etcd is away").await;
    agent.ready().await;
    let failed = agent.metric("hatrack_agent_api_requests_total{verb=\"apply\",outcome=\"server_error\"}").await;
    assert!((failed - 3.0).abs() < f64::EPSILON, "{failed}");
    agent.says("this machine can be registered again").await;
    assert_eq!(agent.count("this machine's state cannot be written to its ClusterNode"), 1, "said once");
}

#[tokio::test]
async fn a_busy_server_says_when_to_come_back() {
    let bench = Bench::new(MACHINE).await;
    let proxy = bench.proxy();
    let busy =
        Response::failure(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", "slow down").header("Retry-After", "1");
    proxy.answer(writes(), busy, 1);
    let agent = bench.through(&proxy).start();
    agent.ready().await;
    let attempts = proxy.requests().into_iter().filter(|request| request.method == Method::PATCH);
    let attempts: Vec<_> = attempts.filter(|request| request.path.contains("/clusternodes/")).collect();
    assert_eq!(attempts[0].status, Some(StatusCode::TOO_MANY_REQUESTS));
    let waited = attempts[1].received.duration_since(attempts[0].received).unwrap();
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
}

#[tokio::test]
async fn a_watch_that_goes_stale_is_replaced() {
    let bench = Bench::new(MACHINE).await;
    let proxy = bench.proxy();
    let mut setup = bench.through(&proxy);
    setup.api("watch-silence", "300ms");
    let agent = setup.start();
    agent.ready().await;
    proxy.stale_watches();
    bench.patch(json!({"spec": {"expects": {"gpus": 9}}})).await;
    let seen = |node: &hatrack_api::ClusterNode| node.status.as_ref().unwrap().observed_generation == Some(2);
    let change = bench.node_until("the change that the watch did not bring", seen);
    timed("a watch went stale (given up after 0.3 s of silence), a change is seen", change).await;
}

#[tokio::test]
async fn a_watch_that_is_refused_as_too_old_begins_anew() {
    let bench = Bench::new(MACHINE).await;
    let proxy = bench.proxy();
    let gone = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old"}}"#;
    proxy.answer(Matcher::watch(), Response::new(StatusCode::OK, format!("{gone}\n")), 1);
    proxy.answer(Matcher::watch(), Response::failure(StatusCode::GONE, "Expired", "too old resource version"), 1);
    let agent = bench.through(&proxy).start();
    agent.ready().await;
    soon("a third watch", proxy.received(&Matcher::watch(), 3)).await;
    bench.patch(json!({"spec": {"expects": {"gpus": 9}}})).await;
    let seen = |node: &hatrack_api::ClusterNode| node.status.as_ref().unwrap().observed_generation == Some(2);
    bench.node_until("the change", seen).await;
}

/// Every watch is answered so: it is asked for less and less often.
async fn asked_less_and_less(answer: Response) -> (Bench, FaultProxy, Agent) {
    let bench = Bench::new(MACHINE).await;
    let proxy = bench.proxy();
    proxy.answer(Matcher::watch(), answer, usize::MAX);
    let agent = bench.through(&proxy).start();
    let watches = soon("watches in vain", proxy.answered(&Matcher::watch(), 8)).await;
    let waited = watches[7].received.duration_since(watches[6].received).unwrap();
    // Half of `backoff.max`: the pause has grown as far as it can.
    assert!(waited >= Duration::from_millis(150), "{waited:?}");
    (bench, proxy, agent)
}

#[tokio::test]
async fn a_server_that_lists_and_refuses_watches_is_asked_less_and_less_and_has_not_recovered_with_each_list() {
    let busy = Response::failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "no watches");
    let (bench, proxy, agent) = asked_less_and_less(busy).await;
    let (begins, ends) = ("this machine's ClusterNode cannot be read", "this machine's ClusterNode can be read again");
    assert_eq!((agent.count(begins), agent.count(ends)), (1, 0));
    proxy.restore().unwrap();
    soon("a watch", proxy.answered(&Matcher::watch(), 9)).await;
    bench.patch(json!({"spec": {"expects": {"gpus": 9}}})).await;
    agent.says(ends).await;
    assert_eq!(agent.count(begins), 1);
}

#[tokio::test]
async fn a_server_that_ends_watches_as_they_begin_is_asked_less_and_less() {
    asked_less_and_less(Response::new(StatusCode::OK, "")).await;
}

/// A status that is refused for its version so many times is written after all. Says how often that was told as trouble.
async fn written_after_conflicts(times: u16) -> usize {
    let bench = Bench::new(MACHINE).await;
    let proxy = bench.proxy();
    let outdated = Response::failure(StatusCode::CONFLICT, "Conflict", "the object has been modified");
    proxy.answer(status_writes(), outdated, times.into());
    let agent = bench.through(&proxy).start();
    agent.ready().await;
    let failed = agent.metric("hatrack_agent_api_requests_total{verb=\"apply\",outcome=\"outdated\"}").await;
    assert!((failed - f64::from(times)).abs() < f64::EPSILON, "{failed}");
    agent.count("this machine's state cannot be written to its ClusterNode")
}

#[tokio::test]
async fn a_status_that_is_refused_for_its_version_is_written_anew() {
    assert_eq!(written_after_conflicts(2).await, 1);
}

#[tokio::test]
async fn that_somebody_else_wrote_first_is_no_trouble() {
    assert_eq!(written_after_conflicts(1).await, 0);
}
