//! Texts of the kernel, the firmware and the distribution about the host.
#![no_main]

use hatrack_discover::host::{cpu, hardware_id, os_release};
use hatrack_discover::network::address;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let processors = cpu::Processors::parse(text);
    assert!(processors.cores.is_none_or(|cores| cores > 0));
    let _ = cpu::length(text);
    assert!(os_release::value(text, "PRETTY_NAME").is_none_or(|name| !name.is_empty()));
    let id = hardware_id::trusted_uuid(text);
    assert!(id.is_none_or(|id| id.len() == 36 && !id.contains(char::is_uppercase)));
    let _ = address::ipv6(text);
});
