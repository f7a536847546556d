//! Who of several operators acts.
//!
//! * In: the leader's Lease. Out: [`Standing`], by which [`Leadership`] says until when this operator leads.
//!
//! As in client-go: who renews the Lease leads, and whoever has seen no renewal for the Lease's duration takes over. Each counts on its own
//! boot-time clock from when *it* saw the renewal; no two clocks are compared. A leader stops acting `deadline` after the last renewal that
//! was accepted was sent, which is sooner than anybody takes over. The Lease is written with its resourceVersion, so that of two that
//! take it one succeeds.

use std::sync::Arc;
use std::time::Duration;

use hatrack_api::SYSTEM_NAMESPACE;
use hatrack_service::backoff::jittered;
use hatrack_service::clock::since_boot;
use hatrack_service::log::{Trouble, chain};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::Api;
use kube::api::PostParams;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::config;
use crate::failure::{Failure, Kind, within};

/// What is known of who leads.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Until when this operator leads unless it renews, as time since boot.
    pub until: Option<Duration>,
    /// Who leads.
    pub holder: Option<String>,
    /// Why the Lease could not be read or written, if so.
    pub failure: Option<String>,
}

/// Whether this operator leads.
#[derive(Debug, Clone)]
pub struct Leadership(watch::Receiver<Standing>);

impl Leadership {
    /// Whether it leads now.
    pub fn holds(&self) -> bool {
        self.0.borrow().until.is_some_and(|until| since_boot() < until)
    }

    /// What is known of who leads.
    pub fn standing(&self) -> Standing {
        self.0.borrow().clone()
    }

    /// Waits until this operator leads if it did not, and until it does not if it did; says whether it leads then.
    pub async fn turned_from(&mut self, leads: bool) -> bool {
        if leads {
            self.lost().await;
        } else {
            self.gained().await;
        }
        !leads
    }

