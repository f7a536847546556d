//! Asks each phone once per connection what it is, a few at a time, and keeps the answers while the connection lasts.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, JoinSet};

use super::client::jittered;
use super::connection::Server;
use super::properties::COMMAND;
use super::{Properties, State, Transport};

/// Phones asked at once: each answer takes adb through one USB bus.
const AT_ONCE: usize = 4;

/// Pauses between questions that failed: the first, which doubles from failure to failure, and the longest.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pauses {
    pub(super) first: Duration,
    pub(super) longest: Duration,
}

/// Which connection to which phone: a phone that comes back has another number.
type Line = (Option<u64>, String);

/// The last list, what its phones have told, and what is being asked.
#[derive(Debug)]
pub(super) struct Questions {
    server: Server,
    pauses: Pauses,
    turns: Arc<Semaphore>,
    list: Vec<Transport>,
    told: BTreeMap<Line, Properties>,
    asked: BTreeMap<Line, AbortHandle>,
    asking: JoinSet<(Line, Properties)>,
}

impl Questions {
    pub(super) fn new(server: Server, pauses: Pauses) -> Self {
        let turns = Arc::new(Semaphore::new(AT_ONCE));
        let (list, told, asked, asking) = (Vec::new(), BTreeMap::new(), BTreeMap::new(), JoinSet::new());
        Self { server, pauses, turns, list, told, asked, asking }
    }

    /// Takes a new list. A connection that broke is asked again when it works again, as another phone can be behind an
    /// address; until then, what it told stands.
    pub(super) fn update(&mut self, list: Vec<Transport>) {
        self.list = list;
        let is_listed = |line: &Line| self.list.iter().any(|transport| line_of(transport) == *line);
        self.told.retain(|line, _| is_listed(line));
        let is_ready = |line: &Line| self.list.iter().any(|t| t.state == State::Device && line_of(t) == *line);
        self.asked.retain(|line, task| {
            let keep = is_ready(line);
            if !keep {
                task.abort();
            }
            keep
        });
        for transport in self.list.iter().filter(|transport| transport.state == State::Device) {
            let line = line_of(transport);
            if !self.asked.contains_key(&line) {
                let question = ask(self.server, line.clone(), self.turns.clone(), self.pauses);
                self.asked.insert(line, self.asking.spawn(question));
            }
        }
    }

    /// Waits until a phone has told what it is; for ever, if none is asked.
    pub(super) async fn answered(&mut self) {
        loop {
            match self.asking.join_next().await {
                Some(Ok((line, properties))) => {
                    self.told.insert(line, properties);
                    return;
                }
                Some(Err(_)) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Waits until every phone has told what it is.
    pub(super) async fn all_answered(&mut self) {
        while !self.asking.is_empty() {
            self.answered().await;
        }
    }

    /// Whether no phone is in a state that passes.
    pub(super) fn is_settled(&self) -> bool {
        let passes =
            |state: &State| matches!(state, State::Offline | State::Authorizing | State::Connecting | State::Unknown);
        !self.list.iter().any(|transport| passes(&transport.state))
    }

    /// The last list, with what the phones told.
    pub(super) fn transports(&self) -> Vec<Transport> {
        let with_answer = |transport: &Transport| Transport {
            told: self.told.get(&line_of(transport)).cloned(),
            ..transport.clone()
        };
        self.list.iter().map(with_answer).collect()
    }
}

fn line_of(transport: &Transport) -> Line {
    (transport.id, transport.serial.clone())
}

/// Asks until there is an answer. The caller gives up when the connection is gone.
async fn ask(server: Server, line: Line, turns: Arc<Semaphore>, pauses: Pauses) -> (Line, Properties) {
    let transport = match &line {
        (Some(id), _) => format!("host:transport-id:{id}"),
        (None, serial) => format!("host:transport:{serial}"),
    };
    let mut pause = pauses.first;
    loop {
        let turn = turns.acquire().await;
        match server.shell(&transport, COMMAND).await {
            Ok(output) => return (line, Properties::parse(&output)),
            Err(error) => tracing::debug!(phone = line.1, "a phone did not say what it is: {error}"),
        }
        drop(turn);
        tokio::time::sleep(jittered(pause)).await;
        pause = (pause * 2).min(pauses.longest);
    }
}
