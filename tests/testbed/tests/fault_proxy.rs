//! Each fault of the proxy, in front of the real API server.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that fails")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::BoxStream;
use futures::{StreamExt as _, TryStreamExt as _};
use hatrack_testbed::{ControlPlane, FaultProxy, Matcher, Response, unique};
use http::{Method, StatusCode};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::api::{DeleteParams, PostParams, WatchEvent, WatchParams};

/// Bounds what must come.
const PATIENCE: Duration = Duration::from_mins(1);

/// Long enough that what has not come through a healthy proxy will not come.
const SILENCE: Duration = Duration::from_secs(1);

struct Bed {
    plane: Arc<ControlPlane>,
    proxy: FaultProxy,
}

impl Bed {
    async fn new() -> Self {
        let plane = ControlPlane::shared().await.unwrap();
        let proxy = FaultProxy::start(&plane, &plane.admin_identity().unwrap()).unwrap();
        Self { plane, proxy }
    }

    /// A client that goes through the proxy, with connections of its own. It does not try again
    /// by itself: each request is seen once.
    async fn config_maps(&self) -> Api<ConfigMap> {
        let identity = self.plane.admin_identity().unwrap();
        let path = self.plane.kubeconfig_via(self.proxy.url(), &identity).unwrap();
        let kubeconfig = kube::config::Kubeconfig::read_from(path).unwrap();
        let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
            .await
            .unwrap();
        config.default_retry = false;
        Api::namespaced(kube::Client::try_from(config).unwrap(), "default")
    }

    /// A client that goes to the API server itself.
    async fn directly(&self) -> Api<ConfigMap> {
        Api::namespaced(self.plane.admin().await.unwrap(), "default")
    }
}

fn named(name: &str) -> ConfigMap {
    let mut config_map = ConfigMap::default();
    config_map.metadata.name = Some(name.into());
    config_map
}

async fn create(api: &Api<ConfigMap>, name: &str) {
    api.create(&PostParams::default(), &named(name)).await.unwrap();
}

type Names = BoxStream<'static, kube::Result<String>>;

/// The names that a watch of one name reports: an event for each change of the object.
async fn watch(api: &Api<ConfigMap>, name: &str) -> Names {
    let parameters = WatchParams::default().fields(&format!("metadata.name={name}")).disable_bookmarks();
    let events = api.watch(&parameters, "0").await.unwrap();
    let name_of = |event: WatchEvent<ConfigMap>| async move {
        match event {
            WatchEvent::Added(object) | WatchEvent::Modified(object) | WatchEvent::Deleted(object) => {
                Ok(object.metadata.name)
            }
            _ => Ok(None),
        }
    };
    events.try_filter_map(name_of).boxed()
}

async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap()
}

fn no_answer<T: std::fmt::Debug>(result: &kube::Result<T>) -> bool {
    matches!(result, Err(error) if !matches!(error, kube::Error::Api(_)))
}

#[tokio::test]
async fn requests_go_through_and_are_recorded() {
    let bed = Bed::new().await;
    let config_maps = bed.config_maps().await;
    let name = unique("through");
    create(&config_maps, &name).await;
    config_maps.get(&unique("absent")).await.unwrap_err();

    let requests = bed.proxy.requests();
    let seen: Vec<_> = requests.iter().map(|request| (request.method.clone(), request.status)).collect();
    assert_eq!(seen, [(Method::POST, Some(StatusCode::CREATED)), (Method::GET, Some(StatusCode::NOT_FOUND))]);
    assert_eq!(requests[0].path, "/api/v1/namespaces/default/configmaps");
    assert!(requests[0].received <= requests[1].received);
    bed.directly().await.get(&name).await.unwrap();

    bed.proxy.clear();
    assert!(bed.proxy.requests().is_empty());
}

#[tokio::test]
async fn the_proxy_acts_as_its_own_identity() {
    let plane = ControlPlane::shared().await.unwrap();
    let proxy = FaultProxy::start(&plane, &plane.node_identity("gpu-1").unwrap()).unwrap();
    let client = plane.client_via(proxy.url(), &plane.admin_identity().unwrap()).await.unwrap();
    let config_maps: Api<ConfigMap> = Api::namespaced(client, "default");
    let Err(kube::Error::Api(status)) = config_maps.get("any").await else { panic!("a node read a config map") };
    assert!(status.message.contains("User \"society:node:gpu-1\" cannot get"), "{}", status.message);
}

#[tokio::test]
async fn a_watch_streams() {
    let bed = Bed::new().await;
    let name = unique("streamed");
    let mut events = watch(&bed.config_maps().await, &name).await;
    create(&bed.directly().await, &name).await;
    assert_eq!(within(events.next()).await.unwrap().unwrap(), name);
    assert_eq!(bed.proxy.answered(&Matcher::watch(), 1).await.len(), 1);
}

