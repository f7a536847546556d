//! `Hat`: a role with its authority, its throttles and what a machine needs to carry it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::cluster_node::DeviceClass;

/// Types of the conditions on a Hat; both are the operator's.
pub mod condition {
    /// The hat takes part in no cycle of `supervises`, and every hat that it names exists.
    pub const GRAPH_VALID: &str = "GraphValid";
    /// A binding of this quorum-gated hat was Active with a quorum once: from then on bootstrap is over.
    pub const QUORUM_REACHED: &str = "QuorumReached";
}

/// Most devices that one wearer can have, over all entries of `requirements.devices`.
pub const MAX_DEVICES: i64 = 64;

/// What the hat allows, what it needs, and who may have it when.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "society.zeta.io",
    version = "v1alpha1",
    kind = "Hat",
    plural = "hats",
    shortname = "ht",
    category = "society",
    doc = "A role that is held for a bounded time: what its wearer may do, and what a machine needs to carry it.",
    status = "HatStatus",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 63")
        .message("the name must be a DNS label of at most 63 characters, as units, files and labels are named after it"),
    validation = Rule::new("!has(self.spec.supervises) || !(self.metadata.name in self.spec.supervises)")
        .message("a hat cannot supervise itself"),
    validation = Rule::new("!has(self.spec.throttles) || !has(self.spec.throttles.conflictsWith) || !(self.metadata.name in self.spec.throttles.conflictsWith)")
        .message("a hat cannot conflict with itself: set maxWearers to limit its wearers"),
    printcolumn(name = "Wearers", type_ = "string", json_path = ".status.currentWearers", description = "who wears it now"),
    printcolumn(name = "Reputation", type_ = "integer", json_path = ".status.reputation", description = "share of terms that ended well, in percent"),
    printcolumn(name = "Quorum", type_ = "boolean", json_path = ".spec.throttles.quorumGated", description = "whether co-signers are needed", priority = 1),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.maxWearers", description = "most wearers at a time", priority = 1),
    printcolumn(name = "Term", type_ = "integer", json_path = ".spec.termSeconds", description = "seconds until it ends", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "since it was made")
)]
#[x_kube(validation = Rule::new("!has(self.throttles) || !has(self.throttles.quorumGated) || !self.throttles.quorumGated || \
    (has(self.authority.namespaces) && self.authority.namespaces.size() > 0) || !has(self.authority.rules) || \
    !self.authority.rules.exists(r, r.resources.exists(x, x in ['secrets', 'pods/exec', 'pods/attach', 'pods/ephemeralcontainers', 'nodes/proxy']))")
    .message("a quorum-gated hat without authority.namespaces holds in the whole cluster, system namespaces included, where nobody is given \
        secrets, pods/exec, pods/attach, pods/ephemeralcontainers or nodes/proxy: name its namespaces"))]
#[serde(rename_all = "camelCase")]
pub struct HatSpec {
    /// What the hat is for, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 4096))]
    pub description: Option<String>,

    /// What a wearer is good at: metadata that others can match.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub skills: Vec<Skill>,

    /// What the wearer may do.
    pub authority: Authority,

    /// Names of the hats whose wearers this one supervises. The graph has no cycle.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    pub supervises: Vec<String>,

    /// Overrides of the HatPolicy, field by field, and what only a hat has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttles: Option<HatThrottles>,

    /// What a node needs to carry a wearer. Absent: the hat is worn by a service account or a person alone and has no node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requirements: Option<Requirements>,

    /// Most wearers at a time. Absent: no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub max_wearers: Option<i64>,

    /// Seconds that a wearer keeps the hat, counted from when it was put on. 0 or absent: no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub term_seconds: Option<i64>,

    /// Who has the hat when a term ends. Absent: `Queue`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succession: Option<Succession>,
}

/// Something that a wearer is good at.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Skill {
    /// Name of the skill.
    #[schemars(length(min = 1, max = 128))]
    pub name: String,
    /// How good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// What provides the skill: a tool, a model, a device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub provided_by: Option<String>,
}

