//! What could not be told: it is written down as such, because left out means absent.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::root::Unreadable;

/// Something that could not be told at one look.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Doubt {
    /// Which facts stand as they were last seen, or are missing.
    pub about: Subject,
    /// What went wrong, in one sentence.
    pub why: String,
}

/// A part of what is known of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Subject {
    /// Identity, system and hardware id.
    Host,
    /// GPUs, phones and accelerators.
    Devices,
    /// Disks.
    Storage,
    /// Network interfaces.
    Network,
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

/// The doubts of one look, each once.
#[derive(Debug, Default)]
pub(crate) struct Doubts(Vec<Doubt>);

impl Doubts {
    /// Notes that something could not be told, and why.
    pub(crate) fn note(&mut self, about: Subject, why: String) {
        let doubt = Doubt { about, why };
        if !self.0.contains(&doubt) {
            self.0.push(doubt);
        }
    }

    /// What was read, or else what was last seen, with a note.
    pub(crate) fn or_last<T>(&mut self, about: Subject, read: Result<T, Unreadable>, last: impl FnOnce() -> T) -> T {
        read.unwrap_or_else(|error| {
            self.note(about, error.sentence());
            last()
        })
    }

    /// As much of a list, sorted by name, as an object has room for, with a note about the rest.
    pub(crate) fn fitting<T>(&mut self, about: Subject, things: &str, most: usize, mut list: Vec<T>) -> Vec<T> {
        let all = list.len();
        if all > most {
            self.note(
                about,
                format!(
                    "there are {all} {things}, and an object has room for {most}: the last ones by name are left out"
                ),
            );
            list.truncate(most);
        }
        list
    }

    /// All of them, in the order in which they came.
    pub(crate) fn into_vec(self) -> Vec<Doubt> {
        self.0
    }
}
