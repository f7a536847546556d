//! A program of hatrack that runs as it is installed: its log, its pages, its end.

#![allow(clippy::unwrap_used, clippy::panic, clippy::missing_panics_doc, reason = "a helper of a test fails the test")]
#![allow(clippy::print_stdout, reason = "who reads the tests reads what they measured")]

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// What takes longer than this does not come any more: the machine may be busy, and no test waits for it otherwise.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Waits for something that has to happen.
///
/// # Panics
/// When it has not happened within [`PATIENCE`].
pub async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    match timeout(PATIENCE, future).await {
        Ok(value) => value,
        Err(elapsed) => panic!("{what} did not happen within {PATIENCE:?}: {elapsed}"),
    }
}

/// Prints how long it took after a fault until `what` was so: the figures of `docs/reliability.md` (`--nocapture` shows them).
pub async fn timed<T>(what: &str, future: impl Future<Output = T>) -> T {
    let since = Instant::now();
    let value = future.await;
    println!("measured: {what}: {:.2} s", since.elapsed().as_secs_f64());
    value
}

/// A running program that logs JSON to standard error and serves `/metrics`, `/healthz` and `/readyz`. It is killed when the value is
/// dropped. Its methods panic, and so fail the test, when what they wait for does not come.
#[derive(Debug)]
pub struct Program {
    child: Child,
    log: watch::Receiver<Arc<Vec<Value>>>,
}

impl Program {
    /// Starts `command`.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::null()))
    }

    /// Starts `command` with a standard input that ends with this process.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_with_stdin(command: &mut Command) -> Self {
        Self::spawn(command.stdin(Stdio::piped()))
    }

    fn spawn(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
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
                assert!(goes_on, "the program ended without saying `{text}`: {:#?}", log.borrow());
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
        let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
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
        match timeout(PATIENCE, polled).await {
            Ok(text) => text,
            Err(elapsed) => panic!("{elapsed}: not {what}; /readyz says: {last}\n{:#?}", self.lines()),
        }
    }

    /// Waits until the cluster can rely on the program.
    pub async fn ready(&self) {
        self.readiness("ready", |status, _| status == 200).await;
    }

    /// Waits until the program is not ready and says why with these words.
    pub async fn not_ready(&self, why: &str) -> String {
        self.readiness(why, |status, text| status == 503 && text.contains(why)).await
    }

    /// The value of a metric, by its name with labels; 0 if it is not there.
    pub async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        value.unwrap_or_default()
    }

    /// Its process.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).unwrap())
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).unwrap();
    }

    /// Asks the program to stop.
    pub async fn stop(self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.end().await
    }

    /// Waits for the end of the process.
    pub async fn end(mut self) -> ExitStatus {
        let ended = async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                sleep(Duration::from_millis(10)).await;
            }
        };
        soon("the end of the program", ended).await
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
