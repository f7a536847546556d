//! One GPU, call by call. A fact that the GPU does not have, or that the driver is too old to tell, is absent; any other
//! refusal is a trouble of this GPU alone.

use nvml_wrapper::Device;
use nvml_wrapper::enum_wrappers::device::{EccCounter, MemoryError};
use nvml_wrapper::enums::device::SampleValue;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::structs::device::FieldId;
use nvml_wrapper::sys_exports::field_id;

use crate::nvidia::{Gpu, Instance, Trouble};

/// Values of `nvmlDeviceGpuRecoveryAction_t` (nvml.h).
const RECOVERY_NONE: u64 = 0;
const RECOVERY_RESET: u64 = 1;
const RECOVERY_REBOOT: u64 = 2;
const RECOVERY_DRAIN_AND_RESET: u64 = 4;

/// The calls to one GPU, and what went wrong with them.
pub(super) struct Reading<'a> {
    device: &'a Device<'a>,
    needs_nothing: bool,
    troubles: Vec<Trouble>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(device: &'a Device<'a>) -> Self {
        Self { device, needs_nothing: false, troubles: Vec::new() }
    }

    /// Everything about the GPU.
    pub(super) fn gpu(mut self) -> Gpu {
        let device = self.device;
        let mig = self.told("MIG mode", device.mig_mode()).map(|mode| mode.current == 1);
        let mut gpu = Gpu {
            address: self.told("PCI address", address(device)),
            uuid: self.told("UUID", device.uuid()),
            model: self.told("name", device.name()),
            serial: self.told("serial number", device.serial()).filter(|serial| serial != "0"),
            minor: self.told("minor number", device.minor_number()),
            memory: self.told("memory", memory(device)),
            compute_capability: self
                .told("compute capability", device.cuda_compute_capability())
                .map(|version| format!("{}.{}", version.major, version.minor)),
            power_limit: self.told("power limit", device.power_management_limit()),
            ecc: self.told("ECC mode", device.is_ecc_enabled()).map(|mode| mode.currently_enabled),
            persistence: self.told("persistence", device.is_in_persistent_mode()),
            mig,
            instances: if mig == Some(true) { self.instances() } else { Vec::new() },
            needs_nothing: false,
            troubles: Vec::new(),
        };
        self.memory_errors();
        self.fields();
        gpu.needs_nothing = self.needs_nothing;
        gpu.troubles = self.troubles;
        gpu
    }

    /// What a call told; how it failed is kept, each trouble once.
    fn told<T>(&mut self, what: &str, answer: Result<T, NvmlError>) -> Option<T> {
        match answer {
            Ok(value) => Some(value),
            Err(error) if is_absence(&error) => None,
            Err(error) => {
                self.add(trouble(what, &error));
                None
            }
        }
    }

    fn add(&mut self, trouble: Trouble) {
        if !self.troubles.contains(&trouble) {
            self.troubles.push(trouble);
        }
    }

    fn memory_errors(&mut self) {
        let counted = self.device.total_ecc_errors(MemoryError::Uncorrected, EccCounter::Volatile);
        if let Some(count) = self.told("ECC errors", counted).filter(|count| *count > 0) {
            self.add(Trouble::UncorrectableEcc(count));
        }
        if self.told("retired pages", self.device.are_pages_pending_retired()) == Some(true) {
            self.add(Trouble::RetirementPending);
        }
    }

    /// What has no call of its own. A field that the driver does not know fails alone.
    fn fields(&mut self) {
        let fields = [
            field_id::NVML_FI_DEV_REMAPPED_PENDING,
            field_id::NVML_FI_DEV_REMAPPED_FAILURE,
            field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION,
        ];
        let samples = self.told("field values", self.device.field_values_for(&fields.map(FieldId)));
        for sample in samples.into_iter().flatten().flatten() {
            let Some(value) = sample.value.ok().as_ref().and_then(whole) else { continue };
            match (sample.field.0, value) {
                (field_id::NVML_FI_DEV_REMAPPED_PENDING, 1..) => self.add(Trouble::RemapPending),
                (field_id::NVML_FI_DEV_REMAPPED_FAILURE, 1..) => self.add(Trouble::RemapFailed),
                (field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, RECOVERY_NONE) => self.needs_nothing = true,
                (field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, RECOVERY_REBOOT) => self.add(Trouble::RebootRequired),
                (field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION, RECOVERY_RESET | RECOVERY_DRAIN_AND_RESET) => {
                    self.add(Trouble::ResetRequired);
                }
                _ => {}
            }
        }
    }

    fn instances(&mut self) -> Vec<Instance> {
        let most = self.told("number of MIG instances", self.device.mig_device_count()).unwrap_or(0);
        (0..most).filter_map(|index| self.instance(index)).collect()
    }

    /// The places of MIG instances are numbered with gaps: an empty one is not found.
    fn instance(&mut self, index: u32) -> Option<Instance> {
        let device = match self.device.mig_device_by_index(index) {
            Err(NvmlError::NotFound | NvmlError::InvalidArg) => return None,
            found => self.told("MIG instance", found)?,
        };
        let (gpu_instance, compute_instance) = self.told("place of a MIG instance", place(&device))?;
        let name = self.told("name of a MIG instance", device.name());
        Some(Instance {
            gpu_instance,
            compute_instance,
            uuid: self.told("UUID of a MIG instance", device.uuid()),
            profile: name.as_deref().and_then(profile),
            memory: self.told("memory of a MIG instance", memory(&device)),
        })
    }
}

