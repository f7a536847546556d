//! `HatBinding`: somebody asks for a hat; the status says what became of it.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hat::Authority;

/// The finalizer that keeps a deleted binding until its end is recorded and its authority is taken back.
pub const FINALIZER: &str = "society.zeta.io/swap-off";

/// Pattern of a SPIFFE id: trust domain and at least one path segment (SPIFFE-ID 2.1 and 2.2).
pub const SPIFFE_ID_PATTERN: &str = r"^spiffe://[a-z0-9._-]+(/[A-Za-z0-9._-]+)+$";

/// Types of the conditions on a HatBinding; all are the operator's.
pub mod condition {
    /// Every throttle lets the request pass. False: the reason is the first throttle that does not.
    pub const ADMITTED: &str = "Admitted";
    /// Enough distinct others have co-signed, or none are needed.
    pub const QUORUM_MET: &str = "QuorumMet";
    /// A node and its devices carry the wearer, or none are needed.
    pub const SCHEDULED: &str = "Scheduled";
}

/// Who wants which hat, who vouches for it, and what supervisors say.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "society.zeta.io",
    version = "v1alpha1",
    kind = "HatBinding",
    plural = "hatbindings",
    namespaced,
    shortname = "hb",
    category = "society",
    doc = "A request to wear a hat. Creating it asks, deleting it takes the hat off; the status says what became of it.",
    status = "HatBindingStatus",
    derive = "PartialEq",
    selectable = ".spec.hat",
    printcolumn(name = "Hat", type_ = "string", json_path = ".spec.hat", description = "the hat that is wanted"),
    printcolumn(name = "Wearer", type_ = "string", json_path = ".spec.wearer.spiffeID", description = "who wants it"),
    printcolumn(
        name = "Phase",
        type_ = "string",
        json_path = ".status.phase",
        description = "what became of the request"
    ),
    printcolumn(name = "Node", type_ = "string", json_path = ".status.nodeName", description = "where it is worn"),
    printcolumn(
        name = "Expires",
        type_ = "date",
        json_path = ".status.expiresAt",
        description = "when the term ends",
        priority = 1
    ),
    printcolumn(
        name = "Why",
        type_ = "string",
        json_path = ".status.conditions[?(@.status==\"False\")].message",
        description = "why it is held",
        priority = 1
    ),
    printcolumn(
        name = "Age",
        type_ = "date",
        json_path = ".metadata.creationTimestamp",
        description = "since the request"
    )
)]
#[x_kube(
    validation = Rule::new("self.hat == oldSelf.hat").message("spec.hat is immutable: delete the binding and ask anew"),
    validation = Rule::new("self.wearer == oldSelf.wearer").message("spec.wearer is immutable: delete the binding and ask anew"),
    validation = Rule::new("!has(oldSelf.cosignedBy) || (has(self.cosignedBy) && oldSelf.cosignedBy.all(o, self.cosignedBy.exists(n, n.spiffeID == o.spiffeID)))")
        .message("spec.cosignedBy is append-only: a co-signature cannot be taken back"),
    validation = Rule::new("!has(oldSelf.verdicts) || (has(self.verdicts) && oldSelf.verdicts.all(o, self.verdicts.exists(n, n == o)))")
        .message("spec.verdicts is append-only: a verdict cannot be taken back, add a Restore"),
    validation = Rule::new("!has(self.verdicts) || self.verdicts.all(v, self.verdicts.filter(n, n.by == v.by && n.action != 'Revoke').size() <= 8)")
        .message("one supervisor gives at most 8 verdicts beside Revoke: revoke the hat, or let another supervisor judge"),
    validation = Rule::new("!has(self.verdicts) || self.verdicts.all(v, self.verdicts.filter(n, n.by == v.by && n.action == 'Revoke').size() <= 2)")
        .message("one supervisor gives at most 2 verdicts to Revoke"),
    validation = Rule::new("!has(self.verdicts) || self.verdicts.filter(v, v.action != 'Revoke').size() <= 32")
        .message("there are at most 32 verdicts beside Revoke: revoke the hat"),
    validation = Rule::new("!has(self.verdicts) || self.verdicts.all(v, v.by != self.wearer.spiffeID)")
        .message("nobody gives a verdict on themselves")
)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::duplicated_attributes, reason = "printer columns may have the same type")]
pub struct HatBindingSpec {
    /// Name of the hat. Immutable.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub hat: String,

    /// Who wants to wear it. Immutable.
    pub wearer: Wearer,

    /// Who vouches for it. Append-only; each adds itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["spiffeID".to_owned()]))]
    pub cosigned_by: Vec<Cosignature>,

