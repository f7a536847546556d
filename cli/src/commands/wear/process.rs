//! A command that wears a hat: started, waited for, and ended in time.

use std::io::{self, IsTerminal};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::signal::unix::{Signal as Listener, SignalKind, signal};

/// What a shell adds to the number of the signal that ended a process.
const BY_SIGNAL: i32 = 128;

/// The signals that end this program; while they are listened to they do not.
pub struct Signals {
    interrupt: Listener,
    terminate: Listener,
    hang_up: Listener,
}

impl Signals {
    /// Begins to listen.
    pub fn open() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// The exit code of the next signal.
    pub async fn next(&mut self) -> u8 {
        exit_code_of(BY_SIGNAL + self.signal().await as i32)
    }

    async fn signal(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.hang_up.recv() => Signal::SIGHUP,
        }
    }
}

/// A command that runs.
pub struct Process {
    child: Child,
}

impl Process {
    /// Starts a command with these variables beside those of this process.
    pub fn start(command: &[String], environment: Vec<(&'static str, String)>) -> anyhow::Result<Self> {
        let (program, arguments) = command.split_first().context("there is no command")?;
        let child = Command::new(program).args(arguments).envs(environment).spawn();
        Ok(Self { child: child.with_context(|| format!("failed to start `{program}`"))? })
    }

    /// Waits for the end of the command and passes on what would end this program. A terminal has told it of Ctrl-C itself.
    pub async fn ends(&mut self, signals: &mut Signals) -> anyhow::Result<u8> {
        loop {
            tokio::select! {
                status = self.child.wait() => return Ok(code(status?)),
                signal = signals.signal() => {
                    if signal != Signal::SIGINT || !io::stdin().is_terminal() {
                        self.tell(signal);
                    }
                }
            }
        }
    }

    /// Ends the command: it is asked, and after the time that it has it is killed.
    pub async fn stop(&mut self, within: Duration) -> anyhow::Result<u8> {
        self.tell(Signal::SIGTERM);
        match tokio::time::timeout(within, self.child.wait()).await {
            Ok(status) => Ok(code(status?)),
            Err(_too_late) => {
                self.tell(Signal::SIGKILL);
                Ok(code(self.child.wait().await?))
            }
        }
    }

    /// One that has ended hears nothing.
    fn tell(&self, signal: Signal) {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            _ = kill(Pid::from_raw(id), signal);
        }
    }
}

/// As a shell tells it.
fn code(status: ExitStatus) -> u8 {
    exit_code_of(status.code().or_else(|| Some(BY_SIGNAL + status.signal()?)).unwrap_or(1))
}

fn exit_code_of(code: i32) -> u8 {
    u8::try_from(code).unwrap_or(u8::MAX)
}
