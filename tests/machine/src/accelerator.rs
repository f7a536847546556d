//! KVM where it works, else emulation.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use hatrack_testbed::{cached, fingerprint};

use crate::console::say;
use crate::image::Image;

/// A kernel that runs on KVM has printed by then; one that does not get so far is not worth its host's KVM.
const PROBE: Duration = Duration::from_secs(20);

/// What the initrd says when it is only asked whether it runs.
const ALIVE: &str = "initrd: alive";

/// What executes the machine's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Accelerator {
    Kvm,
    Emulation,
}

impl Accelerator {
    /// What works here, tried once since the host was booted: a host may have `/dev/kvm` and be unable to start a kernel
    /// with it. `HATRACK_ACCELERATOR` (`kvm` or `tcg`) decides instead.
    pub(crate) fn find(image: &Image) -> Result<Self> {
        match std::env::var("HATRACK_ACCELERATOR").as_deref() {
            Ok("kvm") => return Ok(Self::Kvm),
            Ok("tcg") => return Ok(Self::Emulation),
            Ok(other) => bail!("HATRACK_ACCELERATOR is `{other}`, and can be `kvm` or `tcg`"),
            Err(_) => {}
        }
        if fs::File::options().read(true).write(true).open("/dev/kvm").is_err() {
            return Ok(Self::Emulation);
        }
        let boot = fs::read("/proc/sys/kernel/random/boot_id").context("cannot read the boot id")?;
        let key = fingerprint([image.key.as_bytes(), &boot]);
        let probed = cached("machine-accelerator", &key, |scratch| {
            let works = kernel_starts(image, scratch)?;
            say(if works { "KVM works" } else { "/dev/kvm starts no kernel: emulation" });
            fs::write(scratch.join("found"), if works { "kvm" } else { "tcg" }).context("cannot keep what was found")
        })?;
        let found = fs::read_to_string(probed.join("found")).context("cannot read what was found")?;
        Ok(if found == "kvm" { Self::Kvm } else { Self::Emulation })
    }

    /// QEMU's `-accel`.
    pub(crate) fn option(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Emulation => "tcg,thread=multi,tb-size=256",
        }
    }
}

fn kernel_starts(image: &Image, folder: &Path) -> Result<bool> {
    let console = folder.join("console");
    let mut qemu = Command::new("qemu-system-x86_64")
        .args([
            "-M",
            "q35",
            "-accel",
            "kvm",
            "-cpu",
            "max",
            "-m",
            "512",
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
        ])
        .args(["-append", "console=ttyS0 panic=-1 quiet hatrack.probe"])
        .arg("-kernel")
        .arg(image.kernel())
        .arg("-initrd")
        .arg(image.initrd())
        .arg("-serial")
        .arg(format!("file:{}", console.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("cannot start qemu-system-x86_64")?;
    let start = Instant::now();
    while start.elapsed() < PROBE && qemu.try_wait()?.is_none() {
        std::thread::sleep(Duration::from_millis(50));
    }
    qemu.kill().context("cannot end qemu-system-x86_64")?;
    qemu.wait()?;
    Ok(fs::read_to_string(&console).is_ok_and(|text| text.contains(ALIVE)))
}
