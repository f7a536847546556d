//! `/metrics`, `/healthz` and `/readyz` over HTTP.
//!
//! `/healthz` says that the program runs, which is what a supervisor restarts it for. `/readyz` says whether the cluster can rely on
//! it; if not, every reason on a line of its own.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};

/// More at once than Prometheus and two probes need; the rest waits.
const CONNECTIONS: usize = 16;

/// No scrape is longer.
const CONNECTION_TIME: Duration = Duration::from_secs(30);

/// What the pages say.
pub trait Pages: Send + Sync + 'static {
    /// The text that Prometheus reads (OpenMetrics 1.0).
    fn metrics(&self) -> impl Future<Output = Result<String, std::fmt::Error>> + Send;

    /// Why the cluster cannot rely on this program; empty when it can.
    fn doubts(&self) -> Vec<String>;
}

async fn answer(pages: &impl Pages, method: &Method, path: &str) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    if method != Method::GET {
        return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is answered\n");
    }
    match path {
        "/metrics" => match pages.metrics().await {
            Ok(text) => response(StatusCode::OK, OPEN_METRICS, text),
            Err(error) => response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, error.to_string()),
        },
        "/healthz" => response(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" => match pages.doubts() {
            doubts if doubts.is_empty() => response(StatusCode::OK, TEXT, "ok\n"),
            doubts => response(StatusCode::SERVICE_UNAVAILABLE, TEXT, doubts.join("\n") + "\n"),
        },
        _ => response(StatusCode::NOT_FOUND, TEXT, "there is /metrics, /healthz and /readyz\n"),
    }
}

fn response(status: StatusCode, content_type: &'static str, text: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(content_type));
    response
}

/// Opens the listener.
///
/// # Errors
/// When the address cannot be bound.
pub async fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    tracing::info!(address = %listener.local_addr()?, "serving /metrics, /healthz and /readyz");
    Ok(listener)
}

/// Answers without end.
pub async fn serve(listener: TcpListener, pages: Arc<impl Pages>) {
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
        let pages = Arc::clone(&pages);
        tokio::spawn(async move {
            let service = service_fn(move |request: Request<Incoming>| {
                let pages = Arc::clone(&pages);
                async move { Ok::<_, Infallible>(answer(&*pages, request.method(), request.uri().path()).await) }
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
