//! Whether the operator's fence bites.
//!
//! * In: the answers to requests that `k8s/policies/operator-fence.yaml` has to refuse. Out: [`Canary`].
//!
//! The operator may write roles, so without its fence it could grant anything, and so could whoever writes hats. It grants nothing
//! until its own forbidden requests were refused *with the fence's words*: a policy that is missing lets them pass, and one that fails to
//! evaluate refuses them for a reason that nobody wrote. The requests are dry runs: one that passes makes nothing.

use std::time::Duration;

use hatrack_api::access::{MANAGED_BY, hat_role_name};
use hatrack_service::backoff::jittered;
use hatrack_service::log::chain;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::config::{self, Config};
use crate::failure::{Failure, within};

/// Whether authority may be granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Canary {
    /// Every forbidden request was refused as it has to be.
    Alive,
    /// One was not, or that is not known yet: why.
    Silent(String),
}

impl Canary {
    /// Why nothing is granted; `None` if grants are made.
    pub fn doubt(&self) -> Option<&str> {
        match self {
            Self::Alive => None,
            Self::Silent(why) => Some(why),
        }
    }
}

/// A namespace that is in every cluster and that is no system's.
const NAMESPACE: &str = "default";

/// What each policy of the fence says of a request that it has to refuse.
const NAMES: &str = "its grants are named hatrack:hat:* and hatrack:node:*";
const RULES: &str = "the operator may not grant the verbs *, escalate, bind or impersonate";
const SUBJECTS: &str = "the operator grants hats to service accounts alone";

/// Tries the fence.
pub struct Keeper {
    client: Client,
    config: config::Canary,
    limit: Duration,
    canary: watch::Sender<Canary>,
}

impl Keeper {
    /// Nothing has been tried yet.
    pub fn new(config: &Config, client: Client) -> Self {
        let canary = watch::Sender::new(Canary::Silent("the operator's fence was not tried yet".to_owned()));
        Self { client, config: config.canary, limit: config.api.request_timeout.get(), canary }
    }

    /// What became of it.
    pub fn subscribe(&self) -> watch::Receiver<Canary> {
        self.canary.subscribe()
    }

    /// Runs without end. A try without an answer changes nothing: the fence is where it was.
    pub async fn run(self) {
        loop {
            match self.look().await {
                Ok(canary) => self.tell(canary),
                Err(failure) => {
                    let failure = chain(&failure);
                    tracing::debug!(error = failure, "the operator's fence could not be tried");
                    self.canary.send_if_modified(|canary| {
                        let Canary::Silent(why) = canary else { return false };
                        *why = format!("the operator's fence could not be tried: {failure}");
                        true
                    });
                }
            }
            let alive = *self.canary.borrow() == Canary::Alive;
            sleep(jittered(if alive { self.config.period } else { self.config.retry }.get())).await;
        }
    }

    fn tell(&self, next: Canary) {
        let known = self.canary.borrow().clone();
        if known == next {
            return;
        }
        match &next {
            Canary::Alive => tracing::info!("the operator's fence holds: authority is granted"),
            Canary::Silent(why) => {
                let hint = "apply k8s/policies/operator-fence.yaml";
                tracing::error!(why, hint, "the operator's fence does not hold: no authority is granted");
            }
        }
        self.canary.send_replace(next);
    }

    async fn look(&self) -> Result<Canary, Failure> {
        let name = hat_role_name("canary", "canary");
        let (misnamed, rules, subjects) = (role("hatrack:canary", &[]), role(&name, &["*"]), binding(&name));
        let roles: Api<Role> = Api::namespaced(self.client.clone(), NAMESPACE);
        let bindings: Api<RoleBinding> = Api::namespaced(self.client.clone(), NAMESPACE);
        for (doubt, because) in [
            (self.dare(&roles, &misnamed, NAMES).await?, "a role that is no grant"),
            (self.dare(&roles, &rules, RULES).await?, "a role that may do anything"),
            (self.dare(&bindings, &subjects, SUBJECTS).await?, "a role for everybody"),
        ] {
            if let Some(doubt) = doubt {
                return Ok(Canary::Silent(format!("the fence does not refuse the operator {because}: {doubt}")));
            }
        }
        Ok(Canary::Alive)
    }

    /// Makes a forbidden request. `None`: it was refused with these words.
    async fn dare<K>(&self, api: &Api<K>, object: &Value, words: &str) -> Result<Option<String>, Failure>
    where
        K: DeserializeOwned + Serialize + Clone + std::fmt::Debug,
    {
        let params = PostParams { dry_run: true, ..PostParams::default() };
        let Ok(object) = serde_json::from_value::<K>(object.clone()) else {
            return Ok(Some("the request cannot be built".to_owned()));
        };
        match within(self.limit, api.create(&params, &object)).await {
            Ok(_) => Ok(Some("it was let pass".to_owned())),
            Err(failure) if failure.message().contains(words) => Ok(None),
            Err(failure) if failure.is_final() => Ok(Some(format!("it was refused for another reason: {failure}"))),
            Err(failure) => Err(failure),
        }
    }
}

fn metadata(name: &str) -> Value {
    json!({"name": name, "namespace": NAMESPACE, "labels": {MANAGED_BY.0: MANAGED_BY.1}})
}

fn role(name: &str, verbs: &[&str]) -> Value {
    let rules: Vec<Value> =
        verbs.iter().map(|verb| json!({"apiGroups": [""], "resources": ["pods"], "verbs": [verb]})).collect();
    json!({"metadata": metadata(name), "rules": rules})
}

fn binding(name: &str) -> Value {
    let group = "rbac.authorization.k8s.io";
    json!({
        "metadata": metadata(name),
        "roleRef": {"apiGroup": group, "kind": "Role", "name": name},
        "subjects": [{"apiGroup": group, "kind": "Group", "name": "system:authenticated"}],
    })
}
