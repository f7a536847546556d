//! Who gets the certificate of a machine, and what it may do with it: the real agent and the real signer, with the operator between them.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use hatrack_api::ClusterNode;
use hatrack_api::access::{self, node_role_name};
use hatrack_api::enrollment::CLASS_ANNOTATION;
use hatrack_testbed::{FaultProxy, Matcher, Options, Program, soon, unique};
use http::Method;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use crate::applicant::{
    Applicant, ask, bearer, document, gpu_token, is_undecided, registered, request, token, verdict,
};
use crate::cluster::{Bench, Cluster, MANIFESTS, breakable, gone};
use crate::machine::Machine;
use crate::program::Setup;

async fn has_access(admin: &Client, name: &str) -> bool {
    let bindings: Api<ClusterRoleBinding> = Api::all(admin.clone());
    bindings.get_opt(&node_role_name(name)).await.unwrap().is_some()
}

async fn set(admin: &Client, name: &str, spec: Value) {
    let nodes: Api<ClusterNode> = Api::all(admin.clone());
    nodes.patch(name, &PatchParams::default(), &Patch::Merge(json!({"spec": spec}))).await.unwrap();
}

#[tokio::test]
async fn a_machine_with_a_token_becomes_ready_and_is_revoked_at_once_with_its_certificate_still_valid() {
    let (bench, cluster) = Bench::with_cluster().await;
    let name = unique("gpu");
    let machine = Applicant::new(&name);
    let token = token(&cluster.plane, &name).await;
    machine.gets(&cluster.plane, &token);
    let agent = machine.start();
    let node = registered(&bench.admin, &agent, &name).await;
    assert_eq!(node.spec.hardware_id.as_deref(), Some(machine.hardware_id.as_str()));
    agent.ready().await;

    // It lives on its certificate alone.
    cluster.plane.revoke_token(&token).await.unwrap();
    machine.loses_its_token();
    assert!(agent.stop().await.success());
    let agent = machine.start();
    agent.ready().await;

    set(&bench.admin, &name, json!({"revoked": true})).await;
    let bindings: Api<ClusterRoleBinding> = Api::all(bench.admin.clone());
    gone(&bindings, &node_role_name(&name)).await;
    agent.not_ready("forbidden").await;
    let left = expiry(&agent).await - seconds_since_1970();
    assert!(left > 60.0, "the certificate is valid for {left} s");
}

#[tokio::test]
async fn a_second_machine_of_the_same_name_is_refused() {
    let (bench, cluster) = Bench::with_cluster().await;
    let name = unique("twin");
    let (first, second) = (Applicant::new(&name), Applicant::new(&name));
    first.gets(&cluster.plane, &token(&cluster.plane, &name).await);
    let agent = first.start();
    registered(&bench.admin, &agent, &name).await;
    second.gets(&cluster.plane, &token(&cluster.plane, &name).await);
    let other = second.start();
    let why = format!("{name} is the machine {}, and this one is {}", first.hardware_id, second.hardware_id);
    other.not_ready(&why).await;
    agent.ready().await;
}

#[tokio::test]
async fn a_stolen_token_that_asks_for_anothers_name_is_refused() {
    let (bench, cluster) = Bench::with_cluster().await;
    let (mine, yours) = (unique("mine"), unique("yours"));
    let thief = bearer(&cluster.plane, &token(&cluster.plane, &mine).await).await;
    let asked = ask(&thief, request(&yours, "A1")).await;
    let (kind, reason, message) = verdict(&bench.admin, &asked).await;
    assert_eq!((kind.as_str(), reason.as_str()), ("Denied", "AnotherName"));
    assert_eq!(
        message,
        format!("the token of {mine} asks for the name {yours}: use the token that was made for {yours}")
    );
    assert!(!has_access(&bench.admin, &yours).await);
}

#[tokio::test]
async fn requests_of_others_are_left_alone() {
    let (bench, cluster) = Bench::with_cluster().await;
    let persons = |signer: &str| {
        let mut request = request("x", "A1");
        request["spec"]["request"] = document("ann", "developers");
        request["spec"]["signerName"] = json!(signer);
        request
    };
    let foreign = [
        ask(&bench.admin, persons("kubernetes.io/kube-apiserver-client")).await,
        ask(&bench.admin, persons("example.org/signer")).await,
    ];
    // A later request of a machine is decided: the operator has seen those before it.
    let name = unique("later");
    let bearer = bearer(&cluster.plane, &token(&cluster.plane, &name).await).await;
    let asked = ask(&bearer, request(&name, "A2")).await;
    assert_eq!(verdict(&bench.admin, &asked).await.0, "Approved");
    assert!(has_access(&bench.admin, &name).await);
    for request in &foreign {
        assert!(is_undecided(&bench.admin, request).await);
    }
}

