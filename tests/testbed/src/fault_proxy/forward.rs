//! From a client's connection to the API server's and back, through the faults.

use std::io;
use std::sync::Arc;

use futures::stream;
use http::header::{HOST, HeaderName};
use http::{Request, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::net::TcpStream;
use tokio::sync::{Mutex, watch};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::rules::{Response, Verdict};
use super::{Mode, Shared};
use crate::authority::Identity;
use crate::error::{Error, Result};

type AnyBody = UnsyncBoxBody<Bytes, hyper::Error>;
type Answer = http::Response<AnyBody>;

/// The API server behind the proxy.
pub(super) struct Upstream {
    address: String,
    connector: TlsConnector,
}

impl Upstream {
    /// As one identity, or with no certificate.
    pub(super) fn new(url: &str, ca_pem: &str, identity: Option<&Identity>) -> Result<Self> {
        let mut roots = RootCertStore::empty();
        for certificate in certificates(ca_pem)? {
            roots.add(certificate).map_err(Error::Tls)?;
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(Error::Tls)?
            .with_root_certificates(roots);
        let config = match identity {
            Some(identity) => config
                .with_client_auth_cert(certificates(&identity.cert_pem)?, key(&identity.key_pem)?)
                .map_err(Error::Tls)?,
            None => config.with_no_client_auth(),
        };
        Ok(Self {
            address: url.trim_start_matches("https://").to_owned(),
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    async fn connect(&self) -> io::Result<SendRequest<Incoming>> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost").map_err(io::Error::other)?;
        let stream = self.connector.connect(name, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(sender)
    }
}

/// Accepts TLS with the certificate of `identity`, for HTTP/1.1 alone.
pub(super) fn acceptor(identity: &Identity) -> Result<TlsAcceptor> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(Error::Tls)?
        .with_no_client_auth()
        .with_single_cert(certificates(&identity.cert_pem)?, key(&identity.key_pem)?)
        .map_err(Error::Tls)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>().map_err(|error| malformed(&error))
}

fn key(pem: &str) -> Result<PrivateKeyDer<'static>> {
    PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|error| malformed(&error))
}

fn malformed(error: &rustls::pki_types::pem::Error) -> Error {
    Error::Tls(rustls::Error::General(error.to_string()))
}

/// Serves the requests of one connection in turn. Each connection of a client has one of its own
/// to the API server.
pub(super) async fn serve(stream: TcpStream, mode: watch::Receiver<Mode>, shared: Arc<Shared>) {
    flowing(mode.clone()).await;
    let Ok(stream) = shared.acceptor.accept(stream).await else { return };
    let upstream = Arc::new(Mutex::new(None));
    let service = service_fn(|request| {
        let (mode, shared, upstream) = (mode.clone(), Arc::clone(&shared), Arc::clone(&upstream));
        async move { respond(request, mode, &shared, &upstream).await }
    });
    // An error here is a connection that either side closed: what proxies are for.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Waits while the proxy is stalled.
async fn flowing(mut mode: watch::Receiver<Mode>) {
    let _ = mode.wait_for(|mode| !mode.stalled).await;
}

/// An error closes the connection, which is what a client sees when the API server goes.
async fn respond(
    request: Request<Incoming>,
    mode: watch::Receiver<Mode>,
    shared: &Shared,
    upstream: &Mutex<Option<SendRequest<Incoming>>>,
) -> io::Result<Answer> {
    let entry = shared.recorder.received_request(request.method(), request.uri());
    let stalings = is_watch(request.uri()).then(|| mode.borrow().stalings);
    flowing(mode.clone()).await;
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let answer = match shared.rules.judge(request.method(), target) {
        Verdict::Answer(response) => own(&response),
        Verdict::Forward(before, after) => {
            tokio::time::sleep(before).await;
            let answer = forward(request, shared, upstream).await?;
            tokio::time::sleep(after).await;
            answer
        }
    };
    flowing(mode.clone()).await;
    shared.recorder.answered_request(entry, answer.status());
    Ok(answer.map(|body| faulty(body, mode, stalings)))
}

fn is_watch(uri: &Uri) -> bool {
    uri.query().is_some_and(|query| query.split('&').any(|pair| pair == "watch=true" || pair == "watch=1"))
}

/// Passes a body on as it comes, except while the proxy is stalled. `stalings` is, for a watch,
/// how often watches had gone stale when it was asked for: once that has changed, nothing more
/// comes through, not even its end.
fn faulty(body: AnyBody, mode: watch::Receiver<Mode>, stalings: Option<u64>) -> AnyBody {
    let frames = stream::unfold((body, mode), move |(mut body, mode)| async move {
        loop {
            let frame = body.frame().await;
            flowing(mode.clone()).await;
            let now = *mode.borrow();
            let stale = stalings.is_some_and(|before| now.stale_watches || now.stalings != before);
            match frame {
                Some(_) if stale => {}
                None if stale => std::future::pending().await,
                frame => return frame.map(|frame| (frame, (body, mode))),
            }
        }
    });
    StreamBody::new(frames).boxed_unsync()
}

async fn forward(
    request: Request<Incoming>,
    shared: &Shared,
    upstream: &Mutex<Option<SendRequest<Incoming>>>,
) -> io::Result<Answer> {
    let mut upstream = upstream.lock().await;
    let mut sender = match upstream.take().filter(|sender| !sender.is_closed()) {
        Some(sender) => sender,
        None => shared.upstream.connect().await?,
    };
    sender.ready().await.map_err(io::Error::other)?;
    let answer = sender.send_request(towards(request, &shared.upstream.address)?).await.map_err(io::Error::other)?;
    *upstream = Some(sender);
    Ok(answer.map(BodyExt::boxed_unsync))
}

/// The request as it goes on: in origin form, for the API server's own name.
fn towards(request: Request<Incoming>, address: &str) -> io::Result<Request<Incoming>> {
    let (mut head, body) = request.into_parts();
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    head.uri = target.parse::<Uri>().map_err(io::Error::other)?;
    head.headers.insert(HOST, address.parse().map_err(io::Error::other)?);
    head.headers.remove(HeaderName::from_static("connection"));
    Ok(Request::from_parts(head, body))
}

fn own(response: &Response) -> Answer {
    let body = Full::new(Bytes::from(response.body.clone())).map_err(|never| match never {}).boxed_unsync();
    let mut answer = http::Response::new(body);
    *answer.status_mut() = response.status;
    for (name, value) in &response.headers {
        if let (Ok(name), Ok(value)) = (name.parse::<HeaderName>(), value.parse()) {
            answer.headers_mut().insert(name, value);
        }
    }
    answer
}
