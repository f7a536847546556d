//! Where collectors read: this machine's `/`, or a copy of another machine's tree.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// What one read asks for. The kernel gives of an attribute of sysfs at most one page at a time (Linux, `fs/kernfs/file.c`),
/// and pages have at least this many bytes.
const PIECE: usize = 4096;

/// No file that is looked at comes near it; what is longer is cut.
const MAX_FILE_BYTES: usize = 4 << 20;

/// A file or folder is there, or may be there, and could not be read. It is never the same as an absent one.
#[derive(Debug, thiserror::Error)]
#[error("failed to read `{}`", path.display())]
pub struct Unreadable {
    /// What was to be read, below the root.
    pub path: PathBuf,
    /// Why that failed.
    #[source]
    pub source: io::Error,
}

impl Unreadable {
    /// The error and its cause in one line, for what is kept or shown later.
    pub fn sentence(&self) -> String {
        format!("{self}: {}", self.source)
    }
}

/// A filesystem root with `sys/`, `proc/`, `etc/`, `run/` and `dev/` below it.
///
/// Every method answers three ways: `Ok(Some(_))`, `Ok(None)` when the thing is certainly absent, and
/// [`Unreadable`] when that could not be told.
#[derive(Debug)]
pub struct Root {
    base: PathBuf,
    credentials: Option<PathBuf>,
    opened: AtomicU64,
}

impl Root {
    /// The machine that this program runs on.
    pub fn machine() -> Self {
        Self::at("/")
    }

    /// A copy of a machine's tree.
    pub fn at(base: impl Into<PathBuf>) -> Self {
        Self { base: base.into(), credentials: None, opened: AtomicU64::new(0) }
    }

    /// Names the folder with the files that the service manager has read for an unprivileged program
    /// (systemd.exec(5), `LoadCredential=`, `$CREDENTIALS_DIRECTORY`).
    #[must_use]
    pub fn with_credentials(mut self, folder: impl Into<PathBuf>) -> Self {
        self.credentials = Some(folder.into());
        self
    }

    /// A text that the service manager has handed over, without white space at its ends; `None` where it has not.
    pub fn credential(&self, name: &str) -> Result<Option<String>, Unreadable> {
        let Some(folder) = &self.credentials else { return Ok(None) };
        self.opened.fetch_add(1, Ordering::Relaxed);
        let path = folder.join(name);
        Ok(unless_absent(&path, fs::read_to_string(&path))?.map(|text| text.trim().to_owned()))
    }

    /// Whether this is the machine that this program runs on, where device nodes can be opened and drivers asked.
    pub fn is_machine(&self) -> bool {
        self.base == Path::new("/")
    }

    /// The path of `path` in the file system of this program.
    pub fn resolve(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.base.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// Number of files and folders opened through this root so far: what a collector costs.
    pub fn opened(&self) -> u64 {
        self.opened.load(Ordering::Relaxed)
    }

    /// The content of a file.
    pub fn bytes(&self, path: impl AsRef<Path>) -> Result<Option<Vec<u8>>, Unreadable> {
        let path = path.as_ref();
        self.opened.fetch_add(1, Ordering::Relaxed);
        let is_attribute = path.strip_prefix("/").unwrap_or(path).starts_with("sys");
        unless_absent(path, File::open(self.resolve(path)).and_then(|file| content(file, is_attribute)))
    }

    /// The content of a text file, as [`text_of`] has it.
    pub fn text(&self, path: impl AsRef<Path>) -> Result<Option<String>, Unreadable> {
        Ok(self.bytes(path)?.as_deref().map(text_of))
    }

    /// The value of a file that holds one number or another value that can be parsed; `None` also for a content that is none.
    pub fn value<T: FromStr>(&self, path: impl AsRef<Path>) -> Result<Option<T>, Unreadable> {
        Ok(self.text(path)?.and_then(|text| text.parse().ok()))
    }

    /// The names in a folder, sorted.
    pub fn entries(&self, folder: impl AsRef<Path>) -> Result<Option<Vec<String>>, Unreadable> {
        let folder = folder.as_ref();
        self.opened.fetch_add(1, Ordering::Relaxed);
        let listed = fs::read_dir(self.resolve(folder)).and_then(|entries| {
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<io::Result<Vec<_>>>()
        });
        let mut names = unless_absent(folder, listed)?;
        if let Some(names) = &mut names {
            names.sort_unstable();
        }
        Ok(names)
    }

    /// The target of a symbolic link, as it is written there.
    pub fn link(&self, path: impl AsRef<Path>) -> Result<Option<PathBuf>, Unreadable> {
        let path = path.as_ref();
        unless_absent(path, fs::read_link(self.resolve(path)))
    }

    /// The last part of the target of a symbolic link: the name of a driver, of a subsystem.
    pub fn link_name(&self, path: impl AsRef<Path>) -> Result<Option<String>, Unreadable> {
        let target = self.link(path)?;
        Ok(target.and_then(|target| Some(target.file_name()?.to_string_lossy().into_owned())))
    }

    /// Whether something is there.
    pub fn exists(&self, path: impl AsRef<Path>) -> Result<bool, Unreadable> {
        let path = path.as_ref();
        Ok(unless_absent(path, fs::symlink_metadata(self.resolve(path)))?.is_some())
    }
}

/// A text without white space and NULs at its ends (device-tree properties end with NUL). Bytes that are no UTF-8 are replaced:
/// devices put anything into their strings.
pub fn text_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    text.trim_matches(|c: char| c.is_whitespace() || c == '\0').to_owned()
}

