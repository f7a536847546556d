//! `hatrack wear HAT -- COMMAND` against a real API server. The operator's decisions are written by the tests.

use std::process::Stdio;
use std::time::Duration;

use hatrack_admission_tests::caller::Caller;
use hatrack_admission_tests::eventually;
use hatrack_api::HatBinding;
use hatrack_testbed::{FaultProxy, Matcher, unique};
use http::Method;
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use kube::api::{Api, DeleteParams, PostParams};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdout};

use super::hats::{Person, Stage};
use super::{PATIENCE, command, root};

/// Says that it runs, ends by itself when told a line, and in its own way when it is ended.
const SCRIPT: &str = "trap 'exit 3' TERM; trap 'exit 4' INT; echo on; while :; do /bin/sleep 0.05; done";

/// A command that wears a hat.
struct Wearing {
    process: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
    said: String,
    name: String,
}

impl Wearing {
    /// Asks, and waits until the request is there.
    async fn ask(stage: &Stage, kubeconfig: &std::path::Path, script: &str) -> Self {
        let name = unique("mine");
        let mut command = command(kubeconfig, &format!("wear {} --name {name} --", stage.hat));
        command.args(["/bin/sh", "-c", script]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let out = BufReader::new(process.stdout.take().unwrap()).lines();
        let err = BufReader::new(process.stderr.take().unwrap()).lines();
        let mut wearing = Self { process, out, err, said: String::new(), name };
        wearing.hears("waits: nobody has decided on it yet").await;
        wearing
    }

    /// The same, with the hat on and the command running.
    async fn worn(stage: &Stage, kubeconfig: &std::path::Path, status: Value) -> Self {
        let mut wearing = Self::ask(stage, kubeconfig, SCRIPT).await;
        stage.decide(&wearing.name, status).await;
        assert_eq!(wearing.line().await, "on");
        wearing
    }

    /// The next line of the command.
    async fn line(&mut self) -> String {
        tokio::time::timeout(PATIENCE, self.out.next_line()).await.unwrap().unwrap().unwrap()
    }

    /// Reads on what hatrack says until it has said this.
    async fn hears(&mut self, words: &str) {
        while !self.said.contains(words) {
            let line = tokio::time::timeout(PATIENCE, self.err.next_line()).await.unwrap().unwrap();
            assert!(line.is_some(), "it ended before it said {words:?}: {}", self.said);
            self.said.push_str(&line.unwrap_or_default());
            self.said.push('\n');
        }
    }

    fn tell(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.process.id().unwrap()).unwrap()), signal).unwrap();
    }

    /// How it ended, and everything that it said.
    async fn ended(mut self) -> (i32, String) {
        let ended = async {
            while let Some(line) = self.err.next_line().await.unwrap() {
                self.said.push_str(&line);
                self.said.push('\n');
            }
            self.process.wait().await.unwrap()
        };
        let status = tokio::time::timeout(PATIENCE, ended).await.unwrap();
        (status.code().unwrap(), self.said)
    }
}

fn active() -> Value {
    json!({"phase": "Active", "transitions": 1, "boundAt": "2026-01-01T00:00:00Z"})
}

fn active_until(end: Timestamp) -> Value {
    json!({"phase": "Active", "transitions": 1, "boundAt": "2026-01-01T00:00:00Z", "expiresAt": end.to_string()})
}

fn after(seconds: u64) -> Timestamp {
    let whole = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    whole + Duration::from_secs(seconds)
}

async fn staged() -> (Stage, Person) {
    let stage = Stage::with_a_hat(json!({"authority": {}})).await;
    let ada = Person::known(&stage.cluster).await;
    ada.caller.may("wear", &stage.hat).await;
    (stage, ada)
}

async fn is_gone(stage: &Stage, name: &str) -> bool {
    stage.bindings.get_opt(name).await.unwrap().is_none()
}

#[tokio::test]
async fn a_command_waits_for_its_hat_and_ends_with_it() {
    let (stage, ada) = staged().await;
    let script = "/usr/bin/printenv HATRACK_HAT; exit 7";
    let mut first = Wearing::ask(&stage, &ada.kubeconfig, script).await;
    stage.decide(&first.name, active()).await;
    assert_eq!(first.line().await, stage.hat);
    let name = first.name.clone();
    let (code, said) = first.ended().await;
    assert_eq!(code, 7, "{said}");
    assert!(said.contains("is on"), "{said}");
    assert!(is_gone(&stage, &name).await, "it is taken off");

    let second = Wearing::worn(&stage, &ada.kubeconfig, active()).await;
    stage.bindings.delete(&second.name, &DeleteParams::default()).await.unwrap();
    let (code, said) = second.ended().await;
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("is gone: the command is ended"), "{said}");
}