    /// What supervisors say. Append-only; each speaks for itself. At most 32 beside Revoke, and of one supervisor 8 and 2 Revokes, so that
    /// nobody fills the list and a wearer can always be revoked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["by".to_owned(), "at".to_owned()]))]
    pub verdicts: Vec<Verdict>,

    /// When it was asked for, by the asker's own clock. Shown; the queue goes by `metadata.creationTimestamp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested_at: Option<Time>,
}

/// Who wants to wear a hat.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Wearer {
    /// Identity of the wearer.
    #[serde(rename = "spiffeID")]
    #[schemars(length(min = 12, max = 512), regex(pattern = SPIFFE_ID_PATTERN))]
    pub spiffe_id: String,
    /// The service account that gets the authority. Absent: none is projected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_account_ref: Option<ServiceAccountRef>,
}

/// A service account.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAccountRef {
    /// Name of the service account.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
    /// Its namespace.
    #[schemars(length(min = 1, max = 63))]
    pub namespace: String,
}

/// Somebody vouches for a request.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a co-signature is immutable"))]
pub struct Cosignature {
    /// Who vouches.
    #[serde(rename = "spiffeID")]
    #[schemars(length(min = 12, max = 512), regex(pattern = SPIFFE_ID_PATTERN))]
    pub spiffe_id: String,
    /// When, by the co-signer's own clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signed_at: Option<Time>,
    /// Evidence that the co-signer attaches; carried and shown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub attestation: Option<String>,
}

/// What a supervisor says about a wearer.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self == oldSelf").message("a verdict is immutable"))]
pub struct Verdict {
    /// SPIFFE id of the supervisor.
    #[schemars(length(min = 12, max = 512), regex(pattern = SPIFFE_ID_PATTERN))]
    pub by: String,
    /// What is to happen.
    pub action: VerdictAction,
    /// Why, for people and for the record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512))]
    pub reason: Option<String>,
    /// From when on it counts, in UTC and whole seconds (`2026-01-01T00:00:00Z`): one time has one text.
    #[schemars(regex(pattern = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"))]
    pub at: Time,
}

/// What a supervisor wants to happen.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictAction {
    /// The hat is taken off for good.
    Revoke,
    /// Authority is reduced to reading until a Restore.
    Probation,
    /// Ends a probation.
    Restore,
}

/// What became of a request.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Waits for a gate; the conditions say for which.
    #[default]
    Pending,
    /// Put on, with reading authority until `warmupEndsAt`.
    Warmup,
    /// Worn with full authority.
    Active,
    /// Worn with reading authority, by a supervisor's verdict.
    Probation,
    /// Taken off by a supervisor.
    Revoked,
    /// Taken off at the end of its term.
    Expired,
    /// Taken off, or withdrawn, by deleting the binding.
    Released,
}

impl Phase {
    /// Every phase, in the order of a life.
    pub const ALL: [Self; 7] =
        [Self::Pending, Self::Warmup, Self::Active, Self::Probation, Self::Revoked, Self::Expired, Self::Released];

    /// The name as it stands in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Warmup => "Warmup",
            Self::Active => "Active",
            Self::Probation => "Probation",
            Self::Revoked => "Revoked",
            Self::Expired => "Expired",
            Self::Released => "Released",
        }
    }

    /// Whether the hat is on: it has its node and devices, and some authority.
    pub const fn is_worn(self) -> bool {
        matches!(self, Self::Warmup | Self::Active | Self::Probation)
    }

    /// Whether nothing follows.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Revoked | Self::Expired | Self::Released)
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What became of the request; the operator's.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HatBindingStatus {
    /// What became of the request.
    #[serde(default)]
    pub phase: Phase,
    /// Number of transitions so far; the next record is named by it.
    #[serde(default)]
    #[schemars(range(min = 0))]
    pub transitions: i64,
    /// The ClusterNode that carries the wearer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 51))]
    pub node_name: Option<String>,
    /// Names of the devices that the wearer has on it, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub devices: Vec<String>,
    /// When the hat was put on; kept when it moves to another node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_at: Option<Time>,
    /// When the warmup ends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup_ends_at: Option<Time>,
    /// When the term ends; absent: no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// When the hat was taken off for good; `ttlSecondsAfterEnd` counts from it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Time>,
    /// Until when what happens with the hat's authority is still this wearer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sticky_attribution_ends_at: Option<Time>,
    /// What is granted now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_authority: Option<Authority>,
    /// Conditions by type: `Admitted`, `QuorumMet` and `Scheduled`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_phase_is_worn_or_ended_or_pending() {
        for phase in Phase::ALL {
            let kinds = [phase == Phase::Pending, phase.is_worn(), phase.is_ended()];
            assert_eq!(kinds.iter().filter(|kind| **kind).count(), 1, "{phase}");
            assert_eq!(serde_json::to_value(phase).unwrap(), phase.to_string());
        }
    }
}
