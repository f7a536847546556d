//! `/metrics`, `/healthz` and `/readyz`.
//!
//! * In: the outputs of every other task. Out: answers over HTTP.
//!
//! `/healthz` says that the agent runs, which is what a supervisor restarts it for. `/readyz` says whether the cluster can
//! rely on it: the object shows the newest state and the Lease is renewed; if not, every reason on a line of its own.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hatrack_discover::root::Root;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::clock::{Clock, since_boot};
use crate::lease::Renewal;
use crate::metrics::{Metrics, Values};
use crate::observe::{Activity, Observation};
use crate::own::Own;
use crate::publish::Publication;
use crate::standing::Standing;
use crate::state::Kept;

/// More at once than Prometheus and two probes need; the rest waits.
const CONNECTIONS: usize = 16;

/// No scrape is longer.
const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// A look takes milliseconds. One that takes longer than this hangs in a driver.
const LOOK_HANGS: Duration = Duration::from_mins(1);

/// What the other tasks say.
pub struct View {
    /// The newest observation.
    pub observations: watch::Receiver<Option<Arc<Observation>>>,
    /// What the observer is doing.
    pub activity: watch::Receiver<Activity>,
    /// The object.
    pub own: Own,
    /// What became of the newest observation.
    pub publications: watch::Receiver<Publication>,
    /// What is known of the Lease.
    pub renewals: watch::Receiver<Renewal>,
    /// How long a Lease lasts.
    pub lease_duration: Duration,
    /// Whether the newest state is on disk.
    pub kept: watch::Receiver<Kept>,
    /// The time.
    pub clock: Arc<Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The tree that is discovered.
    pub root: PathBuf,
}

impl View {
    /// Whether this machine may speak for its object.
    pub fn standing(&self) -> Standing {
        let observation = self.observations.borrow().clone();
        let ours = observation.as_ref().and_then(|observation| observation.inventory().hardware_id.as_deref());
        Standing::of(&self.own.get(), ours)
    }

    /// Why the cluster cannot rely on this agent; empty when it can.
    pub fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        match &*self.publications.borrow() {
            Publication::Shown => {}
            Publication::Waiting(why) | Publication::Failed(why) => doubts.push(format!("not registered: {why}")),
        }
        let renewal = self.renewals.borrow().clone();
        if self.lease_age().is_none_or(|age| age >= self.lease_duration) {
            let why = renewal.failure.unwrap_or_else(|| self.standing().to_string());
            doubts.push(format!("the Lease is not renewed: {why}"));
        }
        if let Some(since) = self.activity.borrow().looking_since
            && since.elapsed() > LOOK_HANGS
        {
            doubts.push(format!("looking at this machine has not ended for {:?}", since.elapsed()));
        }
        doubts
    }

    fn lease_age(&self) -> Option<Duration> {
        self.renewals.borrow().accepted.map(|accepted| since_boot().saturating_sub(accepted.sent))
    }

    fn values(&self) -> Values {
        let observation = self.observations.borrow().clone();
        let devices = observation.as_ref().map(|observation| observation.inventory().devices.as_slice());
        Values {
            devices: devices.unwrap_or_default().iter().map(|device| (device.class, device.health.state)).collect(),
            registered: matches!(&*self.publications.borrow(), Publication::Shown),
            lease_age: self.lease_age().map_or(f64::NAN, |age| age.as_secs_f64()),
            clock_skew: self.clock.skew().map_or(f64::NAN, |skew| skew.as_secs_f64()),
            state_kept: self.kept.borrow().failure.is_none(),
        }
    }

    /// The gauges of the machine are read from files, which can take a while.
    async fn measured(&self) -> Result<String, std::fmt::Error> {
        let (metrics, root) = (Arc::clone(&self.metrics), Root::at(&self.root));
        if let Err(error) = spawn_blocking(move || metrics.host.measure(&root)).await {
            tracing::error!(%error, "the machine's gauges were not measured");
        }
        self.metrics.text(&self.values())
    }

    async fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; charset=utf-8";
        const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        if method != Method::GET {
            return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is answered\n");
        }
        match path {
            "/metrics" => match self.measured().await {
                Ok(text) => response(StatusCode::OK, OPEN_METRICS, text),
                Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
            },
            "/healthz" => response(StatusCode::OK, TEXT, "ok\n"),
            "/readyz" => match self.doubts() {
                doubts if doubts.is_empty() => response(StatusCode::OK, TEXT, "ok\n"),
                doubts => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, doubts.join("\n") + "\n"),
            },
            _ => response(StatusCode::NOT_FOUND, TEXT, "there is /metrics, /healthz and /readyz\n"),
        }
    }
}

fn response(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

/// Opens the listener.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "serving /metrics, /healthz and /readyz");
    Ok(listener)
}

/// Answers without end.
pub async fn serve(listener: TcpListener, view: Arc<View>) {
    let free = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&free).acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "a connection was not accepted");
                sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let view = Arc::clone(&view);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let view = Arc::clone(&view);
                async move { Ok::<_, Infallible>(view.answer(request.method(), request.uri().path()).await) }
            });
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            if let Ok(Err(error)) = timeout(CONNECTION_TIME, connection).await {
                tracing::debug!(%error, "a connection broke");
            }
            drop(place);
        });
    }
}
