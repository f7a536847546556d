//! GPUs and accelerators of every fixture: what must be found, and that nothing else is.

#![allow(clippy::panic, clippy::unwrap_used, reason = "a test that fails has to say so")]

use std::fmt::Write;

use hatrack_api::cluster_node::{Attribute, Device, HealthState};
use hatrack_discover::names::Names;
use hatrack_discover::nvidia::View;
use hatrack_discover::root::Root;
use hatrack_discover::sighting::Sighting;
use hatrack_discover::{accelerator, gpu, inventory, pci, usb};

/// How many GPUs and accelerators each machine has on PCI, USB and in its chip.
const MACHINES: [(&str, usize, usize); 26] = [
    ("desktop-radeon", 1, 0),
    ("every-accelerator", 21, 66),
    ("gpu-no-driver", 6, 0),
    ("jetson-orin-nano", 1, 0),
    ("laptop-intel-npu", 1, 1),
    ("laptop-no-npu", 1, 0),
    ("mixed-accelerators", 2, 6),
    ("orangepi5-rknpu", 0, 1),
    ("phones-20", 1, 1),
    ("phones-states", 1, 0),
    ("pi4-coral-usb", 0, 1),
    ("pi4-coral-usb-used", 0, 1),
    ("pi5-ai-hat-plus", 0, 1),
    ("pi5-ai-hat-plus-2", 0, 1),
    ("rock5-rocket", 0, 1),
    ("server-8-vector-engines", 0, 8),
    ("server-8gpu", 8, 0),
    ("server-8gpu-degraded", 8, 0),
    ("server-8gpu-phones-20", 8, 0),
    ("server-infiniband", 0, 0),
    ("server-sriov-nics", 0, 0),
    ("server-xeon-phi", 0, 1),
    ("vm-arm64-empty", 0, 0),
    ("vm-empty", 0, 0),
    ("vm-tesla-p40", 1, 0),
    ("vm-unknown-accelerator", 0, 1),
];

struct Cards {
    gpus: Vec<Sighting>,
    accelerators: Vec<Sighting>,
}

impl Cards {
    fn of(machine: &str) -> Self {
        let machine = hatrack_fixtures::machine(machine).unwrap();
        let root = Root::at(machine.path());
        let functions = pci::scan(&root).unwrap();
        let usb = usb::scan(&root).unwrap();
        let gpus = gpu::sightings(&root, &functions, &View::Pending).unwrap();
        let accelerators = accelerator::sightings(&root, &functions, &usb).unwrap();
        Self { gpus, accelerators }
    }

    fn at(&self, slot: &str) -> &Sighting {
        let mut cards = self.gpus.iter().chain(&self.accelerators);
        cards.find(|card| card.key.slot == slot).unwrap_or_else(|| panic!("nothing in {slot}"))
    }

    /// The cards that are not well: slot and reason.
    fn ill(&self) -> Vec<(&str, &str)> {
        let cards = self.gpus.iter().chain(&self.accelerators);
        let ill = cards.filter(|card| card.health.state != HealthState::Ready);
        ill.map(|card| (card.key.slot.as_str(), card.health.reason.as_str())).collect()
    }
}

fn text<'a>(card: &'a Sighting, attribute: &str) -> Option<&'a str> {
    match card.attributes.get(attribute)? {
        Attribute::String(text) => Some(text),
        _ => None,
    }
}

#[test]
fn every_machine_has_as_many_as_it_should() {
    for (machine, gpus, accelerators) in MACHINES {
        let cards = Cards::of(machine);
        assert_eq!((cards.gpus.len(), cards.accelerators.len()), (gpus, accelerators), "{machine}");
    }
}

/// One line for each device, so that a change of any fact is seen in review. `cargo insta review`, or
/// `INSTA_UPDATE=always cargo test -p hatrack-discover --test cards`, accepts a new text.
#[test]
fn every_card_is_described_exactly() {
    let mut all = String::new();
    for (machine, ..) in MACHINES {
        let cards = Cards::of(machine);
        writeln!(all, "{machine}").unwrap();
        cards.gpus.iter().chain(&cards.accelerators).for_each(|card| all.push_str(&line(card)));
    }
    insta::assert_snapshot!(all);
}

fn line(card: &Sighting) -> String {
    let name = |name: &str| name.trim_start_matches("resource.kubernetes.io/").to_owned();
    let attributes: Vec<_> = card.attributes.iter().map(|(key, value)| format!("{}={value}", name(key))).collect();
    let health = format!("{} {}", card.health.state, card.health.reason);
    format!(
        "  {} {}\n    {health}: {}\n    {}\n",
        card.key.class,
        card.key.slot,
        card.nodes.join(" "),
        attributes.join(", ")
    )
}

#[test]
fn a_link_with_lanes_missing_is_degraded_and_a_card_that_answers_nothing_fell_off() {
    let cards = Cards::of("server-8gpu-degraded");
    let expected =
        [("0000:9d:00.0", "PcieLinkNarrow"), ("0000:c3:00.0", "PcieLinkNarrow"), ("0000:df:00.0", "FellOffBus")];
    assert_eq!(cards.ill(), expected, "a link below its speed may be idling");
    assert_eq!(Cards::of("pi5-ai-hat-plus").ill(), [], "a slot of one lane");
}

