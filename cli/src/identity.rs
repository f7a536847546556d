//! Who somebody is among hats: the SPIFFE id of the user that the cluster knows, or of a service account that was named.

use hatrack_api::HatPolicy;
use hatrack_api::hat_binding::ServiceAccountRef;
use hatrack_hats::throttles::{identity_of, spiffe_id};

use crate::args::IdentityOptions;
use crate::cluster::{Cluster, Missing};

/// Somebody who may ask for hats, vouch and judge.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The SPIFFE id.
    pub spiffe_id: String,
    /// The service account, if it is one.
    pub account: Option<ServiceAccountRef>,
}

/// A user whom the policy does not know.
#[derive(Debug, thiserror::Error)]
#[error("{who} has no SPIFFE id")]
pub struct Nobody {
    who: String,
    /// The user name.
    pub user: String,
    /// The trust domain of the cluster.
    pub domain: String,
}

/// Who the options name, else who types.
pub async fn of(cluster: &Cluster, options: &IdentityOptions) -> anyhow::Result<Identity> {
    let name = hatrack_api::hat_policy::NAME;
    let policy = cluster.get::<HatPolicy>(name).await?.ok_or_else(|| Missing::of::<HatPolicy>(name))?.spec;
    if let Some(account) = &options.as_service_account {
        let spiffe_id = spiffe_id(&policy, &account.namespace, &account.name);
        return Ok(Identity { spiffe_id, account: Some(account.clone()) });
    }
    let user = match cluster {
        // A folder authenticates nobody: who may write into it is who they say they are.
        Cluster::Folder(_) => std::env::var("USER").unwrap_or_default(),
        Cluster::Kubernetes(kubernetes) => kubernetes.user().await?,
    };
    let account = user.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    let account =
        account.map(|(namespace, name)| ServiceAccountRef { namespace: namespace.to_owned(), name: name.to_owned() });
    if let Some(spiffe_id) = identity_of(&policy, &user) {
        return Ok(Identity { spiffe_id, account });
    }
    let domain = policy.trust_domain.as_deref().unwrap_or(hatrack_api::hat_policy::throttle::TRUST_DOMAIN);
    let who = if user.is_empty() { "somebody without a user name".to_owned() } else { format!("the user `{user}`") };
    Err(Nobody { who, user, domain: domain.to_owned() }.into())
}
