//! A proxy between a client and the API server that fails on command.

mod forward;
mod recorder;
mod rules;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
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
use rules::Rules;

/// What the proxy does with connections and requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Mode {
    /// Whether new connections are taken.
    accepts: bool,
    /// Whether anything is answered.
    stalled: bool,
    /// Whether watches that are opened now are stale.
    stale_watches: bool,
    /// Counts up when the watches that are open go stale.
    stalings: u64,
    /// Counts up when all connections are to be closed.
    cuts: u64,
}

const HEALTHY: Mode = Mode { accepts: true, stalled: false, stale_watches: false, stalings: 0, cuts: 0 };

/// An HTTPS server on a port of 127.0.0.1 that forwards to the API server, as one identity, and
/// fails on command. Its certificate is signed by the control plane's authority.
///
/// It speaks HTTP/1.1 and streams bodies in both directions, so watches work through it. A client
/// certificate cannot travel through a proxy that ends TLS: whoever connects acts as the identity
/// that the proxy was made with.
///
/// Faults last until [`restore`](Self::restore). When the value is dropped, all connections end.
pub struct FaultProxy {
    url: String,
    mode: Arc<watch::Sender<Mode>>,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

/// What every connection of a proxy needs.
struct Shared {
    upstream: Upstream,
    rules: Rules,
    recorder: Recorder,
}

impl FaultProxy {
    /// Starts a proxy to `plane` that acts as `identity`.
    ///
    /// # Errors
    /// When its certificate cannot be made or no port can be had.
    pub fn start(plane: &ControlPlane, identity: &Identity) -> Result<Self> {
        let reservation = Reservation::new()?;
        let acceptor = forward::acceptor(&plane.server_identity()?)?;
        let shared = Arc::new(Shared {
            upstream: Upstream::new(plane.url(), identity)?,
            rules: Rules::default(),
            recorder: Recorder::default(),
        });
        let mode = Arc::new(watch::Sender::new(HEALTHY));
        let url = format!("https://{}", reservation.address());
        // Bound before this returns, so that the first connection finds it.
        let listener = reservation.listen()?;
        let accepting = tokio::spawn(accept(reservation, listener, acceptor, Arc::clone(&mode), Arc::clone(&shared)));
        Ok(Self { url, mode, shared, accepting })
    }

    /// The address to put in the client's kubeconfig
    /// ([`ControlPlane::kubeconfig_via`], [`ControlPlane::client_via`]).
    pub fn url(&self) -> &str {
        &self.url
    }

    /// New connections are refused, as by a host where nothing listens; established ones go on.
    pub fn refuse_connections(&self) {
        self.change(|mode| mode.accepts = false);
    }

    /// Established connections are closed and new ones are refused.
    pub fn cut(&self) {
        self.change(|mode| {
            mode.accepts = false;
            mode.cuts += 1;
        });
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
        self.change(|mode| {
            mode.stale_watches = true;
            mode.stalings += 1;
        });
    }

    /// Ends every fault of this kind and removes all rules.
    pub fn restore(&self) {
        self.shared.rules.clear();
        self.change(|mode| *mode = Mode { stalings: mode.stalings, cuts: mode.cuts, ..HEALTHY });
    }

    /// The next `times` requests that match are answered by the proxy and not forwarded.
    pub fn answer(&self, matcher: Matcher, response: Response, times: usize) {
        self.shared.rules.answer(matcher, response, times);
    }

    /// Requests that match are forwarded after `delay`.
    pub fn delay(&self, matcher: Matcher, delay: Duration) {
        self.shared.rules.delay(matcher, delay);
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
        self.mode.send_modify(change);
    }
}

impl Drop for FaultProxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.change(|mode| mode.cuts += 1);
    }
}

/// Accepts connections while the mode says so. Without a listener the kernel itself refuses.
async fn accept(
    reservation: Reservation,
    listener: tokio::net::TcpListener,
    acceptor: TlsAcceptor,
    mode: Arc<watch::Sender<Mode>>,
    shared: Arc<Shared>,
) {
    let mut changes = mode.subscribe();
    let mut listener = Some(listener);
    loop {
        let accepts = changes.borrow_and_update().accepts;
        match (accepts, &listener) {
            (true, None) => listener = reservation.listen().ok(),
            (false, Some(_)) => listener = None,
            _ => {}
        }
        let accepted = async {
            match &listener {
                Some(listener) => listener.accept().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            changed = changes.changed() => if changed.is_err() { return },
            Ok((stream, _)) = accepted => {
                tokio::spawn(connection(stream, acceptor.clone(), mode.subscribe(), Arc::clone(&shared)));
            }
        }
    }
}

/// Serves one connection until it ends or is cut.
async fn connection(stream: TcpStream, acceptor: TlsAcceptor, mode: watch::Receiver<Mode>, shared: Arc<Shared>) {
    let mut cuts = mode.clone();
    let before = cuts.borrow_and_update().cuts;
    let _ = stream.set_nodelay(true);
    tokio::select! {
        () = forward::serve(stream, acceptor, mode, shared) => {}
        _ = cuts.wait_for(|mode| mode.cuts != before) => {}
    }
}
