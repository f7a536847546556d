//! The state machine of a binding: which transitions there are, what each is recorded as, and what the status becomes.
//!
//! A transition is first a [`HatSwap`](hatrack_api::HatSwap) and then a status. The record carries the whole outcome, so
//! that finishing somebody else's record and finishing one's own is the same code ([`complete`]): a crash in between, a
//! second operator or a lost status is rolled forward from the records.
//!
//! `docs/transitions.md` is written from [`table`].

use std::fmt::Write as _;

use hatrack_api::HatSwapSpec;
use hatrack_api::hat_binding::{HatBindingStatus, Phase, condition};
use hatrack_api::hat_swap::{Outcome, SwapEvent};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Why a binding makes a transition. The name is the `reason` of the record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cause {
    /// Enough distinct others have co-signed.
    Quorum,
    /// No others have, but this is the one binding that HatPolicy's `bootstrap` excepts.
    Bootstrap,
    /// Every throttle let the request pass.
    Admitted,
    /// As admitted, in the place of a wearer whose term had ended.
    Succeeded,
    /// As admitted, after the node or a device was lost.
    Moved,
    /// The warmup is over.
    WarmedUp,
    /// The term ended and nobody waits: it starts again.
    Renewed,
    /// A supervisor's verdict.
    Probation,
    /// A supervisor's verdict.
    Restored,
    /// A supervisor's verdict.
    Revoked,
    /// `expiresAt` has passed.
    TermEnded,
    /// The hat has had a quorum, and this binding was the exception that ends with it.
    BootstrapEnded,
    /// The binding was deleted after it had been worn.
    Released,
    /// The binding was deleted before it was ever worn.
    Withdrawn,
    /// The node was silent for its grace and was fenced.
    NodeLost,
    /// A device was gone or unusable for longer than a replug takes.
    DeviceLost,
    /// The hat was deleted: what it allows is not known any more.
    HatGone,
}

impl Cause {
    /// Every cause, in the order of the table.
    pub const ALL: [Self; 17] = [
        Self::Quorum,
        Self::Bootstrap,
        Self::Admitted,
        Self::Succeeded,
        Self::Moved,
        Self::WarmedUp,
        Self::Renewed,
        Self::Probation,
        Self::Restored,
        Self::Revoked,
        Self::TermEnded,
        Self::BootstrapEnded,
        Self::Released,
        Self::Withdrawn,
        Self::NodeLost,
        Self::DeviceLost,
        Self::HatGone,
    ];

    /// The `reason` of the record.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Quorum => "Quorum",
            Self::Bootstrap => "Bootstrap",
            Self::Admitted => "Admitted",
            Self::Succeeded => "Succeeded",
            Self::Moved => "Moved",
            Self::WarmedUp => "WarmedUp",
            Self::Renewed => "Renewed",
            Self::Probation => "Probation",
            Self::Restored => "Restored",
            Self::Revoked => "Revoked",
            Self::TermEnded => "TermEnded",
            Self::BootstrapEnded => "BootstrapEnded",
            Self::Released => "Released",
            Self::Withdrawn => "Withdrawn",
            Self::NodeLost => "NodeLost",
            Self::DeviceLost => "DeviceLost",
            Self::HatGone => "HatGone",
        }
    }

    /// The cause with this name.
    pub fn named(reason: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == reason)
    }

    /// Whether a SwapOff for this cause starts no cooldown and counts in no reputation: the wearer did not take the hat
    /// off, or never had it on.
    pub const fn is_no_fault_of_the_wearer(self) -> bool {
        matches!(self, Self::NodeLost | Self::DeviceLost | Self::HatGone | Self::Withdrawn)
    }

    /// Whether a hat that goes on for this cause is a new one of its wearer's day.
    pub const fn is_a_new_hat(self) -> bool {
        matches!(self, Self::Admitted | Self::Succeeded)
    }
}

