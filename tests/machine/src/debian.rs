//! What is made of Debian's packages, by scripts, once.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};

use crate::console::{say, tail};

/// Debian's suite where the host is another distribution. Where it is Debian, the machine is of the same suite, so that
/// programs built on the host find their C library.
const SUITE: &str = "bookworm";

const MIRROR: &str = "http://deb.debian.org/debian";

pub(crate) fn suite() -> String {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let value = |key| release.lines().find_map(|line| line.strip_prefix(key)).map(|value| value.trim_matches('"'));
    let own = value("ID=").filter(|id| *id == "debian").and_then(|_| value("VERSION_CODENAME="));
    own.unwrap_or(SUITE).to_owned()
}

/// Runs `script FOLDER SUITE MIRROR`, with further arguments, which makes something in `folder`. What it prints is in `build.log` there.
pub(crate) fn build(what: &str, script: &Path, folder: &Path, more: &[&Path]) -> Result<()> {
    say(&format!("making {what}: once, some minutes"));
    let start = Instant::now();
    let log = folder.join("build.log");
    let output = fs::File::create(&log).with_context(|| format!("cannot create {}", log.display()))?;
    let mirror = std::env::var("HATRACK_DEBIAN_MIRROR").unwrap_or_else(|_| MIRROR.to_owned());
    let status = Command::new(script)
        .arg(folder)
        .args([suite(), mirror])
        .args(more)
        .stdout(output.try_clone()?)
        .stderr(output)
        .status()
        .with_context(|| format!("cannot start {}", script.display()))?;
    if !status.success() {
        bail!("{} failed with {status}:\n{}", script.display(), tail(&log));
    }
    say(&format!("{what} made in {:.0} s", start.elapsed().as_secs_f64()));
    Ok(())
}
