//! What the agent counts. Counters grow where things happen; gauges are set when somebody asks.

mod host;

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use hatrack_api::cluster_node::{DeviceClass, HealthState, WornState};
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use self::host::Host;
use crate::client::outcome::Failure;

type Seconds = Gauge<f64, AtomicU64>;

/// Requests to the API server by what came of them.
#[derive(Debug, Clone, Default)]
pub struct Requests(Family<RequestLabels, Counter>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    outcome: &'static str,
}

impl Requests {
    /// A request has ended.
    pub fn count(&self, verb: &'static str, failure: Option<&Failure>) {
        let outcome = failure.map_or("ok", Failure::label);
        self.0.get_or_create(&RequestLabels { verb, outcome }).inc();
    }
}

/// Looks at the machine.
#[derive(Debug, Clone, Default)]
pub struct Looks {
    count: Family<CauseLabel, Counter>,
    length: Seconds,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

impl Looks {
    /// A look that was asked for by `cause` has ended, and its result is known everywhere in the agent.
    pub fn ended(&self, cause: &'static str, length: Duration) {
        self.count.get_or_create(&CauseLabel { cause }).inc();
        self.length.set(length.as_secs_f64());
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeviceLabels {
    class: &'static str,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct HatLabel {
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct BuildLabel {
    version: &'static str,
}

/// Everything under `/metrics`.
#[derive(Debug, Default)]
pub struct Metrics {
    registry: Registry,
    /// Requests to the API server.
    pub requests: Requests,
    /// Looks at the machine.
    pub looks: Looks,
    /// The machine itself.
    pub host: Host,
    devices: Family<DeviceLabels, Gauge>,
    hats: Family<HatLabel, Gauge>,
    registered: Gauge,
    lease_age: Seconds,
    clock_skew: Seconds,
    certificate_expires: Seconds,
    state_kept: Gauge,
}

/// The values of the gauges at the moment of a scrape.
#[derive(Debug, Default)]
pub struct Values {
    /// Devices by class and state.
    pub devices: Vec<(DeviceClass, HealthState)>,
    /// Hats by what was done with them.
    pub hats: Vec<WornState>,
    /// Whether the object shows the newest observation.
    pub registered: bool,
    /// Time since the last accepted renewal of the Lease was sent, in seconds; NaN before the first.
    pub lease_age: f64,
    /// How far the wall clock is ahead of the API server's, in seconds; NaN before the first answer.
    pub clock_skew: f64,
    /// When this machine's certificate ends, in seconds since 1970; NaN without one of its own.
    pub certificate_expires: f64,
    /// Whether the newest state is on disk.
    pub state_kept: bool,
}

impl Metrics {
    /// Everything at zero.
    pub fn new() -> Self {
        let mut metrics = Self::default();
        let mut registry = Registry::with_prefix("hatrack_agent");
        registry.register(
            "api_requests",
            "Requests to the API server by what came of them",
            metrics.requests.0.clone(),
        );
        registry.register("looks", "Looks at the machine by what asked for them", metrics.looks.count.clone());
        let length = metrics.looks.length.clone();
        registry.register_with_unit("look", "How long the last look took", Unit::Seconds, length);
        registry.register("devices", "Devices by class and state", metrics.devices.clone());
        registry.register("hats", "Hats by what was done with them", metrics.hats.clone());
        registry.register(
            "registered",
            "Whether the ClusterNode shows the newest state of this machine",
            metrics.registered.clone(),
        );
        let age = metrics.lease_age.clone();
        registry.register_with_unit(
            "lease_age",
            "Time since the last accepted renewal of the Lease",
            Unit::Seconds,
            age,
        );
        let skew = metrics.clock_skew.clone();
        let help = "How far the wall clock is ahead of the API server's";
        registry.register_with_unit("clock_skew", help, Unit::Seconds, skew);
        let expires = metrics.certificate_expires.clone();
        let help = "When this machine's certificate ends, since 1970; NaN without one of its own";
        registry.register_with_unit("certificate_expiry_timestamp", help, Unit::Seconds, expires);
        registry.register("state_kept", "Whether the newest state is on disk", metrics.state_kept.clone());
        let build = Family::<BuildLabel, Gauge>::default();
        build.get_or_create(&BuildLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "The version of the agent", build);
        metrics.host.register(&mut registry);
        metrics.registry = registry;
        metrics
    }

    /// The text that Prometheus reads (OpenMetrics 1.0).
    pub fn text(&self, values: &Values) -> Result<String, std::fmt::Error> {
        self.devices.clear();
        for (class, state) in &values.devices {
            let labels = DeviceLabels { class: class.as_str(), state: state.as_str() };
            self.devices.get_or_create(&labels).inc();
        }
        self.hats.clear();
        for state in &values.hats {
            self.hats.get_or_create(&HatLabel { state: state.as_str() }).inc();
        }
        self.registered.set(i64::from(values.registered));
        self.lease_age.set(values.lease_age);
        self.clock_skew.set(values.clock_skew);
        self.certificate_expires.set(values.certificate_expires);
        self.state_kept.set(i64::from(values.state_kept));
        let mut text = String::new();
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_has_what_was_counted() {
        let metrics = Metrics::new();
        metrics.requests.count("get", None);
        metrics.requests.count("get", Some(&Failure::NotServed));
        metrics.looks.ended("start", Duration::from_millis(5));
        let two = vec![(DeviceClass::Phone, HealthState::Ready), (DeviceClass::Phone, HealthState::Ready)];
        metrics.text(&Values { devices: two, ..Values::default() }).unwrap();
        let one = vec![(DeviceClass::Gpu, HealthState::Unusable)];
        let text = metrics.text(&Values { devices: one, lease_age: 1.5, ..Values::default() }).unwrap();
        for line in [
            "hatrack_agent_api_requests_total{verb=\"get\",outcome=\"ok\"} 1",
            "hatrack_agent_api_requests_total{verb=\"get\",outcome=\"not_served\"} 1",
            "hatrack_agent_looks_total{cause=\"start\"} 1",
            "hatrack_agent_devices{class=\"gpu\",state=\"Unusable\"} 1",
            "hatrack_agent_lease_age_seconds 1.5",
            "hatrack_agent_registered 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}` in:\n{text}");
        }
        assert!(!text.contains("class=\"phone\""), "a device that is gone is not counted");
    }
}
