//! The agent's process: its configuration, its log, its HTTP server, its end.

use std::fmt::Write as _;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use hatrack_testbed::{Program, soon};
use nix::sys::signal::Signal;
use tokio::time::{Duration, sleep};

/// Where the program that is tested lies.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_hatrack-agent");

/// Periods that no test has to wait for.
const PERIODS: &str = "
[lease]
period = \"200ms\"
duration = \"2s\"
[backoff]
min = \"20ms\"
max = \"300ms\"
[discovery]
coalesce = \"5ms\"
";

/// What the agent is started with.
#[derive(Debug, Clone)]
pub struct Setup {
    pub name: String,
    pub class: &'static str,
    pub root: PathBuf,
    pub folder: PathBuf,
    /// Keys of the table `[api]`.
    pub api: String,
    /// Keys outside of any table.
    pub top: String,
    /// What starts the program, if not this process itself: a shell that has prepared something.
    pub wrapper: Vec<String>,
    /// How long a restarted agent waits for answers.
    pub settle: &'static str,
    /// The longest time between two looks.
    pub full_pass: &'static str,
    /// What stands below the other tables.
    pub tables: String,
    pub environment: Vec<(&'static str, String)>,
}

impl Setup {
    /// A worker of this name whose `/` is `root`. It has no access to any API server yet.
    pub fn new(name: &str, root: &Path, folder: &Path) -> Self {
        Self {
            name: name.to_owned(),
            class: "worker",
            root: root.to_owned(),
            folder: folder.to_owned(),
            api: String::new(),
            top: String::new(),
            wrapper: Vec::new(),
            settle: "30s",
            full_pass: "1h",
            tables: "[nvml]\nmode = \"off\"\n".to_owned(),
            environment: Vec::new(),
        }
    }

    pub fn state_dir(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// Access by a kubeconfig file.
    pub fn kubeconfig(&mut self, path: &Path) -> &mut Self {
        self.api("kubeconfig", path.display())
    }

    /// A key of the table `[api]`.
    pub fn api(&mut self, key: &str, value: impl std::fmt::Display) -> &mut Self {
        _ = writeln!(self.api, "{key} = \"{value}\"");
        self
    }

    /// Starts the program.
    pub fn start(&self) -> Agent {
        let file = self.folder.join("agent.toml");
        let text = format!(
            "name = \"{}\"\nclass = \"{}\"\nroot = \"{}\"\nstate-dir = \"{}\"\nlisten = \"127.0.0.1:0\"\n{}[api]\n\
             request-timeout = \"2s\"\n{}{PERIODS}settle = \"{}\"\nfull-pass = \"{}\"\n{}",
            self.name,
            self.class,
            self.root.display(),
            self.state_dir().display(),
            self.top,
            self.api,
            self.settle,
            self.full_pass,
            self.tables
        );
        std::fs::write(&file, text).unwrap();
        let mut line = self.wrapper.clone();
        line.extend([PROGRAM, "run", "--log-format", "json", "--config"].map(String::from));
        let mut command = Command::new(&line[0]);
        command.args(&line[1..]).arg(&file).env("HATRACK_LOG", "info,hatrack_agent=debug");
        command.envs(self.environment.iter().cloned());
        Agent::spawn(&mut command)
    }
}

/// A running agent. It is killed when the value is dropped.
pub struct Agent(Program);

impl Deref for Agent {
    type Target = Program;

    fn deref(&self) -> &Program {
        &self.0
    }
}

impl Agent {
    /// Starts the program as `command` says.
    pub fn spawn(command: &mut Command) -> Self {
        Self(Program::start(command))
    }

    /// Waits until the agent has looked as often as it was asked to.
    pub async fn looked(&self, times: f64) {
        self.looked_for("asked", times).await;
    }

    /// Waits until the agent has looked this often for one cause.
    pub async fn looked_for(&self, cause: &str, times: f64) {
        let name = format!("hatrack_agent_looks_total{{cause=\"{cause}\"}}");
        let polled = async {
            while self.metric(&name).await < times {
                sleep(Duration::from_millis(5)).await;
            }
        };
        soon("the look", polled).await;
    }

    /// Makes the agent look again: a machine on paper has no hotplug events.
    pub fn look_again(&self) {
        self.signal(Signal::SIGHUP);
    }

    /// Asks the agent to stop.
    pub async fn stop(self) -> ExitStatus {
        self.0.stop().await
    }

    /// Waits for the end of the process.
    pub async fn end(self) -> ExitStatus {
        self.0.end().await
    }
}
