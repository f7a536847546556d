//! Whether a binding is to be worn now: a function of what is known and of the time.
//!
//! Without the API a hat ends at the earlier of the end of its term and the last accepted renewal of the Lease and its grace.
//! Both are counted on the boot-time clock, which nobody sets and which goes on through suspend.

use std::time::Duration;

use hatrack_api::cluster_node::HatAssignment;

use super::record::{End, Record, Renewed, Stage};

/// Everything that decides, beside the binding.
#[derive(Debug, Clone, Copy)]
pub struct Situation {
    /// Time since boot.
    pub now: Duration,
    /// The newest renewal by this agent or, after a restart, by the one before.
    pub renewed: Option<Renewed>,
    /// Whether this agent itself has renewed.
    pub is_confirmed: bool,
    /// The fence that the Lease has now, if it has not been passed yet.
    pub meets: Option<i32>,
    /// Periods.
    pub limits: Limits,
}

/// Periods that decide.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Grace of an assignment that has none of its own.
    pub grace: Duration,
    /// How long a renewal lasts: with a newer one, the operator is there to end a term.
    pub lease: Duration,
    /// How long the operator may take to end or to renew a term.
    pub slack: Duration,
    /// How long the operator may take to move hats after it has fenced the node.
    pub fence_wait: Duration,
}

/// What is to become of a binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is worn, and until this time since boot without news.
    Wear {
        /// When that has to be decided again.
        until: Duration,
    },
    /// It is to be worn, and not yet: why, and until when.
    Wait(&'static str, Option<Duration>),
    /// It ends.
    End(End),
}

