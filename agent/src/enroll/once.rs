//! One enrollment with the access of somebody else: on a Kubernetes worker, root asks with the kubelet's identity and leaves the
//! certificate to the agent's user.

use std::os::unix::fs::chown;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hatrack_discover::host;
use hatrack_discover::root::Root;
use jiff::Timestamp;
use kube::config::{KubeConfigOptions, Kubeconfig};
use nix::unistd::User;
use tokio::time::{sleep, timeout};

use super::identity::{Cluster, Identity, IdentityError};
use super::request::Applicant;
use super::{Desk, EnrollError, file};
use crate::client::ApiServer;
use crate::client::backoff::Backoff;
use crate::clock::Clock;
use crate::config::{self, Config};
use crate::log::{Trouble, chain};
use crate::metrics::Requests;

/// Gets a certificate unless there is one that lasts, and gives the state folder to `owner`.
pub fn run(config: &Config, kubeconfig: &Path, owner: Option<&str>, patience: Duration) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start the event loop")?;
    runtime.block_on(async {
        let enrolled = timeout(patience, enroll(config, kubeconfig)).await;
        enrolled.with_context(|| format!("this machine got no certificate within {patience:?}"))?
    })?;
    owner.map_or(Ok(()), |owner| give(&config.state_dir, owner))
}

async fn enroll(config: &Config, kubeconfig: &Path) -> anyhow::Result<()> {
    let kept = match Identity::load(&config.state_dir) {
        Err(error @ IdentityError::Damaged(_)) => {
            tracing::warn!(error = chain(&error), "the kept identity cannot be used: a new one is needed");
            None
        }
        kept => kept?,
    };
    if let Some(identity) = kept
        && identity.expires > Timestamp::now()
    {
        tracing::info!(expires = %identity.expires, "this machine has a certificate: it renews it by itself");
        return Ok(());
    }
    let clock = Arc::new(Clock::default());
    let enrollment = config.enrollment.clone().unwrap_or_default();
    let desk = Desk::new(config, &enrollment, Arc::clone(&clock));
    let hardware_id = host::collect(&Root::at(&config.root)).hardware_id.ok_or(EnrollError::Nameless)?;
    let applicant = desk.applicant(hardware_id);
    let (mut backoff, mut trouble) = (Backoff::new(config.backoff), Trouble::default());
    loop {
        match attempt(config, kubeconfig, &desk, &applicant, &clock).await {
            Ok(()) => return Ok(()),
            Err(error) => {
                trouble.log("this machine gets no certificate", &error, error.hint());
                if matches!(error, EnrollError::Denied(_) | EnrollError::Identity(_)) {
                    return Err(error.into());
                }
                sleep(error.wait(&mut backoff, enrollment.retry_refused.get())).await;
            }
        }
    }
}

/// The kubeconfig is read anew each time: a kubelet that has just been installed has none yet.
async fn attempt(
    config: &Config,
    kubeconfig: &Path,
    desk: &Desk,
    applicant: &Applicant,
    clock: &Arc<Clock>,
) -> Result<(), EnrollError> {
    let cluster = cluster(config, kubeconfig).await?;
    let api = config::Api { kubeconfig: Some(kubeconfig.to_owned()), ..config.api.clone() };
    let kubelet = ApiServer::new(&api, Arc::clone(clock), Requests::default());
    desk.apply(&kubelet, &cluster, applicant).await
}

/// The cluster of the kubeconfig. Its address may be one that the kubelet alone should depend on, so that the configuration's comes first.
async fn cluster(config: &Config, kubeconfig: &Path) -> Result<Cluster, EnrollError> {
    let unusable = |source| EnrollError::Kubeconfig { path: kubeconfig.to_owned(), source };
    let parsed = Kubeconfig::read_from(kubeconfig).map_err(|error| unusable(error.into()))?;
    let access = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default()).await;
    let access = access.map_err(|error| unusable(error.into()))?;
    let authority = access.root_cert.ok_or_else(|| unusable("it names no authority".into()))?;
    let configured = config.enrollment.as_ref().and_then(|enrollment| enrollment.server.clone());
    let server = configured.unwrap_or_else(|| access.cluster_url.to_string().trim_end_matches('/').to_owned());
    Ok(Cluster { server, authority })
}

/// The agent's user owns its folder and its identity.
fn give(folder: &Path, owner: &str) -> anyhow::Result<()> {
    let user = User::from_name(owner)
        .context("failed to look up users")?
        .with_context(|| format!("there is no user `{owner}`"))?;
    for path in [folder.to_owned(), file(folder)] {
        chown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
            .with_context(|| format!("failed to give `{}` to {owner}", path.display()))?;
    }
    Ok(())
}