/// Whether an answer says that there is no such fact, rather than that something is wrong. A function that the library
/// does not have is one that a newer driver has.
fn is_absence(error: &NvmlError) -> bool {
    matches!(
        error,
        NvmlError::NotSupported
            | NvmlError::FunctionNotFound
            | NvmlError::FailedToLoadSymbol(_)
            | NvmlError::NoPermission
            | NvmlError::NoData
    )
}

/// What a failed call says of a GPU.
pub(super) fn trouble(what: &str, error: &NvmlError) -> Trouble {
    match error {
        NvmlError::GpuLost => Trouble::Lost,
        NvmlError::ResetRequired => Trouble::ResetRequired,
        error => Trouble::Unanswered(format!("{what}: {error}")),
    }
}

/// The PCI address in sysfs' form; NVML writes eight digits for the domain.
pub(super) fn address(device: &Device<'_>) -> Result<String, NvmlError> {
    let pci = device.pci_info()?;
    Ok(format!("{:04x}:{:02x}:{:02x}.0", pci.domain, pci.bus, pci.device))
}

/// Memory in bytes, what the driver reserves included. Drivers before 510 have the older call alone.
fn memory(device: &Device<'_>) -> Result<u64, NvmlError> {
    match device.memory_info() {
        Ok(memory) => Ok(memory.total),
        Err(NvmlError::FunctionNotFound | NvmlError::FailedToLoadSymbol(_)) => older_memory(device),
        Err(error) => Err(error),
    }
}

#[expect(unsafe_code, reason = "the wrapper has the newer call alone")]
fn older_memory(device: &Device<'_>) -> Result<u64, NvmlError> {
    let Ok(get) = &device.nvml().lib().nvmlDeviceGetMemoryInfo else { return Err(NvmlError::FunctionNotFound) };
    let mut memory = std::mem::MaybeUninit::zeroed();
    // SAFETY: the handle is of the same library, and `memory` has the type that the call fills.
    match unsafe { get(device.handle(), memory.as_mut_ptr()) } {
        // SAFETY: filled by the call; all of its bit patterns are numbers.
        0 => Ok(unsafe { memory.assume_init() }.total),
        code => Err(NvmlError::from(code)),
    }
}

/// GPU instance and compute instance of a MIG instance.
#[expect(unsafe_code, reason = "the wrapper has no calls for them")]
fn place(device: &Device<'_>) -> Result<(u32, u32), NvmlError> {
    let library = device.nvml().lib();
    let (Ok(gpu_instance), Ok(compute_instance)) =
        (&library.nvmlDeviceGetGpuInstanceId, &library.nvmlDeviceGetComputeInstanceId)
    else {
        return Err(NvmlError::FunctionNotFound);
    };
    let mut place = (0, 0);
    // SAFETY: the handle is of the same library, and both calls write one number.
    let codes = unsafe {
        let handle = device.handle();
        [gpu_instance(handle, &raw mut place.0), compute_instance(handle, &raw mut place.1)]
    };
    codes.into_iter().find(|code| *code != 0).map_or(Ok(place), |code| Err(NvmlError::from(code)))
}

/// The profile at the end of a MIG instance's name, `NVIDIA H100 80GB HBM3 MIG 1g.10gb`.
fn profile(name: &str) -> Option<String> {
    name.rsplit_once("MIG ").map(|(_, profile)| profile.trim().to_owned()).filter(|profile| !profile.is_empty())
}

fn whole(value: &SampleValue) -> Option<u64> {
    match value {
        SampleValue::U32(value) => Some(u64::from(*value)),
        SampleValue::U64(value) => Some(*value),
        SampleValue::I64(value) => u64::try_from(*value).ok(),
        SampleValue::F64(_) => None,
    }
}
