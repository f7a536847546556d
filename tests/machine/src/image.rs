//! The disk that machines start from: Debian, made by `image/build` once and cached.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hatrack_testbed::{cached, fingerprint};

use crate::debian;

const RECIPE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/image");

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
        let mut parts = vec![debian::suite().into_bytes()];
        add_files(Path::new(RECIPE), &mut parts)?;
        let key = fingerprint(parts.iter().map(Vec::as_slice));
        let folder = cached("machine", &key, |scratch| {
            debian::build("the image", &Path::new(RECIPE).join("build"), scratch, &[])
        })?;
        Ok(Self { folder, key })
    }

    pub(crate) fn kernel(&self) -> PathBuf {
        self.folder.join("vmlinuz")
    }

    pub(crate) fn initrd(&self) -> PathBuf {
        self.folder.join("initrd")
    }

    /// A folder with the packages with which modules for the kernel are built.
    pub(crate) fn headers(&self) -> PathBuf {
        self.folder.join("headers")
    }

    /// A raw disk with one file system and no partitions. Nobody writes to it.
    pub(crate) fn root(&self) -> PathBuf {
        self.folder.join("root.img")
    }
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
