//! Takes away what a revoked machine may do.
//!
//! * In: `spec.revoked` of the ClusterNodes; a watch of the metadata of ClusterRoleBindings. Out: deletions of `hatrack:node:<name>`.
//!
//! A certificate cannot be taken back, but without the binding it is worth nothing, at once. A binding that somebody makes while the node is
//! revoked goes as well. Nothing brings it back: whoever lifts a ban enrolls the machine anew.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use hatrack_api::access::node_role_name;
use hatrack_service::log::Trouble;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{DeleteParams, Preconditions};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt};
use tokio::time::sleep;

use crate::config::BackoffLimits;
use crate::failure::{Failure, Kind, within};
use crate::leader::Leadership;
use crate::metrics::Revocations;
use crate::observe::Observed;
use crate::operator::Shared;

/// UIDs of the bindings of nodes by their names.
type Bindings = BTreeMap<String, String>;

/// Takes the access of revoked machines away while this operator leads.
pub struct Revoker {
    api: Api<ClusterRoleBinding>,
    metadata: Api<PartialObjectMeta<ClusterRoleBinding>>,
    observed: Observed,
    leadership: Leadership,
    revocations: Revocations,
    limit: Duration,
    silence: u32,
    resync: Duration,
    backoff: BackoffLimits,
    bindings: Bindings,
    /// What a list that has begun has named so far.
    listed: Bindings,
}

impl Revoker {
    /// No binding has been seen yet.
    pub fn new(shared: &Shared) -> Self {
        let config = &shared.config;
        Self {
            api: Api::all(shared.client.clone()),
            metadata: Api::all(shared.client.clone()),
            observed: shared.observed.clone(),
            leadership: shared.leadership.clone(),
            revocations: shared.metrics.revocations.clone(),
            limit: config.api.request_timeout.get(),
            silence: config.api.watch_seconds(),
            resync: config.api.resync.get(),
            backoff: config.backoff,
            bindings: Bindings::new(),
            listed: Bindings::new(),
        }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut changes = self.observed.subscribe();
        let config = watcher::Config::default().timeout(self.silence);
        let mut events = self.observed.follow(self.metadata.clone(), config, self.resync);
        let mut trouble = Trouble::default();
        let mut pause = self.backoff.pause();
        loop {
            changes.mark_unchanged();
            let mut failure = self.revoke().await.err();
            let again = failure.is_some().then(|| pause.again());
            tokio::select! {
                changed = changes.changed() => if changed.is_err() { return },
                event = events.next() => match event {
                    Some(Ok(event)) => self.take(event),
                    Some(Err(error)) => {
                        sleep(pause.again()).await;
                        failure = Some(error.into());
                    }
                    None => return,
                },
                () = sleep(again.unwrap_or_default()), if again.is_some() => {}
            }
            if let Some(failure) = failure {
                trouble.log("the access of revoked machines cannot be taken away", &failure, failure.hint());
            } else {
                trouble.log_end("the access of revoked machines can be taken away again");
                pause.reset();
            }
        }
    }

    fn take(&mut self, event: Event<PartialObjectMeta<ClusterRoleBinding>>) {
        let known = |binding: PartialObjectMeta<ClusterRoleBinding>| {
            let is_of_a_node = binding.name_any().starts_with(&node_role_name(""));
            is_of_a_node.then(|| (binding.name_any(), binding.uid().unwrap_or_default()))
        };
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(binding) => self.listed.extend(known(binding)),
            Event::InitDone => self.bindings = std::mem::take(&mut self.listed),
            Event::Apply(binding) => self.bindings.extend(known(binding)),
            Event::Delete(binding) => _ = self.bindings.remove(&binding.name_any()),
        }
    }

    /// Deletes the bindings of revoked nodes. One that cannot be deleted keeps no other.
    async fn revoke(&mut self) -> Result<(), Failure> {
        let world = self.observed.world();
        let revoked = world.nodes().filter(|(_, node)| node.is_registered() && node.node.spec.revoked == Some(true));
        let doomed: Vec<(String, String, String)> = revoked
            .filter_map(|(name, _)| {
                let binding = node_role_name(name);
                let uid = self.bindings.get(&binding)?.clone();
                Some((name.to_owned(), binding, uid))
            })
            .collect();
        let mut failed = None;
        for (node, binding, uid) in doomed {
            if !self.leadership.holds() {
                break;
            }
            let preconditions = Some(Preconditions { uid: Some(uid), resource_version: None });
            let params = DeleteParams { preconditions, ..DeleteParams::default() };
            match within(self.limit, self.api.delete(&binding, &params)).await {
                Ok(_) => {
                    tracing::warn!(node, "the node is revoked: what it may do is taken away");
                    self.revocations.count();
                    self.bindings.remove(&binding);
                }
                // It is gone, or another one: the watch will say so.
                Err(failure) if matches!(failure.kind(), Kind::NotFound | Kind::Outdated) => {
                    self.bindings.remove(&binding);
                }
                Err(failure) => failed = Some(failure),
            }
        }
        failed.map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bindings_of_nodes_have_a_prefix_that_no_other_has() {
        assert!(node_role_name("gpu-1").starts_with(&node_role_name("")));
        assert!(!"hatrack:nodes".starts_with(&node_role_name("")));
    }
}
