//! What an adb server and its phones say: frames, lists, properties, and the devices that follow from them.
#![no_main]

use hatrack_discover::names::Names;
use hatrack_discover::phone::adb::{Properties, View, list, wire};
use hatrack_discover::phone::sightings;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let mut input = bytes.to_vec();
    let _ = wire::take_status(&mut input);
    while let Ok(Some(text)) = wire::take_block(&mut input) {
        look(&text);
    }
    look(&String::from_utf8_lossy(bytes));
});

fn look(text: &str) {
    let mut transports = list::parse(text);
    let told = Properties::parse(text);
    for transport in &mut transports {
        assert!(!transport.serial.contains('\n'));
        transport.told = Some(told.clone());
    }
    let count = transports.len();
    let devices = Names::default().assign(sightings(&[], &View::Listed(transports)));
    assert!(devices.len() <= count, "more phones than transports");
    for device in devices {
        let is_label = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        assert!(device.name.len() <= 63 && device.name.bytes().all(is_label), "{}", device.name);
        assert!(device.health.message.chars().count() <= 512 && !device.health.reason.is_empty());
    }
}
