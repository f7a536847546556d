//! A proxy between a client and the API server that fails on command.

mod forward;
mod recorder;
mod rules;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

use crate::authority::Identity;
use crate::control_plane::ControlPlane;
use crate::error::Result;
use crate::ports::Reservation;

pub use recorder::Recorded;
pub use rules::{Matcher, Response};

use forward::Upstream;
use recorder::Recorder;
use rules::{Rules, lock};

/// What the proxy does with connections and requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Mode {
    /// Whether nothing is answered.
    stalled: bool,
    /// Whether watches that are opened now are stale.
    stale_watches: bool,
    /// Counts up when the watches that are open have gone stale for good.
    stalings: u64,
    /// Counts up when all connections are to be closed.
    cuts: u64,
}

/// An HTTPS server on a port of 127.0.0.1 that forwards to the API server, as one identity, and
/// fails on command. Its certificate is signed by the control plane's authority.
///
/// It speaks HTTP/1.1 and streams bodies in both directions, so watches work through it. A client
/// certificate cannot travel through a proxy that ends TLS: whoever connects acts as the identity
/// that the proxy was made with, or without one as its bearer token.
///
/// Faults last until [`restore`](Self::restore). When the value is dropped, all connections end.
pub struct FaultProxy {
    url: String,
    reservation: Reservation,
    shared: Arc<Shared>,
    /// The task that owns the listener; without one the kernel itself refuses connections.
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// What every connection of a proxy needs.
struct Shared {
    acceptor: TlsAcceptor,
    upstream: Upstream,
    mode: watch::Sender<Mode>,
    rules: Rules,
    recorder: Recorder,
}

impl FaultProxy {
    /// Starts a proxy to `plane` that acts as `identity`. It runs on the runtime of the caller.
    ///
    /// # Errors
    /// When its certificate cannot be made or no port can be had.
    pub fn start(plane: &ControlPlane, identity: &Identity) -> Result<Self> {
        Self::as_one(plane, Some(identity))
    }

    /// Starts a proxy to `plane` that is nobody by itself: whoever connects acts as its bearer token.
    ///
    /// # Errors
    /// Those of [`start`](Self::start).
    pub fn for_tokens(plane: &ControlPlane) -> Result<Self> {
        Self::as_one(plane, None)
    }

    fn as_one(plane: &ControlPlane, identity: Option<&Identity>) -> Result<Self> {
        let reservation = Reservation::new()?;
        let shared = Shared {
            acceptor: forward::acceptor(&plane.server_identity()?)?,
            upstream: Upstream::new(plane.url(), plane.ca_pem(), identity)?,
            mode: watch::Sender::default(),
            rules: Rules::default(),
            recorder: Recorder::default(),
        };
        let url = format!("https://{}", reservation.address());
        let proxy = Self { url, reservation, shared: Arc::new(shared), accepting: Mutex::default() };
        proxy.accept_connections()?;
        Ok(proxy)
    }

    /// The address to put in the client's kubeconfig
    /// ([`ControlPlane::kubeconfig_via`], [`ControlPlane::client_via`]).
    pub fn url(&self) -> &str {
        &self.url
    }

    /// New connections are refused, as by a host where nothing listens; established ones go on.
    /// It is so when this returns.
    pub async fn refuse_connections(&self) {
        let accepting = lock(&self.accepting).take();
        if let Some(accepting) = accepting {
            accepting.abort();
            // The listener is closed when the task has ended, as it was told to.
            let _ = accepting.await;
        }
    }

    /// Established connections are closed and new ones are refused. It is so when this returns.
    pub async fn cut(&self) {
        self.refuse_connections().await;
        self.change(|mode| mode.cuts += 1);
        // Each connection has a receiver of the mode, and nothing else has.
        self.shared.mode.closed().await;
    }

    /// Connections are accepted and stay, and nothing is answered any more: neither a TLS
    /// handshake nor a request nor the rest of an answer that has begun. What waits goes on at
    /// [`restore`](Self::restore), as behind a server that was stopped for a while.
    pub fn stall(&self) {
        self.change(|mode| mode.stalled = true);
    }

    /// Watches that are open now or opened before [`restore`](Self::restore) stay open and carry
    /// nothing more, as after a connection was lost without a trace. They stay so: a watch that
    /// went on after a gap would be one that no network gives.
    pub fn stale_watches(&self) {
        self.change(|mode| mode.stale_watches = true);
    }

    /// Ends every fault and removes every rule.
    ///
    /// # Errors
    /// When the proxy cannot listen again.
    pub fn restore(&self) -> Result<()> {
        self.shared.rules.clear();
        self.change(|mode| {
            // Every watch that is open now was open during the fault and stays stale.
            mode.stalings += u64::from(mode.stale_watches);
            mode.stale_watches = false;
            mode.stalled = false;
        });
        self.accept_connections()
    }

    /// The next `times` requests that match are answered by the proxy and not forwarded.
    pub fn answer(&self, matcher: Matcher, response: Response, times: usize) {
        self.shared.rules.answer(matcher, response, times);
    }

    /// Requests that match are forwarded after `delay`.
    pub fn delay(&self, matcher: Matcher, delay: Duration) {
        self.shared.rules.delay(matcher, delay);
    }

    /// Requests that match are forwarded at once, and what comes of them is told `delay` later.
    pub fn answer_late(&self, matcher: Matcher, delay: Duration) {
        self.shared.rules.answer_late(matcher, delay);
    }

    /// Every request since the start or the last [`clear`](Self::clear), in order of arrival.
    pub fn requests(&self) -> Vec<Recorded> {
        self.shared.recorder.all()
    }

    /// Forgets the requests recorded so far.
    pub fn clear(&self) {
        self.shared.recorder.clear();
    }

    /// Waits until at least `count` requests that match have been recorded and answered, and gives
    /// them. It waits for ever: put a timeout around it.
    pub async fn answered(&self, matcher: &Matcher, count: usize) -> Vec<Recorded> {
        self.shared.recorder.answered(matcher, count).await
    }

    /// Waits until at least `count` requests that match have come, answered or not, and gives them.
    pub async fn received(&self, matcher: &Matcher, count: usize) -> Vec<Recorded> {
        self.shared.recorder.received(matcher, count).await
    }

    fn change(&self, change: impl FnOnce(&mut Mode)) {
        self.shared.mode.send_modify(change);
    }

    /// Listens, if the proxy does not; connections succeed when this returns.
    fn accept_connections(&self) -> Result<()> {
        let mut accepting = lock(&self.accepting);
        if accepting.is_none() {
            *accepting = Some(tokio::spawn(accept(self.reservation.listen()?, Arc::clone(&self.shared))));
        }
        Ok(())
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        if let Some(accepting) = lock(&self.accepting).take() {
            accepting.abort();
        }
        self.change(|mode| mode.cuts += 1);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    loop {
        // An error is one connection that ended before it was taken.
        if let Ok((stream, _)) = listener.accept().await {
            let mode = shared.mode.subscribe();
            // Read here: a cut waits for this task, and so finds every connection with the count before it.
            let cuts = mode.borrow().cuts;
            tokio::spawn(connection(stream, mode, cuts, Arc::clone(&shared)));
        }
    }
}

/// Serves one connection until it ends or is cut, which is when there were more cuts than `before`.
async fn connection(stream: TcpStream, mode: watch::Receiver<Mode>, before: u64, shared: Arc<Shared>) {
    let mut cuts = mode.clone();
    let _ = stream.set_nodelay(true);
    tokio::select! {
        () = forward::serve(stream, mode, shared) => {}
        _ = cuts.wait_for(|mode| mode.cuts != before) => {}
    }
}
