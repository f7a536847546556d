//! Runs `hatrack` and writes down what came of it.

use std::fmt::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

/// A folder to run commands in, and what they came to.
pub struct Session {
    folder: TempDir,
    environment: Vec<(String, String)>,
    transcript: String,
}

impl Session {
    /// A session in an empty folder, without a cluster, a home or a terminal.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, environment: Vec::new(), transcript: String::new() }
    }

    /// Where commands run; paths in their arguments are below it, so that transcripts have no other.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Sets a variable for the commands that follow, and says so.
    pub fn set(&mut self, name: &str, value: &str) -> &mut Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Puts a machine of the fixtures at `machine`.
    pub fn machine(&mut self, name: &str) -> &mut Self {
        // What is expanded lives as long as the process: the session may outlive the caller's handle.
        let fixture = Box::leak(Box::new(hatrack_fixtures::machine(name).unwrap()));
        let link = self.folder().join("machine");
        _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(fixture.path(), link).unwrap();
        self
    }

    /// Writes a file.
    pub fn file(&mut self, path: &str, content: &str) -> &mut Self {
        let path = self.folder().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
        self
    }

    /// Writes down what the next command meets.
    pub fn note(&mut self, text: &str) -> &mut Self {
        for line in text.lines() {
            writeln!(self.transcript, "| {line}").unwrap();
        }
        self
    }

    /// Runs one command line; arguments are separated by spaces.
    pub fn run(&mut self, line: &str) -> &mut Self {
        let output = self.command(line).output().unwrap();
        let set = self.environment.iter().map(|(name, value)| format!("{name}={value}"));
        let words: Vec<_> =
            set.chain(["hatrack".to_owned()]).chain(line.split_whitespace().map(str::to_owned)).collect();
        let typed = self.redacted(&words.join(" "));
        writeln!(self.transcript, "$ {typed}").unwrap();
        writeln!(self.transcript, "exit {}", output.status.code().unwrap()).unwrap();
        for (stream, bytes) in [("stdout", output.stdout), ("stderr", output.stderr)] {
            if !bytes.is_empty() {
                let text = self.redacted(&String::from_utf8(bytes).unwrap());
                write!(self.transcript, "--- {stream}\n{text}").unwrap();
            }
        }
        self.transcript.push('\n');
        self
    }

    /// A command as [`Session::run`] runs it.
    pub fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_hatrack"));
        command
            .args(line.split_whitespace())
            .current_dir(self.folder())
            .env_clear()
            .env("HOME", self.folder())
            .env("TMPDIR", self.folder())
            .envs(self.environment.clone())
            .stdin(Stdio::null());
        command
    }

    /// Everything so far.
    pub fn transcript(&self) -> &str {
        self.transcript.trim_end()
    }

    /// Escapes are made visible, and what differs from run to run is replaced.
    fn redacted(&self, text: &str) -> String {
        let text = text.replace(&self.folder().display().to_string(), "[FOLDER]").replace('\u{1b}', "␛");
        let differing = [
            (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", "[TIME]"),
            (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "[UUID]"),
            (r"hatrack-[A-Za-z0-9]{6}\b", "hatrack-[RANDOM]"),
            (r"\b\d{1,2}s\b", "0s"),
        ];
        differing.iter().fold(text, |text, (pattern, name)| {
            let pattern = regex::RegexBuilder::new(pattern).multi_line(true).build().unwrap();
            pattern.replace_all(&text, *name).into_owned()
        })
    }
}

/// Compares the transcript of a session with the file of its name.
#[macro_export]
macro_rules! assert_golden {
    ($name:expr, $session:expr) => {
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "snapshots" }, {
            insta::assert_snapshot!($name, $session.transcript());
        });
    };
}
