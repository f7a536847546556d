//! What a host must have before a machine can run on it.

use std::env;
use std::path::Path;
use std::process::Command;

use crate::qemu::UEFI;

/// The programs that make and run a machine. `tests/setup` installs them.
const PROGRAMS: [&str; 5] = ["qemu-system-x86_64", "qemu-img", "debootstrap", "mke2fs", "strip"];

/// Why no machine can run here, in words for a person; `None` where one can.
pub fn missing() -> Option<String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Some("the machine of the tests is an x86_64 Linux".to_owned());
    }
    if let Some(program) = PROGRAMS.into_iter().find(|program| !is_installed(program)) {
        return Some(format!("{program} is missing: `tests/setup` installs it"));
    }
    if !Path::new(UEFI).is_file() {
        return Some("UEFI for virtual machines is missing (ovmf): `tests/setup` installs it".to_owned());
    }
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout == b"0\n");
    (!is_root).then(|| "debootstrap needs root".to_owned())
}

/// Debian keeps some of them where only root's `PATH` leads.
fn is_installed(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|folder| folder.join(program).is_file())
        || ["/usr/sbin", "/sbin"].into_iter().any(|folder| Path::new(folder).join(program).is_file())
}
