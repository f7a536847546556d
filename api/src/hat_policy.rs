//! `HatPolicy`: the limits of the whole cluster; one object, named `default`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::hat_binding::SPIFFE_ID_PATTERN;

/// The name of the one HatPolicy.
pub const NAME: &str = "default";

/// What holds for every hat that does not say otherwise. An empty `spec` is the defaults.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "society.zeta.io",
    version = "v1alpha1",
    kind = "HatPolicy",
    plural = "hatpolicies",
    shortname = "hp",
    category = "society",
    doc = "The limits of the whole cluster. There is one, named default.",
    status = "HatPolicyStatus",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name == 'default'").message("there is one HatPolicy, and its name is default"),
    printcolumn(name = "Active Hats", type_ = "integer", json_path = ".status.activeHats", description = "hats that somebody wears"),
    printcolumn(name = "Active Bindings", type_ = "integer", json_path = ".status.activeBindings", description = "bindings that are worn"),
    printcolumn(name = "Swaps 24h", type_ = "integer", json_path = ".status.swapsLast24h", description = "records of the last day"),
    printcolumn(name = "Reconciled", type_ = "date", json_path = ".status.lastReconciledAt", description = "when the operator last decided"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "since it was made")
)]
#[serde(rename_all = "camelCase")]
pub struct HatPolicySpec {
    /// Limits that a hat can override, and those of a wearer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttles: Option<PolicyThrottles>,

    /// Days for which records are kept. Absent: 365.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 36500))]
    pub swap_retention_days: Option<i64>,

    /// Where the records are announced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tick_emit: Option<TickEmit>,

    /// The trust domain of SPIFFE ids, without `spiffe://`. Absent: `cluster.local`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = "^[a-z0-9._-]+$"))]
    pub trust_domain: Option<String>,

    /// Seconds without a renewed Lease after which a node's hats end there. Absent: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 86400))]
    pub node_grace_seconds: Option<i64>,

    /// Seconds after its end for which a binding is kept. Absent: for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub ttl_seconds_after_end: Option<i64>,

    /// Which person's user name is which SPIFFE id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["user".to_owned()]))]
    pub identities: Vec<PersonIdentity>,

    /// The one binding that needs no quorum until its hat has had one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootstrap: Option<Bootstrap>,
}

/// Limits of the whole cluster. Absent fields have the defaults of [`throttle`].
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PolicyThrottles {
    /// Seconds after taking a hat off before the same wearer may have it again. Absent: 300.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub cooldown_seconds: Option<i64>,
    /// Seconds after taking a hat off during which what happens is still the wearer's. Absent: 600.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub sticky_attribution_seconds: Option<i64>,
    /// Seconds with reading authority alone before a hat is Active. Absent: 180.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub warmup_seconds: Option<i64>,
    /// Most live bindings of one wearer. Absent: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_bindings_per_wearer: Option<i64>,
    /// Most hats that one wearer puts on in any 24 hours. Absent: 5.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub max_new_hats_per_day: Option<i64>,
    /// Co-signers that a quorum-gated hat needs if it does not say how many. Absent: 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub quorum_default_size: Option<i64>,
}

/// Defaults of the fields of HatPolicy.
pub mod throttle {
    /// Seconds.
    pub const COOLDOWN_SECONDS: i64 = 300;
    /// Seconds.
    pub const STICKY_ATTRIBUTION_SECONDS: i64 = 600;
    /// Seconds.
    pub const WARMUP_SECONDS: i64 = 180;
    /// Bindings.
    pub const MAX_BINDINGS_PER_WEARER: i64 = 3;
    /// Hats.
    pub const MAX_NEW_HATS_PER_DAY: i64 = 5;
    /// Co-signers.
    pub const QUORUM_DEFAULT_SIZE: i64 = 3;
    /// Days.
    pub const SWAP_RETENTION_DAYS: i64 = 365;
    /// Seconds.
    pub const NODE_GRACE_SECONDS: i64 = 300;
    /// SPIFFE trust domain.
    pub const TRUST_DOMAIN: &str = "cluster.local";
    /// Subject on NATS.
    pub const NATS_SUBJECT: &str = "zeta.society.hats.ticks";
}

/// Where records are announced.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TickEmit {
    /// Subject of the messages, if the operator has a NATS server. Absent: `zeta.society.hats.ticks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = r"^[^\s*>.]+(\.[^\s*>.]+)*$"))]
    pub nats_subject: Option<String>,
    /// Whether each record is a line of the operator's log. Absent: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_loki_structured_logs: Option<bool>,
    /// Whether each record is a Kubernetes Event on its binding. Absent: true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enable_events: Option<bool>,
}

/// A person, who has no service account and so no SPIFFE id of its own.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct PersonIdentity {
    /// User name as the API server authenticates it.
    #[schemars(length(min = 1, max = 256))]
    pub user: String,
    /// Who that is.
    #[serde(rename = "spiffeID")]
    #[schemars(length(min = 12, max = 512), regex(pattern = SPIFFE_ID_PATTERN))]
    pub spiffe_id: String,
}

/// The one exception from a quorum.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Bootstrap {
    /// Name of the hat.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub hat: String,
    /// SPIFFE id of the one who may wear it first.
    #[schemars(length(min = 12, max = 512), regex(pattern = SPIFFE_ID_PATTERN))]
    pub wearer: String,
}

/// What the operator sees; the operator's.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HatPolicyStatus {
    /// When the operator last decided something.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_reconciled_at: Option<Time>,
    /// Hats that somebody wears.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub active_hats: Option<i64>,
    /// Bindings in Warmup, Active or Probation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub active_bindings: Option<i64>,
    /// Records of the last 24 hours.
    #[serde(rename = "swapsLast24h", default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub swaps_last_24h: Option<i64>,
    /// Names of the hats of `spec.bootstrap` that have had their quorum, in order: for them the exception is over, also if the hat is made anew.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256), inner(length(max = 63)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub bootstrapped: Vec<String>,
    /// Conditions by type.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}
