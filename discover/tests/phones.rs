//! Phones of every fixture: what must be found, with its state and reason, and that nothing else is.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that fails has to say so")]

use hatrack_api::cluster_node::{Device, attribute};
use hatrack_discover::names::Names;
use hatrack_discover::phone::adb::{Properties, State, Transport, View};
use hatrack_discover::phone::{self, ABI, ANDROID_VERSION, REMOTE};
use hatrack_discover::root::Root;
use hatrack_discover::sighting::Sighting;
use hatrack_discover::usb::{self, budget};

/// Slot below the controller, maker, model and reason.
type Row = (&'static str, &'static str, &'static str, &'static str);

/// Every phone of the box; which of them adb may use is not on the bus.
const BOX: [Row; 20] = [
    ("1.1.1", "samsung", "SM-F721U", "AdbPending"),
    ("1.1.2", "samsung", "SM-F721U", "AdbPending"),
    ("1.1.3", "samsung", "SM-F721U", "AdbPending"),
    ("1.1.4.1", "samsung", "SM-F721U", "AdbPending"),
    ("1.1.4.2", "samsung", "SAMSUNG_Android", "AdbPending"),
    ("1.1.4.3", "samsung", "SAMSUNG_Android", "AdbPending"),
    ("1.1.4.4", "samsung", "SAMSUNG_Android", "AdbPending"),
    ("1.2.1", "hmd", "HMD Vibe", "AdbPending"),
    ("1.2.2", "hmd", "HMD Vibe", "AdbPending"),
    ("1.2.3", "hmd", "HMD Vibe", "AdbPending"),
    ("1.2.4.1", "google", "Pixel 6a", "AdbPending"),
    ("1.2.4.2", "google", "Pixel 8", "AdbPending"),
    ("1.2.4.3", "google", "Pixel 9", "AdbPending"),
    ("1.2.4.4", "google", "Pixel 4a", "AdbPending"),
    ("1.3.1", "xiaomi", "SDM439-QRD _SN:0E2F2E4B", "AdbPending"),
    ("1.3.2", "oppo", "KB2003", "AdbPending"),
    ("1.3.3", "motorola", "moto g power", "AdbPending"),
    ("1.3.4.1", "huawei", "HUAWEI", "AdbPending"),
    ("1.3.4.2", "lg", "LGE Android Phone", "AdbPending"),
    ("1.3.4.3", "google", "Android", "FastbootMode"),
];

/// One in each state that the bus can show. A keyboard, a camera and a network card beside them are none.
const STATES: [Row; 15] = [
    ("1", "apple", "iPhone", "AppleDevice"),
    ("1", "google", "Pixel 9 Pro", "AdbPending"),
    ("10", "unisoc", "itel A60", "AdbPending"),
    ("14", "rockchip", "", "RockusbMode"),
    ("2", "apple", "Apple Mobile Device (Recovery Mode)", "AppleRecoveryMode"),
    ("3", "qualcomm", "QUSB_BULK_CID:0401_SN:8D3A1F0C", "EdlMode"),
    ("4", "mediatek", "MT65xx Preloader", "PreloaderMode"),
    ("5", "samsung", "Gadget Serial", "OdinMode"),
    ("6", "google", "Pixel 3", "AdbPending"),
    ("7", "samsung", "SAMSUNG_Android", "AdbOff"),
    ("8", "google", "Pixel 6a", "FastbootMode"),
    ("9.1", "google", "Pixel 5", "AdbOff"),
    ("9.2", "xiaomi", "Redmi Note 9", "AdbPending"),
    ("9.3", "apple", "iPad", "AppleDevice"),
    ("9.4", "oneplus", "IN2013", "UsbNotAuthorized"),
];

struct Machine {
    root: Root,
    usb: Vec<usb::Device>,
    _folder: hatrack_fixtures::Fixture,
}

impl Machine {
    fn of(name: &str) -> Self {
        let folder = hatrack_fixtures::machine(name).unwrap();
        let root = Root::at(folder.path());
        let usb = usb::scan(&root).unwrap();
        Self { root, usb, _folder: folder }
    }

    /// The phones with these transports, named.
    fn phones(&self, transports: Vec<Transport>) -> Vec<Device> {
        Names::default().assign(phone::sightings(&self.usb, &View::Listed(transports)))
    }

    /// A transport to each phone whose adb interface the bus shows.
    fn transports(&self) -> Vec<Transport> {
        let phones = phone::sightings(&self.usb, &View::Pending);
        let usable = |device: &&usb::Device| {
            phones.iter().any(|phone| phone.key.slot == device.slot && phone.health.reason == "AdbPending")
        };
        let transport = |device: &usb::Device| wired(&device.sysfs_name, device.serial.as_deref().unwrap_or_default());
        self.usb.iter().filter(usable).map(transport).collect()
    }
}

