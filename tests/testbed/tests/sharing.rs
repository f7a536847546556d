//! Processes that share a control plane, and what is left of it when they have gone. The processes
//! are this very program, started again with one of its ignored tests.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that fails")]

use std::io::{BufRead as _, BufReader, Lines, Write as _};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use hatrack_testbed::{Binaries, ControlPlane, Options};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};

/// A process that uses a control plane until it is told to end, or is killed.
struct User {
    process: Child,
    answers: Lines<BufReader<ChildStdout>>,
    folder: PathBuf,
}

impl User {
    fn start(test: &str, assets: &Path) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env("KUBEBUILDER_ASSETS", assets)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap()).lines();
        Self { process, answers, folder: PathBuf::new() }.joined()
    }

    fn joined(mut self) -> Self {
        self.folder = self.answer().into();
        self
    }

    /// What follows the mark in the next line that has one: the test harness prints as well.
    fn answer(&mut self) -> String {
        self.answers.by_ref().map(Result::unwrap).find_map(|line| Some(line.split_once("=> ")?.1.to_owned())).unwrap()
    }

    /// Whether the API server still answers this process.
    fn is_served(&mut self) -> bool {
        writeln!(self.process.stdin.as_ref().unwrap()).unwrap();
        self.answer() == "served"
    }

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// The other side of [`User`].
#[expect(clippy::print_stdout, reason = "what the other process reads")]
async fn use_until_told(plane: &ControlPlane) {
    println!("=> {}", plane.folder().display());
    let client = plane.admin().await.unwrap();
    let mut line = String::new();
    while std::io::stdin().read_line(&mut line).unwrap() > 0 {
        let served = client.apiserver_version().await.is_ok();
        println!("=> {}", if served { "served" } else { "not served" });
    }
}

#[tokio::test]
#[ignore = "a process of the other tests"]
async fn joins() {
    use_until_told(&ControlPlane::shared().await.unwrap()).await;
}

#[tokio::test]
#[ignore = "a process of the other tests"]
async fn has_its_own() {
    use_until_told(&ControlPlane::private(Options::default()).await.unwrap()).await;
}

/// The same programs under other names are a control plane apart from that of all other tests.
fn assets() -> tempfile::TempDir {
    let binaries = Binaries::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    symlink(binaries.etcd, dir.path().join("etcd")).unwrap();
    symlink(binaries.kube_apiserver, dir.path().join("kube-apiserver")).unwrap();
    symlink(binaries.kube_controller_manager, dir.path().join("kube-controller-manager")).unwrap();
    dir
}

/// The processes that work in `folder`: the servers and their keeper. The kernel marks a folder that
/// was removed under a process by a word behind its path.
fn processes_in(folder: &Path) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes
        .filter(|process| std::fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| is_in(&cwd, folder)))
        .filter_map(|process| process.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .collect()
}

fn is_in(cwd: &Path, folder: &Path) -> bool {
    cwd.to_string_lossy().starts_with(&*folder.to_string_lossy())
}

/// Waits until neither the folder nor a server in it is left.
fn wait_until_gone(folder: &Path) {
    let start = Instant::now();
    while folder.exists() || !processes_in(folder).is_empty() {
        assert!(start.elapsed() < Duration::from_mins(1), "{} is still there", folder.display());
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Removes the lock beside `folder`: with these assets nobody will come again.
fn forget(folder: &Path) {
    std::fs::remove_dir_all(folder.parent().unwrap()).unwrap();
}

#[test]
fn processes_share_one_control_plane_and_the_last_ends_it() {
    let assets = assets();
    let (mut first, mut second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| User::start("joins", assets.path()));
        let second = scope.spawn(|| User::start("joins", assets.path()));
        (first.join().unwrap(), second.join().unwrap())
    });
    assert_eq!(first.folder, second.folder);
    assert!(first.is_served() && second.is_served());

    let folder = first.folder.clone();
    first.kill();
    let mut third = User::start("joins", assets.path());
    assert_eq!(third.folder, folder);
    assert!(second.is_served() && third.is_served());

    second.kill();
    third.kill();
    wait_until_gone(&folder);
    forget(&folder);
}

#[test]
fn a_killed_process_leaves_nothing_behind() {
    let assets = assets();
    let mut user = User::start("has_its_own", assets.path());
    assert!(user.is_served());
    let folder = user.folder.clone();
    assert!(processes_in(&folder).len() >= 4);
    user.kill();
    wait_until_gone(&folder);
    forget(&folder);
}

#[test]
fn what_a_killed_keeper_left_is_removed_by_the_next_user() {
    let assets = assets();
    let user = User::start("has_its_own", assets.path());
    let left = user.folder.clone();
    // The keeper leads the process group of the servers. Without it nobody sees the user go.
    let keeper = getpgid(Some(processes_in(&left)[0])).unwrap();
    kill(keeper, Signal::SIGKILL).unwrap();
    user.kill();
    assert!(left.exists() && !processes_in(&left).is_empty());

    let next = User::start("has_its_own", assets.path());
    wait_until_gone(&left);
    let folder = next.folder.clone();
    next.kill();
    wait_until_gone(&folder);
    forget(&folder);
}
