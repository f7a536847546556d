//! NVIDIA GPUs beyond PCI: `/proc/driver/nvidia`, and NVML in a process that a deadline can kill.

use serde::{Deserialize, Serialize};

/// What NVML has said so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum View {
    /// Nothing yet: PCI facts stand alone.
    #[default]
    Pending,
    /// Its last report.
    Report(Report),
    /// It cannot answer.
    Failed(Failure),
}

/// Everything that NVML told in one pass.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Report {}

/// Why NVML cannot answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// One word for programs: `NvmlTimeout`, `NvmlLibraryMissing`, `NvmlVersionMismatch`, `NvmlError`.
    pub reason: String,
    /// What happened and what to do, for people.
    pub message: String,
}
