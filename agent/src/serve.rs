//! What `/metrics` and `/readyz` say ([`hatrack_service::pages`]).
//!
//! * In: the outputs of every other task. Out: answers over HTTP.
//!
//! The cluster can rely on the agent while the object shows the newest state and the Lease is renewed.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hatrack_discover::root::Root;
use hatrack_service::pages::Pages;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use crate::clock::{Clock, since_boot};
use crate::enroll::Enrolled;
use crate::lease::Renewal;
use crate::metrics::{Metrics, Values};
use crate::observe::{Activity, Observation};
use crate::own::Own;
use crate::publish::Publication;
use crate::standing::Standing;
use crate::state::Kept;
use crate::wear::Wearing;

/// A look takes milliseconds. One that takes longer than this hangs in a driver.
const LOOK_HANGS: Duration = Duration::from_mins(1);

/// What the other tasks say.
pub struct View {
    /// The newest observation.
    pub observations: watch::Receiver<Option<Arc<Observation>>>,
    /// What the observer is doing.
    pub activity: watch::Receiver<Activity>,
    /// The object.
    pub own: Own,
    /// What became of the newest observation.
    pub publications: watch::Receiver<Publication>,
    /// What is known of the Lease.
    pub renewals: watch::Receiver<Renewal>,
    /// What is worn.
    pub wearing: watch::Receiver<Wearing>,
    /// How long a Lease lasts.
    pub lease_duration: Duration,
    /// Whether the newest state is on disk.
    pub kept: watch::Receiver<Kept>,
    /// What is known of this machine's identity.
    pub enrolled: watch::Receiver<Enrolled>,
    /// The time.
    pub clock: Arc<Clock>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The tree that is discovered.
    pub root: PathBuf,
}

impl View {
    /// Whether this machine may speak for its object.
    pub fn standing(&self) -> Standing {
        let observation = self.observations.borrow().clone();
        let ours = observation.as_ref().and_then(|observation| observation.inventory().hardware_id.as_deref());
        Standing::of(&self.own.get(), ours)
    }

    fn lease_age(&self) -> Option<Duration> {
        self.renewals.borrow().accepted.map(|accepted| since_boot().saturating_sub(accepted.sent))
    }

    fn values(&self) -> Values {
        let observation = self.observations.borrow().clone();
        let devices = observation.as_ref().map(|observation| observation.inventory().devices.as_slice());
        Values {
            devices: devices.unwrap_or_default().iter().map(|device| (device.class, device.health.state)).collect(),
            hats: self.wearing.borrow().worn.iter().flatten().map(|hat| hat.state).collect(),
            registered: matches!(&*self.publications.borrow(), Publication::Shown),
            lease_age: self.lease_age().map_or(f64::NAN, |age| age.as_secs_f64()),
            clock_skew: self.clock.skew().map_or(f64::NAN, |skew| skew.as_secs_f64()),
            certificate_expires: self.enrolled.borrow().expires.map_or(f64::NAN, |at| at.as_duration().as_secs_f64()),
            state_kept: self.kept.borrow().failure.is_none(),
        }
    }
}

impl Pages for View {
    /// The gauges of the machine are read from files, which can take a while.
    async fn metrics(&self) -> Result<String, std::fmt::Error> {
        let (metrics, root) = (Arc::clone(&self.metrics), Root::at(&self.root));
        if let Err(error) = spawn_blocking(move || metrics.host.measure(&root)).await {
            tracing::error!(%error, "the machine's gauges were not measured");
        }
        self.metrics.text(&self.values())
    }

    fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if let Some(why) = &self.enrolled.borrow().trouble {
            doubts.push(format!("not enrolled, or not renewed: {why}"));
        }
        match &*self.publications.borrow() {
            Publication::Shown => {}
            Publication::Waiting(why) | Publication::Failed(why) => doubts.push(format!("not registered: {why}")),
        }
        let renewal = self.renewals.borrow().clone();
        if self.lease_age().is_none_or(|age| age >= self.lease_duration) {
            let why = renewal.failure.unwrap_or_else(|| self.standing().to_string());
            doubts.push(format!("the Lease is not renewed: {why}"));
        }
        if let Some(since) = self.activity.borrow().looking_since
            && since.elapsed() > LOOK_HANGS
        {
            doubts.push(format!("looking at this machine has not ended for {:?}", since.elapsed()));
        }
        doubts
    }
}
