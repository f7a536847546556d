//! Texts of the kernel, the firmware and the distribution about the host.
#![no_main]

use hatrack_discover::accelerator;
use hatrack_discover::host::{self, cpu, hardware_id, nixos, os_release};
use hatrack_discover::network::{self, address};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let processors = cpu::Processors::parse(text);
    assert!(processors.cores.is_none_or(|cores| cores > 0));
    let _ = cpu::length(text);
    assert!(os_release::value(text, "PRETTY_NAME").is_none_or(|name| !name.is_empty()));
    let id = hardware_id::trusted_uuid(text);
    assert!(id.is_none_or(|id| id.len() == 36 && !id.contains(char::is_uppercase)));
    assert!(!hardware_id::is_serial(text) || text.len() <= 64);
    let _ = host::total_memory(text);
    let _ = nixos::configuration_revision(text);
    let _ = address::ipv6(text);
    let _ = network::stable_part(text);
    let _ = accelerator::node_of_address("/dev/{domain}:{bus}:{function}", text);
});
