//! The API server answers, and the answer is no.

use std::fs;
use std::path::Path;
use std::time::Duration;

use hatrack_api::access;
use hatrack_testbed::{ControlPlane, Identity, Options, Server, timed};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::json;

use crate::cluster::{Bench, MANIFESTS, condition};
use crate::program::Setup;

const MACHINE: &str = "server-8gpu";

/// Access by PEM files, which can be replaced while the agent runs.
fn with_files(bench: &Bench, identity: &Identity) -> Setup {
    let mut setup = bench.setup();
    let (ca, certificate, key) =
        (setup.folder.join("ca.pem"), setup.folder.join("node.pem"), setup.folder.join("node.key"));
    fs::write(&ca, &identity.ca_pem).unwrap();
    fs::write(&certificate, &identity.cert_pem).unwrap();
    fs::write(&key, &identity.key_pem).unwrap();
    setup.api("server", bench.plane.url()).api("ca", ca.display());
    setup.api("certificate", certificate.display()).api("key", key.display());
    setup
}

#[tokio::test]
async fn a_certificate_that_expires_is_told_and_its_successor_is_taken() {
    let bench = Bench::new(MACHINE).await;
    let user = format!("society:node:{}", bench.name);
    let short = bench.plane.client_certificate(&user, &["society:nodes"], Duration::from_secs(10)).unwrap();
    let setup = with_files(&bench, &short);
    let agent = setup.start();
    agent.ready().await;
    agent.not_ready("does not accept this machine's credentials").await;
    // One file after the other: in between they do not fit each other.
    fs::write(setup.folder.join("node.pem"), &bench.identity.cert_pem).unwrap();
    agent.not_ready("the Lease is not renewed").await;
    fs::write(setup.folder.join("node.key"), &bench.identity.key_pem).unwrap();
    timed("the agent has a new certificate, it is ready", agent.ready()).await;
    agent.says("the Lease is renewed again").await;
}

#[tokio::test]
async fn a_certificate_that_is_replaced_is_taken_before_the_old_one_ends() {
    let bench = Bench::new(MACHINE).await;
    let setup = with_files(&bench, &bench.identity);
    let agent = setup.start();
    agent.ready().await;
    // Nobody knows the new user, which shows that it is the new one.
    let stranger = bench.plane.node_identity(&hatrack_testbed::unique("stranger")).unwrap();
    fs::write(setup.folder.join("node.pem"), &stranger.cert_pem).unwrap();
    fs::write(setup.folder.join("node.key"), &stranger.key_pem).unwrap();
    agent.not_ready("not allowed: leases.coordination.k8s.io").await;
    fs::write(setup.folder.join("node.pem"), &bench.identity.cert_pem).unwrap();
    fs::write(setup.folder.join("node.key"), &bench.identity.key_pem).unwrap();
    agent.ready().await;
}

#[tokio::test]
async fn it_starts_before_it_is_enrolled() {
    let bench = Bench::new(MACHINE).await;
    let mut setup = bench.setup();
    let file = setup.folder.join("kubeconfig");
    setup.kubeconfig(&file);
    let agent = setup.start();
    let line = agent.says("there are no usable credentials").await;
    assert!(line["hint"].as_str().unwrap().contains("enroll this machine"), "{line}");
    fs::copy(bench.plane.kubeconfig_for(&bench.identity).unwrap(), &file).unwrap();
    agent.ready().await;
}