/// What the access of a machine lets it do, as if it had been approved.
async fn give_access(admin: &Client, name: &str) {
    let (role, binding) = access::node(name);
    Api::all(admin.clone()).create(&PostParams::default(), &role).await.unwrap();
    Api::all(admin.clone()).create(&PostParams::default(), &binding).await.unwrap();
}

/// As a machine registers: what only an agent knows is there.
async fn is_registered(machine: &Machine) {
    let status = Patch::Merge(json!({"status": {"identity": {"hostname": machine.name}}}));
    machine.nodes().patch_status(&machine.name, &PatchParams::default(), &status).await.unwrap();
}

fn of_class(mut request: Value, class: &str) -> Value {
    request["metadata"]["annotations"][CLASS_ANNOTATION] = json!(class);
    request
}

#[tokio::test]
async fn a_machine_that_is_alive_under_another_name_gets_no_second_one() {
    let (bench, cluster) = Bench::with_cluster().await;
    let machine = Machine::join(&bench.admin, json!([])).await;
    machine.readiness("True", "LeaseRenewed").await;
    let name = unique("alias");
    let bearer = bearer(&cluster.plane, &token(&cluster.plane, &name).await).await;
    let asked = ask(&bearer, request(&name, &format!("hw-{}", machine.name))).await;
    let (kind, reason, message) = verdict(&bench.admin, &asked).await;
    assert_eq!((kind.as_str(), reason.as_str()), ("Denied", "HeldElsewhere"));
    assert!(message.contains(&format!("is here already as {}, which is alive", machine.name)), "{message}");
    assert!(!has_access(&bench.admin, &name).await);
}

#[tokio::test]
async fn a_kubelet_asks_for_the_machine_of_its_own_name_alone() {
    let (bench, cluster) = Bench::with_cluster().await;
    let (name, other) = (unique("worker"), unique("other"));
    let kubelet = format!("system:node:{name}");
    let identity = cluster.plane.client_certificate(&kubelet, &["system:nodes"], Duration::from_hours(1)).unwrap();
    let kubelet = cluster.plane.client_for(&identity).await.unwrap();
    let asked = ask(&kubelet, request(&other, "A1")).await;
    let (kind, reason, message) = verdict(&bench.admin, &asked).await;
    assert_eq!((kind.as_str(), reason.as_str()), ("Denied", "AnotherName"));
    assert!(message.contains(&format!("`system:node:{name}` asks for the name {other}")), "{message}");
    assert!(!has_access(&bench.admin, &other).await);
    // As root does on a machine of Kubernetes, for the agent that needs it then.
    let machine = Applicant::new(&name);
    let once = machine.enroll_with(&cluster.plane.kubeconfig_for(&identity).unwrap());
    assert!(once.end().await.success());
    let agent = machine.start();
    registered(&bench.admin, &agent, &name).await;
}

#[tokio::test]
async fn a_certificate_is_renewed_by_itself_while_the_machine_is_there_and_has_its_access() {
    let (bench, cluster) = Bench::with_cluster().await;
    let machine = Machine::join(&bench.admin, json!([])).await;
    is_registered(&machine).await;
    give_access(&bench.admin, &machine.name).await;
    let identity = cluster.plane.node_identity(&machine.name).unwrap();
    let itself = cluster.plane.client_for(&identity).await.unwrap();
    let hardware_id = format!("hw-{}", machine.name);
    let renewal = || of_class(request(&machine.name, &hardware_id), "gpu-worker");
    let (kind, _, message) = verdict(&bench.admin, &ask(&itself, renewal()).await).await;
    assert_eq!((kind.as_str(), message.ends_with("by its own certificate")), ("Approved", true), "{message}");
    let another = ask(&itself, request(&unique("another"), &hardware_id)).await;
    assert_eq!(verdict(&bench.admin, &another).await.1, "AnotherName");
    // On another machine a stolen certificate renews nothing.
    let elsewhere = ask(&itself, request(&machine.name, "B2")).await;
    assert_eq!(verdict(&bench.admin, &elsewhere).await.1, "AnotherMachine");

    // A person takes its access away: no request gives it back, whoever vouches for it, also when the machine has erased that it was here.
    let bindings: Api<ClusterRoleBinding> = Api::all(bench.admin.clone());
    let erased = Patch::Merge(json!({"status": {"identity": null, "system": null}}));
    let own: Api<ClusterNode> = Api::all(itself.clone());
    own.patch_status(&machine.name, &PatchParams::default(), &erased).await.unwrap();
    bindings.delete(&node_role_name(&machine.name), &DeleteParams::default()).await.unwrap();
    let bearer = bearer(&cluster.plane, &gpu_token(&cluster.plane, &machine.name).await).await;
    for asker in [&itself, &bearer] {
        let (kind, reason, message) = verdict(&bench.admin, &ask(asker, renewal()).await).await;
        assert_eq!((kind.as_str(), reason.as_str()), ("Denied", "NoAccess"), "{message}");
        assert!(message.contains(&format!("`hatrack node remove {}`", machine.name)), "{message}");
    }
    assert!(!has_access(&bench.admin, &machine.name).await);

    // Removed, it comes back by a token and not by the certificate that it still has.
    machine.nodes().delete(&machine.name, &DeleteParams::default()).await.unwrap();
    gone(&machine.nodes(), &machine.name).await;
    let (_, reason, message) = verdict(&bench.admin, &ask(&itself, renewal()).await).await;
    assert_eq!(reason, "Removed", "{message}");
    assert!(!has_access(&bench.admin, &machine.name).await);
    assert_eq!(verdict(&bench.admin, &ask(&bearer, renewal()).await).await.0, "Approved");
    assert!(has_access(&bench.admin, &machine.name).await);
}

