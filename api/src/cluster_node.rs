//! `ClusterNode`: one machine, what it has, and what it is to do.

mod device;
mod status;

use std::fmt;

use k8s_openapi::api::coordination::v1::Lease;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use device::{Attribute, Capacity, Device, DeviceClass, Health, HealthState, attribute, capacity};
pub use status::{
    AddOn, Board, ClusterNodeStatus, Cpu, Disk, HatAssignment, Identity, Interface, NixosSystem, Summary, System,
    WornHat, WornState, hats_in_words,
};

/// The Lease that shows a node alive: it lives in [`crate::SYSTEM_NAMESPACE`] and has the ClusterNode's name.
pub type NodeLease = Lease;

/// Types of the conditions on a ClusterNode, each with its one writer.
pub mod condition {
    /// The operator's: the node renews its Lease and no other machine claims its name.
    pub const READY: &str = "Ready";
    /// The operator's: another machine tried to register under this name.
    pub const IDENTITY_CONFLICT: &str = "IdentityConflict";
    /// The agent's: every device can be used.
    pub const DEVICES_HEALTHY: &str = "DevicesHealthy";
    /// The agent's: the machine has what `spec` says that it should have.
    pub const AS_EXPECTED: &str = "AsExpected";
}

/// Reasons of the condition [`condition::READY`].
pub mod ready {
    /// True: the node renews its Lease.
    pub const LEASE_RENEWED: &str = "LeaseRenewed";
    /// Unknown: it has not renewed its Lease for as long as a renewal lasts.
    pub const LEASE_SILENT: &str = "LeaseSilent";
    /// Unknown: it was silent so long that its hats were given away; it stops them before it renews again.
    pub const FENCED: &str = "Fenced";
    /// Unknown: it has never had a Lease.
    pub const NO_LEASE: &str = "NoLease";
}

/// Longest name of a ClusterNode, in bytes: `society:node:<name>` has to fit an X.509 common name, which has 64 (RFC 5280, `ub-common-name`).
pub const MAX_NAME_LENGTH: usize = 51;

/// What a person or GitOps wants of a machine. The agent writes it when it creates the object and when it pins
/// `hardwareID`; afterwards it belongs to people.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "society.zeta.io",
    version = "v1alpha1",
    kind = "ClusterNode",
    plural = "clusternodes",
    shortname = "cn",
    category = "society",
    doc = "One machine of the cluster: its hardware as the agent found it, and the hats that it is to wear.",
    status = "ClusterNodeStatus",
    derive = "PartialEq",
    selectable = ".spec.class",
    validation = Rule::new("self.metadata.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$') && self.metadata.name.size() <= 51")
        .message("the name must be a DNS label of at most 51 characters, so that it fits a certificate"),
    validation = Rule::new("self.spec.class == oldSelf.spec.class || !has(oldSelf.status) || !has(oldSelf.status.hats) || oldSelf.status.hats.size() == 0")
        .message("spec.class cannot change while hats are worn: cordon the node and let them end first"),
    printcolumn(name = "Class", type_ = "string", json_path = ".spec.class", description = "class of the machine"),
    printcolumn(name = "Ready", type_ = "string", json_path = ".status.conditions[?(@.type==\"Ready\")].status",
        description = "whether the machine renews its Lease"),
    printcolumn(name = "GPUs", type_ = "string", json_path = ".status.summary.gpus", description = "usable/present GPUs"),
    printcolumn(name = "Phones", type_ = "string", json_path = ".status.summary.phones", description = "usable/present phones"),
    printcolumn(name = "Accelerators", type_ = "string", json_path = ".status.summary.accelerators",
        description = "usable/present accelerators"),
    printcolumn(name = "Hats", type_ = "string", json_path = ".status.summary.hats", description = "hats that the machine is to wear"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", description = "since its first registration")
)]
#[x_kube(validation = Rule::new("!has(self.hardwareID) || self.hardwareID == '' || !has(oldSelf.hardwareID) || oldSelf.hardwareID == '' || self.hardwareID == oldSelf.hardwareID")
    .message("spec.hardwareID is pinned: clear it first if another machine shall take this name"))]
#[serde(rename_all = "camelCase")]
pub struct ClusterNodeSpec {
    /// Class of the machine: which work it is meant for and which modules it runs. Immutable while hats are worn.
    pub class: Class,

    /// How much the machine and its surroundings can carry. It decides resources, never authority.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,

    /// Hardware identity pinned at the first registration: the SMBIOS UUID, else the device-tree serial number, else
    /// the lowest permanent MAC address. Another machine under this name is refused. Clear it to let a replacement register.
    #[serde(rename = "hardwareID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64), regex(pattern = r"^$|^[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?$"))]
    pub hardware_id: Option<String>,

    /// A person's cordon: no new hat is placed here; those that are worn go on to their end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unschedulable: Option<bool>,