fn wired(sysfs_name: &str, serial: &str) -> Transport {
    let number = sysfs_name.bytes().fold(0, |number, byte| number * 31 % 65_521 + u64::from(byte));
    Transport {
        serial: serial.to_owned(),
        state: State::Device,
        devpath: Some(sysfs_name.to_owned()),
        model: Some("SM_F721U".to_owned()),
        id: Some(number),
        told: (!serial.is_empty()).then(|| told(serial)),
        ..Transport::default()
    }
}

fn over_tcp(address: &str, own_serial: &str) -> Transport {
    Transport { serial: address.to_owned(), devpath: None, told: Some(told(own_serial)), ..wired("", address) }
}

fn told(serial: &str) -> Properties {
    let text = |text: &str| Some(text.to_owned());
    Properties {
        serial: text(serial),
        model: text("SM-F721U"),
        manufacturer: text("samsung"),
        android_version: text("14"),
        abi: text("arm64-v8a"),
        memory: Some(7_654_321 << 10),
    }
}

fn attribute(sighting: &Sighting, name: &str) -> String {
    sighting.attributes.get(name).map(ToString::to_string).unwrap_or_default()
}

fn rows(sightings: &[Sighting]) -> Vec<[String; 4]> {
    let row = |phone: &Sighting| {
        let ports = phone.key.slot.split_once('/').unwrap().1.to_owned();
        let reason = phone.health.reason.clone();
        [ports, attribute(phone, attribute::VENDOR), attribute(phone, attribute::MODEL), reason]
    };
    let mut rows: Vec<_> = sightings.iter().map(row).collect();
    rows.sort();
    rows
}

fn expected(rows: &[Row]) -> Vec<[String; 4]> {
    let mut rows: Vec<_> = rows.iter().map(|row| [row.0, row.1, row.2, row.3].map(str::to_owned)).collect();
    rows.sort();
    rows
}

fn reason<'a>(phones: &'a [Device], name: &str) -> &'a str {
    let phone = phones.iter().find(|phone| phone.name == name);
    let names = || phones.iter().map(|phone| phone.name.as_str()).collect::<Vec<_>>();
    &phone.unwrap_or_else(|| panic!("no {name} in {:?}", names())).health.reason
}

#[test]
fn every_phone_of_a_box_is_found_and_nothing_else() {
    let machine = Machine::of("phones-20");
    let phones = phone::sightings(&machine.usb, &View::Pending);
    assert_eq!(rows(&phones), expected(&BOX));
    for phone in &phones {
        assert_eq!(attribute(phone, attribute::USB_PATH), phone.key.slot);
        assert!(phone.nodes[0].starts_with("/dev/bus/usb/00"), "{:?}", phone.nodes);
    }
}

#[test]
fn every_state_of_the_bus_has_its_reason() {
    let machine = Machine::of("phones-states");
    assert_eq!(rows(&phone::sightings(&machine.usb, &View::Pending)), expected(&STATES));
}

#[test]
fn a_slot_does_not_depend_on_the_number_of_the_bus() {
    let machine = Machine::of("server-8gpu-phones-20");
    assert!(!machine.usb.iter().any(|device| device.sysfs_name.starts_with("1-1.1")), "the box has other buses here");
    assert_eq!(rows(&phone::sightings(&machine.usb, &View::Pending)), expected(&BOX));
}

#[test]
fn machines_without_phones_have_none() {
    let with_phones = ["phones-20", "phones-states", "server-8gpu-phones-20"];
    let names = hatrack_fixtures::all().unwrap();
    let mut others = names.iter().filter(|name| !with_phones.contains(&name.as_str())).peekable();
    assert!(others.peek().is_some());
    for name in others {
        assert_eq!(phone::sightings(&Machine::of(name).usb, &View::Listed(vec![])), [], "{name}");
    }
}

#[test]
fn usb_facts_of_a_box_cost_few_files() {
    let machine = Machine::of("phones-20");
    assert!(machine.root.opened() <= 240, "{} files", machine.root.opened());
}

