//! A Kubernetes worker gets its identity with its kubelet's, used for that alone. The approval is a person's here.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use hatrack_testbed::{ControlPlane, soon};
use k8s_openapi::ByteString;
use kube::config::Kubeconfig;
use nix::unistd::{Uid, User};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Duration;

use crate::cluster::{Bench, MANIFESTS};
use crate::enrollment::{cluster_is_made_anew, decide, kept_file, request};
use crate::program::PROGRAM;

const PATIENCE: Duration = Duration::from_mins(1);

/// The address that the agent is to use: another way to the same server than the kubelet's.
fn server_of(bench: &Bench) -> String {
    bench.plane.url().replace("127.0.0.1", "localhost")
}

struct Worker {
    bench: Bench,
    folder: PathBuf,
    /// Where the kubelet's kubeconfig will be.
    kubelet: PathBuf,
}

impl Worker {
    async fn without_a_kubelet() -> Self {
        let plane = ControlPlane::shared().await.unwrap();
        plane.install(Path::new(MANIFESTS)).await.unwrap();
        let bench = Bench::without_access(plane, "server-8gpu").await;
        let folder = bench.setup().folder;
        std::fs::create_dir(folder.join("state")).unwrap();
        let text = format!(
            "name = \"{}\"\nclass = \"worker\"\nroot = \"{}\"\nstate-dir = \"{}\"\n\
             [backoff]\nmin = \"20ms\"\nmax = \"300ms\"\n[enrollment]\nserver = \"{}\"\n",
            bench.name,
            bench.machine.path().display(),
            folder.join("state").display(),
            server_of(&bench),
        );
        std::fs::write(folder.join("agent.toml"), text).unwrap();
        let kubelet = folder.join("kubelet.kubeconfig");
        Self { bench, folder, kubelet }
    }

    fn start_kubelet(&self) {
        let user = format!("system:node:{}", self.bench.name);
        let identity = self.bench.plane.client_certificate(&user, &["system:nodes"], PATIENCE * 10).unwrap();
        std::fs::copy(self.bench.plane.kubeconfig_for(&identity).unwrap(), &self.kubelet).unwrap();
    }

    fn enroll(&self) -> Child {
        let owner = User::from_uid(Uid::current()).unwrap().unwrap().name;
        let mut command = Command::new(PROGRAM);
        command.args(["enroll", "--owner", &owner, "--wait", "1m", "--config"]).arg(self.folder.join("agent.toml"));
        command.arg("--with").arg(&self.kubelet).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command.spawn().unwrap()
    }

    fn identity(&self) -> PathBuf {
        self.folder.join("state/kubeconfig")
    }
}

/// Waits until the program says this in its log.
async fn says(process: &mut Child, words: &str) {
    let mut lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let heard = async { while !lines.next_line().await.unwrap().unwrap().contains(words) {} };
    soon(words, heard).await;
    // What it goes on saying is read, or it would wait for a reader.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
}

async fn ends_well(mut process: Child) {
    let status = soon("the end of the program", process.wait()).await.unwrap();
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn a_worker_waits_for_its_kubelet_and_enrolls_with_it_once() {
    let worker = Worker::without_a_kubelet().await;
    let mut enrolling = worker.enroll();
    says(&mut enrolling, "failed to use the kubeconfig").await;
    worker.start_kubelet();
    let asked = request(&worker.bench).await;
    assert_eq!(asked.spec.username, Some(format!("system:node:{}", worker.bench.name)));
    decide(&worker.bench, &asked, "Approved", "").await;
    ends_well(enrolling).await;

    let mode = std::fs::metadata(worker.identity()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let kept = Kubeconfig::read_from(worker.identity()).unwrap();
    let cluster = kept.clusters[0].cluster.as_ref().unwrap();
    assert_eq!(cluster.server, Some(server_of(&worker.bench)), "the agent goes its own way, and not the kubelet's");

    // Once is enough: without a kubelet there would be no other.
    std::fs::remove_file(&worker.kubelet).unwrap();
    let before = std::fs::read(worker.identity()).unwrap();
    ends_well(worker.enroll()).await;
    assert_eq!(std::fs::read(worker.identity()).unwrap(), before);
}

#[tokio::test]
async fn a_worker_that_is_refused_ends_with_the_reason() {
    let worker = Worker::without_a_kubelet().await;
    worker.start_kubelet();
    let enrolling = worker.enroll();
    let asked = request(&worker.bench).await;
    decide(&worker.bench, &asked, "Denied", "this name is another machine's").await;
    let output = soon("the end of the program", enrolling.wait_with_output()).await.unwrap();
    let log = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{log}");
    assert!(log.contains("the request for a certificate was refused: this name is another machine's"), "{log}");
    assert!(!worker.identity().exists());
}

#[tokio::test]
async fn a_link_in_the_agents_folder_brings_nothing_that_root_alone_may_read() {
    let worker = Worker::without_a_kubelet().await;
    worker.start_kubelet();
    // Somebody who has taken over the agent puts them there, in the place of its own files.
    let [secret, kept] = ["secret.key", "kept"].map(|name| worker.folder.join(name));
    let key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    std::fs::write(&secret, &key).unwrap();
    std::os::unix::fs::symlink(&secret, worker.folder.join("state/requested.key")).unwrap();
    let enrolling = worker.enroll();
    decide(&worker.bench, &request(&worker.bench).await, "Approved", "").await;
    ends_well(enrolling).await;
    let key_of = |file: &Path| {
        let text: serde_json::Value = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
        serde_json::from_value::<ByteString>(text["users"][0]["user"]["client-key-data"].clone()).unwrap().0
    };
    assert_ne!(key_of(&worker.identity()), key.as_bytes());
    assert_eq!(std::fs::read_to_string(&secret).unwrap(), key);
    assert!(std::fs::symlink_metadata(worker.folder.join("state/requested.key")).is_err(), "the link is gone");

    // An identity elsewhere that lasts is none of this folder's: it is neither taken nor given away.
    std::fs::rename(worker.identity(), &kept).unwrap();
    let before = key_of(&kept);
    std::os::unix::fs::symlink(&kept, worker.identity()).unwrap();
    let enrolling = worker.enroll();
    decide(&worker.bench, &request(&worker.bench).await, "Approved", "").await;
    ends_well(enrolling).await;
    assert!(std::fs::symlink_metadata(worker.identity()).unwrap().is_file());
    assert_eq!(key_of(&kept), before);
    assert_ne!(key_of(&worker.identity()), before);
}

#[tokio::test]
async fn a_worker_whose_kubelet_has_joined_a_cluster_that_was_made_anew_enrolls_there() {
    let worker = Worker::without_a_kubelet().await;
    worker.start_kubelet();
    let enrolling = worker.enroll();
    decide(&worker.bench, &request(&worker.bench).await, "Approved", "").await;
    ends_well(enrolling).await;
    let good = kept_file(&worker.bench)["clusters"].clone();
    cluster_is_made_anew(&worker.bench);
    let enrolling = worker.enroll();
    decide(&worker.bench, &request(&worker.bench).await, "Approved", "").await;
    ends_well(enrolling).await;
    assert_eq!(kept_file(&worker.bench)["clusters"], good);
}
