//! `--watch`: what there is, then a line for each change.

use std::collections::BTreeMap;

use k8s_openapi::jiff::{Timestamp, Unit};
use serde_json::json;

use super::print::name_of;
use crate::Outcome;
use crate::args::Format;
use crate::cluster::kind::Kind;
use crate::cluster::watch::{Change, Watch};
use crate::errors;
use crate::output::Printer;
use crate::output::style::{self, paint};

/// How the objects of a kind are told.
pub trait Story<K> {
    /// Whether an object is to be told of.
    fn wants(&self, object: &K) -> bool;
    /// Prints what there is at first.
    fn begin(&self, found: &mut Vec<K>, printer: &Printer) -> anyhow::Result<()>;
    /// What there is to say of one that is new.
    fn arrival(&self, object: &K) -> String;
    /// What a person wants to hear of a change; empty: nothing.
    fn change(&self, old: &K, new: &K) -> String;
}

/// Tells what there is and what becomes of it, until it is stopped.
pub async fn run<K: Kind>(
    mut watch: Watch<K>,
    story: &impl Story<K>,
    format: Format,
    printer: &Printer,
) -> anyhow::Result<Outcome> {
    let mut follower = Follower { story, format, printer, known: BTreeMap::new(), started: false };
    let mut trouble = None;
    loop {
        match watch.next().await? {
            Change::All(objects) => {
                if trouble.take().is_some() {
                    printer.note(&format!("{} the cluster can be seen again", paint(style::GOOD, "ok:")));
                }
                follower.all(objects)?;
            }
            Change::Applied(object) => follower.applied(&object)?,
            Change::Gone(key) => follower.gone(&key)?,
            // Said once, and not at every attempt.
            Change::Trouble(error) => {
                let words = format!("{error:#}");
                if trouble.replace(words.clone()) != Some(words) {
                    errors::report(&error, printer);
                }
            }
        }
    }
}

struct Follower<'a, K, S> {
    story: &'a S,
    format: Format,
    printer: &'a Printer,
    known: BTreeMap<String, K>,
    started: bool,
}

impl<K: Kind, S: Story<K>> Follower<'_, K, S> {
    /// The first time these are what there is; later, what differs is what happened meanwhile.
    fn all(&mut self, mut found: Vec<K>) -> anyhow::Result<()> {
        found.retain(|object| self.story.wants(object));
        if !std::mem::replace(&mut self.started, true) && self.is_for_people() {
            self.story.begin(&mut found, self.printer)?;
            self.known = found.into_iter().map(|object| (object.key(), object)).collect();
            return Ok(());
        }
        let here: Vec<_> = found.iter().map(Kind::key).collect();
        let gone: Vec<_> = self.known.keys().filter(|key| !here.contains(key)).cloned().collect();
        gone.iter().try_for_each(|key| self.gone(key))?;
        found.iter().try_for_each(|object| self.applied(object))
    }

    fn applied(&mut self, object: &K) -> anyhow::Result<()> {
        if !self.story.wants(object) {
            return self.gone(&object.key());
        }
        let old = self.known.insert(object.key(), object.clone());
        if old.as_ref() == Some(object) {
            return Ok(());
        }
        if !self.is_for_people() {
            return self.event("Applied", object);
        }
        match old.map(|old| self.story.change(&old, object)) {
            Some(same) if same.is_empty() => Ok(()),
            Some(changes) => self.line(&object.key(), &changes),
            None => self.line(&object.key(), &self.story.arrival(object)),
        }
    }

    fn gone(&mut self, key: &str) -> anyhow::Result<()> {
        match self.known.remove(key) {
            None => Ok(()),
            Some(_) if self.is_for_people() => self.line(key, "gone"),
            Some(object) => self.event("Deleted", &object),
        }
    }

    fn is_for_people(&self) -> bool {
        matches!(self.format, Format::Table | Format::Wide)
    }

    fn line(&self, key: &str, what: &str) -> anyhow::Result<()> {
        let now = Timestamp::now().round(Unit::Second)?;
        let (now, key) = (paint(style::FAINT, &now.to_string()), paint(style::HEADING, key));
        Ok(self.printer.data(&format!("{now}  {key}  {what}\n"))?)
    }

    fn event(&self, kind: &str, object: &K) -> anyhow::Result<()> {
        let text = match self.format {
            Format::Json => format!("{}\n", json!({"type": kind, "object": object})),
            Format::Yaml => format!("---\n{}", serde_saphyr::to_string(&json!({"type": kind, "object": object}))?),
            _ if kind == "Deleted" => format!("{} deleted\n", name_of(object)),
            _ => format!("{}\n", name_of(object)),
        };
        Ok(self.printer.data(&text)?)
    }
}
