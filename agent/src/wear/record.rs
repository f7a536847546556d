//! What the agent has started, kept over its restarts.
//!
//! The file lies in the folder of the hats, which a reboot empties: nothing runs then, and every hat begins anew. Should the
//! folder outlive a reboot, the boot id says so.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hatrack_api::cluster_node::{HatAssignment, WornState};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::files;

const FILE_NAME: &str = ".kept.json";

/// How far a hat has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// Its target is to be started.
    Starting,
    /// Its target was seen active.
    Worn,
    /// Its units are being stopped.
    Ending,
    /// Nothing of it runs.
    Ended,
}

/// Why a hat ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The operator asks for it.
    Asked,
    /// The operator gave this node up, and may have given the hat to another one.
    Fenced,
    /// Its term is over.
    Expired,
    /// The Lease was not renewed for as long as the hat allows.
    Silent,
}

impl End {
    /// Whether the operator knows: it alone is told that a hat has stopped for good. What ended here alone may begin anew.
    pub fn is_final(self) -> bool {
        self == Self::Asked
    }

    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Asked => "the operator took the hat off",
            Self::Fenced => {
                "the operator had given this node up: the hat begins anew if the operator still wants it here"
            }
            Self::Expired => "its term is over",
            Self::Silent => "the Lease was not renewed in time: the hat begins anew when it is",
        }
    }
}

/// One binding.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// What the operator last said.
    pub assignment: HatAssignment,
    /// When its term ends, as time since boot.
    pub ends: Option<Duration>,
    /// The operator's fence when it began: the fencing token of its units.
    pub transitions: i32,
    /// How far it has come.
    pub stage: Stage,
    /// Why it ends, if it does.
    pub end: Option<End>,
    /// Since when it ends, as time since boot.
    pub ending_since: Option<Duration>,
    /// Whether the service manager was ever asked to start its target. It is kept before that is done.
    pub ordered: bool,
    /// Whether units of this wearer alone were seen.
    pub has_own_units: bool,
    /// What is reported, and since when.
    pub reported: Option<(WornState, Time)>,
}

/// The newest renewal of the Lease, as it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed {
    /// When it was sent, as time since boot.
    pub sent: Duration,
    /// The operator's fence.
    pub transitions: i32,
    /// Since when the fence has another number than one that this agent had met before.
    pub fenced_at: Option<Duration>,
}

/// Everything that is kept.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    boot: String,
    /// The newest renewal.
    pub renewed: Option<Renewed>,
    /// By UID of the binding.
    pub records: BTreeMap<String, Record>,
}

/// The file that holds it.
#[derive(Debug, Clone)]
pub struct KeptFile {
    folder: PathBuf,
    boot: String,
}

impl KeptFile {
    /// The file of a folder, for the boot of this id.
    pub fn of(folder: &Path, boot: &str) -> Self {
        Self { folder: folder.to_owned(), boot: boot.to_owned() }
    }

    /// What was kept in this boot. A file that cannot be understood is none: units that run without a record are stopped
    /// when they are found.
    pub fn load(&self) -> Kept {
        let fresh = Kept { boot: self.boot.clone(), ..Kept::default() };
        let path = self.folder.join(FILE_NAME);
        let read = fs::read(&path).and_then(|bytes| serde_json::from_slice::<Kept>(&bytes).map_err(io::Error::from));
        match read {
            Ok(kept) if kept.boot == self.boot => kept,
            Ok(_) => fresh,
            Err(error) if error.kind() == io::ErrorKind::NotFound => fresh,
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "what was worn cannot be read: hats begin anew");
                fresh
            }
        }
    }

    /// Whether hats may have been worn in this boot.
    pub fn exists(&self) -> bool {
        self.folder.join(FILE_NAME).exists()
    }

    /// Replaces the file as a whole.
    pub fn save(&self, kept: &Kept) -> io::Result<()> {
        files::replace(&self.folder.join(FILE_NAME), &serde_json::to_vec(kept)?)
    }
}
