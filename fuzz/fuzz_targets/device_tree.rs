//! Properties of a device tree, which firmware puts together and the EEPROMs of HATs add to.
#![no_main]

use hatrack_discover::raspberry_pi::{self, Revision};
use hatrack_discover::root;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(revision) = Revision::parse(bytes) {
        assert!((256..=32768).contains(&revision.memory));
        let _ = revision.model();
    }
    let text = root::text_of(bytes);
    assert!(!text.ends_with('\0'));
    let _ = raspberry_pi::is_compatible(&text);
    if let Some(hat) = raspberry_pi::add_on(&text, &text, &text) {
        assert!((1..=64).contains(&hat.product.chars().count()));
    }
});