#[test]
fn each_way_to_have_no_driver_has_its_reason() {
    let expected = [
        ("0000:01:00.0", "NoDriver"),
        ("0000:02:00.0", "BoundToVfio"),
        ("0000:03:00.0", "NouveauDriver"),
        ("0000:04:00.0", "NoDriver"),
        ("0000:05:00.0", "NoDriver"),
    ];
    assert_eq!(Cards::of("gpu-no-driver").ill(), expected);
    let expected = [("0000:22:00.0", "GoldenImage"), ("0000:62:00.0", "NoDriver")];
    let cards = Cards::of("mixed-accelerators");
    assert_eq!(cards.ill(), expected);
    assert!(cards.at("0000:62:00.0").health.message.contains("`hailo_pci`"), "the message names the module");
}

#[test]
fn nvml_is_asked_where_its_driver_holds_a_card_or_nobody_can_tell() {
    for (machine, asked) in [
        ("server-8gpu", true),
        ("gpu-no-driver", false),
        ("jetson-orin-nano", false),
        ("laptop-intel-npu", false),
        ("vm-empty", false),
        ("power9-nvlink", true),
    ] {
        let fixture = hatrack_fixtures::machine(machine).unwrap();
        assert_eq!(inventory::look(&Root::at(fixture.path())).concern_nvml(), asked, "{machine}");
    }
}

#[test]
fn a_card_with_two_functions_is_one_device() {
    let cards = Cards::of("mixed-accelerators");
    let alveo = cards.at("0000:21:00.0");
    assert_eq!(text(alveo, "resource.kubernetes.io/pciBusID"), Some("0000:21:00.1"), "programs use the user function");
    assert_eq!(text(alveo, "managementDriver"), Some("xclmgmt"));
    assert_eq!(cards.at("0000:47:00.0").attributes["virtualFunctions"], Attribute::Int(4));
}

#[test]
fn a_stick_is_one_device_before_and_after_it_changes_its_ids() {
    let [before, after] = ["pi4-coral-usb", "pi4-coral-usb-used"].map(|machine| Cards::of(machine).accelerators);
    assert_eq!(before[0].key, after[0].key);
    assert_eq!(before[0].attributes, after[0].attributes);
}

#[test]
fn models_that_share_an_id_are_said_to_be_undecided_unless_the_board_tells() {
    let hailo = |machine: &str, product: Option<&str>| {
        let machine = hatrack_fixtures::machine_copy(machine).unwrap();
        match product {
            Some(product) => machine.write("sys/firmware/devicetree/base/hat/product", product).unwrap(),
            None => machine.remove("sys/firmware/devicetree/base/hat").unwrap(),
        }
        let root = Root::at(machine.path());
        let cards = accelerator::sightings(&root, &pci::scan(&root).unwrap(), &[]).unwrap();
        let undecided = cards[0].attributes.contains_key("modelUndecided");
        (text(&cards[0], "model").unwrap().to_owned(), undecided)
    };
    let eight = |product| hailo("pi5-ai-hat-plus", product);
    let any = ("Hailo-8, 8L or 8R".to_owned(), true);
    assert_eq!(eight(None), any);
    assert_eq!(eight(Some("AI HAT+\0")), any);
    assert_eq!(eight(Some("Sense HAT 26\0")), any);
    assert_eq!(eight(Some("AI HAT+ 13T\0")), ("Hailo-8L".to_owned(), false));
    assert_eq!(eight(Some("AI HAT+ 26T\0")), ("Hailo-8".to_owned(), false));
    assert_eq!(hailo("pi5-ai-hat-plus-2", None), ("Hailo-10H or 15H".to_owned(), true));
    assert_eq!(hailo("pi5-ai-hat-plus-2", Some("AI HAT+ 2\0")), ("Hailo-10H".to_owned(), false));
}

#[test]
fn what_a_driver_says_of_its_card_is_its_health() {
    let machine = hatrack_fixtures::machine_copy("every-accelerator").unwrap();
    let root = Root::at(machine.path());
    let functions = pci::scan(&root).unwrap();
    for (model, file, words) in [
        (
            "Gaudi2",
            "status",
            [
                ("operational", HealthState::Ready, "DriverBound"),
                ("in reset after device release", HealthState::Ready, "DriverBound"),
                ("disabled", HealthState::Unusable, "Malfunction"),
                ("Malfunction", HealthState::Unusable, "Malfunction"),
                ("needs reset", HealthState::Unusable, "NeedsReset"),
            ]
            .as_slice(),
        ),
        (
            "Coral Edge TPU",
            "apex/apex_0/status",
            &[
                ("ALIVE", HealthState::Ready, "DriverBound"),
                ("DEAD", HealthState::Unusable, "ApexDead"),
                ("LAMED", HealthState::Degraded, "ApexLamed"),
            ],
        ),
    ] {
        let look = || {
            let cards = accelerator::sightings(&root, &functions, &[]).unwrap();
            cards.into_iter().find(|card| text(card, "model") == Some(model)).unwrap()
        };
        let slot = look().key.slot;
        for (said, state, reason) in words {
            machine.write(&format!("sys/bus/pci/devices/{slot}/{file}"), format!("{said}\n")).unwrap();
            let health = look().health;
            assert_eq!((health.state, health.reason.as_str()), (*state, *reason), "{model}: {said}");
            assert_eq!(health.message.is_empty(), *state == HealthState::Ready, "{model}: {said}");
        }
    }
}

