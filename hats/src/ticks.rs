//! Ticks: what is announced of a record, and where.

use hatrack_api::hat_policy::{TickEmit, throttle as default};
use hatrack_api::hat_swap::{SwapEvent, SwapWearer};
use hatrack_api::{HatPolicySpec, HatSwap};
use serde::Serialize;

/// The message of a log line.
pub const LOG_MESSAGE: &str = "hat.tick";

/// One record as it is announced: the fields of a `hat.tick` line, of a NATS payload and of an Event's text.
#[derive(Serialize, Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// The hat.
    pub hat: String,
    /// Who it happened to.
    pub wearer: SwapWearer,
    /// What happened.
    pub event: SwapEvent,
    /// Why, as one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The throttle that holds, on `Throttled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throttle: Option<String>,
    /// When, as RFC 3339.
    #[serde(rename = "occurredAt")]
    pub occurred_at: String,
    /// Namespace and name of the binding.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub binding: Option<String>,
}

impl Tick {
    /// The tick of a record.
    pub fn of(swap: &HatSwap) -> Self {
        let record = &swap.spec;
        Self {
            hat: record.hat.clone(),
            wearer: record.wearer.clone(),
            event: record.event,
            reason: record.reason.clone(),
            throttle: record.throttle_name.clone(),
            occurred_at: record.occurred_at.0.to_string(),
            binding: record.binding_ref.as_ref().map(|binding| format!("{}/{}", binding.namespace, binding.name)),
        }
    }

    /// Whether the Event is a Warning.
    pub const fn is_warning(&self) -> bool {
        matches!(self.event, SwapEvent::Throttled | SwapEvent::Probation)
    }
}

/// Where ticks go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Targets {
    /// The subject on NATS, if the operator has a server.
    pub nats_subject: String,
    /// Whether each is a line of the log.
    pub log: bool,
    /// Whether each is an Event on its binding.
    pub events: bool,
}

/// Where a policy wants ticks.
pub fn targets(policy: Option<&HatPolicySpec>) -> Targets {
    let none = TickEmit::default();
    let emit = policy.and_then(|policy| policy.tick_emit.as_ref()).unwrap_or(&none);
    Targets {
        nats_subject: emit.nats_subject.clone().unwrap_or_else(|| default::NATS_SUBJECT.to_owned()),
        log: emit.enable_loki_structured_logs.unwrap_or(true),
        events: emit.enable_events.unwrap_or(true),
    }
}

/// The id of a message: the record's name, by which NATS knows a second copy.
pub fn message_id(swap: &HatSwap) -> &str {
    swap.metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use hatrack_api::hat_swap::HatSwapSpec;

    use super::*;

    #[test]
    fn a_tick_has_the_fields_of_the_contract_and_no_others() {
        let spec: HatSwapSpec = serde_json::from_value(serde_json::json!({
            "hat": "executor", "wearer": {"spiffeID": "spiffe://cluster.local/ns/a/sa/b"}, "event": "Throttled",
            "occurredAt": "2026-01-01T00:00:00Z", "reason": "Cooldown", "throttleName": "cooldown",
            "bindingRef": {"name": "mine", "namespace": "a", "uid": "u"}
        }))
        .unwrap();
        let swap = HatSwap::new("u-0-throttled-cooldown", spec);
        let tick = Tick::of(&swap);
        assert!(tick.is_warning());
        assert_eq!(message_id(&swap), "u-0-throttled-cooldown");
        assert_eq!(
            serde_json::to_value(tick).unwrap(),
            serde_json::json!({
                "hat": "executor", "wearer": {"spiffeID": "spiffe://cluster.local/ns/a/sa/b"}, "event": "Throttled",
                "occurredAt": "2026-01-01T00:00:00Z", "reason": "Cooldown", "throttle": "cooldown", "binding": "a/mine"
            })
        );
    }

    #[test]
    fn the_policy_says_where_ticks_go() {
        let everywhere = Targets { nats_subject: "zeta.society.hats.ticks".to_owned(), log: true, events: true };
        assert_eq!(targets(None), everywhere);
        assert_eq!(targets(Some(&HatPolicySpec::default())), everywhere);
        let quiet = TickEmit {
            nats_subject: Some("a.b".to_owned()),
            enable_loki_structured_logs: Some(false),
            enable_events: Some(false),
        };
        let policy = HatPolicySpec { tick_emit: Some(quiet), ..HatPolicySpec::default() };
        assert_eq!(targets(Some(&policy)), Targets { nats_subject: "a.b".to_owned(), log: false, events: false });
    }
}
