//! The repository's manifests and their effect.

#![expect(clippy::unwrap_used, reason = "a test ends at the first thing that fails")]

use std::path::Path;

use hatrack_testbed::{ControlPlane, Error, unique};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::PostParams;

const MANIFESTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../k8s");

#[tokio::test]
async fn the_repositorys_manifests_are_applied_twice_and_change_once() {
    let plane = ControlPlane::shared().await.unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(plane.admin().await.unwrap());
    plane.install(Path::new(MANIFESTS)).await.unwrap();
    let first = definitions.get("clusternodes.society.zeta.io").await.unwrap();
    plane.install(Path::new(MANIFESTS)).await.unwrap();
    let second = definitions.get("clusternodes.society.zeta.io").await.unwrap();
    assert_eq!(first.metadata.generation, second.metadata.generation);
}

fn write(dir: &Path, name: &str, content: &str) {
    std::fs::write(dir.join(name), content).unwrap();
}

/// A policy that refuses config maps of one name, and a role that lets one user make them.
fn fence(name: &str) -> String {
    format!(
        "
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {{name: {name}}}
spec:
  matchConstraints:
    resourceRules:
      - {{apiGroups: [''], apiVersions: [v1], operations: [CREATE], resources: [configmaps]}}
  matchConditions:
    - {{name: mine, expression: \"object.metadata.name == '{name}'\"}}
  validations:
    - {{expression: 'false', message: fenced by {name}}}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {{name: {name}}}
spec: {{policyName: {name}, validationActions: [Deny]}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: {name}, namespace: default}}
rules: [{{apiGroups: [''], resources: [configmaps], verbs: [create]}}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: {name}, namespace: default}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: Role, name: {name}}}
subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: User, name: {name}}}]
"
    )
}

#[tokio::test]
async fn policies_and_roles_have_their_effect_when_install_returns() {
    let plane = ControlPlane::shared().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let name = unique("fence");
    write(dir.path(), "fence.yaml", &fence(&name));
    plane.install(dir.path()).await.unwrap();

    let user = plane.client_certificate(&name, &[], std::time::Duration::from_mins(10)).unwrap();
    let config_maps: Api<ConfigMap> = Api::namespaced(plane.client_for(&user).await.unwrap(), "default");
    let mut config_map = ConfigMap::default();
    config_map.metadata.name = Some(name.clone());
    let Err(kube::Error::Api(status)) = config_maps.create(&PostParams::default(), &config_map).await else {
        panic!("the policy did not refuse");
    };
    // Not the message of RBAC: the role already permits, the policy refuses.
    assert!(status.message.ends_with(&format!("denied request: fenced by {name}")), "{}", status.message);
}

#[tokio::test]
async fn a_manifest_that_the_server_refuses_is_an_error_that_names_it() {
    let plane = ControlPlane::shared().await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "bad.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: Not_A_Name}\n");
    let error = plane.install(dir.path()).await.unwrap_err();
    assert!(matches!(error, Error::Api { .. }));
    assert!(error.chain().contains("Not_A_Name"), "{}", error.chain());
}
