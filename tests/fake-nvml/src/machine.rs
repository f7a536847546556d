//! What the file says.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::{env, fs, process, ptr, thread};

use nvml_wrapper_sys::bindings::{nvmlDevice_t, nvmlReturn_t};
use serde::Deserialize;

use crate::{Answer, VARIABLE, code};

/// A machine with GPUs.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Machine {
    pub(crate) driver: String,
    /// 13000 is 13.0.
    pub(crate) cuda: i32,
    /// Functions that never return.
    hang: Vec<String>,
    /// Functions that end the process.
    crash: Vec<String>,
    /// Functions that fail, and with which code: 13 is one that an old driver does not have.
    fail: BTreeMap<String, nvmlReturn_t>,
    /// File whose lines are events.
    pub(crate) events: Option<PathBuf>,
    pub(crate) gpus: Vec<Gpu>,
}

impl Default for Machine {
    fn default() -> Self {
        Self {
            driver: "580.65.06".to_owned(),
            cuda: 13000,
            hang: Vec::new(),
            crash: Vec::new(),
            fail: BTreeMap::new(),
            events: None,
            gpus: Vec::new(),
        }
    }
}

/// One GPU.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact that NVML tells on its own")]
pub(crate) struct Gpu {
    /// `0000:1b:00`.
    bus: String,
    pub(crate) minor: u32,
    pub(crate) uuid: String,
    pub(crate) model: String,
    pub(crate) serial: Option<String>,
    /// Bytes.
    pub(crate) memory: u64,
    pub(crate) compute_capability: [i32; 2],
    /// Milliwatts.
    pub(crate) power_limit: u32,
    pub(crate) persistence: bool,
    pub(crate) ecc: Option<bool>,
    pub(crate) ecc_errors: u64,
    pub(crate) remap_pending: bool,
    pub(crate) remap_failed: bool,
    pub(crate) retirement_pending: Option<bool>,
    pub(crate) recovery_action: Option<u32>,
    pub(crate) mig: Option<bool>,
    /// Places for MIG instances; an empty one is null.
    pub(crate) instances: Vec<Option<Instance>>,
    pub(crate) events: bool,
    /// It fell off the bus: every call answers so.
    lost: bool,
    /// Functions that fail for this GPU, and with which code.
    fail: BTreeMap<String, nvmlReturn_t>,
}

impl Default for Gpu {
    fn default() -> Self {
        Self {
            bus: "0000:1b:00".to_owned(),
            minor: 0,
            uuid: "GPU-00000000-0000-0000-0000-000000000000".to_owned(),
            model: "NVIDIA H100 80GB HBM3".to_owned(),
            serial: Some("1650123000001".to_owned()),
            memory: 85_520_809_984,
            compute_capability: [9, 0],
            power_limit: 700_000,
            persistence: true,
            ecc: Some(true),
            ecc_errors: 0,
            remap_pending: false,
            remap_failed: false,
            retirement_pending: None,
            recovery_action: Some(0),
            mig: Some(false),
            instances: Vec::new(),
            events: true,
            lost: false,
            fail: BTreeMap::new(),
        }
    }
}

/// A MIG instance.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Instance {
    /// Numbers of the GPU instance and of the compute instance in it.
    pub(crate) place: [u32; 2],
    pub(crate) uuid: String,
    pub(crate) profile: String,
    /// Bytes.
    pub(crate) memory: u64,
}

impl Machine {
    /// The machine as it is now, for a function that answers now.
    pub(crate) fn now(function: &str) -> Answer<Self> {
        let text = env::var_os(VARIABLE).and_then(|path| fs::read_to_string(path).ok());
        let machine: Self = text.and_then(|text| serde_json::from_str(&text).ok()).ok_or(code::UNKNOWN)?;
        if machine.crash.iter().any(|name| name == function) {
            process::abort();
        }
        while machine.hang.iter().any(|name| name == function) {
            thread::park();
        }
        machine.fail.get(function).map_or(Ok(()), |code| Err(*code))?;
        Ok(machine)
    }

    /// A GPU, for a function that answers for it.
    pub(crate) fn gpu(&self, index: usize, function: &str) -> Answer<Gpu> {
        let gpu = self.gpus.get(index).ok_or(code::INVALID_ARGUMENT)?;
        if gpu.lost {
            return Err(code::GPU_IS_LOST);
        }
        gpu.fail.get(function).map_or(Ok(()), |code| Err(*code))?;
        Ok(gpu.clone())
    }
}

impl Gpu {
    /// PCI domain, bus and device.
    pub(crate) fn place(&self) -> Answer<[u32; 3]> {
        let parts: Vec<_> = self.bus.split(':').filter_map(|part| u32::from_str_radix(part, 16).ok()).collect();
        parts.try_into().map_err(|_| code::INVALID_ARGUMENT)
    }
}

/// What a handle stands for. Handles are numbers from 1, as none may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handle {
    /// A GPU, by its index.
    Gpu(usize),
    /// A MIG instance, by the index of its GPU and its place there.
    Instance(usize, usize),
}

const PLACES: usize = 256;

impl Handle {
    pub(crate) fn of(device: nvmlDevice_t) -> Self {
        let number = device.addr();
        match (number / PLACES, number % PLACES) {
            (0, number) => Self::Gpu(number.wrapping_sub(1)),
            (gpu, place) => Self::Instance(gpu - 1, place),
        }
    }

    pub(crate) fn device(self) -> nvmlDevice_t {
        ptr::without_provenance_mut(match self {
            Self::Gpu(index) => index + 1,
            Self::Instance(index, place) => (index + 1) * PLACES + place,
        })
    }
}
