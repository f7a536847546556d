//! The operator's process.

use std::path::Path;
use std::process::{Command, Stdio};

use hatrack_testbed::Program;

/// Where the program that is tested lies.
const PROGRAM: &str = env!("CARGO_BIN_EXE_hatrack-operator");

/// Periods that no test has to wait for.
const PERIODS: &str = r#"
[leader]
period = "100ms"
deadline = "1500ms"
duration = "2s"
[nodes]
lease = "3s"
stop = "1s"
device-grace = "1s"
[requests]
text = "200ms"
set-aside = "500ms"
[canary]
period = "500ms"
retry = "100ms"
[backoff]
min = "20ms"
max = "500ms"
"#;

/// What the operator is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Keys of the table `[api]`.
    pub api: String,
    /// What stands below the other tables.
    pub tables: String,
}

impl Setup {
    /// An operator with the access of this file.
    pub fn new(kubeconfig: &Path) -> Self {
        Self { api: format!("kubeconfig = \"{}\"\n", kubeconfig.display()), tables: String::new() }
    }

    /// What starts the operator.
    pub fn command(&self, folder: &Path) -> Command {
        let file = folder.join(format!("operator-{}.toml", next_number()));
        let api =
            format!("listen = \"127.0.0.1:0\"\n[api]\nrequest-timeout = \"2s\"\nwatch-silence = \"20s\"\n{}", self.api);
        std::fs::write(&file, format!("{api}{PERIODS}{}", self.tables)).unwrap();
        let mut command = Command::new(PROGRAM);
        command.args(["run", "--log-format", "json", "--config"]).arg(&file);
        command.env("HATRACK_LOG", "info,hatrack_operator=debug").stdin(Stdio::null());
        command
    }

    /// Starts the operator; it is killed when the value is dropped.
    pub fn start(&self, folder: &Path) -> Program {
        Program::start(&mut self.command(folder))
    }

    /// Starts the operator so that it ends with this process: a value in a static is never dropped.
    pub fn start_for_all(&self, folder: &Path) -> Program {
        let operator = self.command(folder);
        let mut command = Command::new("sh");
        command.args(["-c", "\"$@\" & read -r _; kill -9 $!", "sh"]).arg(operator.get_program());
        command.args(operator.get_args()).envs(operator.get_envs().filter_map(|(key, value)| Some((key, value?))));
        Program::start_with_stdin(&mut command)
    }
}

/// A number that no other file of this process has.
fn next_number() -> u64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static TAKEN: AtomicU64 = AtomicU64::new(0);
    TAKEN.fetch_add(1, Ordering::Relaxed)
}
