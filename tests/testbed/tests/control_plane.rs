//! What a test may expect of the shared control plane: each server does its work.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that fails")]

use std::collections::BTreeMap;
use std::time::Duration;

use hatrack_testbed::{ControlPlane, unique};
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::authentication::v1::SelfSubjectReview;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::wait::{Condition, await_condition, conditions::is_deleted};
use kube::{Api, Client, ResourceExt as _};
use rcgen::{CertificateParams, DnType, KeyPair};
use serde::de::DeserializeOwned;
use serde_json::json;

const PATIENCE: Duration = Duration::from_mins(1);

fn object<T: DeserializeOwned>(value: serde_json::Value) -> T {
    serde_json::from_value(value).unwrap()
}

async fn wait<K>(api: &Api<K>, name: &str, condition: impl Condition<K>) -> Option<K>
where
    K: Clone + std::fmt::Debug + Send + DeserializeOwned + kube::Resource + 'static,
{
    tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, condition)).await.unwrap().unwrap()
}

async fn review(client: Client) -> kube::Result<SelfSubjectReview> {
    Api::all(client).create(&PostParams::default(), &SelfSubjectReview::default()).await
}

/// The user name and groups under which the API server knows the owner of `client`.
async fn whoami(client: Client) -> (String, Vec<String>) {
    let user = review(client).await.unwrap().status.unwrap().user_info.unwrap();
    (user.username.unwrap(), user.groups.unwrap())
}

#[tokio::test]
async fn certificates_name_users_and_groups() {
    let plane = ControlPlane::shared().await.unwrap();
    let cases = [
        ("a node", plane.node_identity("gpu-1").unwrap(), "society:node:gpu-1", vec!["society:nodes"]),
        ("two groups", plane.client_certificate("ann", &["a", "b"], PATIENCE).unwrap(), "ann", vec!["a", "b"]),
        ("no group", plane.client_certificate("bob", &[], PATIENCE).unwrap(), "bob", vec![]),
        ("an administrator", plane.admin_identity().unwrap(), "hatrack-testbed", vec!["system:masters"]),
    ];
    for (name, identity, user, mut groups) in cases {
        groups.push("system:authenticated");
        let (actual_user, actual_groups) = whoami(plane.client_for(&identity).await.unwrap()).await;
        assert_eq!(
            (actual_user.as_str(), actual_groups),
            (user, groups.into_iter().map(String::from).collect()),
            "{name}"
        );
    }
}

#[tokio::test]
async fn three_groups_are_refused() {
    let plane = ControlPlane::shared().await.unwrap();
    let error = plane.client_certificate("ann", &["a", "b", "c"], PATIENCE).unwrap_err();
    assert_eq!(error.to_string(), "a client certificate names two groups at most, not 3");
}

#[tokio::test]
async fn an_expired_certificate_is_refused() {
    let plane = ControlPlane::shared().await.unwrap();
    let identity = plane.client_certificate("late", &[], Duration::ZERO).unwrap();
    let client = plane.client_for(&identity).await.unwrap();
    let Err(kube::Error::Api(status)) = review(client).await else { panic!("an expired certificate was accepted") };
    assert_eq!(status.code, 401);
}

#[tokio::test]
async fn a_kubeconfig_file_works() {
    let plane = ControlPlane::shared().await.unwrap();
    let path = plane.kubeconfig_for(&plane.node_identity("gpu-2").unwrap()).unwrap();
    let kubeconfig = Kubeconfig::read_from(path).unwrap();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    assert_eq!(whoami(Client::try_from(config).unwrap()).await.0, "society:node:gpu-2");
}

fn signing_request(common_name: &str, organization: &str) -> (String, KeyPair) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, organization);
    params.distinguished_name.push(DnType::CommonName, common_name);
    (params.serialize_request(&key).unwrap().pem().unwrap(), key)
}

#[tokio::test]
async fn an_approved_signing_request_gives_a_working_client() {
    let plane = ControlPlane::shared().await.unwrap();
    let requests: Api<CertificateSigningRequest> = Api::all(plane.admin().await.unwrap());
    let name = unique("csr");
    let (pem, key) = signing_request("society:node:signed-1", "society:nodes");
    let mut request: CertificateSigningRequest = object(json!({
        "metadata": {"name": name},
        "spec": {
            "request": ByteString(pem.into_bytes()),
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        },
    }));
    request = requests.create(&PostParams::default(), &request).await.unwrap();
    request.status = Some(object(json!({"conditions": [
        {"type": "Approved", "status": "True", "reason": "Test", "message": "approved by a test"},
    ]})));
    requests.replace_subresource("approval", &name, &PostParams::default(), &request).await.unwrap();

    let signed = |request: Option<&CertificateSigningRequest>| {
        request.and_then(|request| request.status.as_ref()).is_some_and(|status| status.certificate.is_some())
    };
    let certificate = wait(&requests, &name, signed).await.unwrap().status.unwrap().certificate.unwrap();
    let identity = hatrack_testbed::Identity {
        cert_pem: String::from_utf8(certificate.0).unwrap(),
        key_pem: key.serialize_pem(),
        ca_pem: plane.ca_pem().to_owned(),
    };
    let (user, groups) = whoami(plane.client_for(&identity).await.unwrap()).await;
    assert_eq!(user, "society:node:signed-1");
    assert!(groups.contains(&"society:nodes".to_owned()));
}

