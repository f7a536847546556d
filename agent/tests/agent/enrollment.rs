//! A machine gets its identity from the cluster's real signer, with a bootstrap token. Who approves is a person here; the operator's
//! judgement is tested where the operator is.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use hatrack_api::access::node_role_name;
use hatrack_api::cluster_node::Class;
use hatrack_api::enrollment::{CLASS_ANNOTATION, HARDWARE_ID_ANNOTATION, groups, hash_text};
use hatrack_testbed::{BootstrapToken, ControlPlane, FaultProxy, Matcher, Response, soon};
use http::{Method, StatusCode};
use jiff::fmt::rfc2822::DateTimePrinter;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::config::Kubeconfig;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Duration, sleep};

use crate::clock::{WallClock, skewed};
use crate::cluster::{Bench, MANIFESTS};
use crate::program::Setup;

const MACHINE: &str = "server-8gpu";

/// A machine that has a token file and nothing else; and its token.
async fn machine_with_a_token() -> (Bench, BootstrapToken) {
    let plane = ControlPlane::shared().await.unwrap();
    plane.install(Path::new(MANIFESTS)).await.unwrap();
    let bench = Bench::without_access(plane, MACHINE).await;
    bench.plane.publish_cluster_info().await.unwrap();
    let token = bench.plane.bootstrap_token(&groups(&bench.name, Class::Worker)).await.unwrap();
    write_token(&bench, &token.token, &bench.plane.ca_hash().unwrap());
    (bench, token)
}

fn write_token(bench: &Bench, token: &str, hash: &str) {
    write_token_for(bench, bench.plane.url(), token, hash);
}

fn write_token_for(bench: &Bench, server: &str, token: &str, hash: &str) {
    let text = format!(
        "name = \"{}\"\nclass = \"worker\"\nserver = \"{server}\"\nca-hashes = [\"{hash}\"]\ntoken = \"{token}\"\n",
        bench.name
    );
    std::fs::write(bench.setup().folder.join("token"), text).unwrap();
}

fn setup(bench: &Bench) -> Setup {
    let mut setup = bench.setup();
    let token = setup.folder.join("token");
    let table = format!("[enrollment]\ntoken-file = \"{}\"\nretry-refused = \"100ms\"\n", token.display());
    setup.tables.push_str(&table);
    setup
}