/// How good a wearer is at something.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// Needs help.
    Novice,
    /// Needs review.
    Intermediate,
    /// Can help others.
    Expert,
}

impl Level {
    /// All, from the lowest to the highest.
    pub const ALL: [Self; 3] = [Self::Novice, Self::Intermediate, Self::Expert];

    /// The name as it stands in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Novice => "novice",
            Self::Intermediate => "intermediate",
            Self::Expert => "expert",
        }
    }
}

/// What a wearer may do, and where.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Authority {
    /// Namespaces in which the rules hold, without those of the system. Empty: the cluster for a quorum-gated hat, system namespaces included and
    /// therefore without secrets and ways into pods; else the binding's own namespace.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    pub namespaces: Vec<String>,
    /// What is allowed, in the shape of RBAC.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    pub rules: Vec<AuthorityRule>,
}

/// Verbs that are allowed on resources, in the shape of an RBAC rule.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AuthorityRule {
    /// Verbs: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`.
    #[schemars(length(min = 1, max = 32), inner(length(min = 1, max = 63)))]
    pub verbs: Vec<String>,
    /// Resources in the plural, with their subresource: `pods`, `pods/log`. `*` reads everything but secrets.
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 128)))]
    pub resources: Vec<String>,
    /// API groups; empty: the core group.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 253)))]
    pub api_groups: Vec<String>,
}

/// Limits of one hat; those that HatPolicy has too override it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct HatThrottles {
    /// Seconds after taking the hat off before the same wearer may have it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub cooldown_seconds: Option<i64>,
    /// Seconds after taking the hat off during which what happens is still the wearer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub sticky_attribution_seconds: Option<i64>,
    /// Seconds with reading authority alone before the hat is Active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub warmup_seconds: Option<i64>,
    /// Whether others have to co-sign a binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum_gated: Option<bool>,
    /// How many distinct others have to co-sign. Absent: HatPolicy's `quorumDefaultSize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub quorum_size: Option<i64>,
    /// Hats that the same wearer may not have at the same time; holds in both directions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))
    )]
    pub conflicts_with: Vec<String>,
}

/// What a node and its devices have to be, in Kubernetes CEL.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!has(self.devices) || self.devices.map(d, has(d.count) ? d.count : 1).sum() <= 64")
    .message("a wearer can have at most 64 devices"))]
pub struct Requirements {
    /// Expressions over `node` that all have to be true, such as `node.class == 'gpu-worker'`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 1024)))]
    pub node: Vec<String>,

    /// Devices that the wearer has for itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".to_owned()]))]
    pub devices: Vec<DeviceRequest>,
}

/// Devices of one kind that a wearer needs.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct DeviceRequest {
    /// Name of the request, for messages.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Kind of device.
    pub class: DeviceClass,
    /// How many. Absent: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 64))]
    pub count: Option<i64>,
    /// Expressions over `device` (and `node`) that all have to be true of each device.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 1024)))]
    pub selectors: Vec<String>,
}

/// Who has the hat when a term ends.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Succession {
    /// How the next wearer is found.
    pub policy: SuccessionPolicy,
}

/// How the next wearer is found.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SuccessionPolicy {
    /// The eligible request that waits longest takes the hat.
    #[default]
    Queue,
    /// As `Queue`, but if nobody eligible waits, the term of the one who has it starts again.
    Renew,
    /// Nobody succeeds: a request that was made before the term ended is not admitted in its place.
    None,
}

/// What became of the hat; the operator's.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HatStatus {
    /// Share of the hat's terms that ended well, in percent, over all its wearers; absent before the first end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 100))]
    pub reputation: Option<i64>,
    /// How many distinct identities have worn the hat; it never falls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub lifetime_wearers: Option<i64>,
    /// SPIFFE ids of those who wear it now, sorted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 4096))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub current_wearers: Vec<String>,
    /// Conditions by type: `GraphValid` and `QuorumReached`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Vec<Condition>,
}
