//! A `libnvidia-ml.so.1` without a driver: the functions that hatrack's probe calls, answered from the JSON file that
//! [`VARIABLE`] names. The file is read anew at each call, so a test changes what happens by replacing it.
//!
//! ```json
//! {"driver": "580.65.06", "cuda": 13000, "hang": [], "fail": {"nvmlDeviceGetCount_v2": 999}, "events": "/tmp/events",
//!  "gpus": [{"bus": "0000:1b:00", "lost": false, "eccErrors": 0, "remapPending": false, "instances": []}]}
//! ```

#![allow(unsafe_code, reason = "NVML is a C interface: pointers of the caller are written to")]
#![allow(clippy::missing_safety_doc, reason = "nvml.h says what each pointer is")]

mod machine;

use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong};
use std::fs;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nvml_wrapper_sys::bindings::{
    field_id, nvmlDevice_t, nvmlEventData_t, nvmlEventSet_t, nvmlEventTypeXidCriticalError, nvmlFieldValue_t,
    nvmlMemory_t, nvmlMemory_v2_t, nvmlPciInfo_t, nvmlReturn_t,
};

use machine::{Gpu, Handle, Instance, Machine};

/// Environment variable that names the file.
pub const VARIABLE: &str = "HATRACK_FAKE_NVML";

/// Codes of nvml.h that the fake gives of its own accord.
mod code {
    use super::nvmlReturn_t;

    pub(crate) const SUCCESS: nvmlReturn_t = 0;
    pub(crate) const INVALID_ARGUMENT: nvmlReturn_t = 2;
    pub(crate) const NOT_SUPPORTED: nvmlReturn_t = 3;
    pub(crate) const NOT_FOUND: nvmlReturn_t = 6;
    pub(crate) const INSUFFICIENT_SIZE: nvmlReturn_t = 7;
    pub(crate) const TIMEOUT: nvmlReturn_t = 10;
    pub(crate) const GPU_IS_LOST: nvmlReturn_t = 15;
    pub(crate) const UNKNOWN: nvmlReturn_t = 999;
}

/// What a function answers, or the code with which it fails.
type Answer<T = ()> = Result<T, nvmlReturn_t>;

fn code_of(answer: Answer) -> nvmlReturn_t {
    answer.err().unwrap_or(code::SUCCESS)
}

/// Writes a value to where the caller wants it.
unsafe fn put<T>(to: *mut T, value: T) -> Answer {
    if to.is_null() {
        return Err(code::INVALID_ARGUMENT);
    }
    // SAFETY: not null, and of the caller's type as nvml.h has it.
    unsafe { to.write(value) };
    Ok(())
}

/// Writes a text with its NUL into a buffer of the caller.
unsafe fn put_text(to: *mut c_char, size: c_uint, text: &str) -> Answer {
    if text.len() >= size as usize {
        return Err(code::INSUFFICIENT_SIZE);
    }
    // SAFETY: the caller's buffer has `size` bytes, one more than the text at least.
    unsafe {
        ptr::copy_nonoverlapping(text.as_ptr().cast(), to, text.len());
        put(to.add(text.len()), 0)
    }
}

fn number(count: usize) -> c_uint {
    c_uint::try_from(count).unwrap_or(c_uint::MAX)
}

/// The GPU that a handle is of, if the function works for it now.
fn gpu(device: nvmlDevice_t, function: &str) -> Answer<Gpu> {
    match Handle::of(device) {
        Handle::Gpu(index) => Machine::now(function)?.gpu(index, function),
        Handle::Instance(..) => Err(code::INVALID_ARGUMENT),
    }
}

fn instance(device: nvmlDevice_t, function: &str) -> Answer<Instance> {
    let Handle::Instance(index, place) = Handle::of(device) else { return Err(code::NOT_SUPPORTED) };
    let gpu = Machine::now(function)?.gpu(index, function)?;
    gpu.instances.get(place).cloned().flatten().ok_or(code::NOT_FOUND)
}

/// `nvmlInit_v2`
#[unsafe(no_mangle)]
pub extern "C" fn nvmlInit_v2() -> nvmlReturn_t {
    code_of(Machine::now("nvmlInit_v2").map(drop))
}

/// `nvmlShutdown`
#[unsafe(no_mangle)]
pub extern "C" fn nvmlShutdown() -> nvmlReturn_t {
    code_of(Machine::now("nvmlShutdown").map(drop))
}

