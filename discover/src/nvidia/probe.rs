//! NVML in a process of its own: it can hang for ever in the driver, so it runs where a deadline can kill it.
//!
//! ```text
//!   program ──spawns──> program probe-nvml [--watch]
//!      <── one JSON line per report, on stdout ──
//!      ── end of stdin: the parent is gone, so the child goes too ──>
//! ```
//!
//! A process that hangs in the driver may outlive its SIGKILL: it is waited for without blocking, and no second one is
//! started beside it, as that would hang as well and hold memory.

use std::env;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{self, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::sync::watch;
use tokio::time;

use super::nvml::{Session, Woken, Xids};
use super::{Failure, Report, View};

/// Hidden subcommand under which a program runs [`run`]; [`WATCH_FLAG`] behind it makes it go on.
pub const SUBCOMMAND: &str = "probe-nvml";

/// Flag behind [`SUBCOMMAND`].
pub const WATCH_FLAG: &str = "--watch";

/// How the child is told its interval, in milliseconds.
const INTERVAL_VARIABLE: &str = "HATRACK_NVML_INTERVAL_MS";

/// The interval of a child that is not told any.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(30);

/// How long a report may take, and how often one is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// A child that is silent for longer is killed.
    pub deadline: Duration,
    /// Time between reports when nothing happens, and before a child that ended is started anew.
    pub interval: Duration,
}

/// One line of the child.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    Report(Report),
    Failed(Failure),
}

/// Reads one line of the child. What is no report is a failure: something else wrote to its output.
pub fn parse(line: &str) -> View {
    match serde_json::from_str(line) {
        Ok(Line::Report(report)) => View::Report(report),
        Ok(Line::Failed(failure)) => View::Failed(failure),
        Err(error) => failed("NvmlError", format!("the probe wrote a line that is no report: {error}")),
    }
}

/// Asks NVML once, through `program` with [`SUBCOMMAND`]. A child that hangs is killed and left to itself.
pub async fn ask(program: &Path, deadline: Duration) -> View {
    match Probe::start(program, None) {
        Ok(mut probe) => probe.next(deadline).await,
        Err(error) => cannot_start(program, &error),
    }
}

/// Asks NVML again and again, and sends each answer that differs from the one before. Runs until it is dropped, which
/// kills the child. XID errors that `views` already holds, from an earlier run since the machine booted, stay in it
/// unless the driver says that the GPU needs nothing.
pub async fn watch(program: &Path, timing: Timing, views: watch::Sender<View>) {
    let remembered = if let View::Report(report) = &*views.borrow() { report.clone() } else { Report::default() };
    Watcher { timing, kill: Signal::SIGKILL, remembered, has_just_started: true, views }.run(program).await;
}

struct Watcher {
    timing: Timing,
    /// What ends a child.
    kill: Signal,
    remembered: Report,
    /// No report has come yet: what is remembered is of an earlier run of this program.
    has_just_started: bool,
    views: watch::Sender<View>,
}

impl Watcher {
    async fn run(mut self, program: &Path) {
        loop {
            self.follow(program).await;
            time::sleep(self.timing.interval).await;
        }
    }

    /// Starts a child and passes on what it says, until it is gone.
    async fn follow(&mut self, program: &Path) {
        let mut probe = match Probe::start(program, Some(self.timing.interval)) {
            Ok(probe) => probe,
            Err(error) => return self.publish(cannot_start(program, &error)),
        };
        let mut patience = self.timing.deadline;
        loop {
            let view = probe.next(patience).await;
            let goes_on = matches!(view, View::Report(_));
            self.publish(view);
            if !goes_on {
                return probe.end(self.kill).await;
            }
            patience = self.timing.interval + self.timing.deadline;
        }
    }