#[tokio::test]
async fn one_token_is_not_for_two_machines() {
    let (bench, cluster) = Bench::with_cluster().await;
    let name = unique("copied");
    let bearer = bearer(&cluster.plane, &token(&cluster.plane, &name).await).await;
    assert_eq!(verdict(&bench.admin, &ask(&bearer, request(&name, "A1-first")).await).await.0, "Approved");
    let (kind, reason, message) = verdict(&bench.admin, &ask(&bearer, request(&name, "A1-second")).await).await;
    assert_eq!((kind.as_str(), reason.as_str()), ("Denied", "UsedToken"));
    assert!(message.starts_with("the token was used by the machine A1-first already"), "{message}");
}

#[tokio::test]
async fn what_a_token_asks_for_beside_a_machines_identity_is_refused_with_the_reason() {
    let (bench, cluster) = Bench::with_cluster().await;
    let name = unique("greedy");
    let bearer = bearer(&cluster.plane, &token(&cluster.plane, &name).await).await;
    let with = |field: &str, value: Value| {
        let mut request = request(&name, "A1");
        request["spec"][field] = value;
        request
    };
    let unclassed = of_class(request(&name, "A1"), "gpu-worker");
    for (request, reason) in [
        (with("request", document("system:kube-controller-manager", "society:nodes")), "Subject"),
        (with("usages", json!(["client auth", "digital signature"])), "Usages"),
        (with("expirationSeconds", json!(365 * 24 * 3600)), "Life"),
        (unclassed, "AnotherClass"),
        (self::request(&name, "not an id"), "HardwareID"),
    ] {
        let (kind, found, message) = verdict(&bench.admin, &ask(&bearer, request).await).await;
        assert_eq!((kind.as_str(), found.as_str()), ("Denied", reason), "{message}");
    }
    assert!(!has_access(&bench.admin, &name).await);
}

#[tokio::test]
async fn an_operator_that_is_killed_between_access_and_approval_is_taken_over() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let proxy = FaultProxy::start(&cluster.plane, &cluster.identity()).unwrap();
    proxy.delay(Matcher::new(Method::PUT, "/approval"), Duration::from_mins(10));
    let first = Setup::new(&cluster.kubeconfig(proxy.url())).start(cluster.plane.folder());
    let name = unique("halfway");
    let bearer = bearer(&cluster.plane, &token(&cluster.plane, &name).await).await;
    let asked = ask(&bearer, request(&name, "A1")).await;
    let given = async {
        while !has_access(&bench.admin, &name).await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    soon("the access", given).await;
    first.signal(Signal::SIGKILL);
    assert!(is_undecided(&bench.admin, &asked).await);
    let second = cluster.operator().start(cluster.plane.folder());
    assert_eq!(verdict(&bench.admin, &asked).await.0, "Approved");
    second.says("a request for a certificate is approved").await;
    assert!(second.metric("hatrack_operator_enrollments_total{verdict=\"approved\",reason=\"Machine\"}").await >= 1.0);
}

#[tokio::test]
async fn who_is_revoked_while_no_operator_runs_loses_its_access_when_one_starts() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let (revoked, other) = (Machine::join(&bench.admin, json!([])).await, Machine::join(&bench.admin, json!([])).await);
    for machine in [&revoked, &other] {
        give_access(&bench.admin, &machine.name).await;
    }
    set(&bench.admin, &revoked.name, json!({"revoked": true})).await;
    let operator = cluster.operator().start(cluster.plane.folder());
    let bindings: Api<ClusterRoleBinding> = Api::all(bench.admin.clone());
    gone(&bindings, &node_role_name(&revoked.name)).await;
    // Whoever gives it back does so in vain, while the node is revoked.
    let (_, binding) = access::node(&revoked.name);
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    gone(&bindings, &node_role_name(&revoked.name)).await;
    operator.says("the node is revoked: what it may do is taken away").await;
    assert!(has_access(&bench.admin, &other.name).await);
}

