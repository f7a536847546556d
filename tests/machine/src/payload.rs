//! What a test brings into a machine: files, on a disk of their own that the initrd unpacks over the root.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

/// The size of the disk, whatever is on it: a machine from a snapshot knows its disks already.
const DISK: u64 = 512 << 20;

/// The user and group of the agent in the image (`image/build`).
const AGENT_ID: u64 = 990;

/// Files for a machine.
pub struct Payload {
    archive: tar::Builder<Vec<u8>>,
}

impl Default for Payload {
    fn default() -> Self {
        Self { archive: tar::Builder::new(Vec::new()) }
    }
}

impl Payload {
    /// A file of root's that everybody may read.
    pub fn file(&mut self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        self.append(path, 0o644, 0, content.as_ref())
    }

    /// A file of the agent's that nobody else may read.
    pub fn secret(&mut self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        self.append(path, 0o600, AGENT_ID, content.as_ref())
    }

    /// A file that root alone may read.
    pub fn root_secret(&mut self, path: &str, content: impl AsRef<[u8]>) -> Result<()> {
        self.append(path, 0o600, 0, content.as_ref())
    }

    /// A program, from a file of the host; what debuggers need of it stays there.
    pub fn program(&mut self, path: &str, program: &Path) -> Result<()> {
        let folder = tempfile::tempdir().context("cannot make a folder")?;
        let stripped = folder.path().join("program");
        let status = Command::new("strip").arg("-o").arg(&stripped).arg(program).status();
        if !status.context("cannot start strip")?.success() {
            bail!("strip refused {}", program.display());
        }
        self.append(path, 0o755, 0, &fs::read(stripped)?)
    }

    /// Everything that is in a tar archive.
    pub fn archive(&mut self, path: &Path) -> Result<()> {
        let file = fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        for entry in tar::Archive::new(file).entries()? {
            let mut entry = entry?;
            let (mut header, path) = (entry.header().clone(), entry.path()?.into_owned());
            let packed = match entry.link_name()? {
                Some(target) => self.archive.append_link(&mut header, &path, target),
                None => self.archive.append_data(&mut header, &path, &mut entry),
            };
            packed.with_context(|| format!("cannot pack {}", path.display()))?;
        }
        Ok(())
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        self.archive
            .append_link(&mut header, path.trim_start_matches('/'), target)
            .with_context(|| format!("cannot pack {path}"))
    }

    fn append(&mut self, path: &str, mode: u32, owner: u64, content: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        self.archive
            .append_data(&mut header, path.trim_start_matches('/'), content)
            .with_context(|| format!("cannot pack {path}"))
    }

    /// Writes the disk.
    pub(crate) fn write(self, path: &Path) -> Result<()> {
        let bytes = self.archive.into_inner().context("cannot pack the payload")?;
        if bytes.len() as u64 > DISK {
            bail!("{} MB do not fit on the payload's disk", bytes.len() >> 20);
        }
        fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        fs::File::options().write(true).open(path)?.set_len(DISK).context("cannot lengthen the payload's disk")
    }
}
