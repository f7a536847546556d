//! Where the programs of Kubernetes come from: `KUBEBUILDER_ASSETS` first, then a build of `tests/control-plane` or
//! `tests/kubectl` that is made once and cached, and for etcd the `PATH`.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::{env, io};

use crate::cache::cached;
use crate::error::{Error, Result};
use crate::fingerprint::fingerprint;

/// A Go module beside this crate that becomes one binary.
struct Source {
    /// Name of its folder, of the binary and of the folder in the cache.
    name: &'static str,
    /// The module whose version is the binary's.
    versioned_by: &'static str,
    /// The names under which the binary is called, if not its own.
    links: &'static [&'static str],
}

const CONTROL_PLANE: Source = Source {
    name: "control-plane",
    versioned_by: "k8s.io/kubernetes",
    links: &["kube-apiserver", "kube-controller-manager"],
};

const KUBECTL: Source = Source { name: "kubectl", versioned_by: "k8s.io/kubectl", links: &[] };

const GO_HINT: &str = "the tests build kube-apiserver, kube-controller-manager and kubectl with it, once; get Go from \
                       https://go.dev/dl (1.21 or later fetches the version it needs by itself), or set \
                       KUBEBUILDER_ASSETS to a folder with kube-apiserver, kube-controller-manager, kubectl and etcd";

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
        let built = |name: &str| match provided(name) {
            Some(path) => Ok(path),
            None => Ok(CONTROL_PLANE.build()?.join(name)),
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

/// kubectl of the same version as the control plane. One of the `PATH` is not taken: what distributions have is too old for
/// the kustomizations of `k8s/`.
///
/// # Errors
/// When it cannot be built: the message says how to get it.
pub fn kubectl() -> Result<PathBuf> {
    match provided("kubectl") {
        Some(path) => Ok(path),
        None => Ok(KUBECTL.build()?.join("kubectl")),
    }
}

fn provided(name: &str) -> Option<PathBuf> {
    executable(Path::new(&env::var_os("KUBEBUILDER_ASSETS")?), name)
}

fn executable(dir: &Path, name: &str) -> Option<PathBuf> {
    let path = dir.join(name);
    let metadata = fs::metadata(&path).ok()?;
    (metadata.is_file() && metadata.permissions().mode() & 0o111 != 0).then_some(path)
}

fn on_path(name: &str) -> Option<PathBuf> {
    env::split_paths(&env::var_os("PATH")?).find_map(|dir| executable(&dir, name))
}

impl Source {
    /// The folder with the binary, made if it is not there.
    fn build(&self) -> Result<PathBuf> {
        cached(self.name, &self.build_key()?, |scratch| self.compile(scratch))
    }

    fn folder(&self) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(self.name)
    }

    /// What decides the result of a build: the sources and the toolchain.
    fn build_key(&self) -> Result<String> {
        let folder = self.folder();
        let mut parts = vec![go(&folder, &["env", "GOVERSION", "GOOS", "GOARCH"])?.stdout];
        for name in ["go.mod", "go.sum", "main.go"] {
            let path = folder.join(name);
            parts.push(fs::read(&path).map_err(Error::file("read", &path))?);
        }
        Ok(fingerprint(parts.iter().map(Vec::as_slice)))
    }

    /// Builds the binary and links it under each of its names.
    fn compile(&self, target: &Path) -> Result<()> {
        let binary = target.join(self.name);
        let version = format!("-s -w -X k8s.io/component-base/version.gitVersion={}", self.version()?);
        // Standard error itself and not a macro: libtest would hold the macro's output back, and a
        // first run that is silent for minutes looks hung.
        let _ = writeln!(
            io::stderr(),
            "building {} into {}: once, several minutes",
            if self.links.is_empty() { self.name.to_owned() } else { self.links.join(" and ") },
            target.parent().unwrap_or(target).display()
        );
        go(&self.folder(), &["build", "-trimpath", "-ldflags", &version, "-o", &binary.to_string_lossy(), "."])?;
        for name in self.links {
            let link = target.join(name);
            symlink(self.name, &link).map_err(Error::file("link", &link))?;
        }
        Ok(())
    }

    /// The version that the binary reports: that of its module in `go.mod`, which is `v0` where Kubernetes' is `v1`.
    fn version(&self) -> Result<String> {
        let path = self.folder().join("go.mod");
        let text = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
        let required = text.lines().find_map(|line| line.trim().strip_prefix(self.versioned_by)?.strip_prefix(' '));
        let version = required.map(|version| version.trim().replacen("v0.", "v1.", 1));
        version.ok_or_else(|| Error::Manifest { path, reason: format!("requires no {}", self.versioned_by) })
    }
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