/// `nvmlSystemGetDriverVersion`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetDriverVersion(version: *mut c_char, length: c_uint) -> nvmlReturn_t {
    let machine = Machine::now("nvmlSystemGetDriverVersion");
    code_of(machine.and_then(|machine| unsafe { put_text(version, length, &machine.driver) }))
}

/// `nvmlSystemGetCudaDriverVersion_v2`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlSystemGetCudaDriverVersion_v2(version: *mut c_int) -> nvmlReturn_t {
    let machine = Machine::now("nvmlSystemGetCudaDriverVersion_v2");
    code_of(machine.and_then(|machine| unsafe { put(version, machine.cuda) }))
}

/// `nvmlDeviceGetCount_v2`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCount_v2(count: *mut c_uint) -> nvmlReturn_t {
    let machine = Machine::now("nvmlDeviceGetCount_v2");
    code_of(machine.and_then(|machine| unsafe { put(count, number(machine.gpus.len())) }))
}

/// `nvmlDeviceGetHandleByIndex_v2`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetHandleByIndex_v2(index: c_uint, device: *mut nvmlDevice_t) -> nvmlReturn_t {
    let opened = Machine::now("nvmlDeviceGetHandleByIndex_v2")
        .and_then(|machine| machine.gpu(index as usize, "nvmlDeviceGetHandleByIndex_v2"));
    code_of(opened.and_then(|_| unsafe { put(device, Handle::Gpu(index as usize).device()) }))
}

/// `nvmlDeviceGetPciInfo_v3`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetPciInfo_v3(device: nvmlDevice_t, info: *mut nvmlPciInfo_t) -> nvmlReturn_t {
    let info_of = |gpu: Gpu| {
        // SAFETY: numbers and characters, for which zero is a value.
        let mut filled: nvmlPciInfo_t = unsafe { std::mem::zeroed() };
        [filled.domain, filled.bus, filled.device] = gpu.place()?;
        let text = format!("{:08X}:{:02X}:{:02X}.0", filled.domain, filled.bus, filled.device);
        // SAFETY: the text is shorter than the field.
        unsafe { put_text(filled.busId.as_mut_ptr(), number(filled.busId.len()), &text) }.map(|()| filled)
    };
    let filled = gpu(device, "nvmlDeviceGetPciInfo_v3").and_then(info_of);
    code_of(filled.and_then(|filled| unsafe { put(info, filled) }))
}

/// `nvmlDeviceGetUUID`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetUUID(device: nvmlDevice_t, uuid: *mut c_char, length: c_uint) -> nvmlReturn_t {
    let text = match Handle::of(device) {
        Handle::Gpu(_) => gpu(device, "nvmlDeviceGetUUID").map(|gpu| gpu.uuid),
        Handle::Instance(..) => instance(device, "nvmlDeviceGetUUID").map(|instance| instance.uuid),
    };
    code_of(text.and_then(|text| unsafe { put_text(uuid, length, &text) }))
}

/// `nvmlDeviceGetName`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetName(device: nvmlDevice_t, name: *mut c_char, length: c_uint) -> nvmlReturn_t {
    let text = match Handle::of(device) {
        Handle::Gpu(_) => gpu(device, "nvmlDeviceGetName").map(|gpu| gpu.model),
        Handle::Instance(index, _) => instance(device, "nvmlDeviceGetName").and_then(|instance| {
            let gpu = Machine::now("nvmlDeviceGetName")?.gpu(index, "nvmlDeviceGetName")?;
            Ok(format!("{} MIG {}", gpu.model, instance.profile))
        }),
    };
    code_of(text.and_then(|text| unsafe { put_text(name, length, &text) }))
}

/// `nvmlDeviceGetSerial`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetSerial(
    device: nvmlDevice_t,
    serial: *mut c_char,
    length: c_uint,
) -> nvmlReturn_t {
    let text = gpu(device, "nvmlDeviceGetSerial").and_then(|gpu| gpu.serial.ok_or(code::NOT_SUPPORTED));
    code_of(text.and_then(|text| unsafe { put_text(serial, length, &text) }))
}

/// Functions that write one fact of a GPU.
macro_rules! facts {
    ($($function:ident: $type:ty = |$gpu:ident| $fact:expr;)*) => { $(
        #[doc = concat!("`", stringify!($function), "`")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $function(device: nvmlDevice_t, to: *mut $type) -> nvmlReturn_t {
            let fact = gpu(device, stringify!($function)).and_then(|$gpu| $fact);
            code_of(fact.and_then(|fact| unsafe { put(to, fact) }))
        }
    )* };
}