/// What a cause makes of a phase: the next phase and the event that is recorded, or `None` if there is no such transition.
/// `warm` says whether the warmup is over (or there is none).
#[allow(
    clippy::match_same_arms,
    clippy::unnested_or_patterns,
    reason = "one line per kind of transition, as in the table"
)]
pub const fn next(phase: Phase, cause: Cause, warm: bool) -> Option<(Phase, SwapEvent)> {
    let on = if warm { (Phase::Active, SwapEvent::SwapOn) } else { (Phase::Warmup, SwapEvent::WarmupBegin) };
    match (phase, cause) {
        (Phase::Revoked | Phase::Expired | Phase::Released, _) => None,

        (phase, Cause::Quorum) => Some((phase, SwapEvent::QuorumGrant)),
        (Phase::Pending, Cause::Bootstrap) => Some((Phase::Pending, SwapEvent::QuorumGrant)),
        (Phase::Pending, Cause::Admitted | Cause::Succeeded | Cause::Moved) => Some(on),
        (Phase::Warmup, Cause::WarmedUp) if warm => Some((Phase::Active, SwapEvent::WarmupEnd)),
        (Phase::Active, Cause::Renewed) => Some((Phase::Active, SwapEvent::SwapOn)),
        (Phase::Warmup | Phase::Active, Cause::Probation) => Some((Phase::Probation, SwapEvent::Probation)),
        (Phase::Probation, Cause::Restored) => Some(on),

        (_, Cause::Revoked) => Some((Phase::Revoked, SwapEvent::SwapOff)),
        (_, Cause::TermEnded) => Some((Phase::Expired, SwapEvent::SwapOff)),
        (_, Cause::Released) => Some((Phase::Released, SwapEvent::SwapOff)),
        (Phase::Pending, Cause::Withdrawn) => Some((Phase::Released, SwapEvent::SwapOff)),
        (Phase::Warmup | Phase::Active | Phase::Probation, Cause::BootstrapEnded) => {
            Some((Phase::Expired, SwapEvent::SwapOff))
        }
        (Phase::Warmup | Phase::Active | Phase::Probation, Cause::NodeLost | Cause::DeviceLost | Cause::HatGone) => {
            Some((Phase::Pending, SwapEvent::SwapOff))
        }

        (Phase::Pending, Cause::WarmedUp | Cause::Renewed | Cause::Probation | Cause::Restored)
        | (Phase::Pending, Cause::BootstrapEnded | Cause::NodeLost | Cause::DeviceLost | Cause::HatGone)
        | (Phase::Warmup | Phase::Active | Phase::Probation, Cause::Bootstrap | Cause::Withdrawn)
        | (Phase::Warmup | Phase::Active | Phase::Probation, Cause::Admitted | Cause::Succeeded | Cause::Moved)
        | (Phase::Warmup, Cause::WarmedUp | Cause::Renewed | Cause::Restored)
        | (Phase::Active, Cause::WarmedUp | Cause::Restored)
        | (Phase::Probation, Cause::WarmedUp | Cause::Renewed | Cause::Probation) => None,
    }
}

/// The status after a recorded transition of this number, whoever recorded it. The outcome is whole and taken from the record as it is, so that
/// those before it are not needed; the status of before keeps the grant of a quorum alone. Other conditions and effective authority follow from
/// what is true now and are written by the decision.
pub fn complete(status: HatBindingStatus, number: i64, record: &HatSwapSpec) -> HatBindingStatus {
    let outcome = record.outcome.clone().unwrap_or_default();
    let mut next = HatBindingStatus {
        phase: outcome.phase,
        transitions: number,
        node_name: outcome.node_name,
        devices: outcome.devices,
        bound_at: outcome.bound_at,
        warmup_ends_at: outcome.warmup_ends_at,
        expires_at: outcome.expires_at,
        ended_at: outcome.ended_at,
        sticky_attribution_ends_at: outcome.sticky_attribution_ends_at,
        effective_authority: status.effective_authority,
        conditions: status.conditions,
    };
    if record.event == SwapEvent::QuorumGrant {
        let reason = record.reason.clone().unwrap_or_else(|| Cause::Quorum.as_str().to_owned());
        let message = record.message.clone().unwrap_or_default();
        set_condition(&mut next.conditions, condition::QUORUM_MET, true, &reason, message, record.occurred_at.clone());
    }
    next
}

/// The part of a status that a record carries.
pub(crate) fn outcome_of(status: &HatBindingStatus) -> Outcome {
    Outcome {
        phase: status.phase,
        node_name: status.node_name.clone(),
        devices: status.devices.clone(),
        bound_at: status.bound_at.clone(),
        warmup_ends_at: status.warmup_ends_at.clone(),
        expires_at: status.expires_at.clone(),
        ended_at: status.ended_at.clone(),
        sticky_attribution_ends_at: status.sticky_attribution_ends_at.clone(),
    }
}

