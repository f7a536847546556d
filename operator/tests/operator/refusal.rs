//! Somebody's policy that refuses what the operator is about to do.

use hatrack_testbed::{soon, unique};
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

/// A policy that is in force until it is ended.
pub struct Refusal {
    bindings: Api<ValidatingAdmissionPolicyBinding>,
    name: String,
}

impl Refusal {
    /// Refuses with `reason` and `message` what `matching` selects, as the `spec` of a ValidatingAdmissionPolicy does, once `attempt` is refused so.
    pub async fn begins<T>(
        admin: &Client,
        (reason, message): (&str, &str),
        mut matching: Value,
        attempt: impl AsyncFn() -> kube::Result<T>,
    ) -> Self {
        let name = unique("refusal");
        matching["validations"] = json!([{"expression": "false", "message": message, "reason": reason}]);
        let policy = json!({"metadata": {"name": name}, "spec": matching});
        let binding = json!({"metadata": {"name": name}, "spec": {"policyName": name, "validationActions": ["Deny"]}});
        let (policy, binding) = (serde_json::from_value(policy).unwrap(), serde_json::from_value(binding).unwrap());
        Api::<ValidatingAdmissionPolicy>::all(admin.clone()).create(&PostParams::default(), &policy).await.unwrap();
        let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(admin.clone());
        bindings.create(&PostParams::default(), &binding).await.unwrap();
        let refused = async {
            while !attempt().await.is_err_and(|error| error.to_string().contains(message)) {
                sleep(Duration::from_millis(50)).await;
            }
        };
        soon("a refusal", refused).await;
        Self { bindings, name }
    }

    /// Everything is allowed again, a moment later.
    pub async fn ends(self) {
        self.bindings.delete(&self.name, &DeleteParams::default()).await.unwrap();
    }
}
