//! Asks the adb server and follows what it says. It never starts a server and never stops one.
//!
//! This is not the crate `adb_client` (3.2): that one blocks without a deadline, starts a server of its own when none answers,
//! follows short lists alone, never tells when the last phone has gone, and fails on a state that it does not know.

use std::convert::Infallible;
use std::hash::{BuildHasher, RandomState};
use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::connection::{Connection, Server};
use super::questions::{Pauses, Questions};
use super::wire::WireError;
use super::{Timing, Transport, View, list};

/// Asks once: the list, and what the phones tell of themselves within the deadline.
pub async fn ask(server: SocketAddr, deadline: Duration) -> View {
    let end = Instant::now() + deadline;
    let server = Server { address: server, deadline };
    let transports = match timeout_at(end, listed(server)).await {
        Ok(Ok(transports)) => transports,
        Ok(Err(error)) => return View::Unreachable(error.sentence()),
        Err(_) => return View::Unreachable(WireError::Late(deadline).sentence()),
    };
    let mut questions = Questions::new(server, Pauses { first: deadline / 8, longest: deadline });
    questions.update(transports);
    _ = timeout_at(end, questions.all_answered()).await;
    View::Listed(questions.transports())
}

/// Follows the server's list until nobody receives the views any more.
pub async fn watch(server: SocketAddr, timing: Timing, views: watch::Sender<View>) {
    views.send_if_modified(|view| match view {
        View::NotAsked => {
            *view = View::Pending;
            true
        }
        _ => false,
    });
    tokio::select! {
        () = views.closed() => {}
        never = follow_for_ever(server, timing, &views) => match never {},
    }
}

async fn follow_for_ever(server: SocketAddr, timing: Timing, views: &watch::Sender<View>) -> Infallible {
    let server = Server { address: server, deadline: timing.deadline };
    let mut pause = timing.retry;
    loop {
        let Err(error) = follow(server, timing, views).await;
        let was_listed = matches!(*views.borrow(), View::Listed(_));
        let why = error.sentence();
        tracing::debug!(server = %server.address, "lost the adb server: {why}");
        publish(views, View::Unreachable(why));
        pause = if was_listed { timing.retry } else { (pause * 2).min(timing.retry_at_most) };
        sleep(jittered(pause)).await;
    }
}

async fn follow(server: Server, timing: Timing, views: &watch::Sender<View>) -> Result<Infallible, WireError> {
    let mut tracking = Tracking::open(server).await?;
    let pauses = Pauses { first: timing.retry, longest: timing.retry_at_most };
    let mut questions = Questions::new(Server { deadline: timing.phone_deadline, ..server }, pauses);
    let mut looked = Instant::now();
    let mut pause = timing.retry;
    loop {
        // A server that hangs keeps its connections open and says nothing more, and adb 29 does not tell its followers
        // when a phone turns from offline to unauthorized or is lost over TCP: so the list is looked at now and then too.
        let next_look = looked + if questions.is_settled() { timing.check } else { pause };
        tokio::select! {
            transports = tracking.next() => {
                questions.update(transports?);
                (looked, pause) = (Instant::now(), timing.retry);
            }
            () = questions.answered() => {}
            () = sleep_until(next_look) => {
                questions.update(listed(server).await?);
                (looked, pause) = (Instant::now(), (pause * 2).min(timing.check));
            }
        }
        if tracking.has_begun {
            publish(views, View::Listed(questions.transports()));
        }
    }
}

/// The stream of lists, long ones where the server has them.
struct Tracking {
    server: Server,
    lists: Connection,
    is_long: bool,
    /// Whether a short list has come, and the phones in it have not been asked for yet.
    is_behind: bool,
    /// Whether a list has come: before that, there is nothing to show.
    has_begun: bool,
}

impl Tracking {
    async fn open(server: Server) -> Result<Self, WireError> {
        check_version(server).await?;
        let (lists, is_long) = match server.open("host:track-devices-l").await {
            Err(WireError::Refused(_)) => (server.open("host:track-devices").await?, false),
            opened => (opened?, true),
        };
        Ok(Self { server, lists, is_long, is_behind: false, has_begun: false })
    }

    /// The next list. Nothing is lost when the future is dropped before it is ready.
    async fn next(&mut self) -> Result<Vec<Transport>, WireError> {
        if !self.is_behind {
            let list = self.followed().await?;
            if self.is_long {
                self.has_begun = true;
                return Ok(list::parse(&list));
            }
            self.is_behind = true;
        }
        let transports = listed(self.server).await?;
        (self.is_behind, self.has_begun) = (false, true);
        Ok(transports)
    }

    /// The next list of the stream. The first one comes at once, so it has a deadline; the others come when something changes.
    async fn followed(&mut self) -> Result<String, WireError> {
        if self.has_begun {
            return self.lists.next_list().await;
        }
        let deadline = self.server.deadline;
        let first = tokio::time::timeout(deadline, self.lists.next_list());
        first.await.map_err(|_| WireError::Late(deadline))?
    }
}

/// The list as it is now: the long one, with paths, where the server has it.
async fn listed(server: Server) -> Result<Vec<Transport>, WireError> {
    let list = match server.call("host:devices-l").await {
        Err(WireError::Refused(_)) => server.call("host:devices").await?,
        list => list?,
    };
    Ok(list::parse(&list))
}

/// Any version will do: what it lacks, it refuses. What has none is no adb server.
async fn check_version(server: Server) -> Result<(), WireError> {
    let version = server.call("host:version").await?;
    match u32::from_str_radix(version.trim(), 16) {
        Ok(_) => Ok(()),
        Err(_) => Err(WireError::NotAdb(version)),
    }
}

fn publish(views: &watch::Sender<View>, view: View) {
    views.send_if_modified(|last| {
        let differs = *last != view;
        *last = view;
        differs
    });
}

/// Between half and the whole of a pause, so that machines that lost one server do not return in step.
pub(super) fn jittered(pause: Duration) -> Duration {
    let random = RandomState::new().hash_one(()) % 1024;
    pause / 2 + (pause / 2 * u32::try_from(random).unwrap_or(0)) / 1024
}
