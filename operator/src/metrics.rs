//! What the operator counts. Counters grow where things happen; gauges are set when somebody asks.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

use crate::failure::Kind;

/// Requests to the API server by what came of them.
#[derive(Debug, Clone, Default)]
pub struct Requests(Family<RequestLabels, Counter>);

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    verb: &'static str,
    outcome: &'static str,
}

impl Requests {
    /// A request was answered, or will not be.
    pub fn count(&self, verb: &'static str, refusal: Option<Kind>) {
        self.0.get_or_create(&RequestLabels { verb, outcome: refusal.map_or("ok", Kind::as_str) }).inc();
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    action: &'static str,
    outcome: &'static str,
}

/// Decisions and what they led to.
#[derive(Debug, Clone)]
pub struct Decisions {
    length: Histogram,
    questions: Counter,
    actions: Family<ActionLabels, Counter>,
}

impl Default for Decisions {
    fn default() -> Self {
        // From 0.1 ms to 3 s.
        let length = Histogram::new(exponential_buckets(0.0001, 2.0, 15));
        Self { length, questions: Counter::default(), actions: Family::default() }
    }
}

impl Decisions {
    /// A decision took this long, for so many questions.
    pub fn decided(&self, length: Duration, questions: usize) {
        self.length.observe(length.as_secs_f64());
        self.questions.inc_by(u64::try_from(questions).unwrap_or(u64::MAX));
    }

