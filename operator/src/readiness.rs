//! Whether each node is Ready, as a condition of its ClusterNode.
//!
//! * In: the world, which has the Leases as this operator saw them renewed. Out: the conditions `Ready` and `IdentityConflict`.
//!
//! They have a field manager of their own, so that a write of these says nothing about the hats of a node, and the other way round.
//! `IdentityConflict` is there only while another machine renews the Lease of the name, or was a while ago.

use std::time::Duration;

use futures::{StreamExt, stream};
use hatrack_api::cluster_node::{condition, ready};
use hatrack_api::{ClusterNode, GROUP, VERSION};
use hatrack_hats::Moment;
use hatrack_hats::world::NodeView;
use hatrack_service::log::Trouble;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::{sleep, timeout};

use crate::clock::now;
use crate::config::{BackoffLimits, Config};
use crate::failure::{Failure, Kind, within};
use crate::observe::{Kept, Observed};

/// Who writes the conditions.
const FIELD_MANAGER: &str = "hatrack-operator-readiness";

/// Writes at a time: after a start, or when a switch fails, a thousand nodes change together.
const AT_A_TIME: usize = 16;

/// Looks at every node when something changed, and when a Lease runs out.
pub struct Watcher {
    nodes: Api<ClusterNode>,
    observed: Observed,
    limit: Duration,
    backoff: BackoffLimits,
}

impl Watcher {
    /// Nothing has been looked at yet.
    pub fn new(config: &Config, client: Client, observed: Observed) -> Self {
        let limit = config.api.request_timeout.get();
        Self { nodes: Api::all(client), observed, limit, backoff: config.backoff }
    }

    /// Runs until it is dropped.
    pub async fn run(self) {
        let mut changes = self.observed.subscribe();
        let mut trouble = Trouble::default();
        let mut pause = self.backoff.pause();
        loop {
            if changes.wait_for(super::observe::Seen::is_complete).await.is_err() {
                return;
            }
            changes.mark_unchanged();
            let now = now();
            match self.look(now).await {
                Ok(next) => {
                    trouble.log_end("the readiness of nodes can be written again");
                    pause.reset();
                    // Conditions are for people and placement: what changes within a moment is written once.
                    sleep(pause.min()).await;
                    _ = timeout(next.saturating_sub(now.steady), changes.changed()).await;
                }
                Err(failure) => {
                    trouble.log("the readiness of a node cannot be written", &failure, failure.hint());
                    sleep(pause.again()).await;
                }
            }
        }
    }

    /// Writes what differs. Returns when the next Lease runs out.
    async fn look(&self, now: Moment) -> Result<Duration, Failure> {
        let world = self.observed.world();
        let registered = || world.nodes().filter(|(_, node)| node.is_registered());
        let wrong: Vec<(String, Vec<Condition>)> = registered()
            .map(|(name, node)| (name, node, conditions(node, now)))
            .filter(|(_, node, wanted)| ours(node) != *wanted)
            .map(|(name, _, wanted)| (name.to_owned(), wanted))
            .collect();
        let writes = wrong.into_iter().map(|(name, wanted)| self.write(name, wanted));
        let results: Vec<Result<(), Failure>> = stream::iter(writes).buffer_unordered(AT_A_TIME).collect().await;
        let ends = registered().filter_map(|(_, node)| node.ready_until()).filter(|end| *end > now.steady);
        let next = ends.min().unwrap_or(Duration::MAX);
        results.into_iter().collect::<Result<(), Failure>>().map(|()| next)
    }

    async fn write(&self, name: String, wanted: Vec<Condition>) -> Result<(), Failure> {
        let object = json!({
            "apiVersion": format!("{GROUP}/{VERSION}"), "kind": "ClusterNode", "metadata": {"name": name},
            "status": {"conditions": wanted},
        });
        let params = PatchParams::apply(FIELD_MANAGER).force();
        match within(self.limit, self.nodes.patch_status(&name, &params, &Patch::Apply(object))).await {
            Ok(node) => {
                self.observed.did(|seen| _ = node.observe(seen, now().steady));
                Ok(())
            }
            // It is gone: the watch will say so.
            Err(failure) if failure.kind() == Kind::NotFound => Ok(()),
            Err(failure) => Err(failure),
        }
    }
}

/// The conditions that the operator wrote, `Ready` first.
fn ours(node: &NodeView) -> Vec<Condition> {
    let conditions = node.node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let of = |type_| conditions.iter().find(|condition| condition.type_ == type_).cloned();
    [condition::READY, condition::IDENTITY_CONFLICT].into_iter().filter_map(of).collect()
}

/// The conditions that are true now.
fn conditions(node: &NodeView, now: Moment) -> Vec<Condition> {
    let known = ours(node);
    let since = |type_: &str, status: &str| {
        let same = known.iter().find(|condition| condition.type_ == type_ && condition.status == status);
        same.map_or_else(|| in_seconds(now.wall), |condition| condition.last_transition_time.clone())
    };
    let say = |type_: &str, status: &str, reason: &str, message: String| Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: since(type_, status),
        observed_generation: None,
    };
    let (reason, message) = readiness(node, now.steady);
    let status = if reason == ready::LEASE_RENEWED { "True" } else { "Unknown" };
    let mut conditions = vec![say(condition::READY, status, reason, message.to_owned())];
    if let Some(rival) = &node.rival {
        let pinned = node.node.spec.hardware_id.as_deref().unwrap_or_default();
        let message = format!("the machine {rival} renews the Lease of this name, and spec.hardwareID says {pinned}");
        conditions.push(say(condition::IDENTITY_CONFLICT, "True", "AnotherMachine", message));
    }
    conditions
}

/// Reason and words. The words have no numbers: they would change with each look.
fn readiness(node: &NodeView, steady: Duration) -> (&'static str, &'static str) {
    if node.lease.is_none() {
        (ready::NO_LEASE, "the agent has not renewed its Lease yet: is hatrack-agent running?")
    } else if node.is_fenced() {
        (ready::FENCED, "the node was silent so long that its hats were given away; it stops them before it comes back")
    } else if node.is_ready(steady) {
        (ready::LEASE_RENEWED, "")
    } else {
        (ready::LEASE_SILENT, "the agent does not renew its Lease: is the machine up, and can it reach the API server?")
    }
}

/// The API server keeps whole seconds.
fn in_seconds(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}
