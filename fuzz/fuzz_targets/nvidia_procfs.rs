//! What NVIDIA's driver shows in `/proc`.
#![no_main]

use hatrack_discover::nvidia::procfs;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let information = procfs::Information::parse(text);
    assert!(information.uuid.is_none_or(|uuid| uuid.starts_with("GPU-")));
    let _ = procfs::parse_version(text);
    let _ = procfs::parse_minors(text);
});
