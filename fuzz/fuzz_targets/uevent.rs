//! Messages of the kernel about devices that come, go and change.
#![no_main]

use hatrack_discover::hotplug::uevent::Uevent;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|message: &[u8]| {
    if let Ok(uevent) = Uevent::parse(message) {
        assert!(uevent.path.starts_with('/') && !uevent.subsystem.is_empty());
        let _ = uevent.can_matter();
    }
});
