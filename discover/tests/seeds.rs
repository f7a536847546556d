//! What the fuzz targets begin with is read by every ordinary run of the tests, too.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that fails has to say so")]

use std::fs;
use std::path::Path;

use hatrack_discover::phone::adb::{Properties, State, list, wire};
use hatrack_discover::phone::identify::{Mode, identify};
use hatrack_discover::usb::{Device, Interface, descriptors};

fn seed(name: &str) -> Vec<u8> {
    fs::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/seeds")).join(name)).unwrap()
}

fn text(name: &str) -> String {
    String::from_utf8(seed(name)).unwrap()
}

#[test]
fn descriptors_of_usb_devices() {
    for (name, expected) in [
        ("usb/samsung-mtp-adb", Some(Mode::Adb)),
        ("usb/xiaomi-rndis-adb", Some(Mode::Adb)),
        ("usb/superspeed", Some(Mode::Adb)),
        ("usb/iphone", Some(Mode::Apple)),
        ("usb/hub", None),
    ] {
        let described = descriptors::parse(&seed(name)).unwrap();
        let interface =
            |found: &descriptors::Interface| Interface { triple: found.triple, endpoints: found.endpoints, name: None };
        let interfaces = described.configurations[0].interfaces.iter().map(interface).collect();
        let (vendor, product, class) = (described.vendor, described.product, described.class);
        let found = identify(&Device { vendor, product, class, interfaces, ..Device::default() });
        assert_eq!(found.map(|identity| identity.mode), expected, "{name}");
    }
}

#[test]
fn what_adb_says() {
    let mut frames = seed("adb/frames");
    wire::take_status(&mut frames).unwrap().unwrap();
    let first = wire::take_block(&mut frames).unwrap().unwrap();
    assert_eq!(list::parse(&first)[0].state, State::Unauthorized);
    assert_eq!(wire::take_block(&mut frames).unwrap().as_deref(), Some(""));
    assert!(matches!(wire::take_status(&mut seed("adb/refusal")), Err(wire::WireError::Refused(_))));

    let long = list::parse(&text("adb/long-list"));
    assert_eq!(long.iter().filter(|phone| phone.devpath.is_some()).count(), 3);
    assert_eq!(long.iter().filter_map(|phone| phone.id).collect::<Vec<_>>(), [7, 8, 9, 10]);
    assert_eq!(list::parse(&text("adb/short-list")).len(), 2);
    assert_eq!(Properties::parse(&text("adb/properties")).memory, Some(7_654_321 << 10));
}