#[tokio::test]
async fn refused_connections_leave_established_ones_alone() {
    let bed = Bed::new().await;
    let name = unique("refused");
    let mut events = watch(&bed.config_maps().await, &name).await;
    bed.proxy.refuse_connections().await;
    assert!(no_answer(&bed.config_maps().await.get_opt("any").await));
    create(&bed.directly().await, &name).await;
    assert_eq!(within(events.next()).await.unwrap().unwrap(), name);

    bed.proxy.restore().unwrap();
    bed.config_maps().await.get(&name).await.unwrap();
}

#[tokio::test]
async fn a_cut_ends_established_connections() {
    let bed = Bed::new().await;
    let mut events = watch(&bed.config_maps().await, &unique("cut")).await;
    bed.proxy.cut().await;
    assert!(!matches!(within(events.next()).await, Some(Ok(_))));
    assert!(no_answer(&bed.config_maps().await.get_opt("any").await));

    bed.proxy.restore().unwrap();
    bed.config_maps().await.get_opt("any").await.unwrap();
}

#[tokio::test]
async fn a_stalled_proxy_accepts_and_answers_when_restored() {
    let bed = Bed::new().await;
    let (old, new) = (bed.config_maps().await, bed.config_maps().await);
    old.get_opt("any").await.unwrap();
    bed.proxy.stall();
    let mut waiting = Box::pin(futures::future::join(old.get_opt("any"), new.get_opt("any")));
    assert!(tokio::time::timeout(SILENCE, &mut waiting).await.is_err(), "a stalled proxy answered");
    // The request on the established connection was read; it has no status.
    assert_eq!(bed.proxy.requests().iter().filter(|request| request.status.is_none()).count(), 1);

    bed.proxy.restore().unwrap();
    let (old, new) = within(waiting).await;
    old.unwrap();
    new.unwrap();
}

#[tokio::test]
async fn answers_are_given_as_often_as_asked_and_where_they_match() {
    let bed = Bed::new().await;
    let config_maps = bed.config_maps().await;
    let (refused, other) = (unique("refused"), unique("other"));
    create(&config_maps, &refused).await;
    let response = Response::failure(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", "slow down");
    bed.proxy.answer(Matcher::new(Method::GET, &refused), response.header("retry-after", "7"), 2);

    config_maps.get_opt(&other).await.unwrap();
    for _ in 0..2 {
        let Err(kube::Error::Api(status)) = config_maps.get(&refused).await else { panic!("it was forwarded") };
        assert_eq!((status.code, status.message.as_str()), (429, "slow down"));
    }
    config_maps.get(&refused).await.unwrap();
    assert_eq!(bed.proxy.answered(&Matcher::path(&refused), 3).await.len(), 3);
}

#[tokio::test]
async fn headers_of_an_answer_arrive() {
    let bed = Bed::new().await;
    let response = Response::new(StatusCode::OK, "{}").header("date", "Thu, 01 Jan 1970 00:00:00 GMT");
    bed.proxy.answer(Matcher::path("/version"), response, 1);
    let client = bed.plane.client_via(bed.proxy.url(), &bed.plane.admin_identity().unwrap()).await.unwrap();
    let request = http::Request::get("/version").body(kube::client::Body::empty()).unwrap();
    let answer = client.send(request).await.unwrap();
    assert_eq!(answer.headers()["date"], "Thu, 01 Jan 1970 00:00:00 GMT");
}

#[tokio::test]
async fn a_delay_holds_what_matches() {
    let bed = Bed::new().await;
    let config_maps = bed.config_maps().await;
    let delay = Duration::from_millis(300);
    let start = Instant::now();
    bed.proxy.delay(Matcher::path("slow"), delay);
    config_maps.get_opt("slow").await.unwrap();
    assert!(start.elapsed() >= delay);
}

#[tokio::test]
async fn a_stale_watch_stays_silent_and_a_new_one_works() {
    let bed = Bed::new().await;
    let config_maps = bed.config_maps().await;
    let directly = bed.directly().await;
    let name = unique("stale");
    let mut before = watch(&config_maps, &name).await;
    bed.proxy.stale_watches();
    let mut during = watch(&config_maps, &name).await;
    create(&directly, &name).await;
    config_maps.get(&name).await.unwrap();
    bed.proxy.restore().unwrap();

    let mut after = watch(&config_maps, &name).await;
    assert_eq!(within(after.next()).await.unwrap().unwrap(), name);
    // A change after the fault, so that both would carry something if they had come back to life.
    directly.delete(&name, &DeleteParams::default()).await.unwrap();
    assert_eq!(within(after.next()).await.unwrap().unwrap(), name);
    for (kind, silent) in [("before", &mut before), ("during", &mut during)] {
        let event = tokio::time::timeout(SILENCE, silent.next()).await;
        assert!(event.is_err(), "the watch opened {kind} the fault carried {event:?}");
    }
}