#[tokio::test]
async fn a_namespace_is_deleted_to_the_end() {
    let plane = ControlPlane::shared().await.unwrap();
    let client = plane.admin().await.unwrap();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let name = unique("ending");
    let created =
        namespaces.create(&PostParams::default(), &object(json!({"metadata": {"name": name}}))).await.unwrap();
    let config_maps: Api<ConfigMap> = Api::namespaced(client, &name);
    config_maps.create(&PostParams::default(), &object(json!({"metadata": {"name": "inside"}}))).await.unwrap();

    namespaces.delete(&name, &DeleteParams::default()).await.unwrap();
    wait(&namespaces, &name, is_deleted(&created.uid().unwrap())).await;
    assert!(config_maps.get_opt("inside").await.unwrap().is_none());
}

#[tokio::test]
async fn what_an_absent_owner_leaves_is_collected() {
    let plane = ControlPlane::shared().await.unwrap();
    let config_maps: Api<ConfigMap> = Api::namespaced(plane.admin().await.unwrap(), "default");
    let (owner, owned) = (unique("owner"), unique("owned"));
    let owner_object: ConfigMap = object(json!({"metadata": {"name": owner}}));
    let uid = config_maps.create(&PostParams::default(), &owner_object).await.unwrap().uid().unwrap();
    let owned_object = object(json!({"metadata": {"name": owned, "ownerReferences": [
        {"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": uid},
    ]}}));
    let owned_uid = config_maps.create(&PostParams::default(), &owned_object).await.unwrap().uid().unwrap();

    config_maps.delete(&owner, &DeleteParams::default()).await.unwrap();
    wait(&config_maps, &owned, is_deleted(&owned_uid)).await;
}

fn policy(name: &str, expression: &str) -> ValidatingAdmissionPolicy {
    object(json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["configmaps"]},
            ]},
            "validations": [{"expression": expression}],
        },
    }))
}

/// The warnings of the type check by the path of the expression.
async fn type_check(policies: &Api<ValidatingAdmissionPolicy>, expression: &str) -> BTreeMap<String, String> {
    let name = unique("typed");
    let parameters = PatchParams::apply("test");
    policies.patch(&name, &parameters, &Patch::Apply(policy(&name, expression))).await.unwrap();
    let checked = |policy: Option<&ValidatingAdmissionPolicy>| {
        policy.and_then(|policy| policy.status.as_ref()).is_some_and(|status| status.type_checking.is_some())
    };
    let status = wait(policies, &name, checked).await.unwrap().status.unwrap();
    policies.delete(&name, &DeleteParams::default()).await.unwrap();
    let warnings = status.type_checking.unwrap().expression_warnings.unwrap_or_default();
    warnings.into_iter().map(|warning| (warning.field_ref, warning.warning)).collect()
}

#[tokio::test]
async fn policies_are_type_checked() {
    let plane = ControlPlane::shared().await.unwrap();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(plane.admin().await.unwrap());
    let right = type_check(&policies, "object.data.size() < 5").await;
    assert!(right.is_empty(), "{right:?}");
    let wrong = type_check(&policies, "object.nothing == 5").await;
    let warning = &wrong["spec.validations[0].expression"];
    assert!(warning.contains("undefined field 'nothing'"), "{warning}");
}

#[tokio::test]
async fn a_bootstrap_token_authenticates_in_its_own_group() {
    let plane = ControlPlane::shared().await.unwrap();
    let secrets: Api<k8s_openapi::api::core::v1::Secret> = Api::namespaced(plane.admin().await.unwrap(), "kube-system");
    let group = "system:bootstrappers:society:gpu-1";
    let id = format!("{:06x}", std::process::id());
    let name = format!("bootstrap-token-{id}");
    let secret = object(json!({
        "metadata": {"name": name},
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": id, "token-secret": "0123456789abcdef",
            "usage-bootstrap-authentication": "true", "auth-extra-groups": group,
        },
    }));
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let mut config = plane.config_for(&plane.admin_identity().unwrap()).await.unwrap();
    config.auth_info = object(json!({"token": format!("{id}.0123456789abcdef")}));
    let (user, groups) = whoami(Client::try_from(config).unwrap()).await;
    secrets.delete(&name, &DeleteParams::default()).await.unwrap();
    assert_eq!(user, format!("system:bootstrap:{id}"));
    assert!(groups.contains(&group.to_owned()), "{groups:?}");
}

#[test]
fn unique_names_differ_and_are_labels() {
    let names: std::collections::BTreeSet<String> = (0..100).map(|_| unique("gpu")).collect();
    assert_eq!(names.len(), 100);
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    for name in names {
        assert!(name.len() <= "gpu-".len() + 19 && name.bytes().all(allowed), "{name}");
    }
}
