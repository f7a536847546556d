//! A Kubernetes control plane on loopback to try hatrack on by hand, until Ctrl-C. It has no
//! kubelets: nothing runs in it but what you start.
//!
//! `cargo run --package hatrack-testbed --example cluster [FOLDER]` writes `admin.kubeconfig` and
//! `operator.kubeconfig` into FOLDER (default: the current one). With them the section "Run the
//! agent in a cluster" of the README works as it stands.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for a terminal")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use std::{env, fs};

use hatrack_testbed::{ControlPlane, Error, Identity, Options, Result};

const DAY: Duration = Duration::from_hours(24);

#[tokio::main]
async fn main() -> ExitCode {
    let folder = env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    match run(&folder).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:?}");
            ExitCode::FAILURE
        }
    }
}

async fn run(folder: &Path) -> Result<()> {
    let plane = ControlPlane::private(Options::default()).await?;
    plane.publish_cluster_info().await?;
    let admin = place(&plane, &plane.admin_identity()?, &folder.join("admin.kubeconfig"))?;
    place(&plane, &plane.client_certificate("society:operator", &[], DAY)?, &folder.join("operator.kubeconfig"))?;
    println!("export KUBECONFIG={}", admin.display());
    eprintln!("{} answers, its logs are in {}; Ctrl-C ends it", plane.url(), plane.folder().display());
    // Without the handler the default ends the process, which ends the servers as well.
    let _ = tokio::signal::ctrl_c().await;
    Ok(())
}

/// Writes the kubeconfig of `identity` to `path`.
fn place(plane: &ControlPlane, identity: &Identity, path: &Path) -> Result<PathBuf> {
    let made = plane.kubeconfig_for(identity)?;
    let copied = fs::copy(made, path).and_then(|_| path.canonicalize());
    copied.map_err(|error| Error::File { action: "write", path: path.into(), source: error })
}