#[test]
fn what_adb_says_of_a_phone_decides() {
    let machine = Machine::of("phones-20");
    let mut transports = machine.transports();
    let at =
        |transports: &mut Vec<Transport>, serial: &str| transports.iter().position(|t| t.serial == serial).unwrap();
    let unauthorized = at(&mut transports, "R5CT30ABC2E");
    transports[unauthorized].state = State::Unauthorized;
    let unlisted = at(&mut transports, "R5CT30ABC3F");
    transports.remove(unlisted);
    transports.push(wired("1-9", "GONE0001"));
    let phones = machine.phones(transports);
    assert_eq!(phones.len(), 21);
    for (name, expected) in [
        ("phone-r5ct30abc1d", "AdbDevice"),
        ("phone-r5ct30abc2e", "AdbUnauthorized"),
        ("phone-r5ct30abc3f", "AdbMissing"),
        ("phone-gone0001", "AdbZombie"),
        ("phone-1a071fdee001ab", "FastbootMode"),
        ("phone-0000-00-14-0-1-2-3", "AdbDevice"),
    ] {
        assert_eq!(reason(&phones, name), expected, "{name}");
    }
    let ready = phones.iter().find(|phone| phone.name == "phone-r5ct30abc1d").unwrap();
    let facts = [ANDROID_VERSION, ABI].map(|name| ready.attributes[name].to_string());
    assert_eq!(facts, ["14", "arm64-v8a"]);
    let zombie = phones.iter().find(|phone| phone.name == "phone-gone0001").unwrap();
    assert_eq!(zombie.attributes[attribute::USB_PATH].to_string(), "0000:00:14.0/9");
}

#[test]
fn a_stale_transport_does_not_pass_for_what_came_to_its_port() {
    let machine = Machine::of("phones-20");
    let mut transports = machine.transports();
    transports.retain(|transport| transport.serial != "R5CT30ABC1D");
    transports.push(wired("1-1.1.1", "GONE0001"));
    let phones = machine.phones(transports);
    assert_eq!(reason(&phones, "phone-r5ct30abc1d"), "AdbMissing");
    assert_eq!(reason(&phones, "phone-gone0001"), "AdbZombie");
}

#[test]
fn a_box_is_a_small_part_of_the_object() {
    let machine = Machine::of("phones-20");
    let phones = machine.phones(machine.transports());
    assert_eq!(phones.iter().filter(|phone| phone.health.reason == "AdbDevice").count(), 19);
    let size = serde_json::to_vec(&phones).unwrap().len();
    assert!(size <= 9_000, "{size} bytes");
}

#[test]
fn while_adb_cannot_be_asked_nothing_is_ready() {
    let machine = Machine::of("phones-20");
    let unreachable = || View::Unreachable("the connection failed".to_owned());
    for (view, expected) in
        [(View::NotAsked, "AdbNotAsked"), (View::Pending, "AdbPending"), (unreachable(), "AdbUnreachable")]
    {
        let phones = phone::sightings(&machine.usb, &view);
        assert_eq!(phones.len(), 20, "{expected}");
        assert_eq!(phones.iter().filter(|phone| phone.health.reason == expected).count(), 19, "{expected}");
        assert!(phones.iter().all(|phone| !phone.health.is_usable()), "{expected}");
    }
}

#[test]
fn one_phone_over_usb_and_tcp_is_one_device() {
    let machine = Machine::of("phones-20");
    let mut transports = machine.transports();
    transports.push(over_tcp("192.168.1.7:5555", "R5CT30ABC1D"));
    let phones = machine.phones(transports);
    assert_eq!(phones.len(), 20);
    let phone = phones.iter().find(|phone| phone.name == "phone-r5ct30abc1d").unwrap();
    assert_eq!(phone.attributes[REMOTE].to_string(), "192.168.1.7:5555");
    assert_eq!(phone.attributes[attribute::USB_PATH].to_string(), "0000:00:14.0/1.1.1");
}

#[test]
fn a_phone_over_tcp_alone_has_the_name_that_it_has_over_usb() {
    let machine = Machine::of("vm-empty");
    let twice = vec![over_tcp("192.168.1.7:5555", "R5CT30ABC1D"), over_tcp("192.168.1.7:41235", "R5CT30ABC1D")];
    let phones = machine.phones(twice);
    assert_eq!(phones.len(), 1);
    assert_eq!(reason(&phones, "phone-r5ct30abc1d"), "AdbDevice");
    assert_eq!(phones[0].attributes.get(attribute::USB_PATH), None);
}

#[test]
fn a_phone_that_left_the_bus_is_ready_over_tcp() {
    let machine = Machine::of("vm-empty");
    let phones = machine.phones(vec![wired("3-1", "A1"), over_tcp("192.168.1.7:5555", "A1")]);
    assert_eq!(phones.len(), 1);
    assert_eq!(reason(&phones, "phone-a1"), "AdbDevice");
}

