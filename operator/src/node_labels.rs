//! Which hats a machine wears, as labels of Kubernetes' own Node of the same name, so that a pod can select it.
//!
//! * In: `status.hats` of the ClusterNodes; a watch of the Nodes' metadata. Out: labels.
//!
//! `hat.node-restriction.kubernetes.io/<hat>: Active` is there while the hat is worn with full authority. Under this prefix no kubelet can
//! label itself (the API server's admission plugin NodeRestriction), so that a pod which selects it can rely on it. A machine
//! without a Node, such as a box of phones, has no label. What is answered about one Node, such as a refusal by somebody's policy, is
//! about that one: it is left alone for a while, and the others have their labels.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::StreamExt;
use hatrack_api::hat_binding::Phase;
use hatrack_hats::World;
use hatrack_hats::world::NodeView;
use hatrack_service::log::{Trouble, chain};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Patch, PatchParams};
use kube::core::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, sleep_until};

use crate::config::{BackoffLimits, Config};
use crate::failure::{Failure, Kind, within};
use crate::observe::{Observed, Seen};

/// Labels under this prefix are the operator's.
pub const PREFIX: &str = "hat.node-restriction.kubernetes.io/";

/// Names of the hats with which a Node is labelled.
type Labelled = BTreeMap<String, BTreeSet<String>>;

/// Keeps the labels of all Nodes.
pub struct Labeller {
    nodes: Api<PartialObjectMeta<Node>>,
    observed: Observed,
    limit: Duration,
    silence: u32,
    resync: Duration,
    backoff: BackoffLimits,
    set_aside: Duration,
    /// Until when a Node is left alone whose labels were refused.
    aside: BTreeMap<String, Instant>,
    labelled: Labelled,
    /// What a list that has begun has named so far.
    listed: Labelled,
}

impl Labeller {
    /// No Node has been seen yet.
    pub fn new(config: &Config, client: Client, observed: Observed) -> Self {
        Self {
            nodes: Api::all(client),
            observed,
            limit: config.api.request_timeout.get(),
            silence: config.api.watch_seconds(),
            resync: config.api.resync.get(),
            backoff: config.backoff,
            set_aside: config.requests.set_aside.get(),
            aside: BTreeMap::new(),
            labelled: Labelled::new(),
            listed: Labelled::new(),
        }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut changes = self.observed.subscribe();
        let config = watcher::Config::default().timeout(self.silence);
        let mut events = self.observed.follow(self.nodes.clone(), config, self.resync);
        let mut trouble = Trouble::default();
        let mut pause = self.backoff.pause();
        loop {
            if changes.wait_for(Seen::is_complete).await.is_err() {
                return;
            }
            changes.mark_unchanged();
            let mut failure = self.label().await.err();
            if failure.is_none() {
                let next = self.aside.values().min().copied();
                tokio::select! {
                    changed = changes.changed() => if changed.is_err() { return },
                    event = events.next() => match event {
                        Some(Ok(event)) => self.take(event),
                        Some(Err(error)) => failure = Some(error.into()),
                        None => return,
                    },
                    () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {}
                }
            }
            if let Some(failure) = failure {
                trouble.log("the labels of Nodes cannot be kept", &failure, failure.hint());
                sleep(pause.again()).await;
            } else {
                trouble.log_end("the labels of Nodes are kept again");
                pause.reset();
            }
        }
    }

    fn take(&mut self, event: Event<PartialObjectMeta<Node>>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(node) => _ = self.listed.insert(node.name_any(), hats_of(&node)),
            Event::InitDone => self.labelled = std::mem::take(&mut self.listed),
            Event::Apply(node) => _ = self.labelled.insert(node.name_any(), hats_of(&node)),
            Event::Delete(node) => _ = self.labelled.remove(&node.name_any()),
        }
    }

    /// Writes what differs, but for the Nodes that are left alone.
    async fn label(&mut self) -> Result<(), Failure> {
        let world = self.observed.world();
        let now = Instant::now();
        self.aside.retain(|_, until| *until > now);
        let known = self.labelled.iter().filter(|(name, _)| !self.aside.contains_key(*name));
        let wanted = known.map(|(name, known)| (name, known, worn_on(&world, name)));
        let wrong = wanted.filter(|(_, known, wanted)| *known != wanted);
        let changes: Vec<(String, Value, BTreeSet<String>)> =
            wrong.map(|(name, known, wanted)| (name.clone(), change(known, &wanted), wanted)).collect();
        for (name, change, wanted) in changes {
            // A merge patch makes no Node where there is none.
            let (params, change) = (PatchParams::default(), Patch::Merge(change));
            match within(self.limit, self.nodes.patch(&name, &params, &change)).await {
                Ok(_) => _ = self.labelled.insert(name, wanted),
                // It is gone: the watch will say so.
                Err(failure) if failure.kind() == Kind::NotFound => _ = self.labelled.remove(&name),
                Err(failure) if failure.concerns_every_request() => return Err(failure),
                Err(failure) => {
                    tracing::warn!(node = name, error = %chain(&failure), "the labels of a Node are refused: left alone for a while");
                    self.aside.insert(name, now + self.set_aside);
                }
            }
        }
        Ok(())
    }
}

/// Hats that are worn with full authority on the machine of this name.
fn worn_on(world: &World, name: &str) -> BTreeSet<String> {
    let hats = world.node(name).filter(|node| node.is_registered()).map(NodeView::hats).unwrap_or_default();
    hats.iter().filter(|hat| hat.phase == Phase::Active.as_str()).map(|hat| hat.name.clone()).collect()
}

fn hats_of(node: &PartialObjectMeta<Node>) -> BTreeSet<String> {
    node.labels().keys().filter_map(|key| key.strip_prefix(PREFIX)).map(str::to_owned).collect()
}

/// The merge patch from one set of hats to another.
fn change(known: &BTreeSet<String>, wanted: &BTreeSet<String>) -> Value {
    let label = |hat: &String| format!("{PREFIX}{hat}");
    let gone = known.difference(wanted).map(|hat| (label(hat), Value::Null));
    let new = wanted.difference(known).map(|hat| (label(hat), json!(Phase::Active.as_str())));
    json!({"metadata": {"labels": gone.chain(new).collect::<BTreeMap<_, _>>()}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_sets_what_is_new_and_removes_what_is_gone() {
        let set = |hats: &[&str]| hats.iter().map(|hat| (*hat).to_owned()).collect::<BTreeSet<_>>();
        assert_eq!(
            change(&set(&["old", "both"]), &set(&["both", "new"])),
            json!({"metadata": {"labels": {
                "hat.node-restriction.kubernetes.io/old": null, "hat.node-restriction.kubernetes.io/new": "Active"
            }}})
        );
    }
}
