//! Shows the node alive.
//!
//! * In: the newest version of the object ([`crate::own::Own`]) and the newest [`Observation`], which together say whether the Lease is
//!   this machine's to renew; what is worn ([`Wearing`]). Nothing else: a status that is refused does not end a Lease.
//! * Out: the last renewal that was accepted ([`Renewal`]), on the boot-time clock.
//!
//! The Lease is renewed by PUT with its `resourceVersion`, so that a renewal that was overtaken is refused.
//! `leaseTransitions` is the operator's fence and is taken over as it is, once every hat that began under another number has ended.
//!
//! It is read for the first time while the machine is still being looked at. That opens the second connection to the API
//! server (the watch keeps the first one), so that the registration of a new machine does not wait for a TLS handshake.

use std::sync::Arc;
use std::time::Duration;

use hatrack_api::cluster_node::NodeLease;
use hatrack_api::{ClusterNode, SYSTEM_NAMESPACE};
use k8s_openapi::api::coordination::v1::LeaseSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::client::backoff::Backoff;
use crate::client::outcome::Failure;
use crate::client::{ApiServer, Write};
use crate::clock::{Clock, since_boot};
use crate::config::{self, Config};
use crate::log::{Trouble, chain};
use crate::observe::Observation;
use crate::own::{Own, Seen, path};
use crate::standing::Standing;
use crate::wear::Wearing;

/// What is known of the Lease.
#[derive(Debug, Clone, Default)]
pub struct Renewal {
    /// The last renewal that was accepted.
    pub accepted: Option<Accepted>,
    /// Why the last attempt failed, if it did.
    pub failure: Option<String>,
    /// The fence of the Lease that is to be renewed next. No hat that began under another one is worn when that is done.
    pub meets: Option<i32>,
}

/// A renewal that the API server accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// When it was sent, as time since boot: the Lease is known to be ours from then on, not from the answer.
    pub sent: Duration,
    /// The operator's fence: it has grown when the operator gave this node's hats away.
    pub transitions: i32,
}

/// What decides whether the Lease is this machine's to renew.
pub struct Inputs {
    /// The object.
    pub own: watch::Receiver<Seen>,
    /// The machine.
    pub observations: watch::Receiver<Option<Arc<Observation>>>,
    /// What is worn.
    pub wearing: watch::Receiver<Wearing>,
}

/// The Lease as it was last read or written.
enum Known {
    Unread,
    Absent,
    Present(Box<NodeLease>),
}

/// Renews the Lease.
pub struct Keeper {
    inputs: Inputs,
    own: Own,
    server: Arc<ApiServer>,
    clock: Arc<Clock>,
    renewals: watch::Sender<Renewal>,
    name: String,
    timing: config::Lease,
    known: Known,
    backoff: Backoff,
    trouble: Trouble,
}

impl Keeper {
    /// The keeper of the configured node's Lease.
    pub fn new(
        config: &Config,
        inputs: Inputs,
        own: Own,
        server: Arc<ApiServer>,
        clock: Arc<Clock>,
        renewals: watch::Sender<Renewal>,
    ) -> Self {
        Self {
            inputs,
            own,
            server,
            clock,
            renewals,
            name: config.name.clone(),
            timing: config.lease,
            known: Known::Unread,
            backoff: Backoff::new(config.backoff),
            trouble: Trouble::default(),
        }
    }

    /// Runs without end.
    pub async fn run(mut self) {
        self.read_ahead().await;
        loop {
            let holder = holder(&mut self.inputs).await;
            let due = Instant::now() + self.timing.period.get();
            match self.renew(&holder).await {
                Ok(accepted) => {
                    self.accepted(accepted);
                    sleep_until(due).await;
                }
                Err(failure) => {
                    // Once a period whatever a busy server asks for: a node that falls silent is fenced and its hats are moved, which costs
                    // the server more than this write.
                    let wait = self.failed(&failure).min(self.timing.period.get());
                    sleep(wait).await;
                }
            }
        }
    }

    /// Reads the Lease until it is known whose the object is. What was read long before the first renewal is read again then.
    async fn read_ahead(&mut self) {
        let began = Instant::now();
        let path = self.path();
        let read = read(&self.server, &path);
        let (known, _) = tokio::join!(read, holder(&mut self.inputs));
        match known {
            Ok(known) if began.elapsed() < self.timing.period.get() => self.known = known,
            Ok(_) => {}
            Err(failure) => tracing::debug!(error = chain(&failure), "the Lease cannot be read yet"),
        }
    }

