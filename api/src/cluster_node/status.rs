//! What a machine reports of itself, and what the operator wants it to wear.

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

use super::device::{Device, Health};
use crate::hat_binding::Phase;

/// What is true of a machine. Every field has one writer: `hats`, `summary.hats`, `Ready` and `IdentityConflict` are the
/// operator's, the rest is the agent's.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNodeStatus {
    /// Who the machine is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity: Option<Identity>,

    /// What the machine runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub system: Option<System>,

    /// GPUs, phones and accelerators, sorted by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = ClusterNodeStatus::MOST_DEVICES))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub devices: Option<Vec<Device>>,

    /// Block devices, sorted by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = ClusterNodeStatus::MOST_DISKS))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub storage: Option<Vec<Disk>>,

    /// Network interfaces with hardware behind them, sorted by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = ClusterNodeStatus::MOST_INTERFACES))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub interfaces: Option<Vec<Interface>>,

    /// The operator's: what this node is to wear.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = ClusterNodeStatus::MOST_HATS))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub hats: Option<Vec<HatAssignment>>,

    /// The agent's: what it has started and stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub worn: Option<Vec<WornHat>>,

    /// What the columns of `kubectl get` show.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,

    /// Conditions by type: `Ready` and `IdentityConflict` by the operator, `DevicesHealthy` and `AsExpected` by the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".to_owned()]))]
    pub conditions: Option<Vec<Condition>>,

    /// The `metadata.generation` of the `spec` that the agent has seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
}

impl ClusterNodeStatus {
    /// The most devices that a node shows: the schema refuses a longer list, and with it the whole status.
    pub const MOST_DEVICES: usize = 256;

    /// The same for disks.
    pub const MOST_DISKS: usize = 128;

    /// The same for network interfaces.
    pub const MOST_INTERFACES: usize = 64;

    /// The most hats that one node wears: the schema refuses a longer list.
    pub const MOST_HATS: usize = 128;
}

/// Who a machine is.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    /// Host name (`/proc/sys/kernel/hostname`).
    #[schemars(length(max = 253))]
    pub hostname: String,
    /// `/etc/machine-id` (machine-id(5)): changes with a reinstallation.
    #[serde(rename = "machineID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub machine_id: Option<String>,
    /// `/proc/sys/kernel/random/boot_id`: changes with each boot.
    #[serde(rename = "bootID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub boot_id: Option<String>,
    /// IP addresses that other machines can reach, sorted; no loopback, link-local or temporary ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32), inner(length(max = 45)))]
    pub addresses: Vec<String>,
}

/// What a machine runs on.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct System {
    /// Machine architecture as `uname -m` says it: `x86_64`, `aarch64`.
    #[schemars(length(max = 32))]
    pub architecture: String,
    /// Kernel release (`uname -r`).
    #[schemars(length(max = 128))]
    pub kernel_version: String,
    /// `PRETTY_NAME` of os-release(5).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub os_image: Option<String>,
    /// The processors.
    pub cpu: Cpu,
    /// Memory that Linux manages (`MemTotal`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<Quantity>,
    /// The board, where firmware names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<Board>,
    /// NixOS facts, on NixOS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nixos: Option<NixosSystem>,
}

/// The processors of a machine.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// Model as the processor or the device tree names it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub model: Option<String>,
    /// Physical cores that are present; absent where Linux does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub cores: Option<i32>,
    /// Hardware threads that are present.
    #[schemars(range(min = 1))]
    pub threads: i32,
}

/// The board of a machine: from SMBIOS, or from the device tree.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Board {
    /// Maker of the board or of the whole machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub vendor: Option<String>,
    /// Model of the board or of the whole machine.
    #[schemars(length(max = 128))]
    pub model: String,
    /// Boards on top of it that carry an identification EEPROM (Raspberry Pi HATs).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    pub add_ons: Vec<AddOn>,
}

/// A board on top of another, from its identification EEPROM.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AddOn {
    /// Maker, as the EEPROM says.
    #[schemars(length(max = 64))]
    pub vendor: String,
    /// Product, as the EEPROM says.
    #[schemars(length(max = 64))]
    pub product: String,
    /// UUID of this one board.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub uuid: Option<String>,
}

/// Which NixOS a machine runs.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct NixosSystem {
    /// NixOS version, `26.05.20260819.5880666`.
    #[schemars(length(max = 64))]
    pub version: String,
    /// Git revision of the configuration, where the flake recorded one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub revision: Option<String>,
    /// Number of the running system generation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub generation: Option<i64>,
}

/// A block device.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Disk {
    /// Kernel name, `nvme0n1`.
    #[schemars(length(max = 64))]
    pub name: String,
    /// Name below `/dev/disk/by-id` that stays over reboots, where udev made one.
    #[serde(rename = "byID", default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub by_id: Option<String>,
    /// Model as the disk reports it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub model: Option<String>,
    /// Size.
    pub size: Quantity,
    /// Whether it has a spinning plate; absent where Linux does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotational: Option<bool>,
    /// Whether the disk works, as far as sysfs tells; absent where it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<Health>,
}

