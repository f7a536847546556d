//! ZFS for the kernel of the machines: modules and programs, made by `zfs/build` once and cached.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hatrack_testbed::{cached, fingerprint};

use crate::debian;
use crate::image::Image;
use crate::payload::Payload;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/zfs/build");

/// A payload with ZFS: programs, and the modules `spl.ko` and `zfs.ko` in `updates/dkms` of the kernel's.
pub async fn zfs() -> Result<Payload> {
    let made = tokio::task::spawn_blocking(get);
    let mut payload = Payload::default();
    payload.archive(&made.await.context("making ZFS was given up")??)?;
    Ok(payload)
}

fn get() -> Result<PathBuf> {
    let image = Image::get()?;
    let key = fingerprint([image.key.as_bytes(), include_bytes!("../zfs/build")]);
    let headers = image.headers();
    let folder = cached("machine-zfs", &key, |scratch| {
        debian::build("ZFS for the machine's kernel", Path::new(SCRIPT), scratch, &[&headers])
    })?;
    Ok(folder.join("zfs.tar"))
}
