//! Where control planes live on disk, and who uses which: plain files and kernel locks, which need
//! no cooperation from a process that is killed.
//!
//! ```text
//! <memory or temporary folder>/hatrack-testbed-<uid>/<workspace and programs>/
//!     attach.lock      held while somebody joins, starts or ends a shared control plane
//!     shared-XXXXXX/   one control plane
//!         users        a shared lock for each process that uses it
//!         keeper       a lock of the shell that ends it when it has no users
//!         running      the address of the API server, once all servers answer
//! ```

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use nix::sys::signal::{Signal, kill};
use nix::sys::statvfs::statvfs;
use nix::unistd::{Pid, getuid};

use crate::binaries::Binaries;
use crate::error::{Error, Result};
use crate::fingerprint::fingerprint;
use crate::servers::KEEPER;

const MEMORY: &str = "/dev/shm";

/// A control plane writes some 100 MB under load; below this the disk is used.
const MEMORY_WANTED: u64 = 2 << 30;

/// A control plane that was started otherwise, seconds ago by an earlier build of this crate, is not
/// the one that is asked for.
const SERVERS: &str = include_str!("servers.rs");

/// The folder of all control planes of one workspace with the same programs. Two checkouts share
/// nothing, since their manifests differ.
pub(crate) struct Parent {
    path: PathBuf,
}

impl Parent {
    pub(crate) fn open(binaries: &Binaries) -> Result<Self> {
        let programs = format!("{binaries:?}");
        let key = fingerprint([env!("CARGO_MANIFEST_DIR"), &programs, SERVERS, KEEPER].map(str::as_bytes));
        let path = base().join(format!("hatrack-testbed-{}", getuid())).join(key);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(Error::file("create", &path))?;
        Ok(Self { path })
    }

    /// Waits until nobody else joins or starts a control plane.
    pub(crate) fn lock(self) -> Result<Attach> {
        let held = lock(&self.path.join("attach.lock"))?;
        let attach = Attach { path: self.path, _held: held };
        attach.sweep()?;
        Ok(attach)
    }
}

/// The right to create and to join folders, while it is held.
pub(crate) struct Attach {
    path: PathBuf,
    _held: File,
}

impl Attach {
    /// A new folder that this process uses.
    pub(crate) fn create(&self, kind: &str) -> Result<Folder> {
        let path = tempfile::Builder::new()
            .prefix(&format!("{kind}-"))
            .tempdir_in(&self.path)
            .map_err(Error::file("create a folder in", &self.path))?
            .keep();
        Folder::join(path)
    }

    /// The control planes of a kind that run, with the address of their API servers; this process
    /// is a user of each.
    pub(crate) fn running(&self, kind: &str) -> Result<Vec<(Folder, String)>> {
        let mut running = Vec::new();
        for path in self.folders()? {
            let is_kind = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(kind));
            if let (true, Ok(url)) = (is_kind, fs::read_to_string(path.join("running"))) {
                running.push((Folder::join(path)?, url));
            }
        }
        Ok(running)
    }

    /// Removes what a killed keeper could not, with the servers that it left.
    fn sweep(&self) -> Result<()> {
        for path in self.folders()? {
            if is_free(&path.join("users")) && is_free(&path.join("keeper")) {
                end_processes_in(&path);
                let _ = fs::remove_dir_all(&path);
            }
        }
        Ok(())
    }

    fn folders(&self) -> Result<Vec<PathBuf>> {
        let entries = fs::read_dir(&self.path).map_err(Error::file("read", &self.path))?;
        Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
    }
}

/// A folder that this process uses for as long as the value lives.
pub(crate) struct Folder {
    path: PathBuf,
    _user: File,
}

impl Folder {
    fn join(path: PathBuf) -> Result<Self> {
        let users = path.join("users");
        let user = OpenOptions::new().create(true).append(true).open(&users).map_err(Error::file("open", &users))?;
        user.lock_shared().map_err(Error::file("lock", &users))?;
        Ok(Self { path, _user: user })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Lets others join the control plane whose API server is at `url`.
    pub(crate) fn announce(&self, url: &str) -> Result<()> {
        let running = self.path.join("running");
        fs::write(&running, url).map_err(Error::file("write", &running))
    }

    /// Lets nobody join any more.
    pub(crate) fn retire(&self) -> Result<()> {
        let running = self.path.join("running");
        fs::remove_file(&running).map_err(Error::file("remove", &running))
    }
}

/// An exclusive lock on the file at `path`, which is made if need be.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let file = OpenOptions::new().create(true).append(true).open(path).map_err(Error::file("open", path))?;
    file.lock().map_err(Error::file("lock", path))?;
    Ok(file)
}

/// Whether nobody holds a lock on the file; one that was never made is free.
fn is_free(path: &Path) -> bool {
    File::open(path).map_or(true, |file| file.try_lock().is_ok())
}

/// Ends the servers whose working folder is `path`: nothing else ever works there.
fn end_processes_in(path: &Path) {
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(id) = process.file_name().to_string_lossy().parse() else { continue };
        if fs::read_link(process.path().join("cwd")).is_ok_and(|folder| folder == path) {
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}

/// Memory if there is enough of it, else the folder for temporary files.
fn base() -> PathBuf {
    let memory = Path::new(MEMORY);
    let free = statvfs(memory).map_or(0, |stat| stat.fragment_size().saturating_mul(stat.blocks_available()));
    if free >= MEMORY_WANTED { memory.to_path_buf() } else { std::env::temp_dir() }
}
