//! What the servers wrote, for the messages of failures.

use std::fs;
use std::path::Path;

use crate::audit::AUDIT_LOG;

/// Longer lines are cut: what matters stands at their beginning.
const LONGEST_LINE: usize = 400;

/// The last `count` lines of `text`.
pub(crate) fn last_lines(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let last = lines[lines.len().saturating_sub(count)..].iter();
    last.map(|line| line.chars().take(LONGEST_LINE).collect::<String>()).collect::<Vec<_>>().join("\n")
}

/// The end of each server's log in `dir`, under the file's name.
pub(crate) fn tails(dir: &Path) -> String {
    let mut paths: Vec<_> = fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| is_log(path))
        .collect();
    paths.sort();
    let tails: Vec<String> = paths.iter().map(|path| tail(path)).collect();
    tails.concat()
}

fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    format!("--- {}\n{}\n", path.display(), last_lines(&String::from_utf8_lossy(&text), 15))
}

fn is_log(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log") && !path.ends_with(AUDIT_LOG)
}
