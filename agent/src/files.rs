//! Files that are replaced as a whole: after a crash there is either the old content or the new one.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, fchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, UnlinkatFlags, unlinkat};

/// Replaces a file that only its owner may read; makes its folder if there is none.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or(io::ErrorKind::InvalidFilename)?;
    Folder::make(path.parent().unwrap_or(Path::new(".")))?.replace(name, content)
}

/// A folder that was opened once. Who owns it may put a link in the place of any file: none is followed, whoever works here.
#[derive(Debug)]
pub struct Folder {
    open: File,
    path: PathBuf,
    owner: Option<(Uid, Gid)>,
}

impl Folder {
    /// Opens a folder, and makes it if there is none.
    pub fn make(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
        Ok(Self { open: File::open(path)?, path: path.to_owned(), owner: None })
    }

    /// Gives the folder to a user, and every file that is made in it from now on.
    pub fn give(&mut self, user: Uid, group: Gid) -> io::Result<()> {
        fchown(&self.open, Some(user.as_raw()), Some(group.as_raw()))?;
        self.owner = Some((user, group));
        Ok(())
    }

    /// The path of a file in it, to be shown.
    pub fn path(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What is in a file of the folder's user. A link, a pipe or somebody else's file is none.
    pub fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        // Who opens a pipe to read would wait for its writer.
        let mut file = match self.open_file(name, OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Ok(file) => file,
            Err(Errno::ENOENT | Errno::ELOOP) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let metadata = file.metadata()?;
        let user = self.owner.map_or_else(Uid::effective, |(user, _)| user);
        if !metadata.is_file() || metadata.uid() != user.as_raw() {
            return Ok(None);
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        Ok(Some(content))
    }

    /// Replaces a file that only its owner may read. It is the owner's before it has its name.
    pub fn replace(&self, name: &str, content: &[u8]) -> io::Result<()> {
        let fresh = format!("{name}.new");
        let result = self.write_through(&fresh, content).and_then(|()| {
            renameat(&self.open, fresh.as_str(), &self.open, name)?;
            Ok(())
        });
        if result.is_err() {
            _ = self.remove(&fresh);
        }
        result?;
        self.open.sync_all()
    }

    /// Removes a file, if there is one.
    pub fn remove(&self, name: &str) -> io::Result<()> {
        match unlinkat(&self.open, name, UnlinkatFlags::NoRemoveDir) {
            Err(Errno::ENOENT) => Ok(()),
            removed => Ok(removed?),
        }
    }

    /// A file that a crash left may have been made with other rights, so it is not taken over.
    fn write_through(&self, name: &str, content: &[u8]) -> io::Result<()> {
        self.remove(name)?;
        let mut file = self.open_file(name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
        file.write_all(content)?;
        if let Some((user, group)) = self.owner {
            fchown(&file, Some(user.as_raw()), Some(group.as_raw()))?;
        }
        file.sync_all()
    }

    fn open_file(&self, name: &str, how: OFlag) -> Result<File, Errno> {
        let how = how | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        openat(&self.open, name, how, Mode::S_IRUSR | Mode::S_IWUSR).map(|file: OwnedFd| file.into())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::unistd::mkfifo;

    use super::*;

    #[test]
    fn a_link_is_neither_read_nor_written_through() {
        let (place, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret = elsewhere.path().join("secret");
        fs::write(&secret, "secret").unwrap();
        let folder = Folder::make(place.path()).unwrap();
        for name in ["file", "file.new"] {
            symlink(&secret, place.path().join(name)).unwrap();
        }
        assert_eq!(folder.read("file").unwrap(), None);
        folder.replace("file", b"content").unwrap();
        assert_eq!(folder.read("file").unwrap().as_deref(), Some(b"content".as_slice()));
        assert_eq!(fs::read(&secret).unwrap(), b"secret");
        assert!(fs::symlink_metadata(place.path().join("file")).unwrap().is_file());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "no scratch file stays");
    }

    #[test]
    fn what_is_no_file_of_the_folders_user_is_none() {
        let place = tempfile::tempdir().unwrap();
        let mut folder = Folder::make(place.path()).unwrap();
        mkfifo(&place.path().join("pipe"), Mode::S_IRWXU).unwrap();
        assert_eq!(folder.read("pipe").unwrap(), None);
        assert_eq!(folder.read("nothing").unwrap(), None);
        folder.replace("file", b"content").unwrap();
        folder.owner = Some((Uid::from_raw(Uid::effective().as_raw() + 1), Gid::effective()));
        assert_eq!(folder.read("file").unwrap(), None);
    }
}
