//! NVIDIA GPUs beyond PCI: `/proc/driver/nvidia`, and NVML in a process that a deadline can kill.

mod nvml;
pub mod probe;
pub mod procfs;
mod verdict;
mod xid;

use serde::{Deserialize, Serialize};

pub use nvml::LIBRARY_VARIABLE;

/// What NVML has said so far.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum View {
    /// Nobody asks it: PCI facts stand alone, and what it told earlier does not count.
    #[default]
    NotAsked,
    /// Nothing yet: what it told earlier stands.
    Pending,
    /// Its last report.
    Report(Report),
    /// It cannot answer.
    Failed(Failure),
}

/// Everything that NVML told in one pass.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {
    /// Version of the kernel driver, `580.95.05`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver_version: Option<String>,
    /// Newest CUDA version that the driver serves, `13.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cuda_version: Option<String>,
    /// One entry for each GPU that NVML counts.
    #[serde(default)]
    pub gpus: Vec<Gpu>,
}

/// What NVML tells of one GPU. A fact that the GPU does not have, or that the driver is too old for, is absent;
/// what went wrong is in [`Gpu::troubles`], so that one lost GPU does not hide the others.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gpu {
    /// PCI address in sysfs' form, `0000:3b:00.0`; absent for a GPU that NVML counts and cannot open.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
    /// `GPU-` and a UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// `NVIDIA H100 80GB HBM3`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Serial number of the board; several GPUs can share one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<String>,
    /// The `N` of `/dev/nvidiaN`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minor: Option<u32>,
    /// Memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// CUDA compute capability, `9.0`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compute_capability: Option<String>,
    /// Power limit in milliwatts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_limit: Option<u32>,
    /// Whether ECC is on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ecc: Option<bool>,
    /// Whether the driver keeps the GPU initialised without clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub persistence: Option<bool>,
    /// Whether MIG mode is on; absent where the GPU has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mig: Option<bool>,
    /// MIG instances.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub instances: Vec<Instance>,
    /// Whether the driver says that nothing has to be done to the GPU. Older drivers do not say what has to be.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub needs_nothing: bool,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<Trouble>,
}

/// A MIG instance: a compute instance inside a GPU instance.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Instance {
    /// Number of the GPU instance on its GPU.
    pub gpu_instance: u32,
    /// Number of the compute instance in its GPU instance.
    pub compute_instance: u32,
    /// `MIG-` and a UUID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// `1g.10gb`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Memory in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
}

/// Something that is wrong with a GPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Trouble {
    /// It fell off the bus or cannot be reached for another reason.
    Lost,
    /// The driver says that it must be reset.
    ResetRequired,
    /// The driver says that the machine must be rebooted.
    RebootRequired,
    /// An XID error of the hardware or the driver since the probe began to watch.
    Xid(u64),
    /// Uncorrectable ECC errors since the last reset of the GPU.
    UncorrectableEcc(u64),
    /// A row of memory is remapped at the next reset.
    RemapPending,
    /// No spare row was left for a remap.
    RemapFailed,
    /// A page of memory is retired at the next reset.
    RetirementPending,
    /// A question that every GPU answers failed: which, and how.
    Unanswered(String),
}

/// Why NVML cannot answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Failure {
    /// One word for programs: `NvmlTimeout`, `NvmlLibraryMissing`, `NvmlVersionMismatch`, `NvmlDriverNotLoaded`,
    /// `NvmlNoPermission`, `NvmlError`.
    pub reason: String,
    /// What happened and what to do, for people.
    pub message: String,
}