/// A network interface with hardware behind it.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Interface {
    /// Kernel name, `enp3s0`.
    #[schemars(length(max = 15))]
    pub name: String,
    /// Permanent hardware address, lower case with colons.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 64))]
    pub mac: Option<String>,
    /// Speed of the link in Mbit/s; absent without a link or where the driver does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub speed: Option<i64>,
    /// Whether there is a link; absent while the interface is down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub carrier: Option<bool>,
}

/// A hat that the operator wants this node to wear.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct HatAssignment {
    /// UID of the HatBinding.
    #[schemars(length(min = 1, max = 64))]
    pub binding: String,
    /// Name of the Hat.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// SPIFFE id of the wearer.
    #[schemars(length(min = 1, max = 512))]
    pub wearer: String,
    /// Phase of the binding: `Warmup`, `Active` or `Probation`. Any other says that the node stops the hat and reports
    /// `Stopped`; the entry stays until then.
    #[schemars(length(max = 16))]
    pub phase: String,
    /// Names of the devices that the wearer has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(max = 63)))]
    pub devices: Vec<String>,
    /// When the hat ends; absent: no end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<Time>,
    /// Seconds without an accepted Lease renewal after which the node ends the hat on its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub grace_seconds: Option<i64>,
}

impl HatAssignment {
    /// Whether the hat is to be worn; else the node is to stop it.
    pub fn is_worn(&self) -> bool {
        Phase::ALL.into_iter().any(|phase| phase.is_worn() && phase.as_str() == self.phase)
    }
}

/// What the agent has made of an assignment.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct WornHat {
    /// UID of the HatBinding.
    #[schemars(length(min = 1, max = 64))]
    pub binding: String,
    /// What the agent has done.
    pub state: WornState,
    /// Since when.
    pub since: Time,
    /// What went wrong, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 512))]
    pub message: String,
}

/// What the agent has done with a hat.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
pub enum WornState {
    /// Its units are being started.
    Starting,
    /// Its units run.
    Running,
    /// A unit of it failed.
    Failed,
    /// Its units are being stopped.
    Stopping,
    /// Every unit of it is inactive: its devices are free.
    Stopped,
}

impl WornState {
    /// The name as it stands in manifests.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "Starting",
            Self::Running => "Running",
            Self::Failed => "Failed",
            Self::Stopping => "Stopping",
            Self::Stopped => "Stopped",
        }
    }
}

/// What the columns of `kubectl get` show: usable and present devices by class as `7/8`, and the hats in words.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// GPUs; a card whose MIG instances are listed is counted by them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9]+/[0-9]+$"))]
    pub gpus: Option<String>,
    /// Phones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9]+/[0-9]+$"))]
    pub phones: Option<String>,
    /// Accelerators.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^[0-9]+/[0-9]+$"))]
    pub accelerators: Option<String>,
    /// The operator's: names of the hats that the node is to wear, `executor, phone-farm (20)`. A column shows only the first
    /// element of a list, so the names stand here together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 256))]
    pub hats: Option<String>,
}

/// Longest text of [`Summary::hats`], in characters; the schema has the same limit.
const MAX_HATS: usize = 256;

/// Names of the hats that are to be worn, each with how often if that is more than once: `executor, phone-farm (20)`.
/// `None`: there are none.
pub fn hats_in_words(hats: &[HatAssignment]) -> Option<String> {
    let mut times: BTreeMap<&str, usize> = BTreeMap::new();
    for hat in hats.iter().filter(|hat| hat.is_worn()) {
        *times.entry(&hat.name).or_default() += 1;
    }
    let words =
        times.iter().map(|(name, times)| if *times > 1 { format!("{name} ({times})") } else { (*name).to_owned() });
    let text = words.collect::<Vec<_>>().join(", ");
    let cut =
        if text.chars().count() > MAX_HATS { text.chars().take(MAX_HATS - 1).chain(['…']).collect() } else { text };
    (!cut.is_empty()).then_some(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hat(name: &str, phase: &str) -> HatAssignment {
        let hat = serde_json::json!({"binding": "u", "name": name, "wearer": "spiffe://x/a", "phase": phase});
        serde_json::from_value(hat).unwrap()
    }

    #[test]
    fn hats_in_words_are_those_that_are_worn() {
        assert_eq!(hats_in_words(&[]), None);
        assert_eq!(hats_in_words(&[hat("a", "Released")]), None);
        let hats = [hat("phones", "Active"), hat("a", "Warmup"), hat("phones", "Probation"), hat("b", "Expired")];
        assert_eq!(hats_in_words(&hats).as_deref(), Some("a, phones (2)"));
        let many: Vec<HatAssignment> = (0..60).map(|number| hat(&format!("hat-{number}"), "Active")).collect();
        let text = hats_in_words(&many).unwrap();
        assert!(text.chars().count() == MAX_HATS && text.ends_with('…'), "{text}");
    }
}
