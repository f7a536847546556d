//! The agent's own ClusterNode as the API server has it.
//!
//! ```text
//!   list + watch (follow) ──┐
//!                           ├──> Own: the newest version wins ──> publish, lease, observe, serve
//!   answers to our writes ──┘
//! ```
//!
//! The watch sees a write of ours after its answer, and may see an older version in between. Versions are compared, so that
//! the older one does not look like somebody's change that would have to be undone. What compares them is the history of one API server: where
//! that was restored from a backup, a list tells, and what was known of the time after the backup is forgotten.

use std::sync::Arc;
use std::time::Duration;

use hatrack_api::{ClusterNode, GROUP, VERSION};
use hatrack_service::backoff::jittered;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta;
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::backoff::Backoff;
use crate::client::outcome::{Failure, Pace};
use crate::client::{ApiServer, Lines};
use crate::config::Config;
use crate::log::Trouble;

/// A watch that is open for this long works, whether or not it has brought anything.
const SOUND: Duration = Duration::from_secs(5);

/// What is known of the object.
#[derive(Debug, Clone, Default)]
pub enum Seen {
    /// The API server has not been asked yet.
    #[default]
    Unread,
    /// It was asked in vain, and has never answered since the start.
    Unreadable,
    /// There is none.
    Absent {
        /// The version of the list, or of the deletion.
        version: u64,
    },
    /// This is its newest version.
    Present(Arc<ClusterNode>),
}

/// The newest version of the object, shared by those who read it and those who write it.
#[derive(Debug, Clone, Default)]
pub struct Own(watch::Sender<Seen>);

impl Own {
    /// The newest version, and a way to wait for newer ones.
    pub fn subscribe(&self) -> watch::Receiver<Seen> {
        self.0.subscribe()
    }

    /// The newest version.
    pub fn get(&self) -> Seen {
        self.0.borrow().clone()
    }

    /// Takes note of a version, unless it is older than the one that is known.
    pub fn offer(&self, mut node: ClusterNode) {
        node.metadata.managed_fields = None;
        let version = version(&node);
        self.0.send_if_modified(|seen| {
            let newer = seen.version().is_none_or(|known| version > known);
            if newer {
                *seen = Seen::Present(Arc::new(node));
            }
            newer
        });
    }

    /// Takes note of a list of another history ([`is_of_another_history`]). What it says counts, whatever is known.
    fn go_back(&self, node: Option<ClusterNode>, version: u64) {
        self.0.send_replace(match node {
            Some(mut node) => {
                node.metadata.managed_fields = None;
                Seen::Present(Arc::new(node))
            }
            None => Seen::Absent { version },
        });
    }

    /// Takes note that there was no object at this version.
    pub fn absent(&self, version: u64) {
        self.0.send_if_modified(|seen| {
            let newer = seen.version().is_none_or(|known| version > known);
            let was_there = !matches!(seen, Seen::Absent { .. });
            if newer {
                *seen = Seen::Absent { version };
            }
            newer && was_there
        });
    }

    fn unreadable(&self) {
        self.0.send_if_modified(|seen| {
            let first = matches!(seen, Seen::Unread);
            if first {
                *seen = Seen::Unreadable;
            }
            first
        });
    }
}

impl Seen {
    fn version(&self) -> Option<u64> {
        match self {
            Self::Unread | Self::Unreadable => None,
            Self::Absent { version } => Some(*version),
            Self::Present(node) => Some(version(node)),
        }
    }
}

/// Versions of one resource can be compared as numbers (KEP-5504; Kubernetes has kept to it since etcd 3). One that is no
/// number counts as older than any.
fn version(node: &ClusterNode) -> u64 {
    number(node.metadata.resource_version.as_deref())
}

fn number(version: Option<&str>) -> u64 {
    version.and_then(|version| version.parse().ok()).unwrap_or_default()
}

/// Whether the history of the API server has gone back, as after a restore from a backup: a list without a version in the question, and what is in
/// it, is never older than what had been answered before. The list alone would not tell who was away until much else was written.
fn is_of_another_history(known: Option<u64>, listed: u64, node: Option<&ClusterNode>) -> bool {
    known.is_some_and(|known| listed < known || node.is_some_and(|node| version(node) < known))
}

/// Path of a node's object.
pub fn path(name: &str) -> String {
    format!("/apis/{GROUP}/{VERSION}/clusternodes/{name}")
}

/// Keeps [`Own`] true, without end: lists the one object, watches from there, and begins anew when the watch ends, is
/// silent for too long, or after the time of a resync.
///
/// A list with a field selector and not a GET, because its version is where the watch begins even when there is no object.
pub struct Follower {
    own: Own,
    server: Arc<ApiServer>,
    query: String,
    silence: Duration,
    resync: Duration,
    backoff: Backoff,
    trouble: Trouble,
}

/// What became of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watched {
    /// It brought something, or lasted.
    Well,
    /// It ended as soon as it was open.
    InVain,
}

#[derive(Deserialize)]
struct NodeList {
    metadata: ListMeta,
    items: Vec<ClusterNode>,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

impl Follower {
    /// Follows the object of the configured name.
    pub fn new(config: &Config, own: Own, server: Arc<ApiServer>) -> Self {
        Self {
            own,
            server,
            query: format!("/apis/{GROUP}/{VERSION}/clusternodes?fieldSelector=metadata.name%3D{}", config.name),
            silence: config.api.watch_silence.get(),
            resync: config.api.resync.get(),
            backoff: Backoff::new(config.backoff),
            trouble: Trouble::default(),
        }
    }