#[test]
fn a_driver_without_a_node_is_not_enough() {
    let machine = hatrack_fixtures::machine_copy("laptop-intel-npu").unwrap();
    machine.remove("sys/devices/pci0000:00/0000:00:0b.0/accel").unwrap();
    let root = Root::at(machine.path());
    let cards = accelerator::sightings(&root, &pci::scan(&root).unwrap(), &[]).unwrap();
    assert_eq!((cards[0].health.state, cards[0].health.reason.as_str()), (HealthState::Unusable, "NoDeviceNode"));
}

#[test]
fn a_driver_that_does_not_serve_a_device_is_named() {
    let machine = hatrack_fixtures::machine_copy("laptop-intel-npu").unwrap();
    let uevent = "DRIVER=pci-stub\nPCI_CLASS=120000\nPCI_ID=8086:7D1D\n";
    machine.write("sys/devices/pci0000:00/0000:00:0b.0/uevent", uevent).unwrap();
    let root = Root::at(machine.path());
    let cards = accelerator::sightings(&root, &pci::scan(&root).unwrap(), &[]).unwrap();
    assert_eq!((cards[0].health.state, cards[0].health.reason.as_str()), (HealthState::Unusable, "OtherDriver"));
    assert!(cards[0].health.message.contains("`pci-stub`"), "{}", cards[0].health.message);
}

#[test]
fn a_card_that_lost_its_user_function_keeps_its_place() {
    let machine = hatrack_fixtures::machine_copy("mixed-accelerators").unwrap();
    let look = || {
        let root = Root::at(machine.path());
        let cards = accelerator::sightings(&root, &pci::scan(&root).unwrap(), &[]).unwrap();
        Names::default().assign(cards)
    };
    let before = look();
    machine.remove("sys/bus/pci/devices/0000:21:00.1").unwrap();
    let after = look();
    let names = |devices: &[Device]| devices.iter().map(|device| device.name.clone()).collect::<Vec<_>>();
    assert_eq!(names(&before), names(&after));
    let alveo = after.iter().find(|device| device.name == "accelerator-0000-21-00-0").unwrap();
    assert_eq!((alveo.health.state, alveo.health.reason.as_str()), (HealthState::Unusable, "NoUserFunction"));
}

#[test]
fn names_are_recovered_from_what_the_object_shows() {
    for (machine, ..) in MACHINES {
        let cards = || {
            let Cards { mut gpus, accelerators } = Cards::of(machine);
            gpus.extend(accelerators);
            gpus
        };
        let devices = Names::default().assign(cards());
        assert_eq!(Names::of_devices(&devices).assign(cards()), devices, "{machine}");
    }
}

#[test]
fn a_stick_that_the_kernel_holds_back_is_not_usable() {
    let machine = hatrack_fixtures::machine("pi4-coral-usb").unwrap();
    let root = Root::at(machine.path());
    let mut usb = usb::scan(&root).unwrap();
    for device in &mut usb {
        device.authorized = false;
    }
    let cards = accelerator::sightings(&root, &[], &usb).unwrap();
    assert_eq!((cards[0].health.state, cards[0].health.reason.as_str()), (HealthState::Unusable, "UsbNotAuthorized"));
}

#[test]
fn what_does_not_say_what_it_is_could_not_be_told() {
    let machine = hatrack_fixtures::machine("power9-nvlink").unwrap();
    let error = pci::scan(&Root::at(machine.path())).unwrap_err();
    assert!(error.path.ends_with("uevent"), "{error}");
}

#[test]
fn a_virtual_function_without_its_physical_one_is_a_device() {
    let machine = hatrack_fixtures::machine("mixed-accelerators").unwrap();
    let root = Root::at(machine.path());
    let mut functions = pci::scan(&root).unwrap();
    let all = gpu::sightings(&root, &functions, &View::Pending).unwrap().len();
    functions.retain(|function| function.address != "0000:47:00.0");
    for function in &mut functions {
        function.physical_function = None;
    }
    let passed_through = gpu::sightings(&root, &functions, &View::Pending).unwrap();
    assert_eq!((all, passed_through.len()), (2, 5), "the NVIDIA card, and four functions in place of their card");
}

#[test]
fn eight_gpus_among_250_functions_cost_few_files() {
    let machine = hatrack_fixtures::machine("server-8gpu-phones-20").unwrap();
    let root = Root::at(machine.path());
    let functions = pci::scan(&root).unwrap();
    gpu::sightings(&root, &functions, &View::Pending).unwrap();
    accelerator::sightings(&root, &functions, &[]).unwrap();
    assert!(root.opened() <= 330, "{} files and folders", root.opened());
}
