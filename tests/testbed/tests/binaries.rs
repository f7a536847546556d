//! Where programs are looked for, and what is said when they are nowhere. The environment belongs to
//! a whole process, so each case is this very program, started again.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that fails")]

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use hatrack_testbed::Binaries;

const PROGRAMS: [&str; 3] = ["etcd", "kube-apiserver", "kube-controller-manager"];

#[test]
#[ignore = "a process of the other tests"]
fn finds() {
    match Binaries::find() {
        Ok(found) => println!("=> {}", found.etcd.parent().unwrap().display()),
        Err(error) => println!("=> {error}"),
    }
}

/// What [`Binaries::find`] says with these folders as `KUBEBUILDER_ASSETS` and `PATH`.
fn find(assets: &Path, path: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "finds", "--ignored", "--nocapture"])
        .env("KUBEBUILDER_ASSETS", assets)
        .env("PATH", path)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|line| Some(line.split_once("=> ")?.1.to_owned())).unwrap()
}

/// A folder with these files in the place of programs.
fn folder(programs: &[&str], mode: u32) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for program in programs {
        let path = dir.path().join(program);
        fs::write(&path, "").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }
    dir
}

#[test]
fn kubebuilder_assets_come_first() {
    let (assets, path) = (folder(&PROGRAMS, 0o755), folder(&["etcd", "flock"], 0o755));
    assert_eq!(Path::new(&find(assets.path(), path.path())), assets.path());
}

#[test]
fn etcd_is_taken_from_the_path() {
    let (assets, path) = (folder(&PROGRAMS[1..], 0o755), folder(&["etcd", "flock"], 0o755));
    assert_eq!(Path::new(&find(assets.path(), path.path())), path.path());
}

#[test]
fn what_is_missing_is_named_with_a_way_to_get_it() {
    let nothing = folder(&[], 0o755);
    let cases = [
        ("no etcd", folder(&PROGRAMS[1..], 0o755), "etcd is missing: put etcd on the PATH (Debian: `apt-get install"),
        ("etcd that cannot be run", folder(&PROGRAMS, 0o644), "etcd is missing: put etcd on the PATH"),
        ("no Go for the servers", folder(&PROGRAMS[..1], 0o755), "go is missing: the tests build kube-apiserver"),
        ("no flock", folder(&PROGRAMS, 0o755), "flock is missing: it is part of util-linux"),
        ("no Go for one of them", folder(&PROGRAMS[..2], 0o755), "go is missing: the tests build kube-apiserver"),
    ];
    for (name, assets, expected) in cases {
        let said = find(assets.path(), nothing.path());
        assert!(said.starts_with(expected), "{name}: {said}");
    }
}