    /// Runs without end.
    pub async fn run(mut self) {
        loop {
            let pause = match self.round().await {
                Ok(Watched::Well) => jittered(self.backoff.min()),
                Ok(Watched::InVain) => self.backoff.again(Pace::Soon),
                Err(failure) => {
                    self.own.unreadable();
                    self.trouble.log("this machine's ClusterNode cannot be read", &failure, failure.hint());
                    self.backoff.after(&failure)
                }
            };
            tokio::select! {
                () = sleep(pause) => {}
                () = self.server.new_credentials() => self.backoff.reset(),
            }
        }
    }

    /// Lists and watches. An answer to the list alone is no reason to come back soon: each round begins with one.
    async fn round(&mut self) -> Result<Watched, Failure> {
        let known = self.own.get().version();
        let list: NodeList = self.server.get(&self.query).await?;
        let version = list.metadata.resource_version.unwrap_or_default();
        let (listed, node) = (number(Some(&version)), list.items.into_iter().next());
        if is_of_another_history(known, listed, node.as_ref()) {
            tracing::warn!(known, listed, "the history of the API server has gone back: what it has now counts");
            self.own.go_back(node, listed);
        } else {
            node.map_or_else(|| self.own.absent(listed), |node| self.own.offer(node));
        }
        let end = jittered(self.resync).as_secs().max(1);
        let query = &self.query;
        let watch =
            format!("{query}&watch=true&allowWatchBookmarks=true&timeoutSeconds={end}&resourceVersion={version}");
        let lines = self.server.watch(&watch).await?;
        let mut watched = Watched::InVain;
        match self.follow(lines, &mut watched).await {
            Ok(()) | Err(Failure::Gone | Failure::Broken(_)) => Ok(watched),
            Err(failure) => Err(failure),
        }
    }

    async fn follow(&mut self, mut lines: Lines, watched: &mut Watched) -> Result<(), Failure> {
        let opened = Instant::now();
        let sound_at = opened + SOUND.min(self.silence);
        let mut silent_at = opened + self.silence;
        loop {
            tokio::select! {
                line = lines.next() => {
                    let Some(line) = line? else { return Ok(()) };
                    self.take(&line)?;
                    silent_at = Instant::now() + self.silence;
                }
                () = sleep_until(sound_at), if *watched == Watched::InVain => {}
                () = sleep_until(silent_at) => {
                    tracing::debug!("the watch is silent: begin a new one");
                    return Ok(());
                }
            }
            if *watched == Watched::InVain {
                *watched = Watched::Well;
                self.backoff.reset();
                self.trouble.log_end("this machine's ClusterNode can be read again");
            }
        }
    }

    fn take(&self, line: &[u8]) -> Result<(), Failure> {
        let event: Event = serde_json::from_slice(line).map_err(Failure::Unintelligible)?;
        let node = || serde_json::from_str::<ClusterNode>(event.object.get()).map_err(Failure::Unintelligible);
        match event.kind {
            "ADDED" | "MODIFIED" => self.own.offer(node()?),
            "DELETED" => self.own.absent(version(&node()?)),
            "ERROR" => return Err(Failure::Gone),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(version: &str) -> ClusterNode {
        let object = serde_json::json!({
            "apiVersion": "society.zeta.io/v1alpha1", "kind": "ClusterNode",
            "metadata": {"name": "a", "resourceVersion": version}, "spec": {"class": "worker"},
        });
        serde_json::from_value(object).unwrap()
    }

    fn shown(own: &Own) -> String {
        match own.get() {
            Seen::Unread => "unread".to_owned(),
            Seen::Unreadable => "unreadable".to_owned(),
            Seen::Absent { version } => format!("absent at {version}"),
            Seen::Present(node) => format!("present at {}", version(&node)),
        }
    }

    #[test]
    fn the_newest_version_wins_whoever_brings_it() {
        let own = Own::default();
        own.unreadable();
        assert_eq!(shown(&own), "unreadable");
        own.absent(5);
        own.unreadable();
        assert_eq!(shown(&own), "absent at 5");
        own.offer(node("9"));
        own.offer(node("8"));
        own.absent(7);
        assert_eq!(shown(&own), "present at 9");
        own.offer(node("10"));
        assert_eq!(shown(&own), "present at 10");
        own.absent(11);
        assert_eq!(shown(&own), "absent at 11");
    }

    #[test]
    fn a_history_that_has_gone_back_counts() {
        let own = Own::default();
        own.offer(node("9"));
        let mut watched = own.subscribe();
        watched.mark_unchanged();
        own.go_back(Some(node("5")), 6);
        assert!(watched.has_changed().unwrap());
        assert_eq!(shown(&own), "present at 5");
        own.offer(node("7"));
        own.go_back(None, 3);
        assert_eq!(shown(&own), "absent at 3");
    }

    #[test]
    fn a_list_that_is_newer_tells_another_history_by_what_is_in_it() {
        for (known, listed, object, is_another) in [
            (None, 5, Some("4"), false),
            (Some(9), 9, Some("9"), false),
            (Some(9), 12, Some("11"), false),
            (Some(9), 12, None, false),
            (Some(9), 8, None, true),
            (Some(9), 8, Some("4"), true),
            (Some(9), 12, Some("4"), true),
        ] {
            let found = is_of_another_history(known, listed, object.map(node).as_ref());
            assert_eq!(found, is_another, "{known:?}, {listed}, {object:?}");
        }
    }

    #[test]
    fn an_absence_that_goes_on_wakes_nobody() {
        let own = Own::default();
        let mut watched = own.subscribe();
        own.absent(5);
        assert!(watched.has_changed().unwrap());
        watched.mark_unchanged();
        own.absent(6);
        assert!(!watched.has_changed().unwrap());
        assert_eq!(shown(&own), "absent at 6");
    }
}
