//! A real service manager with a bus (`manager.sh`): one for each test, as an agent stops the hats that nobody assigned to it.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::sleep;

use crate::soon;

/// What starts it.
const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/agent/manager.sh");

/// As `modules/agent.nix` makes it.
const TARGET: &str = "[Unit]\nDescription=Hat %i\n";

pub struct Manager {
    folder: PathBuf,
    /// The manager ends with its standard input.
    keeper: Child,
}

impl Manager {
    /// Starts one.
    pub async fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("hatrack-manager").tempdir().unwrap().keep();
        fs::create_dir_all(folder.join("config/systemd/user")).unwrap();
        fs::create_dir(folder.join("run")).unwrap();
        fs::set_permissions(folder.join("run"), fs::Permissions::from_mode(0o700)).unwrap();
        let mut shell = Command::new("sh");
        let keeper = shell.arg(SCRIPT).arg(&folder).stdin(Stdio::piped()).spawn().unwrap();
        let manager = Self { folder, keeper };
        manager.unit("hat@.target", TARGET);
        let answers = async {
            while !manager.command(&["show", "--property=Version"]).output().unwrap().status.success() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        soon("the service manager", answers).await;
        manager
    }

    /// The address of its bus.
    pub fn bus(&self) -> String {
        format!("unix:path={}", self.folder.join("run/bus").display())
    }

    fn units(&self) -> PathBuf {
        self.folder.join("config/systemd/user")
    }

    /// Writes a unit file.
    pub fn unit(&self, name: &str, text: &str) {
        fs::write(self.units().join(name), text).unwrap();
    }

    /// Makes a unit wanted by the target of a hat, as `systemctl enable` does, and makes all units known.
    pub fn enable(&self, hat: &str, unit: &str) {
        let wants = self.units().join(format!("hat@{hat}.target.wants"));
        fs::create_dir_all(&wants).unwrap();
        symlink(self.units().join(unit), wants.join(unit)).unwrap();
        self.run(&["daemon-reload"]);
    }

    /// Makes it impossible to start a unit, as `systemctl mask` does.
    pub fn mask(&self, unit: &str) {
        symlink("/dev/null", self.units().join(unit)).unwrap();
        self.run(&["daemon-reload"]);
    }

    /// Takes that back.
    pub fn unmask(&self, unit: &str) {
        fs::remove_file(self.units().join(unit)).unwrap();
        self.run(&["daemon-reload"]);
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("systemctl");
        command.arg("--user").args(arguments).env("XDG_RUNTIME_DIR", self.folder.join("run"));
        // Not by the manager's own socket, which breaks now and then for who is outside its PID namespace.
        command.env("DBUS_SESSION_BUS_ADDRESS", self.bus()).env("SYSTEMCTL_FORCE_BUS", "1");
        command
    }

    /// Runs systemctl.
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    pub fn property(&self, unit: &str, property: &str) -> String {
        self.run(&["show", "--value", &format!("--property={property}"), unit])
    }

    /// Ends the bus. Who connects next has a new one, to which the service manager comes as well.
    pub async fn restart_bus(&self) {
        let ask = ["show", "--value", "--property=MainPID", "dbus.service"];
        let old = self.run(&ask);
        // The answer may go with the bus.
        _ = self.command(&["kill", "--signal=SIGKILL", "dbus.service"]).output().unwrap();
        let is_new = || {
            let output = self.command(&ask).output().unwrap();
            let pid = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            output.status.success() && ![old.as_str(), "0", ""].contains(&pid.as_str())
        };
        let polled = async {
            while !is_new() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        soon("another bus", polled).await;
    }

    /// Waits until a unit is in a state.
    pub async fn until(&self, unit: &str, state: &str) {
        let polled = async {
            while self.property(unit, "ActiveState") != state {
                sleep(Duration::from_millis(20)).await;
            }
        };
        soon(&format!("{unit} {state}"), polled).await;
    }
}

impl Drop for Manager {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        _ = self.keeper.wait();
    }
}