facts! {
    nvmlDeviceGetMinorNumber: c_uint = |gpu| Ok(gpu.minor);
    nvmlDeviceGetPowerManagementLimit: c_uint = |gpu| Ok(gpu.power_limit);
    nvmlDeviceGetPersistenceMode: c_uint = |gpu| Ok(c_uint::from(gpu.persistence));
    nvmlDeviceGetRetiredPagesPendingStatus: c_uint =
        |gpu| gpu.retirement_pending.map(c_uint::from).ok_or(code::NOT_SUPPORTED);
    nvmlDeviceGetMaxMigDeviceCount: c_uint = |gpu| Ok(number(gpu.instances.len()));
    nvmlDeviceGetSupportedEventTypes: c_ulonglong =
        |gpu| if gpu.events { Ok(c_ulonglong::from(nvmlEventTypeXidCriticalError)) } else { Err(code::NOT_SUPPORTED) };
}

/// Functions that write one fact of a MIG instance.
macro_rules! places {
    ($($function:ident = $field:literal;)*) => { $(
        #[doc = concat!("`", stringify!($function), "`")]
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $function(device: nvmlDevice_t, to: *mut c_uint) -> nvmlReturn_t {
            code_of(instance(device, stringify!($function)).and_then(|instance| unsafe { put(to, instance.place[$field]) }))
        }
    )* };
}

places! {
    nvmlDeviceGetGpuInstanceId = 0;
    nvmlDeviceGetComputeInstanceId = 1;
}

fn memory_of(device: nvmlDevice_t, function: &str) -> Answer<u64> {
    match Handle::of(device) {
        Handle::Gpu(_) => gpu(device, function).map(|gpu| gpu.memory),
        Handle::Instance(..) => instance(device, function).map(|instance| instance.memory),
    }
}

/// `nvmlDeviceGetMemoryInfo`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo(device: nvmlDevice_t, memory: *mut nvmlMemory_t) -> nvmlReturn_t {
    let total = memory_of(device, "nvmlDeviceGetMemoryInfo");
    code_of(total.and_then(|total| unsafe { put(memory, nvmlMemory_t { total, free: total, used: 0 }) }))
}

/// `nvmlDeviceGetMemoryInfo_v2`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMemoryInfo_v2(
    device: nvmlDevice_t,
    memory: *mut nvmlMemory_v2_t,
) -> nvmlReturn_t {
    let filled = |total| nvmlMemory_v2_t { version: 2, total, reserved: 0, free: total, used: 0 };
    let total = memory_of(device, "nvmlDeviceGetMemoryInfo_v2");
    code_of(total.and_then(|total| unsafe { put(memory, filled(total)) }))
}

/// `nvmlDeviceGetCudaComputeCapability`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetCudaComputeCapability(
    device: nvmlDevice_t,
    major: *mut c_int,
    minor: *mut c_int,
) -> nvmlReturn_t {
    let written = gpu(device, "nvmlDeviceGetCudaComputeCapability")
        .and_then(|gpu| unsafe { put(major, gpu.compute_capability[0]).and(put(minor, gpu.compute_capability[1])) });
    code_of(written)
}

/// `nvmlDeviceGetEccMode`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetEccMode(
    device: nvmlDevice_t,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> nvmlReturn_t {
    let mode = gpu(device, "nvmlDeviceGetEccMode").and_then(|gpu| gpu.ecc.ok_or(code::NOT_SUPPORTED));
    code_of(mode.and_then(|on| unsafe { put(current, c_uint::from(on)).and(put(pending, c_uint::from(on))) }))
}

/// `nvmlDeviceGetTotalEccErrors`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetTotalEccErrors(
    device: nvmlDevice_t,
    _error: c_uint,
    _counter: c_uint,
    count: *mut c_ulonglong,
) -> nvmlReturn_t {
    let errors = gpu(device, "nvmlDeviceGetTotalEccErrors").and_then(|gpu| {
        let counted = gpu.ecc == Some(true);
        if counted { Ok(gpu.ecc_errors) } else { Err(code::NOT_SUPPORTED) }
    });
    code_of(errors.and_then(|errors| unsafe { put(count, errors) }))
}

/// `nvmlDeviceGetMigMode`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigMode(
    device: nvmlDevice_t,
    current: *mut c_uint,
    pending: *mut c_uint,
) -> nvmlReturn_t {
    let mode = gpu(device, "nvmlDeviceGetMigMode").and_then(|gpu| gpu.mig.ok_or(code::NOT_SUPPORTED));
    code_of(mode.and_then(|on| unsafe { put(current, c_uint::from(on)).and(put(pending, c_uint::from(on))) }))
}