#[tokio::test]
async fn a_node_that_uses_anothers_name_hears_the_policy() {
    let bench = Bench::new(MACHINE).await;
    let stranger = hatrack_testbed::unique("stranger");
    let identity = bench.plane.node_identity(&stranger).unwrap();
    // The role of the other node would allow it: what refuses is the policy.
    let (_, mut binding) = access::node(&bench.name);
    binding.metadata.name = Some(format!("test:{stranger}"));
    binding.subjects.as_mut().unwrap()[0].name = format!("society:node:{stranger}");
    let bindings: Api<ClusterRoleBinding> = Api::all(bench.admin.clone());
    bindings.create(&kube::api::PostParams::default(), &binding).await.unwrap();
    let agent = with_files(&bench, &identity).start();
    agent.not_ready(&format!("the node {stranger} may not write the ClusterNode {}", bench.name)).await;
    assert!(bench.nodes().get_opt(&bench.name).await.unwrap().is_none());
    bindings.delete(&format!("test:{stranger}"), &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn a_revoked_node_says_so() {
    let bench = Bench::new(MACHINE).await;
    let agent = bench.direct().start();
    agent.ready().await;
    let bindings: Api<ClusterRoleBinding> = Api::all(bench.admin.clone());
    bindings.delete(&access::node_role_name(&bench.name), &DeleteParams::default()).await.unwrap();
    agent.not_ready("not allowed: leases.coordination.k8s.io").await;
    agent.says("whether this node may write").await;
}

#[tokio::test]
async fn a_field_that_another_manager_takes_is_not_taken_back() {
    let bench = Bench::new(MACHINE).await;
    let agent = bench.direct().start();
    agent.ready().await;
    let forged = json!({
        "apiVersion": "society.zeta.io/v1alpha1", "kind": "ClusterNode", "metadata": {"name": bench.name},
        "status": {"summary": {"gpus": "99/99"}},
    });
    let force = PatchParams::apply("somebody").force();
    bench.nodes().patch_status(&bench.name, &force, &Patch::Apply(forged)).await.unwrap();
    agent.not_ready("another manager has taken a field").await;
    let line = agent.says("conflict with \\\"somebody\\\"").await;
    assert!(line["hint"].as_str().unwrap().contains("never takes a field by force"), "{line}");
    assert_eq!(bench.node().await.status.unwrap().summary.unwrap().gpus.as_deref(), Some("99/99"));

    // Given back, it is true again.
    let nothing = json!({
        "apiVersion": "society.zeta.io/v1alpha1", "kind": "ClusterNode", "metadata": {"name": bench.name}, "status": {},
    });
    bench.nodes().patch_status(&bench.name, &force, &Patch::Apply(nothing)).await.unwrap();
    agent.ready().await;
    assert_eq!(bench.node().await.status.unwrap().summary.unwrap().gpus.as_deref(), Some("8/8"));
}

#[tokio::test]
async fn what_the_schema_refuses_is_said_with_its_field() {
    let bench = Bench::new(MACHINE).await;
    let agent = bench.direct().start();
    agent.ready().await;
    bench.machine.write("proc/sys/kernel/osrelease", "x".repeat(200)).unwrap();
    agent.look_again();
    agent.not_ready("status.system.kernelVersion").await;
    bench.machine.write("proc/sys/kernel/osrelease", "6.12.0-test").unwrap();
    agent.look_again();
    agent.ready().await;
    let system = bench.node().await.status.unwrap().system.unwrap();
    assert_eq!(system.kernel_version, "6.12.0-test");
}

#[tokio::test]
async fn a_cluster_without_the_types_gets_them_and_then_loses_its_server() {
    let plane = ControlPlane::private(Options { audit: false, ..Options::default() }).await.unwrap();
    let identity = plane.node_identity("early").unwrap();
    let admin = plane.admin().await.unwrap();
    let machine = hatrack_fixtures::machine("server-8gpu").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (role, binding) = access::node("early");
    let create = kube::api::PostParams::default();
    Api::all(admin.clone()).create(&create, &role).await.unwrap();
    Api::all(admin.clone()).create(&create, &binding).await.unwrap();
    let mut setup = Setup::new("early", machine.path(), folder.path());
    setup.kubeconfig(&plane.kubeconfig_for(&identity).unwrap());
    let agent = setup.start();
    let line = agent.says("the API server does not serve this resource").await;
    assert!(line["hint"].as_str().unwrap().contains("kubectl apply -k k8s/crds"), "{line}");
    plane.install(Path::new(MANIFESTS)).await.unwrap();
    agent.ready().await;

    let nodes: Api<hatrack_api::ClusterNode> = Api::all(admin);
    let before = nodes.get("early").await.unwrap();
    assert!(condition(&before, "AsExpected").is_some());
    plane.kill(Server::ApiServer).unwrap();
    agent.not_ready("the Lease is not renewed: the API server cannot be reached").await;
    plane.start(Server::ApiServer).await.unwrap();
    agent.ready().await;
    assert_eq!(nodes.get("early").await.unwrap(), before, "an outage is no change");
}
