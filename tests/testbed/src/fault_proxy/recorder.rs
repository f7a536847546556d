//! Which requests came, when, and how they were answered.

use std::sync::Mutex;
use std::time::SystemTime;

use http::{Method, StatusCode, Uri};
use tokio::sync::watch;

use super::rules::{Matcher, lock};

/// One request that reached the proxy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The method.
    pub method: Method,
    /// The path, such as `/apis/society.zeta.io/v1alpha1/clusternodes/gpu-1/status`.
    pub path: String,
    /// The query without its question mark; empty if there is none.
    pub query: String,
    /// When its head had arrived.
    pub received: SystemTime,
    /// The status sent to the client; none while there is no answer, and for ever if the connection
    /// ended first.
    pub status: Option<StatusCode>,
}

impl Recorded {
    fn target(&self) -> String {
        format!("{}?{}", self.path, self.query)
    }
}

/// A request in the record, to which its status is added.
#[derive(Clone, Copy)]
pub(super) struct Entry {
    epoch: u64,
    index: usize,
}

/// The record; it counts its changes so that tests can wait for one.
#[derive(Default)]
pub(super) struct Recorder {
    state: Mutex<State>,
    changes: watch::Sender<u64>,
}

#[derive(Default)]
struct State {
    /// Counts the times the record was cleared: an answer to a forgotten request has no entry.
    epoch: u64,
    requests: Vec<Recorded>,
}

impl Recorder {
    pub(super) fn received_request(&self, method: &Method, uri: &Uri) -> Entry {
        let mut state = lock(&self.state);
        state.requests.push(Recorded {
            method: method.clone(),
            path: uri.path().to_owned(),
            query: uri.query().unwrap_or_default().to_owned(),
            received: SystemTime::now(),
            status: None,
        });
        let entry = Entry { epoch: state.epoch, index: state.requests.len() - 1 };
        drop(state);
        self.changed();
        entry
    }

    pub(super) fn answered_request(&self, entry: Entry, status: StatusCode) {
        let mut state = lock(&self.state);
        if state.epoch == entry.epoch {
            state.requests[entry.index].status = Some(status);
        }
        drop(state);
        self.changed();
    }

    pub(super) fn all(&self) -> Vec<Recorded> {
        lock(&self.state).requests.clone()
    }

    pub(super) fn clear(&self) {
        let mut state = lock(&self.state);
        state.epoch += 1;
        state.requests.clear();
    }

    pub(super) async fn received(&self, matcher: &Matcher, count: usize) -> Vec<Recorded> {
        self.at_least(count, |request| matcher.matches(&request.method, &request.target())).await
    }

    pub(super) async fn answered(&self, matcher: &Matcher, count: usize) -> Vec<Recorded> {
        let wanted =
            |request: &Recorded| request.status.is_some() && matcher.matches(&request.method, &request.target());
        self.at_least(count, wanted).await
    }

    async fn at_least(&self, count: usize, wanted: impl Fn(&Recorded) -> bool) -> Vec<Recorded> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let found: Vec<_> = self.all().into_iter().filter(|request| wanted(request)).collect();
            if found.len() >= count {
                return found;
            }
            // The sender lives as long as `self`: this only ends with a change.
            let _ = changes.changed().await;
        }
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}
