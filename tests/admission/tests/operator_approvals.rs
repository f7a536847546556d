//! Which requests for certificates the operator may decide, and how: those that machines make, for what machines need.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hatrack_admission_tests::caller::Caller;
use hatrack_admission_tests::installed;
use hatrack_api::cluster_node::Class;
use hatrack_api::enrollment::{SIGNER, USAGE, groups};
use hatrack_testbed::{ControlPlane, unique};
use k8s_openapi::ByteString;
use kube::Client;
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

/// A request that somebody has made: the administrator makes it in their name.
async fn made_by(plane: &ControlPlane, user: &str, groups: &[String], spec: Value) -> Value {
    let mut config = plane.config_for(&plane.admin_identity().unwrap()).await.unwrap();
    config.auth_info.impersonate = Some(user.to_owned());
    config.auth_info.impersonate_groups = Some([groups, &["system:masters".to_owned()]].concat());
    let mut asker = Caller::administrator(plane).await;
    asker.client = Client::try_from(config).unwrap();
    let document = CertificateParams::default().serialize_request(&KeyPair::generate().unwrap()).unwrap();
    let mut request = json!({
        "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest", "metadata": {"name": unique("hatrack")},
        "spec": {"request": ByteString(document.pem().unwrap().into_bytes()), "signerName": SIGNER, "usages": [USAGE],
            "expirationSeconds": 600},
    });
    request["spec"].as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    request["spec"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
    asker.create(&request).await.is_allowed();
    request
}

fn owned(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The user and the groups of whoever may ask for the identity of a machine.
fn machines() -> [(&'static str, Vec<String>); 3] {
    [
        ("system:bootstrap:abcdef", groups("gpu-1", Class::Worker).to_vec()),
        ("system:node:gpu-1", owned(&["system:nodes"])),
        ("society:node:gpu-1", owned(&["society:nodes"])),
    ]
}

async fn operators(plane: &ControlPlane) -> [Caller; 2] {
    let operators = [Caller::operator(plane).await, Caller::operator_in_a_pod(plane).await];
    for operator in &operators {
        operator.may_write_requests().await;
    }
    operators
}

#[tokio::test]
async fn it_decides_requests_of_machines() {
    let plane = installed().await;
    for operator in operators(&plane).await {
        for (user, groups) in machines() {
            for verdict in ["Approved", "Denied"] {
                let request = made_by(&plane, user, &groups, json!({})).await;
                operator.decide(&request, verdict).await.is_allowed();
            }
        }
    }
}

#[tokio::test]
async fn it_approves_nobody_elses() {
    let plane = installed().await;
    let token = |without: &str| {
        groups("gpu-1", Class::Worker).into_iter().filter(|group| !group.starts_with(without)).collect::<Vec<_>>()
    };
    let mut two = groups("gpu-1", Class::Worker).to_vec();
    two.push("system:bootstrappers:society:gpu-2".to_owned());
    for operator in operators(&plane).await {
        for (user, groups) in [
            ("ann", vec![]),
            ("ann", owned(&["society:nodes", "system:nodes"])),
            ("ann", token("-")),
            ("society:node:gpu-1", vec![]),
            ("system:node:gpu-1", owned(&["society:nodes"])),
            ("system:bootstrap:abcdef", owned(&["system:bootstrappers"])),
            ("system:bootstrap:abcdef", token("system:bootstrappers:society:")),
            ("system:bootstrap:abcdef", token("system:bootstrappers:society-class:")),
            ("system:bootstrap:abcdef", two.clone()),
        ] {
            let request = made_by(&plane, user, &groups, json!({})).await;
            let words = format!("the operator may approve requests of machines, and {user} is none");
            operator.decide(&request, "Approved").await.is_forbidden(&words);
            operator.decide(&request, "Denied").await.is_allowed();
        }
    }
}

#[tokio::test]
async fn it_approves_clients_for_a_time_and_nothing_else() {
    let plane = installed().await;
    let [(user, groups), ..] = machines();
    let clients = "the operator may approve certificates of clients, and of nothing else beside it";
    let lasting = "the operator may approve certificates that say how long they are to last";
    for operator in operators(&plane).await {
        for (spec, words) in [
            (json!({"usages": [USAGE, "digital signature"]}), clients),
            (json!({"usages": ["digital signature"]}), clients),
            (json!({"expirationSeconds": null}), lasting),
        ] {
            let request = made_by(&plane, user, &groups, spec).await;
            operator.decide(&request, "Approved").await.is_forbidden(words);
        }
    }
}

#[tokio::test]
async fn it_decides_for_no_other_signer() {
    let plane = installed().await;
    let [(user, groups), ..] = machines();
    let alone = "the operator decides about requests of the signer kubernetes.io/kube-apiserver-client alone";
    for operator in operators(&plane).await {
        for signer in
            ["kubernetes.io/kubelet-serving", "kubernetes.io/kube-apiserver-client-kubelet", "example.org/signer"]
        {
            let request =
                made_by(&plane, user, &groups, json!({"signerName": signer, "usages": ["digital signature"]})).await;
            for verdict in ["Approved", "Denied"] {
                operator.decide(&request, verdict).await.is_forbidden(alone);
            }
        }
    }
}

#[tokio::test]
async fn it_neither_makes_nor_signs_nor_deletes_a_request() {
    let plane = installed().await;
    let [(user, groups), ..] = machines();
    let neither =
        "the operator may decide about a request for a certificate, and neither make, change, sign nor delete one";
    for operator in operators(&plane).await {
        let request = made_by(&plane, user, &groups, json!({})).await;
        let certificate = ByteString(plane.ca_pem().as_bytes().to_vec());
        let mut own = request.clone();
        own["metadata"]["name"] = json!(unique("hatrack"));
        operator.create(&own).await.is_forbidden(neither);
        operator
            .merge(&request, json!({"metadata": {"annotations": {"society.zeta.io/hardware-id": "A1"}}}))
            .await
            .is_forbidden(neither);
        operator.merge_status(&request, json!({"certificate": certificate})).await.is_forbidden(neither);
        operator.delete(&request).await.is_forbidden(neither);
        let administrator = Caller::administrator(&plane).await;
        administrator.decide(&request, "Approved").await.is_allowed();
        administrator.delete(&request).await.is_allowed();
    }
}
