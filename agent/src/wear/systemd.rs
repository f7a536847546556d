//! The service manager, over D-Bus (org.freedesktop.systemd1(5)).
//!
//! A connection is open only while there is something to wear or to stop: a machine without hats pays nothing for it.

use std::collections::{BTreeSet, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use serde::Serialize;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use zbus::message::Type;
use zbus::{Connection, DynamicType, MatchRule, Message, MessageStream, OwnedObjectPath, OwnedVariant, connection};

use super::heard::{Heard, hat_of};
use super::seat::Seat;
use super::step::{Unit, Units};

const SERVICE: &str = "org.freedesktop.systemd1";
const BUS: &str = "org.freedesktop.DBus";
pub(super) const PATH: &str = "/org/freedesktop/systemd1";
pub(super) const MANAGER: &str = "org.freedesktop.systemd1.Manager";
pub(super) const UNIT: &str = "org.freedesktop.systemd1.Unit";
pub(super) const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// Units that stop with a unit, or that it starts on its own.
const BELONGING: [&str; 4] = ["ConsistsOf", "BoundBy", "RequiredBy", "Triggers"];

/// Units that a target pulls in.
const PULLED_IN: [&str; 3] = ["Wants", "Requires", "BindsTo"];

/// A hat with more units is not looked at further.
const MOST_UNITS: usize = 256;

/// What the bus may hold for us.
const QUEUE: usize = 64;

/// A row of `ListUnitsByNames`.
type Row = (String, String, String, String, String, String, OwnedObjectPath, u32, String, OwnedObjectPath);

/// An open connection.
pub struct Systemd {
    connection: Connection,
    heard: Arc<Mutex<Heard>>,
    news: mpsc::Receiver<()>,
    listener: JoinHandle<()>,
}

impl Systemd {
    /// Connects to the bus of this address, and asks for news of units.
    pub async fn connect(bus: &str, deadline: Duration) -> zbus::Result<Self> {
        let connection = connection::Builder::address(bus).method_timeout(deadline).build().await?;
        let rule = MatchRule::builder().msg_type(Type::Signal).sender(SERVICE).path_namespace(PATH).build()?;
        let mut signals = MessageStream::for_match_rule(rule, &connection, NonZeroUsize::new(QUEUE)).await?;
        let (tell, news) = mpsc::channel(1);
        let heard = Arc::new(Mutex::new(Heard::default()));
        let ear = Arc::clone(&heard);
        let listener = tokio::spawn(async move {
            while let Some(signal) = signals.next().await {
                if signal.is_ok_and(|signal| lock(&ear).signal(&signal)) {
                    // One that is waiting tells of this one, too.
                    _ = tell.try_send(());
                }
            }
        });
        let systemd = Self { connection, heard, news, listener };
        systemd.manager("Subscribe", &()).await?;
        Ok(systemd)
    }

    /// Waits until a unit of a hat is otherwise than it was last seen; `None`: the bus has gone.
    pub async fn news(&mut self) -> Option<()> {
        loop {
            self.news.recv().await?;
            if lock(&self.heard).is_news() {
                return Some(());
            }
        }
    }

    /// Listens for the units of these hats alone, and for targets of others that start.
    pub fn listen_for(&self, hats: &BTreeSet<String>) {
        lock(&self.heard).keep(hats);
    }

    /// Names of the hats whose targets are not at rest.
    pub async fn hats(&self) -> zbus::Result<Vec<String>> {
        let (states, patterns): ([&str; 0], _) = ([], ["hat@*.target"]);
        let rows: Vec<Row> =
            self.manager("ListUnitsByPatterns", &(&states[..], &patterns[..])).await?.body().deserialize()?;
        let active = rows.into_iter().map(unit).filter(|unit| !unit.is_at_rest());
        Ok(active.filter_map(|unit| hat_of(&unit.name).map(str::to_owned)).collect())
    }

    /// What the units of a hat do.
    pub async fn units(&self, hat: &str) -> zbus::Result<Units> {
        let target = Seat::target(hat);
        let mut names = BTreeSet::from([target.clone()]);
        let mut unseen = vec![target.clone()];
        while let Some(name) = unseen.pop() {
            let belonging = self.related(&name, &BELONGING).await?;
            let pulled_in = if name == target { self.related(&name, &PULLED_IN).await? } else { Vec::new() };
            let is_unit_of_work = |name: &String| {
                let kind = name.rsplit_once('.').map(|(_, kind)| kind);
                !kind.is_some_and(|kind| ["target", "slice"].contains(&kind))
            };
            let pulled_in = pulled_in.into_iter().filter(is_unit_of_work);
            for name in belonging.into_iter().chain(pulled_in) {
                if names.len() < MOST_UNITS && names.insert(name.clone()) {
                    unseen.push(name);
                }
            }
        }
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let rows: Vec<Row> = self.manager("ListUnitsByNames", &(names,)).await?.body().deserialize()?;
        let (targets, members): (Vec<Unit>, Vec<Unit>) =
            rows.into_iter().map(unit).partition(|unit| unit.name == target);
        let at_rest = || Unit { name: target.clone(), state: "inactive".to_owned(), has_job: false };
        let units = Units { target: targets.into_iter().next().unwrap_or_else(at_rest), members };
        lock(&self.heard).looked(hat, &units);
        Ok(units)
    }

    /// Starts the target of a hat.
    pub async fn start(&self, hat: &str) -> zbus::Result<()> {
        self.manager("StartUnit", &(Seat::target(hat), "replace")).await.map(drop)
    }

    /// Stops it, and with it what is part of it.
    pub async fn stop(&self, hat: &str) -> zbus::Result<()> {
        self.manager("StopUnit", &(Seat::target(hat), "replace")).await.map(drop)
    }

    async fn related(&self, unit: &str, properties: &[&str]) -> zbus::Result<Vec<String>> {
        let path: OwnedObjectPath = self.manager("LoadUnit", &(unit,)).await?.body().deserialize()?;
        let answer = self.call(path.as_str(), PROPERTIES, "GetAll", &(UNIT,)).await?;
        let body = answer.body();
        let mut all: HashMap<String, OwnedVariant> = body.deserialize()?;
        let lists = properties.iter().filter_map(|name| Vec::<String>::try_from(all.remove(*name)?).ok());
        Ok(lists.flatten().collect())
    }

    async fn manager(&self, method: &str, body: &(impl Serialize + DynamicType)) -> zbus::Result<Message> {
        self.call(PATH, MANAGER, method, body).await
    }

    async fn call(
        &self,
        path: &str,
        interface: &str,
        method: &str,
        body: &(impl Serialize + DynamicType),
    ) -> zbus::Result<Message> {
        self.connection.call_method(Some(SERVICE), path, Some(interface), method, body).await
    }
}

impl Drop for Systemd {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// Whether the service manager has answered, and does not do what it was asked for. An error of the bus itself is no answer of it.
pub fn is_refusal(error: &zbus::Error) -> bool {
    let zbus::Error::MethodError(_, _, answer) = error else { return false };
    answer.header().sender().is_none_or(|sender| sender.as_str() != BUS)
}

/// What was heard is whole at every moment, also when somebody who held it has panicked.
fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}

fn unit(row: Row) -> Unit {
    let (name, _, _, state, _, _, _, job, ..) = row;
    Unit { name, state, has_job: job != 0 }
}
