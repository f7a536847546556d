//! Requests for the tests of the rules.

use hatrack_api::cluster_node::Class;
use hatrack_api::enrollment::{CLASS_ANNOTATION, HARDWARE_ID_ANNOTATION, SIGNER, USAGE, groups};
use hatrack_api::{NODE_GROUP, NODE_USER_PREFIX};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use serde_json::json;

/// Who asks: a user and its groups.
pub struct Asker(pub String, pub Vec<String>);

pub fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

/// What the agent of a machine of this name writes.
pub fn document(node: &str) -> String {
    document_for(&format!("{NODE_USER_PREFIX}{node}"), NODE_GROUP)
}

pub fn document_for(name: &str, group: &str) -> String {
    document_with(&key(), |params| {
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.distinguished_name.push(DnType::CommonName, name);
    })
}

/// What the agent of `gpu-1` writes, changed.
pub fn document_with(key: &KeyPair, change: impl FnOnce(&mut CertificateParams)) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, NODE_GROUP);
    params.distinguished_name.push(DnType::CommonName, format!("{NODE_USER_PREFIX}gpu-1"));
    change(&mut params);
    params.serialize_request(key).unwrap().pem().unwrap()
}

/// The token that was made for this machine, a GPU worker.
pub fn token(node: &str) -> Asker {
    let mut all = vec!["system:bootstrappers".to_owned(), "system:authenticated".to_owned()];
    all.extend(groups(node, Class::GpuWorker));
    Asker("system:bootstrap:abcdef".to_owned(), all)
}

pub fn kubelet(node: &str) -> Asker {
    Asker(format!("system:node:{node}"), vec!["system:nodes".to_owned(), "system:authenticated".to_owned()])
}

/// The machine itself, with its certificate.
pub fn itself(node: &str) -> Asker {
    Asker(format!("{NODE_USER_PREFIX}{node}"), vec![NODE_GROUP.to_owned(), "system:authenticated".to_owned()])
}

pub fn person(name: &str) -> Asker {
    Asker(name.to_owned(), vec!["system:authenticated".to_owned()])
}

/// A request with this document by a GPU worker that says it is the machine `A1`.
pub fn object(document: &str, Asker(username, groups): Asker) -> CertificateSigningRequest {
    serde_json::from_value(json!({
        "metadata": {
            "name": "hatrack-gpu-1-0123", "uid": "u-1", "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {HARDWARE_ID_ANNOTATION: "A1", CLASS_ANNOTATION: "gpu-worker"},
        },
        "spec": {
            "request": k8s_openapi::ByteString(document.as_bytes().to_vec()), "signerName": SIGNER, "usages": [USAGE],
            "expirationSeconds": 604_800, "username": username, "groups": groups,
        },
    }))
    .unwrap()
}
