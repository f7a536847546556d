//! Commands in a machine, over a virtio port. `image/files/usr/local/sbin/control` is the other end.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

/// How long a machine may take until it answers, and a command until it is done: emulated, on a busy host.
const PATIENCE: Duration = Duration::from_mins(5);

/// When a machine that does not answer is asked again.
const AGAIN: Duration = Duration::from_secs(1);

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

    /// Waits until the machine answers. A restored or rebooted machine finds the port closed once and opens it anew, and
    /// what was sent in between is lost with what it had not read: so it is asked again until it answers.
    pub(crate) async fn answers(&self) -> Result<()> {
        let mut stream = self.stream.lock().await;
        let answered = async {
            let mut tokens = Vec::new();
            loop {
                tokens.push(send(&mut stream, "true").await?);
                if let Ok(answer) = timeout(AGAIN, receive(&mut stream, &tokens)).await {
                    return answer.map(drop);
                }
            }
        };
        timeout(PATIENCE, answered).await.context("the machine does not answer")?
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
