//! A machine that has booted and rests, kept: memory in a file, disk beside it.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use hatrack_testbed::{cached, fingerprint};

use crate::accelerator::Accelerator;
use crate::console::timed;
use crate::image::Image;
use crate::machine::{self, Machine};
use crate::payload::Payload;
use crate::qemu::Board;

/// What the kept machine has done already: whatever takes long and is the same for every test. Nothing that generators of units
/// make is needed any more, and each `daemon-reload` would run them all.
const PREPARE: &str = "systemctl is-system-running --wait && modprobe -a libcomposite usb_f_fs && modprobe dummy_hcd num=20 && \
                       systemctl start polkit && udevadm settle && mkdir -p /run/systemd/system-generators && \
                       for generator in /usr/lib/systemd/system-generators/*; do \
                       ln -s /dev/null /run/systemd/system-generators/$(basename $generator); done && sync";

/// The board of every machine that comes from the snapshot: the kernel has read it.
pub(crate) const UUID: &str = "68617472-6163-4b21-8000-000000000001";

/// What decides whether a state can be loaded, beside image and QEMU: the command line and what is done before.
const SOURCES: [&str; 2] = [include_str!("qemu.rs"), PREPARE];

/// The folder of the snapshot, made if it is not in the cache.
pub(crate) async fn get(image: &Image, accelerator: Accelerator) -> Result<PathBuf> {
    let key = key(image, accelerator)?;
    let image = image.clone();
    // Waiting for another process that makes it blocks.
    let made = tokio::task::spawn_blocking(move || {
        cached("machine-snapshot", &key, |scratch| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(timed("booted and saved", make(&image, accelerator, scratch)))
        })
    });
    made.await.context("making the snapshot was given up")?
}

async fn make(image: &Image, accelerator: Accelerator, folder: &Path) -> Result<()> {
    let machine =
        Machine::power(image, accelerator, machine::Disk::Image(Board::Legacy), UUID, Payload::default()).await?;
    machine.run(PREPARE).await?;
    machine.save(folder).await
}

/// A state belongs to a QEMU, and with KVM to a processor.
fn key(image: &Image, accelerator: Accelerator) -> Result<String> {
    let version = std::process::Command::new("qemu-system-x86_64").arg("--version").output();
    let version = version.context("cannot start qemu-system-x86_64")?.stdout;
    let processor = match accelerator {
        Accelerator::Kvm => std::fs::read_to_string("/proc/cpuinfo").context("cannot read the processor's features")?,
        Accelerator::Emulation => String::new(),
    };
    let features: String = processor.lines().filter(|line| line.starts_with("flags")).take(1).collect();
    let parts = [image.key.as_bytes(), &version, accelerator.option().as_bytes(), features.as_bytes()];
    Ok(fingerprint(parts.into_iter().chain(SOURCES.map(str::as_bytes))))
}