    fn publish(&mut self, mut view: View) {
        if let View::Report(report) = &mut view {
            if std::mem::take(&mut self.has_just_started) {
                report.remember_over_a_start(&self.remembered);
            } else {
                report.remember(&self.remembered);
            }
            let earlier = std::mem::replace(&mut self.remembered, report.clone());
            self.remembered.keep_absent(earlier);
        }
        self.views.send_if_modified(|last| {
            let differs = *last != view;
            *last = view;
            differs
        });
    }
}

/// A child and its lines. Its end of input is when this is dropped; it is killed then too.
struct Probe {
    process: Child,
    _alive: Option<ChildStdin>,
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Probe {
    fn start(program: &Path, interval: Option<Duration>) -> io::Result<Self> {
        let mut command = Command::new(program);
        command.arg(SUBCOMMAND).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        if let Some(interval) = interval {
            command.arg(WATCH_FLAG).env(INTERVAL_VARIABLE, interval.as_millis().to_string());
        }
        let mut process = command.spawn()?;
        let lines = process.stdout.take().map(|stdout| BufReader::new(stdout).lines());
        Ok(Self { _alive: process.stdin.take(), lines, process })
    }

    /// Its next line.
    async fn next(&mut self, patience: Duration) -> View {
        let Some(lines) = &mut self.lines else { return failed("NvmlError", "the probe has no output".to_owned()) };
        match time::timeout(patience, lines.next_line()).await {
            Ok(Ok(Some(line))) => parse(&line),
            Ok(Ok(None)) => self.ended(patience).await,
            Ok(Err(error)) => failed("NvmlError", format!("the probe's output cannot be read: {error}")),
            Err(_) => silence(),
        }
    }

    /// Why its output ended.
    async fn ended(&mut self, patience: Duration) -> View {
        match time::timeout(patience, self.process.wait()).await {
            Ok(Ok(status)) => {
                failed("NvmlCrashed", format!("the process that asks NVML ended without a report: {status}"))
            }
            Ok(Err(error)) => failed("NvmlError", format!("the probe cannot be waited for: {error}")),
            Err(_) => silence(),
        }
    }

    /// Ends it and waits until it is gone, for as long as that takes.
    async fn end(mut self, kill: Signal) {
        if let Some(id) = self.process.id().and_then(|id| i32::try_from(id).ok())
            && let Err(error) = signal::kill(Pid::from_raw(id), kill)
        {
            tracing::debug!(%error, "the NVML probe could not be killed");
        }
        if let Err(error) = self.process.wait().await {
            tracing::debug!(%error, "the NVML probe could not be waited for");
        }
    }
}

/// The same words each time, so that nothing is written anew while it lasts.
fn silence() -> View {
    let message = "NVML does not answer: see the kernel log for lines with `NVRM`; if it stays so, reboot";
    failed("NvmlTimeout", message.to_owned())
}

fn cannot_start(program: &Path, error: &io::Error) -> View {
    failed("NvmlError", format!("`{}` cannot be started to ask NVML: {error}", program.display()))
}

fn failed(reason: &str, message: String) -> View {
    View::Failed(Failure { reason: reason.to_owned(), message })
}

/// What the child does: it prints a JSON line for each report; with `watch`, at once, at each event and each interval.
/// It ends when its standard input ends, even while NVML hangs.
pub fn run(watch: bool) -> ExitCode {
    thread::spawn(end_with_parent);
    let said = match Session::open() {
        Ok(session) if watch => keep_reporting(&session),
        Ok(session) => report(&session, &Xids::default()).map(drop),
        Err(failure) => say(&Line::Failed(failure)),
    };
    if said.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reads the standard input, on which nothing comes, to its end.
fn end_with_parent() {
    let mut nothing = Vec::new();
    let _ = io::stdin().lock().read_to_end(&mut nothing);
    process::exit(0);
}

/// Reports until the output is closed or NVML as a whole fails.
fn keep_reporting(session: &Session) -> io::Result<()> {
    let interval = env::var(INTERVAL_VARIABLE).ok().and_then(|text| text.parse().ok());
    let interval = interval.map_or(DEFAULT_INTERVAL, Duration::from_millis);
    let mut xids = Xids::default();
    let mut events = session.subscribe();
    while report(session, &xids)? {
        let Some(subscription) = &events else {
            thread::sleep(interval);
            continue;
        };
        if subscription.wait(interval, &mut xids) == Woken::Broken {
            report(session, &xids)?;
            thread::sleep(interval);
            events = session.subscribe();
        }
    }
    Ok(())
}

/// Prints one report; whether there was one, and not a failure.
fn report(session: &Session, xids: &Xids) -> io::Result<bool> {
    match session.report(xids) {
        Ok(report) => say(&Line::Report(report)).map(|()| true),
        Err(failure) => say(&Line::Failed(failure)).map(|()| false),
    }
}

fn say(line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    let mut output = io::stdout().lock();
    output.write_all(&text)?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use proptest::prelude::*;

    use super::*;
    use crate::nvidia::{Gpu, Trouble};

    /// A stand-in that says nothing and goes only when the test opens its FIFO. A second one beside it says so.
    fn stubborn(folder: &Path) -> PathBuf {
        let script = "#!/bin/sh\ntrap '' TERM\ncd \"${0%/*}\"\nmkdir alive || { touch overlap; exit; }\n\
                      read -r _ < release\nrmdir alive\n";
        let program = folder.join("stubborn");
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        mkfifo(&folder.join("release"), Mode::S_IRWXU).unwrap();
        program
    }

    async fn release(folder: &Path) {
        let fifo = folder.join("release");
        tokio::task::spawn_blocking(move || fs::write(fifo, "go\n").unwrap()).await.unwrap();
    }

    #[tokio::test]
    async fn no_second_child_is_started_beside_one_that_cannot_be_killed() {
        let folder = tempfile::tempdir().unwrap();
        let program = stubborn(folder.path());
        let (sender, mut views) = watch::channel(View::Pending);
        let timing = Timing { deadline: Duration::from_millis(200), interval: Duration::from_millis(5) };
        // SIGTERM, which the stand-in ignores, is to it what SIGKILL is to a process that sleeps in the driver.
        let watcher = Watcher {
            timing,
            kill: Signal::SIGTERM,
            remembered: Report::default(),
            has_just_started: true,
            views: sender,
        };
        let watching = tokio::spawn(async move { watcher.run(&program).await });
        views.wait_for(|view| *view == silence()).await.unwrap();
        // Nothing is waited for here: this is time in which a second child would be started and make its mark.
        time::sleep(Duration::from_millis(100)).await;
        release(folder.path()).await;
        // The FIFO opens again only when the next child has started.
        release(folder.path()).await;
        assert!(!folder.path().join("overlap").exists(), "two children at once");
        watching.abort();
    }

    #[tokio::test]
    async fn a_program_that_cannot_be_started_is_a_failure() {
        let View::Failed(failure) = ask(Path::new("/nowhere/program"), Duration::from_secs(5)).await else { panic!() };
        assert_eq!(failure.reason, "NvmlError");
        assert!(failure.message.starts_with("`/nowhere/program` cannot be started"), "{}", failure.message);
    }

    #[test]
    fn a_line_is_read_as_it_was_written() {
        let gpu = Gpu { address: Some("0000:3b:00.0".to_owned()), troubles: vec![Trouble::Xid(79)], ..Gpu::default() };
        let line = Line::Report(Report { gpus: vec![gpu], ..Report::default() });
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(text, r#"{"report":{"gpus":[{"address":"0000:3b:00.0","troubles":[{"xid":79}]}]}}"#);
        let Line::Report(report) = line else { panic!() };
        assert_eq!(parse(&text), View::Report(report));
    }

    proptest! {
        #[test]
        fn any_line_is_read_or_refused(line in "(?s).{0,200}") {
            let _ = parse(&line);
            let _ = parse(&format!(r#"{{"report":{{"gpus":[{line}]}}}}"#));
        }
    }
}
