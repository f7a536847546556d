//! Commands in a machine, over a virtio port. `image/files/usr/local/sbin/control` is the other end.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use crate::qemu::{CONTROL, Qemu};

/// How long a machine may take until it answers, and a command until it is done: emulated, on a busy host.
const PATIENCE: Duration = Duration::from_mins(5);

/// When a machine that does not answer is asked again: twice as late each time, for it may answer all in the end, one after the other.
const AGAIN: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(8);

/// How often it is looked whether the machine listens.
const LOOK: Duration = Duration::from_millis(100);

/// What one command did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The exit status; 128 and the signal of one that was killed.
    pub status: i32,
    /// Standard output and standard error.
    pub output: String,
}

/// The host's end of the port.
pub(crate) struct Control {
    stream: Mutex<BufReader<UnixStream>>,
}

impl Control {
    /// Connects to the socket of the port, which QEMU makes as it starts.
    pub(crate) async fn connect(socket: &Path) -> Result<Self> {
        let connected = async {
            loop {
                match UnixStream::connect(socket).await {
                    Ok(stream) => return stream,
                    Err(_) => sleep(Duration::from_millis(10)).await,
                }
            }
        };
        let stream = timeout(PATIENCE, connected).await.context("QEMU does not open the control port")?;
        Ok(Self { stream: Mutex::new(BufReader::new(stream)) })
    }

    /// Asks until the machine answers, with a command that may run more than once. A restored or rebooted machine finds the port closed
    /// once and opens it anew, and what was sent in between is lost with what it had not read.
    pub(crate) async fn ask(&self, command: &str, qemu: &Qemu) -> Result<Answer> {
        let mut stream = self.stream.lock().await;
        let answered = async {
            let (mut tokens, mut again) = (Vec::new(), *AGAIN.start());
            loop {
                while !is_open(qemu).await? {
                    sleep(LOOK).await;
                }
                tokens.push(send(&mut stream, command).await?);
                if let Ok(answer) = timeout(again, receive(&mut stream, &tokens)).await {
                    return answer;
                }
                again = (again * 2).min(*AGAIN.end());
            }
        };
        timeout(PATIENCE, answered).await.context("the machine does not answer")?
    }

    /// Gives a command that may end before it can answer.
    pub(crate) async fn give(&self, command: &str) -> Result<()> {
        send(&mut *self.stream.lock().await, command).await.map(drop)
    }

    /// Runs a command and waits for its end.
    pub(crate) async fn run(&self, command: &str) -> Result<Answer> {
        let mut stream = self.stream.lock().await;
        let answered = async {
            let token = send(&mut stream, command).await?;
            receive(&mut stream, &[token]).await
        };
        timeout(PATIENCE, answered).await.with_context(|| format!("no answer to `{command}`"))?
    }
}

/// Whether somebody in the machine has the port open: what is sent to nobody waits there, and is all done when the machine has started.
async fn is_open(qemu: &Qemu) -> Result<bool> {
    let devices = qemu.execute("query-chardev", json!({})).await?;
    let mut devices = devices.as_array().context("QEMU has no list of its ports")?.iter();
    Ok(devices.any(|device| device["label"] == CONTROL && device["frontend-open"] == true))
}

/// Sends a command, and returns the token that its answer will have.
async fn send(stream: &mut BufReader<UnixStream>, command: &str) -> Result<String> {
    let token = format!("{:016x}", fastrand::u64(..));
    let line = format!("{token} {}\n", BASE64_STANDARD.encode(command));
    stream.write_all(line.as_bytes()).await.context("the control port is closed")?;
    Ok(token)
}

/// The answer with one of these tokens; others belong to commands that nobody waits for any more.
async fn receive(stream: &mut BufReader<UnixStream>, tokens: &[String]) -> Result<Answer> {
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.context("the control port is broken")? == 0 {
            bail!("the machine is gone");
        }
        let mut words = line.split_whitespace();
        if !words.next().is_some_and(|word| tokens.iter().any(|token| token == word)) {
            continue;
        }
        let status = words.next().and_then(|word| word.parse().ok()).context("an answer without a status")?;
        let output = BASE64_STANDARD.decode(words.next().unwrap_or_default()).context("an answer that is no base64")?;
        return Ok(Answer { status, output: String::from_utf8_lossy(&output).into_owned() });
    }
}