/// The request of a machine that waits for an approval.
pub async fn request(bench: &Bench) -> CertificateSigningRequest {
    let requests: Api<CertificateSigningRequest> = Api::all(bench.admin.clone());
    let prefix = format!("hatrack-{}-", bench.name);
    let found = async {
        loop {
            let all = requests.list(&ListParams::default()).await.unwrap();
            let ours = |request: &CertificateSigningRequest| {
                let is_new = request.status.as_ref().is_none_or(|status| status.conditions.is_none());
                is_new && request.metadata.name.as_deref().is_some_and(|name| name.starts_with(&prefix))
            };
            if let Some(request) = all.items.into_iter().find(ours) {
                return request;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    soon("the request", found).await
}

pub async fn decide(bench: &Bench, request: &CertificateSigningRequest, verdict: &str, message: &str) {
    let requests: Api<CertificateSigningRequest> = Api::all(bench.admin.clone());
    let condition = json!({"type": verdict, "status": "True", "reason": "Test", "message": message});
    let patch = Patch::Merge(json!({"status": {"conditions": [condition]}}));
    let name = request.metadata.name.as_deref().unwrap();
    requests.patch_approval(name, &PatchParams::default(), &patch).await.unwrap();
}

#[tokio::test]
async fn a_machine_enrolls_with_its_token_and_lives_on_its_certificate_until_it_is_revoked() {
    let (bench, token) = machine_with_a_token().await;
    bench.allow(&bench.name, &bench.identity).await;
    let agent = setup(&bench).start();
    let asked = request(&bench).await;
    let annotations = asked.metadata.annotations.clone().unwrap();
    assert!(
        annotations.contains_key(HARDWARE_ID_ANNOTATION) && annotations[CLASS_ANNOTATION] == "worker",
        "{annotations:?}"
    );
    assert!(asked.spec.groups.as_ref().unwrap().contains(&format!("system:bootstrappers:society:{}", bench.name)));
    agent.not_ready("asking for a certificate").await;
    decide(&bench, &asked, "Approved", "").await;
    agent.ready().await;
    assert!(agent.metric("hatrack_agent_certificate_expiry_timestamp_seconds").await > 1e9);
    let state = bench.setup().state_dir();
    let mode = std::fs::metadata(state.join("kubeconfig")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!state.join("requested.key").exists());

    // The token is not needed any more.
    bench.plane.revoke_token(&token).await.unwrap();
    std::fs::remove_file(bench.setup().folder.join("token")).unwrap();
    agent.stop().await;
    let agent = setup(&bench).start();
    agent.ready().await;

    // Revoked, with a certificate that is valid for days.
    let bindings: Api<ClusterRoleBinding> = Api::all(bench.admin.clone());
    bindings.delete(&node_role_name(&bench.name), &DeleteParams::default()).await.unwrap();
    agent.not_ready("forbidden").await;
}

#[tokio::test]
async fn a_disk_that_is_slow_to_give_the_key_holds_up_nothing_else() {
    let (bench, _token) = machine_with_a_token().await;
    bench.allow(&bench.name, &bench.identity).await;
    let state = bench.setup().state_dir();
    std::fs::create_dir(&state).unwrap();
    let key = state.join("requested.key");
    // Who reads a pipe waits until it has been written to, and who opens it to write until somebody reads.
    mkfifo(&key, Mode::S_IRWXU).unwrap();
    let agent = setup(&bench).start();
    let disk = spawn_blocking(move || std::fs::OpenOptions::new().write(true).open(key).unwrap());
    let disk = soon("the key is read", disk).await.unwrap();
    assert_eq!(soon("an answer meanwhile", agent.get("/healthz")).await, (200, "ok\n".to_owned()));
    drop(disk);
    decide(&bench, &request(&bench).await, "Approved", "").await;
    agent.ready().await;
}

#[tokio::test]
async fn a_refusal_is_shown_and_asked_again_with_another_key() {
    let (bench, _) = machine_with_a_token().await;
    bench.allow(&bench.name, &bench.identity).await;
    let agent = setup(&bench).start();
    let first = request(&bench).await;
    decide(&bench, &first, "Denied", "this name is another machine's").await;
    agent.not_ready("the request for a certificate was refused: this name is another machine's").await;
    let second = request(&bench).await;
    assert_ne!(second.metadata.name, first.metadata.name);
    decide(&bench, &second, "Approved", "").await;
    agent.ready().await;
}

#[tokio::test]
async fn a_restart_goes_on_with_the_same_request() {
    let (bench, _) = machine_with_a_token().await;
    bench.allow(&bench.name, &bench.identity).await;
    let agent = setup(&bench).start();
    let asked = request(&bench).await;
    drop(agent);
    decide(&bench, &asked, "Approved", "").await;
    let agent = setup(&bench).start();
    agent.ready().await;
    agent.says("a request for a certificate was made before").await;
}

#[tokio::test]
async fn a_cluster_of_another_authority_gets_no_token() {
    let (bench, _) = machine_with_a_token().await;
    write_token(&bench, "abcdef.0123456789abcdef", &hash_text(&[0xab; 32]));
    let agent = setup(&bench).start();
    agent.not_ready("is not of the cluster that the token file is for").await;
    // There is nothing to ask with: the token was not shown to anybody.
    let state = bench.setup().state_dir();
    assert!(!state.join("requested.key").exists() && !state.join("kubeconfig").exists());
    let all = Api::<CertificateSigningRequest>::all(bench.admin.clone()).list(&ListParams::default()).await.unwrap();
    let prefix = format!("hatrack-{}-", bench.name);
    assert!(all.items.iter().all(|request| !request.metadata.name.as_ref().unwrap().starts_with(&prefix)));
}

/// A server that tells its authority as k3s does, to whoever asks: `/cacerts` is its file `server-ca.crt` as plain text. Behind it is the
/// API server, which hears tokens and no certificates through it.
fn k3s(bench: &Bench) -> FaultProxy {
    let proxy = FaultProxy::for_tokens(&bench.plane).unwrap();
    let authority = Response::new(StatusCode::OK, bench.plane.ca_pem()).header("content-type", "text/plain");
    proxy.answer(Matcher::new(Method::GET, "/cacerts"), authority, usize::MAX);
    proxy
}

fn asked_of(proxy: &FaultProxy) -> Vec<String> {
    proxy.requests().iter().map(|request| format!("{} {}", request.method, request.path)).collect()
}

#[tokio::test]
async fn k3s_is_asked_for_its_authority_alone_until_it_is_the_promised_one() {
    let (bench, token) = machine_with_a_token().await;
    let k3s = k3s(&bench);
    write_token_for(&bench, k3s.url(), &token.token, &hash_text(&[0xab; 32]));
    let agent = setup(&bench).start();
    agent.not_ready("is not of the cluster that the token file is for").await;
    let asked = asked_of(&k3s);
    assert!(!asked.is_empty() && asked.iter().all(|request| request == "GET /cacerts"), "{asked:?}");

    write_token_for(&bench, k3s.url(), &token.token, &bench.plane.ca_hash().unwrap());
    let asked = request(&bench).await;
    assert_eq!(asked.spec.username, Some(format!("system:bootstrap:{}", token.token.split('.').next().unwrap())));
    decide(&bench, &asked, "Approved", "").await;
    let kept = bench.setup().state_dir().join("kubeconfig");
    let kubeconfig = async {
        while !kept.exists() {
            sleep(Duration::from_millis(20)).await;
        }
        Kubeconfig::read_from(&kept).unwrap()
    };
    let cluster = soon("a certificate", kubeconfig).await.clusters.remove(0).cluster.unwrap();
    assert_eq!(cluster.server.as_deref(), Some(k3s.url()));
    let authority =
        Kubeconfig::read_from(bench.plane.kubeconfig_for(&bench.identity).unwrap()).unwrap().clusters.remove(0);
    assert_eq!(cluster.certificate_authority_data, authority.cluster.unwrap().certificate_authority_data);
    assert!(!asked_of(&k3s).iter().any(|request| request.contains("cluster-info")));
}

#[tokio::test]
async fn a_server_that_ends_watches_as_they_begin_is_not_asked_without_a_pause() {
    let (bench, token) = machine_with_a_token().await;
    let k3s = k3s(&bench);
    k3s.answer(Matcher::watch(), Response::new(StatusCode::OK, ""), usize::MAX);
    write_token_for(&bench, k3s.url(), &token.token, &bench.plane.ca_hash().unwrap());
    let _agent = setup(&bench).start();
    let watches = soon("watches in vain", k3s.answered(&Matcher::watch(), 3)).await;
    let waited = watches[2].received.duration_since(watches[0].received).unwrap();
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
}

#[tokio::test]
async fn a_machine_that_boots_in_the_wrong_year_enrolls_and_stays_when_it_learns_the_time() {
    let (bench, _) = machine_with_a_token().await;
    bench.allow(&bench.name, &bench.identity).await;
    let mut setup = setup(&bench);
    let clock = WallClock::of(&mut setup);
    clock.set("-40y");
    let agent = setup.start();
    let asked = request(&bench).await;
    decide(&bench, &asked, "Approved", "").await;
    agent.ready().await;
    let since_1970 = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    let expiry = agent.metric("hatrack_agent_certificate_expiry_timestamp_seconds").await;
    assert!(expiry > since_1970() + 3600.0, "{expiry}");

    // In that year it boots again, and then it learns the time.
    assert!(agent.stop().await.success());
    let agent = setup.start();
    agent.ready().await;
    assert!(agent.metric("hatrack_agent_clock_skew_seconds").await < -1e9);
    clock.set("+0");
    skewed(&agent, 0.0).await;
    agent.ready().await;
    assert_eq!(agent.count("asked for a certificate"), 0, "the one it has is good");
}

/// An address of the API server that can go away, as that of a host which is gone: connections are passed on as they are.
struct Address {
    url: String,
    passing: JoinHandle<()>,
}

impl Address {
    async fn of(bench: &Bench) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("https://{}", listener.local_addr().unwrap());
        let server = bench.plane.url().trim_start_matches("https://").to_owned();
        let passing = tokio::spawn(async move {
            loop {
                let (mut from, _) = listener.accept().await.unwrap();
                let server = server.clone();
                tokio::spawn(async move {
                    let mut to = TcpStream::connect(server).await.unwrap();
                    copy_bidirectional(&mut from, &mut to).await
                });
            }
        });
        Self { url, passing }
    }

    async fn goes_away(self) {
        self.passing.abort();
        assert!(self.passing.await.unwrap_err().is_cancelled());
    }
}

pub fn kept_file(bench: &Bench) -> Value {
    serde_json::from_slice(&std::fs::read(bench.setup().state_dir().join("kubeconfig")).unwrap()).unwrap()
}

/// Enrolls the machine and stops its agent.
async fn enrolled(bench: &Bench) {
    bench.allow(&bench.name, &bench.identity).await;
    let agent = setup(bench).start();
    decide(bench, &request(bench).await, "Approved", "").await;
    agent.ready().await;
    assert!(agent.stop().await.success());
}

#[tokio::test]
async fn a_machine_whose_api_server_has_another_address_goes_there_with_the_certificate_that_it_has() {
    let (bench, token) = machine_with_a_token().await;
    let founder = Address::of(&bench).await;
    write_token_for(&bench, &founder.url, &token.token, &bench.plane.ca_hash().unwrap());
    enrolled(&bench).await;
    let before = kept_file(&bench);
    assert_eq!(before["clusters"][0]["cluster"]["server"], json!(founder.url));
    founder.goes_away().await;

    // A new token file for the same cluster.
    write_token(&bench, &token.token, &bench.plane.ca_hash().unwrap());
    let agent = setup(&bench).start();
    agent.ready().await;
    assert_eq!(agent.count("asked for a certificate"), 0, "the one that it has is good");
    let mut after = before.clone();
    after["clusters"][0]["cluster"]["server"] = json!(bench.plane.url());
    assert_eq!(kept_file(&bench), after, "key, certificate and authority stay");
    assert!(agent.stop().await.success());

    // The configuration's comes before the token file's.
    let another = Address::of(&bench).await;
    let mut setup = setup(&bench);
    setup.tables = setup.tables.replace("[enrollment]", &format!("[enrollment]\nserver = \"{}\"", another.url));
    setup.start().ready().await;
    after["clusters"][0]["cluster"]["server"] = json!(another.url);
    assert_eq!(kept_file(&bench), after);
}

/// What the machine knows of its cluster after that was made anew at the same address: another authority's certificate.
pub fn cluster_is_made_anew(bench: &Bench) {
    let authority = CertificateParams::default().self_signed(&KeyPair::generate().unwrap()).unwrap().pem();
    let mut file = kept_file(bench);
    file["clusters"][0]["cluster"]["certificate-authority-data"] = json!(ByteString(authority.into_bytes()));
    std::fs::write(bench.setup().state_dir().join("kubeconfig"), file.to_string()).unwrap();
}

#[tokio::test]
async fn a_machine_of_a_cluster_that_was_made_anew_says_so_and_enrolls_with_a_new_token() {
    let (bench, token) = machine_with_a_token().await;
    enrolled(&bench).await;
    let good = kept_file(&bench);
    cluster_is_made_anew(&bench);
    std::fs::remove_file(bench.setup().folder.join("token")).unwrap();
    let agent = setup(&bench).start();
    let line = agent.says("this machine's ClusterNode cannot be read").await;
    assert!(line.to_string().contains("give this machine a new token file"), "{line}");
    agent.not_ready("which has not answered since the agent started").await;

    // A token file that names neither authority changes nothing and is shown to nobody.
    write_token(&bench, &token.token, &hash_text(&[0xab; 32]));
    agent.not_ready("is not of the cluster that the token file is for").await;
    assert_ne!(kept_file(&bench)["clusters"], good["clusters"]);

    write_token(&bench, &token.token, &bench.plane.ca_hash().unwrap());
    decide(&bench, &request(&bench).await, "Approved", "").await;
    agent.ready().await;
    assert_eq!(kept_file(&bench)["clusters"], good["clusters"]);
}

#[tokio::test]
async fn a_time_that_was_wrong_at_first_puts_off_no_renewal() {
    let (bench, _) = machine_with_a_token().await;
    bench.allow(&bench.name, &bench.identity).await;
    // A certificate of which two thirds are over by the API server's clock, and nothing by what that says first.
    let long = SignedDuration::from_hours(24);
    let now = Timestamp::now();
    let proxy = bench.proxy();
    let user = &bench.identity;
    let file = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "hatrack",
        "clusters": [{"name": "hatrack", "cluster": {
            "server": proxy.url(), "certificate-authority-data": ByteString(user.ca_pem.clone().into_bytes()),
        }}],
        "users": [{"name": "hatrack", "user": {
            "client-certificate-data": ByteString(user.cert_pem.clone().into_bytes()),
            "client-key-data": ByteString(user.key_pem.clone().into_bytes()),
        }}],
        "contexts": [{"name": "hatrack", "context": {"cluster": "hatrack", "user": "hatrack"}}],
        "extensions": [{"name": "society.zeta.io/enrollment", "extension": {"received": now - long * 3}}],
    });
    std::fs::create_dir(bench.setup().state_dir()).unwrap();
    std::fs::write(bench.setup().state_dir().join("kubeconfig"), file.to_string()).unwrap();
    let past = DateTimePrinter::new().timestamp_to_rfc9110_string(&(now - long * 5)).unwrap();
    let wrong =
        Response::failure(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "starting").header("date", &past);
    proxy.answer(Matcher::new(Method::GET, "/clusternodes"), wrong, 1);
    let agent = setup(&bench).start();
    let asked = request(&bench).await;
    assert_eq!(asked.spec.username, Some(format!("society:node:{}", bench.name)), "by the certificate that it has");
    decide(&bench, &asked, "Approved", "").await;
    agent.says("received a certificate").await;
}

#[tokio::test]
async fn an_identity_that_cannot_be_understood_is_said_once() {
    let (bench, _) = machine_with_a_token().await;
    std::fs::remove_file(bench.setup().folder.join("token")).unwrap();
    std::fs::create_dir(bench.setup().state_dir()).unwrap();
    let kept = bench.setup().state_dir().join("kubeconfig");
    std::fs::write(&kept, "{").unwrap();
    let agent = setup(&bench).start();
    agent.says("the kept identity cannot be").await;
    // Each try is a failure that is shown: what is shown now is of a try after it.
    for _ in 0..3 {
        let token = bench.setup().folder.join("token");
        std::fs::write(&token, "name =").unwrap();
        agent.not_ready("cannot be understood").await;
        std::fs::remove_file(&token).unwrap();
        agent.not_ready("failed to read the token file").await;
    }
    let said = agent.lines().iter().filter(|line| line.to_string().contains("the kept identity")).count();
    assert_eq!(said, 1);
}