#[test]
fn phones_over_tcp_stay_while_adb_is_away() {
    let machine = Machine::of("vm-empty");
    let before = machine.phones(vec![over_tcp("192.168.1.7:5555", "A1"), wired("3-1", "B1")]);
    let gone = |view: &View| {
        let phones = phone::out_of_sight(&[], &before, view);
        phones.iter().map(|phone| format!("{} {}", phone.name, phone.health.reason)).collect::<Vec<_>>()
    };
    assert_eq!(gone(&View::Pending), ["phone-a1 AdbPending"]);
    assert_eq!(gone(&View::Unreachable(String::new())), ["phone-a1 AdbUnreachable"]);
    assert_eq!(gone(&View::Listed(vec![])), [""; 0]);
    assert_eq!(phone::out_of_sight(&before, &before, &View::Pending), []);
}

#[test]
fn twins_are_told_apart_by_their_ports() {
    let machine = Machine::of("phones-20");
    let mut usb = machine.usb.clone();
    for name in ["1-1.1.1", "1-1.1.2"] {
        let phone = usb.iter_mut().find(|device| device.sysfs_name == name).unwrap();
        phone.serial = Some("20080411413FC082".to_owned());
    }
    let transport = |name: &str, state| Transport { state, ..wired(name, "20080411413FC082") };
    let list = vec![transport("1-1.1.2", State::Device), transport("1-1.1.1", State::Offline)];
    let phones = Names::default().assign(phone::sightings(&usb, &View::Listed(list)));
    assert_eq!(reason(&phones, "phone-0000-00-14-0-1-1-1"), "AdbOffline");
    assert_eq!(reason(&phones, "phone-0000-00-14-0-1-1-2"), "AdbDevice");
}

#[test]
fn a_phone_keeps_its_name_in_every_mode() {
    let machine = Machine::of("phones-20");
    let mut names = Names::default();
    let mut usb = machine.usb.clone();
    let at = usb.iter().position(|device| device.sysfs_name == "1-1.1.1").unwrap();
    let mut named = |usb: &[usb::Device], reason: &str| {
        let phones = names.assign(phone::sightings(usb, &View::NotAsked));
        let there = |phone: &&Device| phone.attributes[attribute::USB_PATH].to_string() == "0000:00:14.0/1.1.1";
        let phone = phones.iter().find(there).unwrap();
        assert_eq!(phone.health.reason, reason);
        phone.name.clone()
    };
    let interface = |triple| vec![usb::Interface { triple, endpoints: 2, name: None }];
    assert_eq!(named(&usb, "AdbNotAsked"), "phone-r5ct30abc1d");
    usb[at] = usb::Device { interfaces: interface((0xff, 0x42, 3)), ..usb[at].clone() };
    assert_eq!(named(&usb, "FastbootMode"), "phone-r5ct30abc1d");
    usb[at] = usb::Device { vendor: 0x05c6, product: 0x9008, interfaces: vec![], serial: None, ..usb[at].clone() };
    assert_eq!(named(&usb, "EdlMode"), "phone-r5ct30abc1d");
}

#[test]
fn a_serial_number_that_is_none_names_no_phone() {
    let machine = Machine::of("phones-20");
    let mut usb = machine.usb.clone();
    let phone = usb.iter_mut().find(|device| device.sysfs_name == "1-1.1.1").unwrap();
    phone.serial = Some("0123456789ABCDEF".to_owned());
    let mut names = Names::default();
    let slot = "phone-0000-00-14-0-1-1-1";
    let before = names.assign(phone::sightings(&usb, &View::Pending));
    assert_eq!(reason(&before, slot), "AdbPending");
    let transport = Transport { told: Some(told("R5CT30ABC1D")), ..wired("1-1.1.1", "0123456789ABCDEF") };
    let after = names.assign(phone::sightings(&usb, &View::Listed(vec![transport])));
    assert_eq!(reason(&after, slot), "AdbDevice");
    let phone = after.iter().find(|phone| phone.name == slot).unwrap();
    assert_eq!(phone.attributes[attribute::SERIAL].to_string(), "R5CT30ABC1D");
}

#[test]
fn controllers_have_their_load_beside_their_limits() {
    let load = |name: &str| {
        let machine = Machine::of(name);
        let budgets = budget::of(&machine.root, &machine.usb);
        budgets.into_iter().find(|budget| budget.devices.used > 0).unwrap()
    };
    let phones = load("phones-20");
    assert_eq!((phones.controller.as_str(), phones.hub_tiers.used), ("0000:00:14.0", 3));
    assert_eq!((phones.devices.used, phones.endpoints.limit), (40, Some(96)));
    assert!(phones.endpoints.is_full() && !phones.hub_tiers.is_full());
    let pi = load("pi4-coral-usb");
    assert_eq!((pi.devices.used, pi.devices.limit, pi.devices.is_full()), (2, Some(32), false));
}
