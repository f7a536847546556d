//! What sysfs tells of PCI functions and of devices inside a system on a chip.
#![no_main]

use hatrack_discover::{pci, platform};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = pci::Identity::parse(text);
    let _ = pci::parse_speed(text);
    let _ = platform::Device::parse(String::new(), text);
});
