//! What a decision asks for.

use std::sync::Arc;

use hatrack_api::cluster_node::HatAssignment;
use hatrack_api::hat::HatStatus;
use hatrack_api::hat_binding::HatBindingStatus;
use hatrack_api::hat_policy::HatPolicyStatus;
use hatrack_api::{HAT_LABEL, HatSwap, HatSwapSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::authority::{Grant, Scope};
use crate::moment::Moment;
use crate::world::Outlook;

/// UID of a HatBinding.
pub type Uid = String;

/// What is to be done now, in this order, and when to ask again if nothing changes until then.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    /// To be done one after the other. If one fails, the rest is dropped, the world is observed and `decide` asked again.
    pub actions: Vec<Action>,
    /// When something becomes due by time alone. After a step of the wall clock, ask at once.
    pub wake_at: Option<Moment>,
    /// How many questions were answered, each about one object: what was looked at.
    pub questions: usize,
    /// What the decision learnt, for [`World::conclude`](crate::World::conclude) when all actions are done. One on which nothing else depends may
    /// be left out; [`World::leave_open`](crate::World::leave_open) keeps it.
    pub outlook: Outlook,
}

/// One write. Each is harmless when done twice.
#[derive(Clone, Debug, PartialEq)]
pub enum Action {
    /// Add the finalizer [`hatrack_api::hat_binding::FINALIZER`], so that no end goes unrecorded.
    Finalize {
        /// UID of the binding.
        binding: Uid,
    },
    /// Create a record. "Already exists" means that somebody committed this transition before: observe that record, drop
    /// the rest and decide again; the decision then finishes it as it is.
    Record(Arc<HatSwap>),
    /// Write the status of a binding, under the resourceVersion that was observed (or that the last write of this plan returned).
    SetStatus {
        /// UID of the binding.
        binding: Uid,
        /// The whole status.
        status: Box<HatBindingStatus>,
    },
    /// Remove the finalizer: the end is recorded and authority is taken back.
    Unfinalize {
        /// UID of the binding.
        binding: Uid,
    },
    /// Delete a binding that ended `ttlSecondsAfterEnd` ago.
    Delete {
        /// UID of the binding.
        binding: Uid,
    },
    /// Set `leaseTransitions` of a silent node's Lease. The node stops every hat before it renews again.
    Fence {
        /// Name of the node.
        node: String,
        /// The new number.
        transitions: i32,
    },
    /// Write `status.hats` of a ClusterNode.
    Assign {
        /// Name of the node.
        node: String,
        /// The whole list.
        hats: Arc<[HatAssignment]>,
    },
    /// Give a wearer's service account its authority.
    Grant(Box<Grant>),
    /// Take it back.
    Withdraw {
        /// UID of the binding.
        binding: Uid,
        /// Which of its grants.
        scope: Scope,
    },
    /// Write the status of a hat.
    SetHatStatus {
        /// Name of the hat.
        hat: String,
        /// The whole status.
        status: Box<HatStatus>,
    },
    /// Write the status of the policy.
    SetPolicyStatus {
        /// The whole status.
        status: Box<HatPolicyStatus>,
    },
    /// Delete a record that is older than `swapRetentionDays` and that no rule needs.
    Collect {
        /// Name of the record.
        swap: String,
    },
}

/// The record of a binding's `number`th transition: a function of stored state alone, without event and time, so that two
/// operators that decide differently collide instead of both recording.
pub fn record_name(binding: &str, number: i64) -> String {
    format!("{binding}-{number}")
}

/// The binding and the number in the name of a record of a transition.
pub(crate) fn numbered(name: &str) -> Option<(&str, i64)> {
    let (binding, number) = name.rsplit_once('-')?;
    let is_as_written = number.bytes().all(|digit| digit.is_ascii_digit()) && !number.starts_with('0');
    Some((binding, number.parse().ok().filter(|_| is_as_written)?))
}

/// The record that a throttle holds a binding which has made so many transitions.
pub fn throttled_name(binding: &str, transitions: i64, throttle: &str) -> String {
    format!("{binding}-{transitions}-throttled-{}", throttle.to_ascii_lowercase())
}

/// A record as an object, with the labels that `kubectl get -l` and retention use.
pub(crate) fn record(name: String, spec: HatSwapSpec) -> HatSwap {
    let mut swap = HatSwap::new(&name, spec);
    swap.metadata = ObjectMeta {
        name: Some(name),
        namespace: Some(hatrack_api::SYSTEM_NAMESPACE.to_owned()),
        labels: Some([(HAT_LABEL.to_owned(), swap.spec.hat.clone())].into()),
        ..ObjectMeta::default()
    };
    swap
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_transition_has_its_number_and_that_of_a_hold_has_none() {
        assert_eq!(numbered(&record_name("4c4c-0042", 17)), Some(("4c4c-0042", 17)));
        for other in [
            &throttled_name("uid", 3, "quorum"),
            "uid-0",
            "uid-07",
            "uid-+7",
            "uid-",
            "uid",
            "uid-99999999999999999999",
        ] {
            assert_eq!(numbered(other), None, "{other}");
        }
    }
}
