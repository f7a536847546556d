//! The script that gives the operator its certificate, against a real API server that signs it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use hatrack_testbed::ControlPlane;
use serde_json::Value;
use tempfile::TempDir;
use tokio::process::Command;

/// A machine of the control plane, as the script sees it.
struct Machine {
    folder: TempDir,
    administrator: PathBuf,
    kubectl: PathBuf,
}

impl Machine {
    fn of(plane: &ControlPlane) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("bin")).unwrap();
        let kubectl = hatrack_testbed::kubectl().unwrap();
        symlink(&kubectl, folder.path().join("bin/kubectl")).unwrap();
        let administrator = plane.kubeconfig_for(&plane.admin_identity().unwrap()).unwrap();
        Self { folder, administrator, kubectl }
    }

    /// Runs the script, `later` than now by as much as faketime understands. Returns what it said.
    async fn run(&self, later: &str) -> String {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packages/operator-access.sh");
        let path = format!("{}:{}", self.folder.path().join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("faketime");
        command.arg(later).arg("bash").arg(script);
        command.env("PATH", path).env("STATE_DIRECTORY", self.folder.path()).env("KUBECONFIG", &self.administrator);
        // kubectl keeps what it learns of servers below the home.
        command.env("HOME", self.folder.path());
        let output = command.output().await.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        said
    }

    fn access(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    async fn kubectl(&self, kubeconfig: &Path, arguments: &[&str]) -> Value {
        let mut command = Command::new(&self.kubectl);
        command.arg("--kubeconfig").arg(kubeconfig).args(arguments).args(["--output", "json"]);
        let output = command.env("HOME", self.folder.path()).output().await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

#[tokio::test]
async fn the_operator_is_known_by_its_certificate_which_is_renewed_in_its_last_third() {
    let plane = ControlPlane::shared().await.unwrap();
    let machine = Machine::of(&plane);

    assert!(machine.run("+0 days").await.contains("has a new certificate"));
    let first = fs::read(machine.access()).unwrap();
    let mode = fs::metadata(machine.access()).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode, 0o600, "others could read the operator's key");
    let known = machine.kubectl(&machine.access(), &["auth", "whoami"]).await;
    assert_eq!(known["status"]["userInfo"]["username"], "society:operator");
    assert_eq!(known["status"]["userInfo"]["groups"], serde_json::json!(["system:authenticated"]));

    assert!(machine.run("+58 days").await.contains("lasts until"));
    assert_eq!(fs::read(machine.access()).unwrap(), first, "a certificate that lasts was replaced");

    assert!(machine.run("+62 days").await.contains("has a new certificate"));
    assert_ne!(fs::read(machine.access()).unwrap(), first, "a certificate that ends soon was kept");

    let requests = machine.kubectl(&machine.administrator, &["get", "certificatesigningrequests"]).await;
    let left = requests["items"].as_array().unwrap().iter();
    let left: Vec<_> = left.filter(|request| request["metadata"]["generateName"] == "hatrack-operator-").collect();
    assert!(left.is_empty(), "{left:?}");
}