    /// An action was carried out, or not.
    pub fn acted(&self, action: &'static str, outcome: &'static str) {
        self.actions.get_or_create(&ActionLabels { action, outcome }).inc();
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct AnnouncementLabels {
    way: &'static str,
    outcome: &'static str,
}

/// Announcements of records by what came of them.
#[derive(Debug, Clone, Default)]
pub struct Announcements(Family<AnnouncementLabels, Counter>);

impl Announcements {
    /// A record was announced in one way, or not.
    pub fn count(&self, way: &'static str, outcome: &'static str) {
        self.0.get_or_create(&AnnouncementLabels { way, outcome }).inc();
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EnrollmentLabels {
    verdict: &'static str,
    reason: &'static str,
}

/// Requests for certificates by what became of them.
#[derive(Debug, Clone, Default)]
pub struct Enrollments(Family<EnrollmentLabels, Counter>);

impl Enrollments {
    /// A request was approved or denied, or began to wait, for this reason.
    pub fn count(&self, verdict: &'static str, reason: &'static str) {
        self.0.get_or_create(&EnrollmentLabels { verdict, reason }).inc();
    }
}

/// Machines whose access was taken away because they are revoked.
#[derive(Debug, Clone, Default)]
pub struct Revocations(Counter);

impl Revocations {
    /// One was.
    pub fn count(&self) {
        self.0.inc();
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReadyLabel {
    ready: &'static str,
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
    /// Decisions.
    pub decisions: Decisions,
    /// Announcements of records.
    pub announcements: Announcements,
    /// Requests for certificates.
    pub enrollments: Enrollments,
    /// Access that was taken away.
    pub revocations: Revocations,
    bindings: Family<PhaseLabel, Gauge>,
    held: Family<ReasonLabel, Gauge>,
    queue_age: Gauge<f64, AtomicU64>,
    nodes: Family<ReadyLabel, Gauge>,
    grants: Gauge,
    leads: Gauge,
    fence_holds: Gauge,
}

/// The values of the gauges at the moment of a scrape.
#[derive(Debug, Default)]
pub struct Values {
    /// Bindings by phase.
    pub bindings: BTreeMap<&'static str, i64>,
    /// Held requests by reason.
    pub held: BTreeMap<String, i64>,
    /// Age of the oldest request that waits, in seconds.
    pub queue_age: f64,
    /// Nodes that are Ready, and those that are not.
    pub nodes: (i64, i64),
    /// Grants that exist.
    pub grants: i64,
    /// Whether this operator leads.
    pub leads: bool,
    /// Whether the operator's fence holds.
    pub fence_holds: bool,
}

impl Metrics {
    /// Everything at zero. `register` adds what other tasks count.
    pub fn new() -> Self {
        let mut metrics = Self::default();
        let mut registry = Registry::with_prefix("hatrack_operator");
        let requests = metrics.requests.0.clone();
        registry.register("api_requests", "Requests to the API server by what came of them", requests);
        let length = metrics.decisions.length.clone();
        registry.register_with_unit("decision", "How long decisions take", Unit::Seconds, length);
        let help = "Questions that decisions answered, each about one object: what they looked at";
        registry.register("questions", help, metrics.decisions.questions.clone());
        let help = "Actions by what came of them: done, withheld, overtaken, refused or failed";
        registry.register("actions", help, metrics.decisions.actions.clone());
        let help = "Announcements of records by what came of them: done, known, pointless or failed";
        registry.register("announcements", help, metrics.announcements.0.clone());
        let help = "Requests of machines for certificates by what became of them: approved, denied or held, and why";
        registry.register("enrollments", help, metrics.enrollments.0.clone());
        let help = "Machines whose access was taken away because they are revoked";
        registry.register("revocations", help, metrics.revocations.0.clone());
        registry.register("bindings", "HatBindings by phase", metrics.bindings.clone());
        registry.register("held", "Requests that are held by the rule that holds them", metrics.held.clone());
        let age = metrics.queue_age.clone();
        registry.register_with_unit("queue_age", "Age of the oldest request that waits", Unit::Seconds, age);
        registry.register("nodes", "ClusterNodes by whether they are Ready", metrics.nodes.clone());
        registry.register("grants", "Roles that are granted to wearers", metrics.grants.clone());
        registry.register("leads", "Whether this operator leads", metrics.leads.clone());
        let help = "Whether the operator's fence was seen to refuse what it has to";
        registry.register("fence_holds", help, metrics.fence_holds.clone());
        let build = Family::<BuildLabel, Gauge>::default();
        build.get_or_create(&BuildLabel { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "The version of the operator", build);
        metrics.registry = registry;
        metrics
    }

    /// The text that Prometheus reads (OpenMetrics 1.0).
    pub fn text(&self, values: &Values) -> Result<String, std::fmt::Error> {
        self.bindings.clear();
        for (phase, count) in &values.bindings {
            self.bindings.get_or_create(&PhaseLabel { phase }).set(*count);
        }
        self.held.clear();
        for (reason, count) in &values.held {
            self.held.get_or_create(&ReasonLabel { reason: reason.clone() }).set(*count);
        }
        self.queue_age.set(values.queue_age);
        self.nodes.get_or_create(&ReadyLabel { ready: "true" }).set(values.nodes.0);
        self.nodes.get_or_create(&ReadyLabel { ready: "false" }).set(values.nodes.1);
        self.grants.set(values.grants);
        self.leads.set(i64::from(values.leads));
        self.fence_holds.set(i64::from(values.fence_holds));
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
        metrics.requests.count("patch", None);
        metrics.requests.count("patch", Some(Kind::Outdated));
        metrics.decisions.decided(Duration::from_millis(5), 7);
        metrics.decisions.acted("record", "done");
        metrics.enrollments.count("denied", "Revoked");
        let held = |reason: &str| [(reason.to_owned(), 2)].into();
        metrics.text(&Values { held: held("Cooldown"), ..Values::default() }).unwrap();
        let values = Values { held: held("Quorum"), nodes: (3, 1), leads: true, queue_age: 1.5, ..Values::default() };
        let text = metrics.text(&values).unwrap();
        for line in [
            "hatrack_operator_api_requests_total{verb=\"patch\",outcome=\"ok\"} 1",
            "hatrack_operator_api_requests_total{verb=\"patch\",outcome=\"outdated\"} 1",
            "hatrack_operator_decision_seconds_count 1",
            "hatrack_operator_questions_total 7",
            "hatrack_operator_actions_total{action=\"record\",outcome=\"done\"} 1",
            "hatrack_operator_enrollments_total{verdict=\"denied\",reason=\"Revoked\"} 1",
            "hatrack_operator_revocations_total 0",
            "hatrack_operator_held{reason=\"Quorum\"} 2",
            "hatrack_operator_nodes{ready=\"true\"} 3",
            "hatrack_operator_nodes{ready=\"false\"} 1",
            "hatrack_operator_queue_age_seconds 1.5",
            "hatrack_operator_leads 1",
            "hatrack_operator_fence_holds 0",
        ] {
            assert!(text.lines().any(|found| found == line), "no `{line}` in:\n{text}");
        }
        assert!(!text.contains("Cooldown"), "what is held no more is not counted");
    }
}