/// Sets a condition; the time of its last transition changes with its status alone.
pub(crate) fn set_condition(
    conditions: &mut Vec<Condition>,
    type_: &str,
    truth: bool,
    reason: &str,
    message: String,
    now: k8s_openapi::apimachinery::pkg::apis::meta::v1::Time,
) {
    let status = if truth { "True" } else { "False" };
    let condition = Condition {
        type_: type_.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message,
        last_transition_time: now,
        observed_generation: None,
    };
    match conditions.iter_mut().find(|present| present.type_ == type_) {
        Some(present) if present.status == status => {
            let since = present.last_transition_time.clone();
            *present = Condition { last_transition_time: since, ..condition };
        }
        Some(present) => *present = condition,
        None => conditions.push(condition),
    }
}

/// Whether a condition says this already: to set it would change nothing.
pub(crate) fn says(conditions: &[Condition], type_: &str, truth: bool, reason: &str, message: &str) -> bool {
    condition_of(conditions, type_).is_some_and(|present| {
        let is_true = present.status == "True";
        (is_true || present.status == "False")
            && (is_true, &*present.reason, &*present.message) == (truth, reason, message)
            && present.observed_generation.is_none()
    })
}

/// A condition by its type.
pub(crate) fn condition_of<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether a condition is there and True.
pub(crate) fn is_true(conditions: &[Condition], type_: &str) -> bool {
    condition_of(conditions, type_).is_some_and(|condition| condition.status == "True")
}

/// Every transition that [`next`] knows, as a Markdown table.
pub fn table() -> String {
    let mut rows = String::from("| from | reason | warmup over | to | event |\n|---|---|---|---|---|\n");
    for cause in Cause::ALL {
        for phase in Phase::ALL {
            let (cold, warm) = (next(phase, cause, false), next(phase, cause, true));
            for (to, over) in [(cold, "no"), (warm, "yes")] {
                let over = if cold == warm { "either" } else { over };
                let Some((to, event)) = to else { continue };
                let row = format!("| {phase} | {} | {over} | {to} | {event} |", cause.as_str());
                if !rows.contains(&row) {
                    let _ = writeln!(rows, "{row}");
                }
            }
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_stays_ended_and_everything_else_can_end() {
        for phase in Phase::ALL {
            for cause in Cause::ALL {
                for warm in [false, true] {
                    if phase.is_ended() {
                        assert_eq!(next(phase, cause, warm), None);
                    }
                }
            }
            for end in [Cause::Released, Cause::Revoked, Cause::TermEnded] {
                assert_eq!(next(phase, end, true).is_some(), !phase.is_ended(), "{phase} {end:?}");
            }
        }
    }

    #[test]
    fn every_cause_has_a_transition_and_a_name_of_its_own() {
        for cause in Cause::ALL {
            assert!(Phase::ALL.into_iter().any(|phase| next(phase, cause, true).is_some()), "{cause:?}");
            assert_eq!(Cause::named(cause.as_str()), Some(cause));
        }
        assert_eq!(Cause::named("Forged"), None);
    }

    #[test]
    fn full_authority_comes_only_after_the_warmup() {
        for phase in [Phase::Pending, Phase::Warmup, Phase::Probation] {
            for cause in Cause::ALL {
                let to = next(phase, cause, false).map(|(to, _)| to);
                assert_ne!(to, Some(Phase::Active), "{phase} {cause:?}");
            }
        }
    }

    #[test]
    fn an_event_says_which_way_the_hat_went() {
        for phase in Phase::ALL {
            for cause in Cause::ALL {
                for warm in [false, true] {
                    let Some((to, event)) = next(phase, cause, warm) else { continue };
                    match event {
                        SwapEvent::SwapOff => assert!(!to.is_worn(), "{phase} {cause:?}"),
                        SwapEvent::SwapOn | SwapEvent::WarmupEnd => assert_eq!(to, Phase::Active),
                        SwapEvent::WarmupBegin => assert_eq!(to, Phase::Warmup),
                        SwapEvent::Probation => assert_eq!(to, Phase::Probation),
                        SwapEvent::QuorumGrant => assert_eq!(to, phase),
                        SwapEvent::Throttled => panic!("a throttle is no transition"),
                    }
                }
            }
        }
    }

    #[test]
    fn the_documented_table_is_this_one() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/transitions.md");
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(&table()), "docs/transitions.md has to contain this table:\n{}", table());
    }
}
