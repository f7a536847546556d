//! What a test may do to a control plane of its own.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that fails")]

use std::path::Path;
use std::time::{Duration, Instant};

use hatrack_testbed::{ControlPlane, Options, PrivateControlPlane, Server};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::runtime::wait::{await_condition, conditions::is_deleted};
use kube::{Api, ResourceExt as _};

/// Long enough that an answer which has not come will not come.
const SILENCE: Duration = Duration::from_secs(1);

fn without_controllers() -> Options {
    Options { controller_manager: false, ..Options::default() }
}

async fn config_maps(plane: &PrivateControlPlane) -> Api<ConfigMap> {
    Api::namespaced(plane.admin().await.unwrap(), "default")
}

fn named(name: &str) -> ConfigMap {
    let mut config_map = ConfigMap::default();
    config_map.metadata.name = Some(name.into());
    config_map
}

#[tokio::test]
async fn each_server_can_be_killed_and_started_again() {
    let plane = ControlPlane::private(Options::default()).await.unwrap();
    let url = plane.url().to_owned();
    let kept = config_maps(&plane).await.create(&PostParams::default(), &named("kept")).await.unwrap().uid();

    plane.kill(Server::ApiServer).unwrap();
    let refused = config_maps(&plane).await.get("kept").await.unwrap_err();
    assert!(!matches!(refused, kube::Error::Api(_)), "something answered: {refused}");
    plane.start(Server::ApiServer).await.unwrap();
    assert_eq!(plane.url(), url);

    plane.kill(Server::Etcd).unwrap();
    let client = config_maps(&plane).await;
    let (parameters, lost) = (PostParams::default(), named("lost"));
    let write = client.create(&parameters, &lost);
    assert!(!matches!(tokio::time::timeout(SILENCE, write).await, Ok(Ok(_))), "a write succeeded without etcd");
    plane.start(Server::Etcd).await.unwrap();
    plane.ready().await.unwrap();
    assert_eq!(config_maps(&plane).await.get("kept").await.unwrap().uid(), kept);

    plane.kill(Server::ControllerManager).unwrap();
    let namespaces: Api<Namespace> = Api::all(plane.admin().await.unwrap());
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some("ending".into());
    let uid = namespaces.create(&PostParams::default(), &namespace).await.unwrap().uid().unwrap();
    namespaces.delete("ending", &DeleteParams::default()).await.unwrap();
    plane.start(Server::ControllerManager).await.unwrap();
    let gone = await_condition(namespaces, "ending", is_deleted(&uid));
    tokio::time::timeout(Duration::from_mins(1), gone).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_stopped_server_answers_when_it_goes_on() {
    let plane = ControlPlane::private(without_controllers()).await.unwrap();
    let config_maps = config_maps(&plane).await;
    config_maps.list(&ListParams::default()).await.unwrap();

    plane.stop(Server::ApiServer).unwrap();
    let parameters = ListParams::default();
    let mut waiting = Box::pin(config_maps.list(&parameters));
    assert!(tokio::time::timeout(SILENCE, &mut waiting).await.is_err(), "a stopped server answered");
    plane.resume(Server::ApiServer).unwrap();
    waiting.await.unwrap();
}

#[tokio::test]
async fn the_requests_of_a_user_can_be_counted() {
    let plane = ControlPlane::private(without_controllers()).await.unwrap();
    let node = plane.client_for(&plane.node_identity("gpu-1").unwrap()).await.unwrap();
    let config_maps: Api<ConfigMap> = Api::namespaced(node, "default");
    config_maps.get("absent").await.unwrap_err();
    config_maps.create(&PostParams::default(), &named("refused")).await.unwrap_err();

    let requests = plane.requests_of("society:node:gpu-1").unwrap();
    let seen: Vec<_> =
        requests.iter().map(|event| (event.verb.as_str(), event.resource.as_str(), event.status)).collect();
    assert_eq!(seen, [("get", "configmaps", 403), ("create", "configmaps", 403)]);
    assert!(plane.requests_of("society:node:gpu-2").unwrap().is_empty());
}

#[tokio::test]
async fn flags_of_the_test_replace_those_of_the_test_bed() {
    let flags = vec!["--authorization-mode=AlwaysAllow".to_owned()];
    let plane = ControlPlane::private(Options { apiserver_flags: flags, ..without_controllers() }).await.unwrap();
    let nobody = plane.client_certificate("nobody", &[], Duration::from_mins(10)).unwrap();
    let namespaces: Api<Namespace> = Api::all(plane.client_for(&nobody).await.unwrap());
    namespaces.get("default").await.unwrap();
}

#[tokio::test]
async fn a_start_that_fails_says_what_the_server_said() {
    let flags = vec!["--no-such-flag".to_owned()];
    let started = ControlPlane::private(Options { apiserver_flags: flags, ..without_controllers() }).await;
    let error = started.err().unwrap().to_string();
    assert!(error.contains("kube-apiserver ended with"), "{error}");
    assert!(error.contains("unknown flag: --no-such-flag"), "{error}");
}

#[tokio::test]
async fn a_panic_leaves_nothing_behind() {
    let (tell, told) = tokio::sync::oneshot::channel();
    let test = tokio::spawn(async move {
        let plane = ControlPlane::private(without_controllers()).await.unwrap();
        tell.send(plane.folder().to_owned()).unwrap();
        panic!("as a failing assertion does");
    });
    let folder = told.await.unwrap();
    assert!(test.await.unwrap_err().is_panic());
    assert!(!folder.exists());
    // The last to go is nobody's child here, so it may take a moment.
    let start = Instant::now();
    while works_in(&folder) {
        assert!(start.elapsed() < Duration::from_secs(10), "a process still works in {}", folder.display());
        tokio::task::yield_now().await;
    }
}

/// Whether a process works in `folder`. The kernel marks a folder that was removed under a process
/// by a word behind its path.
fn works_in(folder: &Path) -> bool {
    let path = folder.to_string_lossy();
    let mut processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.any(|process| {
        std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.to_string_lossy().starts_with(&*path))
    })
}