#[tokio::test]
async fn an_agent_in_a_loop_waits_and_is_heard_later() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let mut setup = cluster.operator();
    setup.tables = "[enrollment]\nrequests = 2\nwindow = \"10s\"\nlook-again = \"200ms\"\n".to_owned();
    let operator = setup.start(cluster.plane.folder());
    let name = unique("loop");
    let bearer = bearer(&cluster.plane, &token(&cluster.plane, &name).await).await;
    let mut asked = Vec::new();
    for _ in 0..3 {
        asked.push(ask(&bearer, request(&name, "A1")).await);
    }
    let line = operator.says("a request for a certificate waits").await;
    let why = line["why"].as_str().unwrap();
    assert!(why.contains(&format!("requests for {name} were made within 10s, 2 are decided")), "{why}");
    for request in &asked {
        assert_eq!(verdict(&bench.admin, request).await.0, "Approved");
    }
    assert!(operator.metric("hatrack_operator_enrollments_total{verdict=\"held\",reason=\"TooMany\"}").await >= 1.0);
    let events: Api<Event> = Api::namespaced(bench.admin.clone(), "default");
    let told = async {
        loop {
            let mut reasons = reasons_of(&events, &asked).await;
            reasons.sort();
            if reasons == ["Machine", "Machine", "Machine", "TooMany"] {
                return;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    soon("an Event on each", told).await;
}

/// What was told of these requests.
async fn reasons_of(events: &Api<Event>, asked: &[CertificateSigningRequest]) -> Vec<String> {
    let all = events.list(&ListParams::default()).await.unwrap();
    let ours = all.items.into_iter().filter(|event| {
        let uid = event.regarding.as_ref().and_then(|object| object.uid.clone());
        asked.iter().any(|request| request.metadata.uid == uid)
    });
    ours.filter_map(|event| event.reason).collect()
}

/// The shortest life that a busy machine still renews in time.
const LIFE: &str = "--cluster-signing-duration=24s";

#[tokio::test]
async fn a_machine_renews_by_itself_and_begins_again_with_a_token_when_its_certificate_has_ended() {
    let options = Options { controller_manager_flags: vec![LIFE.to_owned()], ..Options::default() };
    let cluster = Cluster::empty(options).await;
    cluster.plane.install(Path::new(MANIFESTS)).await.unwrap();
    let operator = cluster.operator().start(cluster.plane.folder());
    let admin = cluster.plane.admin().await.unwrap();
    let name = unique("short");
    let machine = Applicant::new(&name);
    let first = token(&cluster.plane, &name).await;
    machine.gets(&cluster.plane, &first);
    let agent = machine.start();
    registered(&admin, &agent, &name).await;
    cluster.plane.revoke_token(&first).await.unwrap();
    machine.loses_its_token();
    let began = expiry(&agent).await;
    let renewed = async {
        while expiry(&agent).await <= began + 24.0 {
            sleep(Duration::from_millis(200)).await;
        }
    };
    soon("two renewals", renewed).await;
    agent.ready().await;
    let line = agent.lines().iter().filter(|line| line["message"] == "received a certificate").count();
    assert!(line >= 3, "{line} certificates");

    // It is off for so long that nothing is left to renew with.
    let end = expiry(&agent).await;
    agent.signal(Signal::SIGKILL);
    let ended = async {
        while seconds_since_1970() <= end {
            sleep(Duration::from_millis(200)).await;
        }
    };
    soon("the end of the certificate", ended).await;
    let agent = machine.start();
    agent.not_ready("failed to read the token file").await;
    machine.gets(&cluster.plane, &token(&cluster.plane, &name).await);
    agent.ready().await;
    assert!(expiry(&agent).await > end);
    drop(operator);
}

async fn expiry(agent: &Program) -> f64 {
    agent.metric("hatrack_agent_certificate_expiry_timestamp_seconds").await
}

fn seconds_since_1970() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64()
}

/// The words that stand in conditions and metrics are to be found on the page that says what to do.
#[test]
fn every_reason_is_in_the_documentation() {
    let read = |file: &str| std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let (rules, page) = (read("src/enroll/rules.rs"), read("../docs/enrollment.md"));
    let reasons: Vec<&str> = rules
        .split("const fn reason")
        .skip(1)
        .flat_map(|function| function.split("\n    }").next().unwrap().split("=> \"").skip(1))
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    assert!(reasons.contains(&"AnotherName") && reasons.contains(&"TooMany"), "{reasons:?}");
    let missing: Vec<_> = reasons.into_iter().filter(|reason| !page.contains(&format!("`{reason}`"))).collect();
    assert!(missing.is_empty(), "not in docs/enrollment.md: {missing:?}");
}
