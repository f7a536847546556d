//! `HatSwap`: the immutable record of one transition, and the commit point of it.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hat_binding::{Phase, SPIFFE_ID_PATTERN};

/// One transition of one binding. Records live in [`crate::SYSTEM_NAMESPACE`] without an owner, so that a namespace that
/// goes neither waits for them nor takes them along.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "society.zeta.io",
    version = "v1alpha1",
    kind = "HatSwap",
    plural = "hatswaps",
    namespaced,
    shortname = "hs",
    category = "society",
    doc = "What happened: one immutable record for each transition of a HatBinding.",
    derive = "PartialEq",
    selectable = ".spec.hat",
    printcolumn(name = "Hat", type_ = "string", json_path = ".spec.hat", description = "the hat"),
    printcolumn(name = "Event", type_ = "string", json_path = ".spec.event", description = "what happened"),
    printcolumn(name = "Wearer", type_ = "string", json_path = ".spec.wearer.spiffeID", description = "to whom"),
    printcolumn(name = "When", type_ = "date", json_path = ".spec.occurredAt", description = "when"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason", description = "why, as one word")
)]
#[x_kube(validation = Rule::new("self == oldSelf").message("a HatSwap is immutable: it says what happened"))]
#[serde(rename_all = "camelCase")]
#[allow(clippy::duplicated_attributes, reason = "printer columns may have the same type")]
pub struct HatSwapSpec {
    /// Name of the hat.
    #[schemars(length(min = 1, max = 63))]
    pub hat: String,
    /// Who it happened to.
    pub wearer: SwapWearer,
    /// What happened.
    pub event: SwapEvent,
    /// When.
    pub occurred_at: Time,
    /// Why, as one word for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub reason: Option<String>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub message: Option<String>,
    /// The binding that it happened to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub binding_ref: Option<BindingRef>,
    /// The throttle that held the request, on `Throttled`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub throttle_name: Option<String>,
    /// Who had the hat before, on an end and on a succession.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_wearer: Option<PreviousWearer>,
    /// What the binding's status becomes by this transition, so that whoever finds the record can finish it as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
}

/// Who something happened to.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SwapWearer {
    /// Identity of the wearer.
    #[serde(rename = "spiffeID")]
    #[schemars(length(min = 12, max = 512), regex(pattern = SPIFFE_ID_PATTERN))]
    pub spiffe_id: String,
}

/// What happened.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SwapEvent {
    /// The hat is on with full authority.
    SwapOn,
    /// The hat is off.
    SwapOff,
    /// The hat is on, with reading authority until the warmup ends.
    WarmupBegin,
    /// The warmup is over: full authority.
    WarmupEnd,
    /// Authority was reduced to reading by a supervisor.
    Probation,
    /// Enough others have co-signed, or the bootstrap exception was used.
    QuorumGrant,
    /// A throttle holds the request. No transition.
    Throttled,
}

impl SwapEvent {
    /// The name as it stands in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SwapOn => "SwapOn",
            Self::SwapOff => "SwapOff",
            Self::WarmupBegin => "WarmupBegin",
            Self::WarmupEnd => "WarmupEnd",
            Self::Probation => "Probation",
            Self::QuorumGrant => "QuorumGrant",
            Self::Throttled => "Throttled",
        }
    }
}

impl fmt::Display for SwapEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Which binding a record is about.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct BindingRef {
    /// Its name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its namespace.
    #[schemars(length(max = 63))]
    pub namespace: String,
    /// Its UID.
    #[schemars(length(max = 64))]
    pub uid: String,
}

/// Who had the hat before.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct PreviousWearer {
    /// Identity of the one before.
    #[serde(rename = "spiffeID")]
    #[schemars(length(min = 12, max = 512), regex(pattern = SPIFFE_ID_PATTERN))]
    pub spiffe_id: String,
    /// When the hat was taken off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked_at: Option<Time>,
}

/// The fields of a binding's status that a transition decides; they have the names and the meaning that they have there.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// The phase after the transition.
    pub phase: Phase,
    /// The node after the transition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 51))]
    pub node_name: Option<String>,
    /// The devices after the transition.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub devices: Vec<String>,
    /// When the hat was put on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_at: Option<Time>,
    /// When the warmup ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_ends_at: Option<Time>,
    /// When the term ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When the hat was taken off for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// Until when what happens is still this wearer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky_attribution_ends_at: Option<Time>,
}