/// `nvmlDeviceGetMigDeviceHandleByIndex`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetMigDeviceHandleByIndex(
    device: nvmlDevice_t,
    place: c_uint,
    found: *mut nvmlDevice_t,
) -> nvmlReturn_t {
    let Handle::Gpu(index) = Handle::of(device) else { return code::INVALID_ARGUMENT };
    let handle = Handle::Instance(index, place as usize).device();
    let there = instance(handle, "nvmlDeviceGetMigDeviceHandleByIndex");
    code_of(there.and_then(|_| unsafe { put(found, handle) }))
}

/// `nvmlDeviceGetFieldValues`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlDeviceGetFieldValues(
    device: nvmlDevice_t,
    count: c_int,
    values: *mut nvmlFieldValue_t,
) -> nvmlReturn_t {
    let gpu = match gpu(device, "nvmlDeviceGetFieldValues") {
        Ok(gpu) => gpu,
        Err(code) => return code,
    };
    for index in 0..usize::try_from(count).unwrap_or(0) {
        // SAFETY: the caller's array has `count` entries.
        let value = unsafe { &mut *values.add(index) };
        let told = match value.fieldId {
            field_id::NVML_FI_DEV_REMAPPED_PENDING => Some(c_uint::from(gpu.remap_pending)),
            field_id::NVML_FI_DEV_REMAPPED_FAILURE => Some(c_uint::from(gpu.remap_failed)),
            field_id::NVML_FI_DEV_GET_GPU_RECOVERY_ACTION => gpu.recovery_action,
            _ => None,
        };
        // 1 is an unsigned integer (nvml.h, `nvmlValueType_t`).
        value.valueType = 1;
        value.nvmlReturn = if told.is_some() { code::SUCCESS } else { code::NOT_SUPPORTED };
        value.value.uiVal = told.unwrap_or(0);
    }
    code::SUCCESS
}

/// `nvmlEventSetCreate`
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetCreate(set: *mut nvmlEventSet_t) -> nvmlReturn_t {
    let created = Machine::now("nvmlEventSetCreate");
    code_of(created.and_then(|_| unsafe { put(set, ptr::without_provenance_mut(1)) }))
}

/// `nvmlEventSetFree`
#[unsafe(no_mangle)]
pub extern "C" fn nvmlEventSetFree(_set: nvmlEventSet_t) -> nvmlReturn_t {
    code::SUCCESS
}

/// `nvmlDeviceRegisterEvents`
#[unsafe(no_mangle)]
pub extern "C" fn nvmlDeviceRegisterEvents(
    device: nvmlDevice_t,
    _events: c_ulonglong,
    _set: nvmlEventSet_t,
) -> nvmlReturn_t {
    code_of(gpu(device, "nvmlDeviceRegisterEvents").map(drop))
}

/// `nvmlEventSetWait_v2`: each line of the events' file, `<index of the GPU> <number of the XID>`, is one event.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nvmlEventSetWait_v2(
    _set: nvmlEventSet_t,
    data: *mut nvmlEventData_t,
    timeout: c_uint,
) -> nvmlReturn_t {
    static DELIVERED: AtomicUsize = AtomicUsize::new(0);
    let until = Instant::now() + Duration::from_millis(u64::from(timeout));
    loop {
        let machine = match Machine::now("nvmlEventSetWait_v2") {
            Ok(machine) => machine,
            Err(code) => return code,
        };
        let lines = machine.events.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default();
        let next = lines.lines().nth(DELIVERED.load(Ordering::Relaxed)).and_then(|line| line.split_once(' '));
        if let Some((gpu, xid)) = next
            && let (Ok(gpu), Ok(xid)) = (gpu.parse(), xid.parse())
        {
            DELIVERED.fetch_add(1, Ordering::Relaxed);
            let event = nvmlEventData_t {
                device: Handle::Gpu(gpu).device(),
                eventType: c_ulonglong::from(nvmlEventTypeXidCriticalError),
                eventData: xid,
                gpuInstanceId: c_uint::MAX,
                computeInstanceId: c_uint::MAX,
            };
            return code_of(unsafe { put(data, event) });
        }
        if Instant::now() >= until {
            return code::TIMEOUT;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// `nvmlErrorString`
#[unsafe(no_mangle)]
pub extern "C" fn nvmlErrorString(_code: nvmlReturn_t) -> *const c_char {
    const TEXT: &CStr = c"a fake error";
    TEXT.as_ptr()
}
