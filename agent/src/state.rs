//! What is kept over restarts: the names of devices, the last inventory, and what NVML last told.
//!
//! * In: the newest [`Observation`]. Out: whether the file could be written.
//!
//! A state file that cannot be written stops nothing: the object is the cluster's copy of the same facts, and names can be
//! recovered from it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hatrack_discover::inventory::Inventory;
use hatrack_discover::names::Names;
use hatrack_discover::nvidia::Report;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::files;
use crate::log::Trouble;
use crate::observe::Observation;

const FILE_NAME: &str = "state.json";

/// What is kept over restarts.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The names that devices have had.
    pub names: Names,
    /// Whether they were chosen before it was known which ones the ClusterNode has: they have been shown to nobody.
    #[serde(default, skip_serializing_if = "is_false")]
    pub names_are_new: bool,
    /// What was last seen.
    pub inventory: Inventory,
    /// What NVML last told: an XID error is told once and is true until the machine reboots.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nvml: Option<Report>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The file that holds it.
#[derive(Debug, Clone)]
pub struct StateFile {
    folder: PathBuf,
}

impl StateFile {
    /// The state file of a folder.
    pub fn of(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }

    fn path(&self) -> PathBuf {
        self.folder.join(FILE_NAME)
    }

    /// What was kept; `None` at the first start. A file that cannot be understood is set aside as `state.json.corrupt`; one that cannot be
    /// read is left alone, as nothing is known to be wrong with what it says.
    pub fn load(&self) -> Option<State> {
        let path = self.path();
        let (error, kept_as) = match fs::read(&path) {
            Ok(bytes) => match serde_json::from_slice(&bytes) {
                Ok(state) => return Some(state),
                Err(error) => {
                    let aside = path.with_extension("json.corrupt");
                    let kept = fs::rename(&path, &aside).is_ok();
                    (io::Error::from(error), kept.then(|| aside.display().to_string()))
                }
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => (error, None),
        };
        tracing::error!(
            file = %path.display(), %error, kept_as,
            "the state file cannot be used: names of devices are taken from the ClusterNode, or chosen anew"
        );
        None
    }

    /// Replaces the file as a whole: after a crash it holds either the old state or the new one.
    pub fn save(&self, state: &State) -> io::Result<()> {
        files::replace(&self.path(), &serde_json::to_vec(state)?)
    }
}

/// Whether the newest state is on disk.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Why not, when it is not.
    pub failure: Option<String>,
}

/// Keeps the file true, until there are no more observations. While it cannot be written, the newest state is tried again
/// after `retry`.
pub async fn keep(
    file: StateFile,
    mut observations: watch::Receiver<Option<Arc<Observation>>>,
    retry: Duration,
    kept: watch::Sender<Kept>,
) {
    let mut trouble = Trouble::default();
    loop {
        let failing = kept.borrow().failure.is_some();
        let changed = observations.changed();
        let ended =
            if failing { timeout(retry, changed).await.is_ok_and(|r| r.is_err()) } else { changed.await.is_err() };
        // What could not be written is tried once more.
        if ended && !failing {
            return;
        }
        let Some(observation) = observations.borrow_and_update().clone() else { continue };
        let target = file.clone();
        let saved = spawn_blocking(move || target.save(&observation.state)).await;
        match saved.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => {
                trouble.log_end("the state file can be written again");
                kept.send_replace(Kept::default());
            }
            Err(error) => {
                let hint = "free space in the folder, or make it writable; registration goes on without it";
                trouble.log("the state file cannot be written", &error, Some(hint));
                kept.send_replace(Kept { failure: Some(error.to_string()) });
            }
        }
        if ended {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn state(hostname: &str) -> State {
        let mut state = State::default();
        hostname.clone_into(&mut state.inventory.identity.hostname);
        state
    }

    #[test]
    fn what_is_saved_is_loaded_and_only_ours_to_read() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::of(&folder.path().join("not/there/yet"));
        assert_eq!(file.load(), None);
        file.save(&state("a")).unwrap();
        file.save(&state("b")).unwrap();
        assert_eq!(file.load(), Some(state("b")));
        assert_eq!(fs::metadata(file.path()).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&file.folder).unwrap().count(), 1, "no scratch file stays");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_left_where_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::of(folder.path());
        // Root may read any file, and nobody a folder.
        fs::create_dir(file.path()).unwrap();
        assert_eq!(file.load(), None);
        assert!(file.path().exists() && !folder.path().join("state.json.corrupt").exists());
    }

    #[tokio::test]
    async fn the_newest_state_is_written_at_the_end_though_it_could_not_be_before() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::of(folder.path());
        let in_the_way = file.path().join("in the way");
        fs::create_dir_all(&in_the_way).unwrap();
        let observations = watch::Sender::new(None);
        let kept = watch::Sender::default();
        let mut told = kept.subscribe();
        let hour = Duration::from_hours(1);
        let keeper = tokio::spawn(keep(file.clone(), observations.subscribe(), hour, kept));
        observations.send_replace(Some(Arc::new(Observation { state: state("a"), awaited: Vec::new() })));
        told.wait_for(|kept| kept.failure.is_some()).await.unwrap();
        fs::remove_dir_all(file.path()).unwrap();
        drop(observations);
        keeper.await.unwrap();
        assert_eq!(file.load(), Some(state("a")));
    }

    #[test]
    fn a_file_that_is_cut_anywhere_is_set_aside() {
        let folder = tempfile::tempdir().unwrap();
        let file = StateFile::of(folder.path());
        file.save(&state("a")).unwrap();
        let whole = fs::read(file.path()).unwrap();
        for length in 0..whole.len() {
            fs::write(file.path(), &whole[..length]).unwrap();
            assert_eq!(file.load(), None, "{length} bytes");
            assert!(!file.path().exists());
            assert_eq!(fs::read(folder.path().join("state.json.corrupt")).unwrap(), &whole[..length]);
        }
    }
}
