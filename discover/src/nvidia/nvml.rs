//! NVML itself: one pass over it makes a [`Report`]. Any call here can hang for ever in the driver, so it runs in the
//! probe's process alone.

mod reading;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::ffi::OsString;
use std::time::Duration;

use nvml_wrapper::bitmasks::event::EventTypes;
use nvml_wrapper::enums::event::XidError;
use nvml_wrapper::error::NvmlError;
use nvml_wrapper::{Device, EventSet, Nvml, cuda_driver_version_major, cuda_driver_version_minor};

use super::{Failure, Gpu, Report, Trouble};
use reading::Reading;

/// Path of the library, instead of where the linker and NixOS have it.
pub const LIBRARY_VARIABLE: &str = "HATRACK_NVML_LIBRARY";

/// Where the library is: the name that the linker knows, and where NixOS puts it, whose linker knows no folders.
const LIBRARIES: [&str; 2] = ["libnvidia-ml.so.1", "/run/opengl-driver/lib/libnvidia-ml.so.1"];

/// XID errors by PCI address.
#[derive(Debug, Default)]
pub(super) struct Xids(BTreeMap<String, BTreeSet<u64>>);

impl Xids {
    fn note(&mut self, address: String, number: u64) {
        self.0.entry(address).or_default().insert(number);
    }

    fn of(&self, address: &str) -> impl Iterator<Item = Trouble> {
        self.0.get(address).into_iter().flatten().map(|number| Trouble::Xid(*number))
    }
}

/// NVML, loaded and initialised.
pub(super) struct Session {
    nvml: Nvml,
}

impl Session {
    /// Loads and initialises the library.
    pub(super) fn open() -> Result<Self, Failure> {
        let given = env::var_os(LIBRARY_VARIABLE).filter(|path| !path.is_empty());
        let places = given.map_or_else(|| LIBRARIES.map(OsString::from).to_vec(), |path| vec![path]);
        let mut missing = Vec::new();
        for place in &places {
            match Nvml::builder().lib_path(place).init() {
                Ok(nvml) => return Ok(Self { nvml }),
                Err(NvmlError::LibloadingError(error)) => missing.push(error.to_string()),
                Err(error) => return Err(failure("initialise", &error)),
            }
        }
        let message = format!("install the user-space part of NVIDIA's driver: {}", missing.join("; "));
        Err(Failure { reason: "NvmlLibraryMissing".to_owned(), message })
    }

    /// One pass over all GPUs.
    pub(super) fn report(&self, xids: &Xids) -> Result<Report, Failure> {
        let count = self.nvml.device_count().map_err(|error| failure("count the GPUs", &error))?;
        Ok(Report {
            driver_version: self.nvml.sys_driver_version().ok(),
            cuda_version: self.nvml.sys_cuda_driver_version().ok().map(cuda_version),
            gpus: (0..count).map(|index| self.gpu(index, xids)).collect(),
        })
    }

    fn gpu(&self, index: u32, xids: &Xids) -> Gpu {
        let device = match self.nvml.device_by_index(index) {
            Ok(device) => device,
            Err(error) => return Gpu { troubles: vec![reading::trouble("open", &error)], ..Gpu::default() },
        };
        let mut gpu = Reading::new(&device).gpu();
        if let Some(address) = &gpu.address {
            gpu.troubles.extend(xids.of(address));
        }
        gpu
    }

    /// Asks for the events that change a report, of every GPU that has them. One that refuses takes the whole set with
    /// it (nvml.h: its state is undefined), so the others are registered anew without it.
    pub(super) fn subscribe(&self) -> Option<Subscription<'_>> {
        let mut sources = self.sources();
        while !sources.is_empty() {
            match self.register(&sources) {
                Ok(set) => {
                    let addresses = sources.into_iter().map(|source| (handle(&source.device), source.address));
                    return Some(Subscription { set: set?, addresses: addresses.collect() });
                }
                Err(refusing) => drop(sources.remove(refusing)),
            }
        }
        None
    }

    fn sources(&self) -> Vec<Source<'_>> {
        let wanted = EventTypes::CRITICAL_XID_ERROR | EventTypes::DOUBLE_BIT_ECC_ERROR | EventTypes::MIG_CONFIG_CHANGE;
        let source = |index| {
            let device = self.nvml.device_by_index(index).ok()?;
            let events = device.supported_event_types().ok()? & wanted;
            let address = reading::address(&device).ok()?;
            (!events.is_empty()).then_some(Source { device, events, address })
        };
        (0..self.nvml.device_count().unwrap_or(0)).filter_map(source).collect()
    }

    /// The set, `None` where there is none to be had, or which of the sources refused.
    fn register<'a>(&'a self, sources: &[Source<'a>]) -> Result<Option<EventSet<'a>>, usize> {
        let Ok(mut set) = self.nvml.create_event_set() else { return Ok(None) };
        for (index, source) in sources.iter().enumerate() {
            set = source.device.register_events(source.events, set).map_err(|_| index)?;
        }
        Ok(Some(set))
    }
}

/// A GPU that tells of events.
struct Source<'a> {
    device: Device<'a>,
    events: EventTypes,
    address: String,
}

/// What a GPU is in events. It is compared and never followed: a GPU that fell off the bus may not tell its address.
#[expect(unsafe_code, reason = "the wrapper marks the bare handle unsafe; it only serves as a number here")]
fn handle(device: &Device<'_>) -> usize {
    // SAFETY: the handle is not used for a call.
    unsafe { device.handle() }.addr()
}

/// Events of all GPUs.
pub(super) struct Subscription<'a> {
    set: EventSet<'a>,
    addresses: Vec<(usize, String)>,
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// Something happened to a GPU, or the time is over.
    Look,
    /// No event can be waited for any more.
    Broken,
}

impl Subscription<'_> {
    /// Waits for an event for a while, and notes an XID error.
    pub(super) fn wait(&self, patience: Duration, xids: &mut Xids) -> Woken {
        let event = match self.set.wait(u32::try_from(patience.as_millis()).unwrap_or(u32::MAX)) {
            Ok(event) => event,
            Err(NvmlError::Timeout) => return Woken::Look,
            Err(_) => return Woken::Broken,
        };
        let of = handle(&event.device);
        let address = self.addresses.iter().find(|(handle, _)| *handle == of).map(|(_, address)| address.clone());
        if let (Some(address), Some(XidError::Value(number))) = (address, event.event_data) {
            xids.note(address, number);
        }
        Woken::Look
    }
}

/// NVML has 13000 for 13.0 and 12080 for 12.8.
fn cuda_version(version: i32) -> String {
    format!("{}.{}", cuda_driver_version_major(version), cuda_driver_version_minor(version))
}

/// What it means that NVML as a whole refuses.
fn failure(what: &str, error: &NvmlError) -> Failure {
    let (reason, cure) = match error {
        NvmlError::LibRmVersionMismatch => {
            ("NvmlVersionMismatch", "library and loaded kernel module differ: reboot after an update of the driver")
        }
        NvmlError::DriverNotLoaded => ("NvmlDriverNotLoaded", "load the kernel module `nvidia`"),
        NvmlError::NoPermission => ("NvmlNoPermission", "let the agent open /dev/nvidiactl and /dev/nvidia*"),
        _ => ("NvmlError", "see the kernel log for lines with `NVRM`"),
    };
    Failure { reason: reason.to_owned(), message: format!("NVML could not {what}: {error}: {cure}") }
}