#[tokio::test]
async fn a_signal_takes_a_request_back_and_is_passed_on_to_a_command_that_runs() {
    let (stage, ada) = staged().await;
    for (signal, code) in [(Signal::SIGTERM, 143), (Signal::SIGINT, 130), (Signal::SIGHUP, 129)] {
        let waiting = Wearing::ask(&stage, &ada.kubeconfig, SCRIPT).await;
        let name = waiting.name.clone();
        waiting.tell(signal);
        let (ended, said) = waiting.ended().await;
        assert_eq!(ended, code, "{said}");
        assert!(is_gone(&stage, &name).await, "{signal}: it is taken back");
    }
    for (signal, code) in [(Signal::SIGTERM, 3), (Signal::SIGINT, 4)] {
        let running = Wearing::worn(&stage, &ada.kubeconfig, active()).await;
        let name = running.name.clone();
        running.tell(signal);
        let (ended, said) = running.ended().await;
        assert_eq!(ended, code, "{said}");
        assert!(is_gone(&stage, &name).await, "{signal}: it is taken off");
    }
}

#[tokio::test]
async fn a_hat_that_is_worn_on_another_machine_is_not_worn_here() {
    let (stage, ada) = staged().await;
    let (elsewhere, here) = (unique("cli"), unique("cli"));
    let machine = hatrack_fixtures::machine("vm-empty").unwrap();
    let cluster = &stage.cluster;
    assert_eq!(cluster.run(&format!("register --name {elsewhere} {}", root(&machine))).await.code, 0);
    assert_eq!(cluster.run(&format!("register --name {here} --deadline 1")).await.code, 0);
    let on = |node: &str| {
        let mut status = active();
        status["nodeName"] = json!(node);
        status
    };
    let mut refused = Wearing::ask(&stage, &ada.kubeconfig, SCRIPT).await;
    stage.decide(&refused.name, on(&elsewhere)).await;
    assert_eq!(tokio::time::timeout(PATIENCE, refused.out.next_line()).await.unwrap().unwrap(), None);
    let name = refused.name.clone();
    let (code, said) = refused.ended().await;
    assert_eq!(code, 1, "{said}");
    assert!(said.contains(&format!("is worn on the node `{elsewhere}`, and this is another machine")), "{said}");
    assert!(is_gone(&stage, &name).await, "it is taken off");

    let mut worn = Wearing::ask(&stage, &ada.kubeconfig, "/usr/bin/printenv HATRACK_NODE").await;
    stage.decide(&worn.name, on(&here)).await;
    assert_eq!(worn.line().await, here);
    assert_eq!(worn.ended().await.0, 0);
}

#[tokio::test]
async fn a_term_that_is_renewed_after_its_end_goes_on_and_one_that_is_not_ends() {
    let (stage, ada) = staged().await;
    let first_end = after(2);
    let mut worn = Wearing::worn(&stage, &ada.kubeconfig, active_until(first_end)).await;
    // The operator wakes at the end, and needs a moment to record what it does.
    let late = Duration::try_from(first_end.duration_since(Timestamp::now())).unwrap_or_default();
    tokio::time::sleep(late + Duration::from_secs(1)).await;
    let second_end = after(2);
    stage.decide(&worn.name, active_until(second_end)).await;
    worn.hears("the term of").await;
    assert!(Timestamp::now() > second_end, "it ends with the last term: {}", worn.said);
    let (code, said) = worn.ended().await;
    assert_eq!(code, 3, "{said}");
    assert!(said.contains(&format!("the term of {} ended: the command is ended", stage.hat)), "{said}");
}

