//! The operator as a pod.

use hatrack_testbed::{ControlPlane, unique};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{Api, PostParams};
use serde_json::{Value, json};

use crate::k8s;

fn read(file: &str) -> String {
    std::fs::read_to_string(k8s("operator").join(file)).unwrap()
}

fn deployment() -> Deployment {
    serde_saphyr::from_str(&read("deployment.yaml")).unwrap()
}

fn account() -> ServiceAccount {
    serde_saphyr::from_str(&read("service-account.yaml")).unwrap()
}

/// What a namespace of the level `restricted` says to a pod of the Deployment.
async fn restricted_to(change: impl FnOnce(&mut Value)) -> kube::Result<Pod> {
    let admin = ControlPlane::shared().await.unwrap().admin().await.unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let name = unique("restricted");
    let labels = json!({"pod-security.kubernetes.io/enforce": "restricted"});
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap();
    Api::all(admin.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    let mut account = account();
    account.metadata.namespace = Some(name.clone());
    Api::namespaced(admin.clone(), &name).create(&PostParams::default(), &account).await.unwrap();
    let mut pod = json!(deployment().spec.unwrap().template);
    pod["metadata"]["name"] = json!("operator");
    change(&mut pod["spec"]);
    Api::namespaced(admin, &name).create(&dry_run, &serde_json::from_value(pod).unwrap()).await
}

#[tokio::test]
async fn its_pod_is_restricted_and_the_check_is_one_that_can_fail() {
    restricted_to(|_| {}).await.unwrap();
    let grow = |pod: &mut Value| pod["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = json!(true);
    let refused = restricted_to(grow).await.unwrap_err().to_string();
    assert!(
        refused.contains("violates PodSecurity \"restricted:latest\": allowPrivilegeEscalation != false"),
        "{refused}"
    );
}

#[test]
fn two_run_under_the_name_that_the_policies_know() {
    let spec = deployment().spec.unwrap();
    assert_eq!(spec.replicas, Some(2));
    let pod = spec.template.spec.unwrap();
    assert_eq!(pod.service_account_name.as_deref(), Some(hatrack_api::access::OPERATOR_ACCOUNT));
    for metadata in [deployment().metadata, account().metadata] {
        assert_eq!(metadata.namespace.as_deref(), Some(hatrack_api::SYSTEM_NAMESPACE));
    }
    assert_eq!(account().metadata.name, pod.service_account_name);
}
