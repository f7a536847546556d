//! Every policy passes the API server's type check, and the check is one that can fail: each policy is checked together with an
//! expression that is wrong, and that one alone must be reported.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use hatrack_admission_tests::{eventually, installed};
use hatrack_testbed::unique;
use k8s_openapi::api::admissionregistration::v1::{ExpressionWarning, ValidatingAdmissionPolicy, Validation};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use kube::{Client, ResourceExt};

const CONTROL: &str = "object.metadata.thereIsNoSuchField == 'x'";
const CONTROL_OF_PARAMS: &str = "params.spec.thereIsNoSuchField == 'x'";

/// The policy under a name of its own, bound to nothing, with the wrong expressions at its end.
/// The check passes over wildcards and subresources, so it is made with the main resources.
fn with_controls(policy: &ValidatingAdmissionPolicy) -> ValidatingAdmissionPolicy {
    let mut copy = ValidatingAdmissionPolicy { spec: policy.spec.clone(), ..ValidatingAdmissionPolicy::default() };
    copy.metadata.name = Some(unique("type-check"));
    let spec = copy.spec.as_mut().unwrap();
    for rule in
        spec.match_constraints.iter_mut().flat_map(|constraints| constraints.resource_rules.iter_mut().flatten())
    {
        for resource in rule.resources.iter_mut().flatten() {
            *resource = resource.split('/').next().unwrap().to_owned();
        }
    }
    let of_params = spec.param_kind.as_ref().map(|_| CONTROL_OF_PARAMS);
    for expression in std::iter::once(CONTROL).chain(of_params) {
        let control = Validation { expression: expression.to_owned(), ..Validation::default() };
        spec.validations.get_or_insert_default().push(control);
    }
    copy
}

/// What the check says of the policy.
async fn warnings(client: &Client, policy: &ValidatingAdmissionPolicy) -> Vec<ExpressionWarning> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let created = policies.create(&PostParams::default(), policy).await.unwrap();
    let name = created.name_any();
    let checked = eventually("the type check", async || policies.get(&name).await.unwrap().status?.type_checking).await;
    policies.delete(&name, &DeleteParams::default()).await.unwrap();
    checked.expression_warnings.unwrap_or_default()
}

#[tokio::test]
async fn every_policy_passes_a_check_that_finds_mistakes() {
    let client = installed().await.admin().await.unwrap();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let ours = policies.list(&ListParams::default()).await.unwrap();
    let ours: Vec<_> = ours
        .items
        .iter()
        .filter(|policy| policy.name_any().starts_with("hatrack-"))
        .filter(|policy| !policy.name_any().contains("testbed"))
        .collect();
    assert!(ours.len() > 10, "{} policies", ours.len());
    for policy in ours {
        let name = policy.name_any();
        let copy = with_controls(policy);
        let own = policy.spec.as_ref().unwrap().validations.as_ref().unwrap().len();
        let all = copy.spec.as_ref().unwrap().validations.as_ref().unwrap().len();
        let controls: Vec<String> = (own..all).map(|index| format!("spec.validations[{index}].expression")).collect();
        // The checker learns of new kinds some time after they are served; until then it finds nothing.
        let found = eventually(&format!("the check of {name} finds what is wrong"), async || {
            let mut copy = copy.clone();
            copy.metadata.name = Some(unique("type-check"));
            let found = warnings(&client, &copy).await;
            controls.iter().all(|control| found.iter().any(|warning| &warning.field_ref == control)).then_some(found)
        })
        .await;
        let wrong: Vec<_> = found.iter().filter(|warning| !controls.contains(&warning.field_ref)).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    }
}
