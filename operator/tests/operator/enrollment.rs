//! Who gets the certificate of a machine, and what it may do with it: the real agent and the real signer, with the operator between them.

use hatrack_api::ClusterNode;
use hatrack_api::access::node_role_name;
use hatrack_testbed::unique;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;

use crate::applicant::{Applicant, ask, bearer, document, is_undecided, registered, request, token, verdict};
use crate::cluster::{Bench, gone};

async fn has_access(admin: &Client, name: &str) -> bool {
    let bindings: Api<ClusterRoleBinding> = Api::all(admin.clone());
    bindings.get_opt(&node_role_name(name)).await.unwrap().is_some()
}

async fn set(admin: &Client, name: &str, spec: serde_json::Value) {
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
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let left = agent.metric("hatrack_agent_certificate_expiry_timestamp_seconds").await - since_1970;
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
