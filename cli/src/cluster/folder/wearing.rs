//! Which hats of a folder a `hatrack wear … -- COMMAND` runs: each holds a lock, which the kernel takes from one that was killed.

use std::fs::{self, File};
use std::path::PathBuf;

use super::{Error, Folder, failed};

/// Held for as long as a command wears a hat.
#[derive(Debug)]
pub struct Worn {
    path: PathBuf,
    _lock: File,
}

impl Folder {
    /// From now on, and until the value is dropped, this process wears a hat.
    pub fn begin_to_wear(&self, binding: &str) -> Result<Worn, Error> {
        let path = self.lock_of(binding);
        let open = || {
            path.parent().map(fs::create_dir_all).transpose()?;
            let file = File::options().create(true).truncate(false).write(true).open(&path)?;
            file.lock()?;
            Ok(file)
        };
        let lock = open().map_err(failed("lock", &path))?;
        Ok(Worn { path, _lock: lock })
    }

    /// Whether some process wears a hat now. What cannot be told counts as worn: its devices are not given away.
    pub fn is_running(&self, binding: &str) -> bool {
        match File::open(self.lock_of(binding)) {
            Ok(file) => !matches!(file.try_lock_shared(), Ok(())),
            Err(error) => error.kind() != std::io::ErrorKind::NotFound,
        }
    }

    fn lock_of(&self, binding: &str) -> PathBuf {
        self.path().join(".worn").join(binding.replace('/', "_"))
    }
}

impl Drop for Worn {
    fn drop(&mut self) {
        _ = fs::remove_file(&self.path);
    }
}
