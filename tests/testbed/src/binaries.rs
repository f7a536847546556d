//! Where the programs of the control plane come from: `KUBEBUILDER_ASSETS` first, then a build of
//! `tests/control-plane` that is made once and cached, and for etcd the `PATH`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, io};

use crate::error::{Error, Result};
use crate::fingerprint::fingerprint;

/// The Go sources of the servers, beside this crate.
const SOURCES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../control-plane");

const GO_HINT: &str = "the tests build kube-apiserver and kube-controller-manager with it, once; get Go from \
                       https://go.dev/dl (1.21 or later fetches the version it needs by itself), or set \
                       KUBEBUILDER_ASSETS to a folder with kube-apiserver, kube-controller-manager and etcd";

const ETCD_HINT: &str = "put etcd on the PATH (Debian: `apt-get install etcd-server`, Nix: `nix shell nixpkgs#etcd`), or \
                         set KUBEBUILDER_ASSETS to a folder that has it";

/// Without it the servers would outlive the tests (`keeper.sh`).
const FLOCK_HINT: &str = "it is part of util-linux, which every Debian has; put it on the PATH";

/// The programs of one control plane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The key-value store.
    pub etcd: PathBuf,
    /// The API server.
    pub kube_apiserver: PathBuf,
    /// The controllers.
    pub kube_controller_manager: PathBuf,
}

impl Binaries {
    /// Finds the programs, and builds those that are nowhere. The first build takes minutes and
    /// says so on standard error; later calls take milliseconds.
    ///
    /// # Errors
    /// When a program is missing and cannot be built: the message says how to get it.
    pub fn find() -> Result<Self> {
        let assets = env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        let provided = |name: &str| assets.as_deref().and_then(|dir| executable(dir, name));
        let built = |name: &str| match provided(name) {
            Some(path) => Ok(path),
            None => Ok(build()?.join(name)),
        };
        let found = Self {
            etcd: provided("etcd")
                .or_else(|| on_path("etcd"))
                .ok_or(Error::Missing { program: "etcd", hint: ETCD_HINT })?,
            kube_apiserver: built("kube-apiserver")?,
            kube_controller_manager: built("kube-controller-manager")?,
        };
        on_path("flock").ok_or(Error::Missing { program: "flock", hint: FLOCK_HINT })?;
        Ok(found)
    }
}

fn executable(dir: &Path, name: &str) -> Option<PathBuf> {
    let path = dir.join(name);
    let metadata = fs::metadata(&path).ok()?;
    (metadata.is_file() && metadata.permissions().mode() & 0o111 != 0).then_some(path)
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).find_map(|dir| executable(&dir, name))
}

/// The folder with the built servers, made if it is not there.
fn build() -> Result<PathBuf> {
    let sources = Path::new(SOURCES);
    let cache = cache_folder().join("control-plane");
    let finished = cache.join(build_key(sources)?);
    if finished.is_dir() {
        return Ok(finished);
    }
    fs::create_dir_all(&cache).map_err(Error::file("create", &cache))?;
    let _building = crate::folder::lock(&cache.join("build.lock"))?;
    if !finished.is_dir() {
        let scratch =
            tempfile::Builder::new().prefix("build-").tempdir_in(&cache).map_err(Error::file("create", &cache))?;
        compile(sources, scratch.path())?;
        fs::rename(scratch.path(), &finished).map_err(Error::file("rename to", &finished))?;
    }
    Ok(finished)
}

/// `$HATRACK_CACHE`, else the user's cache folder: it outlives the tree and its `target`.
fn cache_folder() -> PathBuf {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("HATRACK_CACHE").unwrap_or_else(|| {
        variable("XDG_CACHE_HOME")
            .or_else(|| variable("HOME").map(|home| home.join(".cache")))
            .unwrap_or_else(env::temp_dir)
            .join("hatrack")
    })
}

/// What decides the result of a build: the sources and the toolchain.
fn build_key(sources: &Path) -> Result<String> {
    let mut parts = vec![go(sources, &["env", "GOVERSION", "GOOS", "GOARCH"])?.stdout];
    for name in ["go.mod", "go.sum", "main.go"] {
        let path = sources.join(name);
        parts.push(fs::read(&path).map_err(Error::file("read", &path))?);
    }
    Ok(fingerprint(parts.iter().map(Vec::as_slice)))
}

/// Builds one binary and links it under the name of each server it holds.
fn compile(sources: &Path, target: &Path) -> Result<()> {
    let binary = target.join("control-plane");
    let version = format!("-s -w -X k8s.io/component-base/version.gitVersion={}", kubernetes_version(sources)?);
    // Standard error itself and not a macro: libtest would hold the macro's output back, and a
    // first run that is silent for minutes looks hung.
    let _ = writeln!(
        io::stderr(),
        "building kube-apiserver and kube-controller-manager into {}: once, several minutes",
        target.parent().unwrap_or(target).display()
    );
    go(sources, &["build", "-trimpath", "-ldflags", &version, "-o", &binary.to_string_lossy(), "."])?;
    for name in ["kube-apiserver", "kube-controller-manager"] {
        let link = target.join(name);
        symlink("control-plane", &link).map_err(Error::file("link", &link))?;
    }
    Ok(())
}

/// The version of `k8s.io/kubernetes` in `go.mod`, which the API server reports at `/version`.
fn kubernetes_version(sources: &Path) -> Result<String> {
    let path = sources.join("go.mod");
    let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
    text.lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "))
        .map(|version| version.trim().to_owned())
        .ok_or_else(|| Error::Manifest { path, reason: "requires no k8s.io/kubernetes".into() })
}

fn go(sources: &Path, arguments: &[&str]) -> Result<Output> {
    let output = Command::new("go")
        .args(arguments)
        .current_dir(sources)
        .env("CGO_ENABLED", "0")
        .env("GOFLAGS", "-mod=readonly -buildvcs=false")
        .output()
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => Error::Missing { program: "go", hint: GO_HINT },
            _ => Error::Start { program: "go".into(), source },
        })?;
    if output.status.success() {
        return Ok(output);
    }
    Err(Error::Failed {
        program: format!("go {}", arguments.join(" ")),
        status: output.status.to_string(),
        output: crate::logs::last_lines(&String::from_utf8_lossy(&output.stderr), 30),
    })
}
