//! The agent's process: its configuration, its log, its HTTP server, its end.

use std::fmt::Write as _;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Duration, sleep};

use crate::soon;

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
full-pass = \"1h\"
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
             request-timeout = \"2s\"\n{}{PERIODS}settle = \"{}\"\n{}",
            self.name,
            self.class,
            self.root.display(),
            self.state_dir().display(),
            self.top,
            self.api,
            self.settle,
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
pub struct Agent {
    child: Child,
    log: watch::Receiver<Arc<Vec<Value>>>,
}

impl Agent {
    /// Starts the program as `command` says.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (lines, log) = watch::channel(Arc::default());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let value = serde_json::from_str(&line).unwrap_or(Value::String(line));
                lines.send_modify(|log: &mut Arc<Vec<Value>>| Arc::make_mut(log).push(value));
            }
        });
        Self { child, log }
    }

    /// Every line of the log so far.
    pub fn lines(&self) -> Arc<Vec<Value>> {
        self.log.borrow().clone()
    }

    /// How many lines of the log have this message so far.
    pub fn count(&self, message: &str) -> usize {
        self.lines().iter().filter(|line| line["message"] == message).count()
    }

    /// Waits for a line of the log with a text in it.
    pub async fn says(&self, text: &str) -> Value {
        let mut log = self.log.clone();
        let found = |lines: &Arc<Vec<Value>>| lines.iter().find(|line| line.to_string().contains(text)).cloned();
        let said = async {
            loop {
                if let Some(line) = found(&log.borrow_and_update()) {
                    return line;
                }
                let goes_on = log.changed().await.is_ok();
                assert!(goes_on, "the agent ended without saying `{text}`: {:#?}", log.borrow());
            }
        };
        soon(&format!("the log line `{text}`"), said).await
    }

    async fn address(&self) -> SocketAddr {
        let line = self.says("serving /metrics").await;
        line["address"].as_str().unwrap().parse().unwrap()
    }

    /// The status and the text of a page.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address().await).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: agent\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap();
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        (status, body.to_owned())
    }

    /// Waits until `/readyz` answers so. There is no event for that but the next answer.
    pub async fn readiness(&self, what: &str, wanted: impl Fn(u16, &str) -> bool) -> String {
        let mut last = String::new();
        let polled = async {
            loop {
                let (status, text) = self.get("/readyz").await;
                if wanted(status, &text) {
                    return text;
                }
                last = text;
                sleep(Duration::from_millis(20)).await;
            }
        };
        match tokio::time::timeout(crate::PATIENCE, polled).await {
            Ok(text) => text,
            Err(elapsed) => panic!("{elapsed}: not {what}; /readyz says: {last}\n{:#?}", self.lines()),
        }
    }

    /// Waits until the cluster can rely on the agent.
    pub async fn ready(&self) {
        self.readiness("ready", |status, _| status == 200).await;
    }

    /// Waits until the agent is not ready and says why with these words.
    pub async fn not_ready(&self, why: &str) -> String {
        self.readiness(why, |status, text| status == 503 && text.contains(why)).await
    }

    /// The value of a metric, by its name with labels.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_default()
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

    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Makes the agent look again: a machine on paper has no hotplug events.
    pub fn look_again(&self) {
        self.signal(Signal::SIGHUP);
    }

    /// Asks the agent to stop.
    pub async fn stop(self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.end().await
    }

    /// Waits for the end of the process.
    pub async fn end(mut self) -> ExitStatus {
        let mut child = std::mem::replace(&mut self.child, Command::new("true").spawn().unwrap());
        soon("the end of the agent", async move { tokio::task::spawn_blocking(move || child.wait()).await.unwrap() })
            .await
            .unwrap()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