    /// Renews the Lease, or makes it.
    async fn renew(&mut self, holder: &str) -> Result<Accepted, Failure> {
        if let Known::Unread = self.known {
            self.known = read(&self.server, &self.path()).await?;
        }
        self.pass_fence().await?;
        let sent = since_boot();
        let written: NodeLease = match &self.known {
            Known::Present(lease) => {
                let lease = json!(self.renewed(lease, holder));
                self.server.write(Write::Replace, &self.path(), &lease).await?
            }
            Known::Absent | Known::Unread => self.server.write(Write::Apply, &self.path(), &self.fresh(holder)).await?,
        };
        let transitions = fence(&written);
        self.known = Known::Present(Box::new(without_managers(written)));
        Ok(Accepted { sent, transitions })
    }

    /// Waits until no hat is worn that began under another fence. The object is read behind a new one, so that what the operator
    /// has taken off meanwhile is not put on again.
    async fn pass_fence(&mut self) -> Result<(), Failure> {
        let number = if let Known::Present(lease) = &self.known { fence(lease) } else { 0 };
        let before = self.renewals.borrow().accepted;
        self.renewals.send_if_modified(|renewal| renewal.meets.replace(number) != Some(number));
        if before.is_some_and(|before| before.transitions != number) {
            tracing::warn!(transitions = number, "the operator had given this node up meanwhile");
            let node: ClusterNode = self.server.get(&path(&self.name)).await?;
            self.own.offer(node);
        }
        let is_passed = |wearing: &Wearing| wearing.admits == Some(number);
        if !is_passed(&self.inputs.wearing.borrow()) {
            let why = "hats from before the operator gave this node up are still being stopped".to_owned();
            self.renewals.send_modify(|renewal| renewal.failure = Some(why));
        }
        let passed = self.inputs.wearing.wait_for(is_passed).await.is_ok();
        if passed { Ok(()) } else { std::future::pending().await }
    }

    fn renewed(&self, lease: &NodeLease, holder: &str) -> NodeLease {
        let now = MicroTime(self.clock.now());
        let before = lease.spec.clone().unwrap_or_default();
        let held = before.holder_identity.as_deref() == Some(holder);
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            acquire_time: if held { before.acquire_time.clone() } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_duration_seconds: Some(self.seconds()),
            ..before
        };
        NodeLease { spec: Some(spec), ..lease.clone() }
    }

    /// By server-side apply: a node may create objects of its own name, and the name of a POST is not in its path.
    fn fresh(&self, holder: &str) -> serde_json::Value {
        let lease = self.renewed(&NodeLease::default(), holder);
        json!({
            "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": self.name, "namespace": SYSTEM_NAMESPACE}, "spec": lease.spec,
        })
    }

    fn seconds(&self) -> i32 {
        i32::try_from(self.timing.duration.get().as_secs()).unwrap_or(i32::MAX).max(1)
    }

    fn path(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/{}", self.name)
    }

    fn accepted(&mut self, accepted: Accepted) {
        self.backoff.reset();
        self.trouble.log_end("the Lease is renewed again");
        let meets = Some(accepted.transitions);
        self.renewals.send_replace(Renewal { accepted: Some(accepted), failure: None, meets });
    }

    /// What is known of the Lease may be what was wrong: it is read anew.
    fn failed(&mut self, failure: &Failure) -> Duration {
        if failure.is_about_content() {
            self.known = Known::Unread;
        }
        self.trouble.log("the Lease cannot be renewed", failure, failure.hint());
        self.renewals.send_modify(|renewal| renewal.failure = Some(chain(failure)));
        self.backoff.after(failure)
    }
}

/// Waits until the object is this machine's, and returns its hardware id.
async fn holder(inputs: &mut Inputs) -> String {
    let Inputs { own, observations, .. } = inputs;
    loop {
        let ours = observations.borrow_and_update().as_ref().and_then(|seen| seen.inventory().hardware_id.clone());
        let standing = Standing::of(&own.borrow_and_update(), ours.as_deref());
        if let (Standing::Ours, Some(ours)) = (standing, ours) {
            return ours;
        }
        tokio::select! {
            Ok(()) = observations.changed() => {}
            Ok(()) = own.changed() => {}
            else => std::future::pending().await,
        }
    }
}

async fn read(server: &ApiServer, path: &str) -> Result<Known, Failure> {
    match server.get(path).await {
        Ok(lease) => Ok(Known::Present(Box::new(without_managers(lease)))),
        Err(Failure::NotFound { kind, .. }) if kind != "namespaces" => Ok(Known::Absent),
        Err(failure) => Err(failure),
    }
}

/// The operator's fence.
fn fence(lease: &NodeLease) -> i32 {
    lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or_default()
}

/// A PUT without them leaves them to the API server.
fn without_managers(mut lease: NodeLease) -> NodeLease {
    lease.metadata.managed_fields = None;
    lease
}
