//! Descriptors of USB devices, which devices make up as they like, and what the kernel says of them without.
#![no_main]

use hatrack_discover::phone::identify::identify;
use hatrack_discover::usb::{self, Device, Interface, descriptors};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = identify(&usb::of_uevent(&String::from_utf8_lossy(bytes)));
    let Some(described) = descriptors::parse(bytes) else { return };
    for configuration in described.configurations {
        assert!(configuration.interfaces.len() <= bytes.len() / 9, "more interfaces than there is room for");
        let interface = |found: descriptors::Interface| Interface {
            triple: found.triple,
            endpoints: found.endpoints,
            name: found.has_name.then(|| "MTP".to_owned()),
        };
        let interfaces = configuration.interfaces.into_iter().map(interface).collect();
        let (vendor, product, class) = (described.vendor, described.product, described.class);
        let _ = identify(&Device { vendor, product, class, interfaces, ..Device::default() });
    }
});
