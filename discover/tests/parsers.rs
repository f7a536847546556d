//! Every parser has a fuzz target, and what the targets begin with is read by every ordinary run of the tests, too.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that fails has to say so")]

use std::fs;
use std::path::{Path, PathBuf};

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

/// Public functions that take a text and read nothing of others in it.
const NO_PARSERS: [&str; 5] = [
    "by_id::preference",   // names of links that udev makes, compared as they are
    "condition::verdicts", // the name of a ClusterNode
    "platform::slot",      // a kernel name, taken as it is
    "State::from_text",    // read by list::parse
    "wire::request",       // what is asked for
];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let inner = folders.iter().flat_map(|folder| sources(folder));
    files.into_iter().filter(|path| path.extension().is_some_and(|kind| kind == "rs")).chain(inner).collect()
}

/// The public functions of a file whose first or second parameter is a text or bytes, `module::function` or `Type::function`.
fn readers(path: &Path) -> Vec<String> {
    let source = fs::read_to_string(path).unwrap();
    let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    let module = path.file_stem().unwrap().to_str().unwrap();
    let mut owner = module;
    let mut found = Vec::new();
    for line in code.lines() {
        if let Some(rest) = line.strip_prefix("impl") {
            let kind = rest.trim_start_matches("<'a>").trim().trim_end_matches('{').trim();
            owner = kind.split('<').next().unwrap();
        } else if line == "}" {
            owner = module;
        }
        let Some((name, rest)) = line.trim().strip_prefix("pub fn ").and_then(|rest| rest.split_once('(')) else {
            continue;
        };
        let parameters = rest.split(')').next().unwrap();
        let is_read =
            ["&str", "&'a str", "&[u8]", "&'a [u8]", "&mut Vec<u8>"].iter().any(|kind| parameters.contains(kind));
        if is_read && !parameters.contains("self") && !parameters.contains("Root") {
            found.push(format!("{owner}::{name}"));
        }
    }
    found
}

#[test]
fn every_public_parser_is_called_by_a_fuzz_target() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let targets: String =
        sources(&here.join("../fuzz/fuzz_targets")).iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    let readers: Vec<_> = sources(&here.join("src")).iter().flat_map(|path| readers(path)).collect();
    assert!(readers.len() >= 25, "{readers:?}");
    let is_called = |reader: &str| targets.contains(&format!("{reader}("));
    for reader in &readers {
        assert_ne!(
            is_called(reader),
            NO_PARSERS.contains(&reader.as_str()),
            "{reader} needs a target, or is no parser"
        );
    }
    assert!(NO_PARSERS.iter().all(|name| readers.iter().any(|reader| reader == name)), "{readers:?}");
}