/// The content of a file. An attribute of sysfs is at its end with the first piece that is not full: reading on to be sure
/// would double what a look costs. Files of `/proc` come in pieces of any size.
fn content(mut file: File, is_attribute: bool) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    let mut piece = [0; PIECE];
    while content.len() < MAX_FILE_BYTES {
        let length = match file.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        content.extend_from_slice(&piece[..length]);
        if length == 0 || (is_attribute && length < PIECE) {
            break;
        }
    }
    Ok(content)
}

/// `ENODEV` and `ENXIO` come from the sysfs attribute of a device that went away between the listing and the reading.
fn unless_absent<T>(path: &Path, result: io::Result<T>) -> Result<Option<T>, Unreadable> {
    use nix::libc::{ENODEV, ENXIO};
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) if matches!(error.raw_os_error(), Some(ENODEV | ENXIO)) => Ok(None),
        Err(source) => Err(Unreadable { path: path.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path());
        (folder, root)
    }

    #[test]
    fn absent_is_not_unreadable() {
        let (folder, root) = root();
        fs::create_dir(folder.path().join("a-folder")).unwrap();
        assert!(root.text("/nothing").unwrap().is_none());
        assert!(root.entries("/nothing/below").unwrap().is_none());
        let error = root.text("/a-folder").unwrap_err();
        assert_eq!(error.to_string(), "failed to read `/a-folder`");
    }

    #[test]
    fn text_loses_the_ends_that_mean_nothing() {
        let (folder, root) = root();
        fs::write(folder.path().join("model"), b"Raspberry Pi 5\0").unwrap();
        fs::write(folder.path().join("count"), b" 8\n").unwrap();
        fs::write(folder.path().join("junk"), b"\xffok").unwrap();
        assert_eq!(root.text("model").unwrap().as_deref(), Some("Raspberry Pi 5"));
        assert_eq!(root.value::<u32>("/count").unwrap(), Some(8));
        assert_eq!(root.value::<u32>("/model").unwrap(), None);
        assert_eq!(root.text("/junk").unwrap().as_deref(), Some("\u{fffd}ok"));
    }

    #[test]
    fn a_file_is_read_to_its_end() {
        let (folder, root) = root();
        fs::create_dir(folder.path().join("sys")).unwrap();
        for length in [0, 1, PIECE - 1, PIECE, PIECE + 1, 3 * PIECE] {
            let written: Vec<u8> = (0..length).map(|index| u8::try_from(index % 251).unwrap()).collect();
            for path in ["sys/descriptors", "cpuinfo"] {
                fs::write(folder.path().join(path), &written).unwrap();
                assert_eq!(root.bytes(path).unwrap().as_deref(), Some(&*written), "{length} bytes of {path}");
            }
        }
        fs::write(folder.path().join("endless"), vec![0; MAX_FILE_BYTES + 2 * PIECE]).unwrap();
        assert_eq!(root.bytes("endless").unwrap().unwrap().len(), MAX_FILE_BYTES);
    }

    #[test]
    fn what_is_opened_is_counted() {
        let (folder, root) = root();
        fs::write(folder.path().join("b"), "").unwrap();
        fs::write(folder.path().join("a"), "").unwrap();
        assert_eq!(root.entries("/").unwrap().unwrap(), ["a", "b"]);
        root.text("/a").unwrap();
        assert_eq!(root.opened(), 2);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_text_without_an_end(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let text = text_of(&bytes);
            let is_end = |c: char| c.is_whitespace() || c == '\0';
            prop_assert!(!text.starts_with(is_end) && !text.ends_with(is_end));
            prop_assert_eq!(text_of(text.as_bytes()), text);
        }
    }
}
