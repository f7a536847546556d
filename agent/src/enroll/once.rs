//! One enrollment with the access of somebody else: on a Kubernetes worker, root asks with the kubelet's identity and leaves the
//! certificate to the agent's user.

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

use super::identity::{Cluster, FILE_NAME, Identity, Issued};
use super::request::{Applicant, Pending};
use super::{Desk, EnrollError};
use crate::client::ApiServer;
use crate::client::backoff::Backoff;
use crate::config::{self, Config};
use crate::files::Folder;
use crate::log::Trouble;
use crate::metrics::Requests;

/// Gets a certificate unless there is one that lasts, and gives the state folder to `owner`.
pub fn run(config: &Config, kubeconfig: &Path, owner: Option<&str>, patience: Duration) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start the event loop")?;
    let folder = folder(&config.state_dir, owner)?;
    runtime.block_on(async {
        let enrolled = timeout(patience, enroll(config, kubeconfig, &folder)).await;
        enrolled.with_context(|| format!("this machine got no certificate within {patience:?}"))?
    })
}

/// The agent's user owns its folder and its identity.
fn folder(path: &Path, owner: Option<&str>) -> anyhow::Result<Folder> {
    let mut folder = Folder::make(path).with_context(|| format!("failed to open `{}`", path.display()))?;
    if let Some(owner) = owner {
        let user = User::from_name(owner).context("failed to look up users")?;
        let user = user.with_context(|| format!("there is no user `{owner}`"))?;
        let given = folder.give(user.uid, user.gid);
        given.with_context(|| format!("failed to give `{}` to {owner}", path.display()))?;
    }
    Ok(folder)
}

/// Nothing that lies in the folder is believed but what an identity says of itself: its user could put there whatever root alone may read, and
/// root would bring it to him. So the key is a new one, in no file before it has its certificate.
async fn enroll(config: &Config, kubeconfig: &Path, folder: &Folder) -> anyhow::Result<()> {
    if let Some(identity) = kept(folder)?
        && identity.expires > Timestamp::now()
        && !is_of_another_cluster(&identity, config, kubeconfig).await
    {
        tracing::info!(expires = %identity.expires, "this machine has a certificate: it renews it by itself");
        return Ok(());
    }
    let enrollment = config.enrollment.clone().unwrap_or_default();
    let desk = Desk::new(config, &enrollment, Arc::default());
    let hardware_id = host::collect(&Root::at(&config.root)).hardware_id.ok_or(EnrollError::Nameless)?;
    let applicant = desk.applicant(hardware_id);
    let (mut backoff, mut trouble) = (Backoff::new(config.backoff), Trouble::default());
    let mut pending = Pending::create()?;
    loop {
        match attempt(config, kubeconfig, &desk, &applicant, &pending).await {
            Ok(issued) => return Ok(issued.put_away(folder, &pending)?),
            Err(error) => {
                trouble.log("this machine gets no certificate", &error, error.hint());
                if matches!(error, EnrollError::Denied(_) | EnrollError::Identity(_)) {
                    return Err(error.into());
                }
                if error.ends_request() {
                    pending = Pending::create()?;
                }
                sleep(error.wait(&mut backoff, enrollment.retry_refused.get())).await;
            }
        }
    }
}

/// The identity that is kept, if there is one to use.
fn kept(folder: &Folder) -> anyhow::Result<Option<Identity>> {
    let path = folder.path(FILE_NAME);
    let read = folder.read(FILE_NAME).with_context(|| format!("failed to read `{}`", path.display()))?;
    let Some(text) = read else { return Ok(None) };
    let identity = Identity::parse(&text);
    if identity.is_none() {
        tracing::warn!(file = %path.display(), "the kept identity cannot be understood: a new one is needed");
    }
    Ok(identity)
}

/// Whether the kubelet has gone to a cluster of another authority. While that cannot be told it has not.
async fn is_of_another_cluster(identity: &Identity, config: &Config, kubeconfig: &Path) -> bool {
    let kept = &identity.cluster.authority;
    let kubelets = cluster(config, kubeconfig).await;
    kubelets.is_ok_and(|kubelets| !kubelets.authority.iter().any(|certificate| kept.contains(certificate)))
}

/// The kubeconfig is read anew each time: a kubelet that has just been installed has none yet.
async fn attempt(
    config: &Config,
    kubeconfig: &Path,
    desk: &Desk,
    applicant: &Applicant,
    pending: &Pending,
) -> Result<Issued, EnrollError> {
    let cluster = cluster(config, kubeconfig).await?;
    let api = config::Api { kubeconfig: Some(kubeconfig.to_owned()), ..config.api.clone() };
    let kubelet = ApiServer::new(&api, Arc::clone(&desk.clock), Requests::default());
    desk.ask(&kubelet, &cluster, applicant, pending).await
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