#[tokio::test]
async fn a_cluster_that_is_away_changes_nothing_and_the_hat_is_taken_off_when_it_is_back() {
    let (stage, ada) = staged().await;
    let identity = stage.cluster.plane.client_certificate(&ada.caller.user, &[], PATIENCE * 10).unwrap();
    let proxy = FaultProxy::start(&stage.cluster.plane, &identity).unwrap();
    let kubeconfig = stage.cluster.plane.kubeconfig_via(proxy.url(), &identity).unwrap();
    let mut worn = Wearing::worn(&stage, &kubeconfig, active()).await;
    let name = worn.name.clone();
    proxy.cut().await;
    worn.hears("failed to watch the cluster").await;
    assert!(worn.process.try_wait().unwrap().is_none(), "the command runs on");
    worn.tell(Signal::SIGTERM);
    worn.hears("the hat cannot be taken off yet").await;
    proxy.restore().unwrap();
    let (code, said) = worn.ended().await;
    assert_eq!(code, 3, "{said}");
    assert!(!said.contains("still on"), "{said}");
    assert!(is_gone(&stage, &name).await, "it is taken off");
}

#[tokio::test]
async fn who_does_not_wait_for_a_cluster_that_is_silent_gives_up() {
    let (stage, ada) = staged().await;
    let identity = stage.cluster.plane.client_certificate(&ada.caller.user, &[], PATIENCE * 10).unwrap();
    let proxy = FaultProxy::start(&stage.cluster.plane, &identity).unwrap();
    let kubeconfig = stage.cluster.plane.kubeconfig_via(proxy.url(), &identity).unwrap();
    let mut worn = Wearing::worn(&stage, &kubeconfig, active()).await;
    let name = worn.name.clone();
    proxy.stall();
    worn.tell(Signal::SIGTERM);
    tokio::time::timeout(PATIENCE, proxy.received(&Matcher::new(Method::DELETE, &name), 1)).await.unwrap();
    worn.tell(Signal::SIGINT);
    worn.hears("once more gives that up").await;
    worn.tell(Signal::SIGINT);
    let (code, said) = worn.ended().await;
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("the hat is still on") && said.contains("hatrack release -n default"), "{said}");
    assert!(said.contains("it was given up"), "{said}");
}

/// Rights that let somebody wear one hat in one namespace, and nothing more.
async fn may_wear_and_no_more(stage: &Stage, user: &str) {
    let admin = stage.cluster.plane.admin().await.unwrap();
    let group = hatrack_api::GROUP;
    let (metadata, subjects) =
        (json!({"name": user}), json!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}]));
    let in_namespace: Role = serde_json::from_value(json!({"metadata": metadata, "rules": [
        {"apiGroups": [group], "resources": ["hatbindings"], "verbs": ["create", "get", "list", "watch", "delete"]},
    ]}))
    .unwrap();
    let in_cluster: ClusterRole = serde_json::from_value(json!({"metadata": metadata, "rules": [
        {"apiGroups": [group], "resources": ["hats"], "resourceNames": [stage.hat], "verbs": ["get", "wear"]},
        {"apiGroups": [group], "resources": ["hatpolicies"], "resourceNames": ["default"], "verbs": ["get"]},
    ]}))
    .unwrap();
    let bound = |kind: &str| {
        json!({"metadata": metadata, "subjects": subjects,
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": user}})
    };
    let new = PostParams::default();
    Api::namespaced(admin.clone(), "default").create(&new, &in_namespace).await.unwrap();
    let binding: RoleBinding = serde_json::from_value(bound("Role")).unwrap();
    Api::namespaced(admin.clone(), "default").create(&new, &binding).await.unwrap();
    Api::all(admin.clone()).create(&new, &in_cluster).await.unwrap();
    let binding: ClusterRoleBinding = serde_json::from_value(bound("ClusterRole")).unwrap();
    Api::all(admin).create(&new, &binding).await.unwrap();
}

#[tokio::test]
async fn a_hat_is_worn_with_rights_on_it_and_on_bindings_alone() {
    let stage = Stage::with_a_hat(json!({"authority": {}})).await;
    let user = unique("plain");
    let row = json!({"user": user, "spiffeID": format!("spiffe://cluster.local/people/{user}")});
    Caller::stranger(&stage.cluster.plane).await.known_as(&row).await.is_allowed();
    may_wear_and_no_more(&stage, &user).await;
    let identity = stage.cluster.plane.client_certificate(&user, &[], PATIENCE * 10).unwrap();
    let kubeconfig = stage.cluster.plane.kubeconfig_for(&identity).unwrap();
    // The API server learns of rights and identities a moment later.
    let binding: HatBinding = eventually("the request is taken", async || {
        let asked = super::run(&kubeconfig, &format!("wear {}", stage.hat)).await;
        if asked.code == 0 { Some(stage.asked().await) } else { None }
    })
    .await;
    assert_eq!(binding.spec.hat, stage.hat);
}