/// What is to become of a binding. `assignment` is absent when the operator has taken it back; `ends` is when its term ends,
/// as time since boot.
pub fn verdict(
    assignment: Option<&HatAssignment>,
    ends: Option<Duration>,
    record: Option<&Record>,
    situation: &Situation,
) -> Verdict {
    let Situation { now, renewed, is_confirmed, meets, limits } = *situation;
    let Some(assignment) = assignment.filter(|assignment| assignment.is_worn()) else {
        return Verdict::End(End::Asked);
    };
    let live = record.filter(|record| record.stage != Stage::Ended);
    let number = meets.or(renewed.map(|renewed| renewed.transitions));
    if live.is_some_and(|record| number.is_some_and(|number| number != record.transitions)) {
        return Verdict::End(End::Fenced);
    }
    let Some(renewed) = renewed else {
        let waits = Verdict::Wait("waiting for the first renewal of the Lease", None);
        return if live.is_some() { Verdict::End(End::Silent) } else { waits };
    };
    let grace = assignment.grace_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let silent_at = renewed.sent + grace.map_or(limits.grace, Duration::from_secs);
    let is_heard = now < renewed.sent + limits.lease;
    let over_at = ends.map(|ends| if is_heard { ends + limits.slack } else { ends });
    if over_at.is_some_and(|over| over <= now) {
        return Verdict::End(End::Expired);
    }
    if silent_at <= now {
        return Verdict::End(End::Silent);
    }
    if live.is_none_or(|record| !record.ordered) {
        if !is_confirmed || meets.is_some_and(|number| number != renewed.transitions) {
            return Verdict::Wait("waiting for a renewal of the Lease", None);
        }
        if let Some(settled) = renewed.fenced_at.map(|fenced| fenced + limits.fence_wait)
            && now < settled
        {
            return Verdict::Wait(
                "waiting whether the operator moves the hat, as it had given this node up",
                Some(settled),
            );
        }
    }
    let unheard_at = ends.filter(|ends| *ends > now).unwrap_or(silent_at);
    Verdict::Wear { until: over_at.map_or(silent_at, |over| over.min(silent_at)).min(unheard_at) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits {
        grace: Duration::from_mins(5),
        lease: Duration::from_secs(40),
        slack: Duration::from_secs(5),
        fence_wait: Duration::from_mins(1),
    };

    fn at(now: u64, renewed: u64) -> Situation {
        let renewed = Renewed { sent: Duration::from_secs(renewed), transitions: 3, fenced_at: None };
        let now = Duration::from_secs(now);
        Situation { now, renewed: Some(renewed), is_confirmed: true, meets: None, limits: LIMITS }
    }

    fn assignment(phase: &str) -> HatAssignment {
        let assignment = serde_json::json!({"binding": "u", "name": "h", "wearer": "spiffe://a/b", "phase": phase});
        serde_json::from_value(assignment).unwrap()
    }

    fn record(stage: Stage) -> Record {
        let assignment = assignment("Active");
        Record {
            assignment,
            ends: None,
            transitions: 3,
            stage,
            end: None,
            ending_since: None,
            ordered: true,
            has_own_units: false,
            reported: None,
        }
    }

    fn judge(ends: Option<u64>, record: Option<&Record>, situation: &Situation) -> Verdict {
        verdict(Some(&assignment("Active")), ends.map(Duration::from_secs), record, situation)
    }

    #[test]
    fn a_phase_decides_first() {
        for phase in ["Warmup", "Active", "Probation"] {
            assert!(matches!(verdict(Some(&assignment(phase)), None, None, &at(100, 100)), Verdict::Wear { .. }));
        }
        for phase in ["Pending", "Expired", "Revoked", "Released", "active", ""] {
            let verdict = verdict(Some(&assignment(phase)), None, None, &at(100, 100));
            assert_eq!(verdict, Verdict::End(End::Asked), "{phase}");
        }
        assert_eq!(verdict(None, None, Some(&record(Stage::Worn)), &at(100, 100)), Verdict::End(End::Asked));
    }

    #[test]
    fn nothing_begins_before_a_renewal_and_what_runs_goes_on() {
        let unconfirmed = Situation { is_confirmed: false, ..at(100, 90) };
        assert!(matches!(judge(None, None, &unconfirmed), Verdict::Wait(..)));
        assert!(matches!(judge(None, Some(&record(Stage::Worn)), &unconfirmed), Verdict::Wear { .. }));
        let never = Situation { renewed: None, ..unconfirmed };
        assert!(matches!(judge(None, None, &never), Verdict::Wait(..)));
        assert_eq!(judge(None, Some(&record(Stage::Worn)), &never), Verdict::End(End::Silent));
    }

    #[test]
    fn a_hat_without_a_term_ends_when_the_node_is_not_heard() {
        let worn = record(Stage::Worn);
        let until = Duration::from_secs(400);
        assert_eq!(judge(None, Some(&worn), &at(399, 100)), Verdict::Wear { until });
        assert_eq!(judge(None, Some(&worn), &at(400, 100)), Verdict::End(End::Silent));
        let own = HatAssignment { grace_seconds: Some(10), ..assignment("Active") };
        assert_eq!(verdict(Some(&own), None, Some(&worn), &at(110, 100)), Verdict::End(End::Silent));
    }

    #[test]
    fn a_term_ends_at_once_without_the_api_and_after_a_slack_with_it() {
        let worn = record(Stage::Worn);
        assert_eq!(judge(Some(150), Some(&worn), &at(150, 100)), Verdict::End(End::Expired), "silent for 50 s");
        let heard = at(150, 145);
        assert!(matches!(judge(Some(150), Some(&worn), &heard), Verdict::Wear { .. }), "the operator ends it");
        assert_eq!(judge(Some(150), Some(&worn), &at(155, 150)), Verdict::End(End::Expired), "and has not");
        assert_eq!(judge(Some(150), Some(&worn), &at(149, 145)), Verdict::Wear { until: Duration::from_secs(150) });
    }

    #[test]
    fn another_number_of_the_fence_ends_a_hat_before_it_is_passed() {
        let worn = record(Stage::Worn);
        assert_eq!(judge(None, Some(&worn), &Situation { meets: Some(4), ..at(100, 99) }), Verdict::End(End::Fenced));
        assert!(matches!(judge(None, Some(&worn), &Situation { meets: Some(3), ..at(100, 99) }), Verdict::Wear { .. }));
    }

    #[test]
    fn behind_a_fence_a_hat_begins_anew_when_the_operator_leaves_it_here() {
        let ended = record(Stage::Ended);
        let mut fenced = at(100, 99);
        fenced.renewed =
            fenced.renewed.map(|r| Renewed { transitions: 4, fenced_at: Some(Duration::from_secs(90)), ..r });
        assert_eq!(
            judge(None, Some(&ended), &fenced),
            Verdict::Wait(
                "waiting whether the operator moves the hat, as it had given this node up",
                Some(Duration::from_secs(150))
            )
        );
        fenced.now = Duration::from_secs(150);
        assert!(matches!(judge(None, Some(&ended), &fenced), Verdict::Wear { .. }));
    }
}