    /// A person's ban: no certificate, no renewal and no enrollment under this name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<bool>,

    /// What should be there; a shortfall turns the condition `AsExpected` to False.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expects: Option<Expects>,
}

impl ClusterNodeSpec {
    /// A machine of a class, of which nobody has said anything else.
    pub const fn of(class: Class) -> Self {
        Self { class, profile: None, hardware_id: None, unschedulable: None, revoked: None, expects: None }
    }
}

/// What a person says should be in a machine. Absent fields are not checked.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Expects {
    /// Number of GPUs that should be usable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = Expects::MOST))]
    pub gpus: Option<i32>,
    /// Number of phones that should be usable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = Expects::MOST))]
    pub phones: Option<i32>,
    /// Number of accelerators that should be usable.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = Expects::MOST))]
    pub accelerators: Option<i32>,
}

impl Expects {
    /// The most devices of a class that can be expected: a node shows no more.
    pub const MOST: i32 = 256;
}

/// Which work a machine is meant for.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// Runs the Kubernetes API, the operator and what the cluster needs for itself.
    ControlPlane,
    /// A Kubernetes worker with GPUs.
    GpuWorker,
    /// A host of phones on USB; never a Kubernetes worker.
    PhoneOrchestrator,
    /// A Raspberry Pi with an AI HAT.
    PiAiHat,
    /// A Kubernetes worker without special hardware.
    Worker,
}

impl Class {
    /// Every class, in the order in which people read them.
    pub const ALL: [Self; 5] =
        [Self::ControlPlane, Self::GpuWorker, Self::PhoneOrchestrator, Self::PiAiHat, Self::Worker];

    /// The name as it stands in manifests and configuration files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ControlPlane => "control-plane",
            Self::GpuWorker => "gpu-worker",
            Self::PhoneOrchestrator => "phone-orchestrator",
            Self::PiAiHat => "pi-ai-hat",
            Self::Worker => "worker",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How much a machine and its surroundings can carry.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// A data centre: redundant power and network.
    CloudHub,
    /// A shared room run by several people.
    Community,
    /// A basement or an office.
    HomeBusiness,
    /// A place that is reached now and then.
    Edge,
    /// A single small machine at the end of a thin line.
    Leaf,
}

impl Profile {
    /// The name as it stands in manifests and configuration files.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::CloudHub => "cloud-hub",
            Self::Community => "community",
            Self::HomeBusiness => "home-business",
            Self::Edge => "edge",
            Self::Leaf => "leaf",
        }
    }
}

/// Why a name cannot be a ClusterNode's.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidName {
    /// It has no character at all.
    #[error("the name is empty")]
    Empty,
    /// It would not fit a certificate.
    #[error("the name `{0}` has {len} characters, {MAX_NAME_LENGTH} are allowed", len = .0.len())]
    TooLong(String),
    /// It is no DNS label (RFC 1123).
    #[error("the name `{0}` is no DNS label: lower-case letters, digits and `-` inside it are allowed")]
    NotALabel(String),
}

/// Checks that a ClusterNode can have this name: a DNS label (RFC 1123) of at most [`MAX_NAME_LENGTH`] characters.
pub fn check_name(name: &str) -> Result<(), InvalidName> {
    if name.is_empty() {
        Err(InvalidName::Empty)
    } else if name.len() > MAX_NAME_LENGTH {
        Err(InvalidName::TooLong(name.to_owned()))
    } else if is_label(name) {
        Ok(())
    } else {
        Err(InvalidName::NotALabel(name.to_owned()))
    }
}

/// Whether a text is a DNS label (RFC 1123): 1 to 63 lower-case letters, digits and `-` inside it.
pub fn is_label(text: &str) -> bool {
    const LONGEST: usize = 63;
    let at_an_end = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().last()];
    (1..=LONGEST).contains(&text.len())
        && ends.into_iter().flatten().all(at_an_end)
        && text.bytes().all(|byte| at_an_end(byte) || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_dns_label_that_fits_a_certificate() {
        for good in ["a", "gpu-1", "0a", &"x".repeat(MAX_NAME_LENGTH)] {
            assert_eq!(check_name(good), Ok(()), "{good}");
        }
        assert_eq!(check_name(""), Err(InvalidName::Empty));
        assert!(matches!(check_name(&"x".repeat(MAX_NAME_LENGTH + 1)), Err(InvalidName::TooLong(_))));
        for bad in ["-a", "a-", "Gpu", "a.b", "a_b", "ä", "a b"] {
            assert!(matches!(check_name(bad), Err(InvalidName::NotALabel(_))), "{bad}");
        }
    }

    #[test]
    fn the_display_of_a_class_is_its_serialised_form() {
        for class in Class::ALL {
            assert_eq!(serde_json::to_value(class).unwrap(), class.to_string());
        }
    }
}