    async fn gained(&mut self) {
        while !self.holds() {
            if self.0.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    async fn lost(&mut self) {
        loop {
            let until = self.0.borrow_and_update().until.unwrap_or_default();
            let left = until.saturating_sub(since_boot());
            if left.is_zero() {
                return;
            }
            if let Ok(Err(_)) = timeout(left, self.0.changed()).await {
                return;
            }
        }
    }
}

/// Takes and renews the Lease.
pub struct Elector {
    leases: Api<Lease>,
    config: config::Leader,
    limit: Duration,
    identity: String,
    standing: Arc<watch::Sender<Standing>>,
    /// The Lease as it was last seen to change, and when that was.
    seen: Option<(Lease, Duration)>,
}

impl Elector {
    /// An operator that does not lead.
    pub fn new(config: &config::Config, client: kube::Client) -> Self {
        Self {
            leases: Api::namespaced(client, SYSTEM_NAMESPACE),
            config: config.leader.clone(),
            limit: config.api.request_timeout.get().min(config.leader.deadline.get()),
            identity: identity(config.leader.name.clone()),
            standing: Arc::default(),
            seen: None,
        }
    }

    /// Whether it leads.
    pub fn leadership(&self) -> Leadership {
        Leadership(self.standing.subscribe())
    }

    /// Gives the Lease back, so that the next leader need not wait. To be called when nothing acts any more.
    pub fn resignation(&self) -> Resignation {
        Resignation {
            leases: self.leases.clone(),
            name: self.config.lease.clone(),
            identity: self.identity.clone(),
            standing: Arc::clone(&self.standing),
            limit: self.limit,
        }
    }

    /// Runs without end.
    pub async fn run(mut self) {
        let mut trouble = Trouble::default();
        let mut led = false;
        loop {
            let sent = since_boot();
            match self.turn().await {
                Ok(leads) => {
                    trouble.log_end("the leader's Lease can be written again");
                    let until = leads.then(|| sent + self.config.deadline.get());
                    let holder = self.seen.as_ref().and_then(|(lease, _)| holder(lease).map(str::to_owned));
                    if leads != led {
                        tracing::info!(
                            holder,
                            "{}",
                            if leads { "this operator leads" } else { "another operator leads" }
                        );
                        led = leads;
                    }
                    self.standing.send_if_modified(|standing| {
                        let next = Standing { until, holder, failure: None };
                        std::mem::replace(standing, next.clone()) != next
                    });
                }
                Err(failure) => {
                    self.seen = self.seen.take().filter(|_| failure.kind() != Kind::Outdated);
                    trouble.log("the leader's Lease cannot be written", &failure, failure.hint());
                    self.standing.send_modify(|standing| standing.failure = Some(chain(&failure)));
                }
            }
            sleep(jittered(self.config.period.get())).await;
        }
    }

    /// Looks at the Lease and takes or renews it if it is this operator's to hold.
    async fn turn(&mut self) -> Result<bool, Failure> {
        let known = within(self.limit, self.leases.get_opt(&self.config.lease)).await?;
        let Some(lease) = known else {
            let (params, mine) = (PostParams::default(), self.held(None));
            let created = within(self.limit, self.leases.create(&params, &mine)).await?;
            return Ok(self.met(created));
        };
        let leads = self.met(lease.clone());
        if !leads && !self.is_free() {
            return Ok(false);
        }
        let mine = self.held(Some(&lease));
        let params = PostParams::default();
        let replaced = within(self.limit, self.leases.replace(&self.config.lease, &params, &mine)).await?;
        Ok(self.met(replaced))
    }

    /// Takes note of the Lease; says whether this operator holds it.
    fn met(&mut self, lease: Lease) -> bool {
        let mine = holder(&lease) == Some(self.identity.as_str());
        let is_known = self.seen.as_ref().is_some_and(|(seen, _)| seen.spec == lease.spec);
        if !is_known {
            self.seen = Some((lease, since_boot()));
        }
        mine
    }

    /// Whether nobody holds the Lease that was last seen, or its holder let it run out.
    fn is_free(&self) -> bool {
        let Some((lease, since)) = &self.seen else { return false };
        let seconds = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds).unwrap_or_default();
        let lasts = u64::try_from(seconds).map_or(self.config.duration.get(), Duration::from_secs);
        holder(lease).is_none() || since_boot().saturating_sub(*since) > lasts.max(self.config.duration.get())
    }

    /// The Lease, held by this operator from now on.
    fn held(&self, lease: Option<&Lease>) -> Lease {
        let before = lease.and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let now = MicroTime(Timestamp::now());
        let is_mine = before.holder_identity.as_deref() == Some(self.identity.as_str());
        let spec = LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(seconds(self.config.duration.get())),
            acquire_time: if is_mine { before.acquire_time.clone() } else { Some(now.clone()) },
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!is_mine)),
            renew_time: Some(now),
            ..before
        };
        let new = || ObjectMeta { name: Some(self.config.lease.clone()), ..ObjectMeta::default() };
        let metadata = lease.map_or_else(new, |lease| lease.metadata.clone());
        Lease { metadata: ObjectMeta { managed_fields: None, ..metadata }, spec: Some(spec) }
    }
}

/// What gives the Lease back.
pub struct Resignation {
    leases: Api<Lease>,
    name: String,
    identity: String,
    standing: Arc<watch::Sender<Standing>>,
    limit: Duration,
}

impl Resignation {
    /// Gives it back if this operator holds it. If that fails, the others wait for its end.
    pub async fn hand_in(self) {
        if self.standing.send_replace(Standing::default()).until.is_none() {
            return;
        }
        if let Err(failure) = self.release().await {
            tracing::debug!(error = %chain(&failure), "the leader's Lease was not given back");
        }
    }

    async fn release(&self) -> Result<(), Failure> {
        let mut lease = within(self.limit, self.leases.get(&self.name)).await?;
        if holder(&lease) != Some(self.identity.as_str()) {
            return Ok(());
        }
        lease.metadata.managed_fields = None;
        lease.spec.get_or_insert_default().holder_identity = None;
        let params = PostParams::default();
        within(self.limit, self.leases.replace(&self.name, &params, &lease)).await.map(drop)
    }
}

fn holder(lease: &Lease) -> Option<&str> {
    lease.spec.as_ref()?.holder_identity.as_deref().filter(|holder| !holder.is_empty())
}

/// A Lease has whole seconds, one at least.
fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX).max(1)
}

/// The name and a number that no other operator has: two may run on one machine.
fn identity(name: Option<String>) -> String {
    let host = || nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    format!("{}_{:016x}", name.or_else(host).unwrap_or_default(), fastrand::u64(..))
}
