//! The disk that machines start from: Debian, made by `image/build` once and cached.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use hatrack_testbed::{cached, fingerprint};

use crate::console::{say, tail};

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/image");

/// Debian's suite where the host is another distribution. Where it is Debian, the machine is of the same suite, so that
/// programs built on the host find their C library.
const SUITE: &str = "bookworm";

const MIRROR: &str = "http://deb.debian.org/debian";

/// Kernel, initrd and root file system of a machine.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    folder: PathBuf,
    /// What it was made of.
    pub(crate) key: String,
}

impl Image {
    /// The image, made if it is not in the cache.
    pub(crate) fn get() -> Result<Self> {
        let suite = suite();
        let mut parts = vec![suite.clone().into_bytes()];
        add_files(Path::new(RECIPE), &mut parts)?;
        let key = fingerprint(parts.iter().map(Vec::as_slice));
        let folder = cached("machine", &key, |scratch| build(scratch, &suite))?;
        Ok(Self { folder, key })
    }

    pub(crate) fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    pub(crate) fn initrd(&self) -> PathBuf {
        self.folder.join("initrd")
    }

    /// A raw disk with one file system and no partitions. Nobody writes to it.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("root.img")
    }
}

fn suite() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key| release.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim_matches('"'));
    let own = value("ID=").filter(|id| *id == "debian").and_then(|_| value("VERSION_CODENAME="));
    own.unwrap_or(SUITE).to_owned()
}

/// Names and contents of everything below `folder`, in an order of their own.
fn add_files(folder: &Path, parts: &mut Vec<Vec<u8>>) -> Result<()> {
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            add_files(&path, parts)?;
        } else {
            parts.push(path.strip_prefix(RECIPE)?.as_os_str().as_encoded_bytes().to_vec());
            parts.push(fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?);
        }
    }
    Ok(())
}

fn build(folder: &Path, suite: &str) -> Result<()> {
    say("making the image: once, some minutes");
    let start = std::time::Instant::now();
    let log = folder.join("build.log");
    let output = fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let mirror = std::env::var("HATRACK_DEBIAN_MIRROR").unwrap_or_else(|_| MIRROR.to_owned());
    let status = Command::new(Path::new(RECIPE).join("build"))
        .arg(folder)
        .args([suite, &mirror])
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .context("cannot start image/build")?;
    if !status.success() {
        bail!("image/build failed with {status}:\n{}", tail(&log));
    }
    say(&format!("image made in {:.0} s", start.elapsed().as_secs_f64()));
    Ok(())
}
