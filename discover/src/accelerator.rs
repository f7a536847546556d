//! Neural, tensor and FPGA accelerators on PCI, USB and the system bus, by the table in `accelerator/families.toml`.

mod families;

use std::collections::BTreeMap;

use hatrack_api::cluster_node::{DeviceClass, Health, attribute};

use crate::gpu;
use crate::pci::{CO_PROCESSOR, Function, PROCESSING_ACCELERATOR};
use crate::root::{Root, Unreadable};
use crate::sighting::{Key, Sighting};
use crate::usb::Device;
use crate::{platform, raspberry_pi};
use families::{Family, NodeRule};

/// Attribute of a card with two functions: the address of the one that manages it. It is the card's slot, as it is there
/// whatever the card has been programmed with.
pub const MANAGEMENT_FUNCTION: &str = "managementFunction";

/// Whether a PCI function is, or belongs to, an accelerator of the table.
pub fn is_known(vendor: u16, device: u16) -> bool {
    families::of_pci(vendor, device).is_some()
}

/// Every accelerator.
pub fn sightings(root: &Root, pci: &[Function], usb: &[Device]) -> Result<Vec<Sighting>, Unreadable> {
    let mut seen = on_pci(root, pci)?;
    seen.extend(pci.iter().filter(|function| is_unknown(function)).map(unknown));
    let stick = |device| Some(on_usb(root, device, families::of_usb(device.vendor, device.product)?));
    for sighting in usb.iter().filter_map(stick) {
        seen.push(sighting?);
    }
    seen.extend(on_platform(root)?);
    Ok(seen)
}

/// Whether a function is of a class of accelerators and in no list.
fn is_unknown(function: &Function) -> bool {
    let of_a_class = matches!(function.kind(), PROCESSING_ACCELERATOR | CO_PROCESSOR);
    let known =
        is_known(function.vendor, function.device) || families::is_no_accelerator(function.vendor, function.device);
    of_a_class && !known && !gpu::is_gpu(function) && function.physical_function.is_none()
}

/// An accelerator of which only the class is known: nobody can say how it is used, so it is listed and any driver does.
fn unknown(function: &Function) -> Sighting {
    let trouble = function.access_trouble(&[] as &[&str], "of its maker").or_else(|| function.link_trouble());
    let key =
        Key { class: DeviceClass::Accelerator, slot: function.address.clone(), ids: function.ids(), serial: None };
    let sighting = Sighting::new(key, trouble.unwrap_or_else(|| Health::ready("DriverBound")));
    function.describe(sighting).text(attribute::PCI_ID, Some(function.ids()))
}

/// A card of the table with all its functions.
struct Card<'a> {
    family: &'static Family,
    functions: Vec<&'a Function>,
}

impl<'a> Card<'a> {
    /// The function that programs use; the first companion where there is none.
    fn main(&self) -> Option<&'a Function> {
        let is_main = |function: &&&Function| !self.family.is_companion(function.vendor, function.device);
        self.functions.iter().find(is_main).or(self.functions.first()).copied()
    }
}

fn on_pci(root: &Root, pci: &[Function]) -> Result<Vec<Sighting>, Unreadable> {
    let cards = cards(pci);
    let mut of_family: BTreeMap<&str, usize> = BTreeMap::new();
    for card in &cards {
        *of_family.entry(&card.family.name).or_default() += 1;
    }
    let mut seen = Vec::with_capacity(cards.len());
    for card in &cards {
        let alone = of_family.get(card.family.name.as_str()) == Some(&1);
        seen.extend(card_sighting(root, card, alone)?);
    }
    Ok(seen)
}

/// Puts the functions of a card together: those of one family in one slot. A virtual function is counted on its
/// physical one, unless that one is in another machine: then it is the device.
fn cards(pci: &[Function]) -> Vec<Card<'_>> {
    let is_own = |function: &&Function| {
        let physical = function.physical_function.as_ref();
        !physical.is_some_and(|physical| pci.iter().any(|other| other.address == *physical))
    };
    let mut cards: Vec<Card<'_>> = Vec::new();
    for function in pci.iter().filter(is_own) {
        let Some(family) = families::of_pci(function.vendor, function.device) else { continue };
        let same = |card: &&mut Card<'_>| {
            let first = card.functions.first();
            card.family.name == family.name && first.is_some_and(|first| first.slot() == function.slot())
        };
        match cards.iter_mut().find(same) {
            Some(card) => card.functions.push(function),
            None => cards.push(Card { family, functions: vec![function] }),
        }
    }
    cards
}

fn card_sighting(root: &Root, card: &Card<'_>, alone: bool) -> Result<Option<Sighting>, Unreadable> {
    let (Some(main), Some(first)) = (card.main(), card.functions.first()) else { return Ok(None) };
    let family = card.family;
    let folder = main.path("");
    let place = Place { folder: folder.trim_end_matches('/'), address: Some(&main.address), alone };
    let found = find_nodes(root, family, &place)?;
    let health = match access_trouble(card, main, &found) {
        Some(trouble) => trouble,
        None => said_by_driver(root, family, &folder, &found)?
            .or_else(|| main.link_trouble())
            .unwrap_or_else(|| ready(family)),
    };
    let model = model(root, family, main, alone)?;
    let key =
        Key { class: DeviceClass::Accelerator, slot: first.address.clone(), ids: family.name.clone(), serial: None };
    let sighting = Sighting::new(key, health)
        .text(attribute::VENDOR, Some(&family.vendor))
        .text(attribute::FAMILY, Some(&family.name))
        .text(attribute::MODEL, Some(&model))
        .truth("modelUndecided", family.is_undecided(&model).then_some(true));
    let management = card.functions.iter().find(|function| family.is_companion(function.vendor, function.device));
    let mut sighting = main
        .describe(sighting)
        .text(MANAGEMENT_FUNCTION, management.map(|function| &function.address))
        .text("managementDriver", management.and_then(|function| function.driver.as_ref()));
    for (name, file) in &family.attributes {
        sighting = sighting.text(name, read_attribute(root, &folder, &found, file)?);
    }
    sighting.nodes = found.nodes;
    Ok(Some(sighting))
}

/// Why a program cannot get at a card.
fn access_trouble(card: &Card<'_>, main: &Function, found: &Found) -> Option<Health> {
    let family = card.family;
    if let Some(fault) = &family.fault {
        return Some(Health::unusable(&fault.reason, &fault.message));
    }
    if family.is_companion(main.vendor, main.device) {
        let message = "only its management function is here: flash a platform and power the machine off and on, or \
                       rescan the bus";
        return Some(Health::unusable("NoUserFunction", message));
    }
    let driver = if family.userspace { None } else { main.access_trouble(&family.drivers, &family.module()) };
    driver.or_else(|| no_node(family, found))
}

/// What a driver that holds a card says of it, where it says that the card is ill.
fn said_by_driver(root: &Root, family: &Family, folder: &str, found: &Found) -> Result<Option<Health>, Unreadable> {
    for symptom in &family.symptoms {
        for file in &symptom.files {
            if let Some(said) = read_attribute(root, folder, found, file)? {
                if let Some(health) = symptom.health(&said) {
                    return Ok(Some(health));
                }
                break;
            }
        }
    }
    Ok(None)
}

fn no_node(family: &Family, found: &Found) -> Option<Health> {
    let missing = found.expected && found.nodes.is_empty();
    missing.then(|| {
        let module = family.module();
        let message =
            format!("its driver made no device node: see the kernel log, then load the kernel module {module} anew");
        Health::unusable("NoDeviceNode", message)
    })
}

fn ready(family: &Family) -> Health {
    Health::ready(if family.userspace { "Present" } else { "DriverBound" })
}

/// The model, where the ids leave it open by what the board on top of a Raspberry Pi is called. A board speaks for one card only.
fn model(root: &Root, family: &Family, main: &Function, alone: bool) -> Result<String, Unreadable> {
    let ids = main.ids();
    let revision = if family.has_revisions(&ids) { root.text(main.path("revision"))? } else { None };
    let revision = revision.as_deref().map(|revision| revision.trim_start_matches("0x"));
    let known = family.model(&ids, main.subsystem.1, revision);
    if !family.is_undecided(known) || !alone {
        return Ok(known.to_owned());
    }
    let boards = raspberry_pi::hats(root)?;
    let told = boards.iter().find_map(|board| family.model_on_board(&board.product));
    Ok(told.unwrap_or(known).to_owned())
}

/// Where a device is looked at.
struct Place<'a> {
    /// Its folder in sysfs.
    folder: &'a str,
    /// Its PCI address.
    address: Option<&'a str>,
    /// Whether it is the only one of its family here.
    alone: bool,
}

/// Nodes of a device, and the folders of sysfs that name them.
#[derive(Default)]
struct Found {
    nodes: Vec<String>,
    folders: Vec<String>,
    /// A rule applied: without a node something is wrong.
    expected: bool,
}

fn find_nodes(root: &Root, family: &Family, place: &Place<'_>) -> Result<Found, Unreadable> {
    let mut found = Found::default();
    for rule in &family.nodes {
        match rule {
            NodeRule::Class { class, prefix, node, locate, shared } => {
                let folders = class_folders(root, class, locate.as_deref(), *shared, place)?;
                found.expected |= !*shared || place.alone;
                for folder in folders {
                    let name = folder.rsplit('/').next().unwrap_or_default();
                    if name.starts_with(prefix.as_str()) {
                        let node = node.as_deref().unwrap_or("/dev/{}");
                        found.nodes.push(node.replace("{}", &name.replace('!', "/")));
                        found.folders.push(folder);
                    }
                }
            }
            NodeRule::Dev { dev } if place.alone => {
                found.expected = true;
                let names = root.entries("dev")?.unwrap_or_default();
                found
                    .nodes
                    .extend(names.iter().filter(|name| name.starts_with(dev)).map(|name| format!("/dev/{name}")));
            }
            NodeRule::Dev { .. } => {}
            NodeRule::Address { address } => {
                found.expected = true;
                let node = place.address.and_then(|pci| node_of_address(address, pci));
                if let Some(node) = node
                    && root.exists(&node)?
                {
                    found.nodes.push(node);
                }
            }
        }
    }
    Ok(found)
}

/// The folders of a class that belong to a device: those below it, else those that name it, else all if it is alone.
fn class_folders(
    root: &Root,
    class: &str,
    locate: Option<&str>,
    shared: bool,
    place: &Place<'_>,
) -> Result<Vec<String>, Unreadable> {
    let below = format!("{}/{class}", place.folder);
    if let Some(names) = root.entries(&below)? {
        return Ok(names.iter().map(|name| format!("{below}/{name}")).collect());
    }
    if locate.is_none() && !(shared && place.alone) {
        return Ok(Vec::new());
    }
    let everywhere = format!("sys/class/{class}");
    let mut folders = Vec::new();
    for name in root.entries(&everywhere)?.unwrap_or_default() {
        let folder = format!("{everywhere}/{name}");
        let is_its = match locate {
            Some(file) => root.text(format!("{folder}/{file}"))?.as_deref() == place.address,
            None => true,
        };
        if is_its {
            folders.push(folder);
        }
    }
    Ok(folders)
}

/// The node of a card: a pattern filled with the parts of its PCI address, in hexadecimal without leading zeros.
pub fn node_of_address(pattern: &str, address: &str) -> Option<String> {
    let (place, function) = address.rsplit_once('.')?;
    let mut parts = place.split(':');
    let domain = u32::from_str_radix(parts.next()?, 16).ok()?;
    let bus = u8::from_str_radix(parts.next()?, 16).ok()?;
    let node = pattern.replace("{domain}", &format!("{domain:x}")).replace("{bus}", &format!("{bus:x}"));
    Some(node.replace("{function}", function))
}

fn read_attribute(root: &Root, folder: &str, found: &Found, file: &str) -> Result<Option<String>, Unreadable> {
    if let Some(file) = file.strip_prefix("../") {
        return root.text(format!("{folder}{file}"));
    }
    found.folders.first().map_or(Ok(None), |folder| root.text(format!("{folder}/{file}")))
}

fn on_usb(root: &Root, device: &Device, family: &Family) -> Result<Sighting, Unreadable> {
    let health = if !device.authorized {
        Health::unusable("UsbNotAuthorized", "the kernel holds it back: write 1 to its `authorized` file in sysfs")
    } else if device.node.is_none() {
        Health::unusable("NoDeviceNode", "it has no node below /dev/bus/usb: see whether udev runs")
    } else {
        ready(family)
    };
    let key =
        Key { class: DeviceClass::Accelerator, slot: device.slot.clone(), ids: family.name.clone(), serial: None };
    let mut sighting = Sighting::new(key, health)
        .text(attribute::VENDOR, Some(&family.vendor))
        .text(attribute::FAMILY, Some(&family.name))
        .text(attribute::MODEL, Some(family.model("", 0, None)))
        .text(attribute::USB_PATH, Some(&device.slot))
        .number("usbSpeed", device.speed(root)?);
    sighting.nodes = device.node.iter().cloned().collect();
    Ok(sighting)
}

/// Every accelerator inside a system on a chip. The cores of one are several platform devices and one accelerator.
fn on_platform(root: &Root) -> Result<Vec<Sighting>, Unreadable> {
    let kinds: Vec<_> = families::all().iter().filter_map(|family| family.platform.as_deref()).collect();
    let mut seen: Vec<(&Family, Sighting)> = Vec::new();
    for device in platform::scan(root, &kinds)? {
        let Some(family) = families::of_compatible(&device.compatible) else { continue };
        if !seen.iter().any(|(other, _)| other.name == family.name) {
            seen.push((family, platform_sighting(root, &device, family)?));
        }
    }
    Ok(seen.into_iter().map(|(_, sighting)| sighting).collect())
}

fn platform_sighting(root: &Root, device: &platform::Device, family: &Family) -> Result<Sighting, Unreadable> {
    let folder = device.path("");
    let found = find_nodes(root, family, &Place { folder: &folder, address: None, alone: true })?;
    let serves = device.driver.as_ref().is_some_and(|driver| family.drivers.contains(driver));
    let health = if serves {
        no_node(family, &found).unwrap_or_else(|| ready(family))
    } else {
        let message = format!("no driver is bound: load the kernel module {}", family.module());
        Health::unusable("NoDriver", message)
    };
    let model = device.compatible.first().and_then(|compatible| compatible.split_once(',')).map(|(_, model)| model);
    let mut sighting = described(key(family, device.slot()), health, family)
        .text(attribute::MODEL, model)
        .text(platform::PLATFORM_DEVICE, Some(&device.name))
        .text(attribute::DRIVER, device.driver.as_ref());
    sighting.nodes = found.nodes;
    Ok(sighting)
}

fn key(family: &Family, slot: String) -> Key {
    Key { class: DeviceClass::Accelerator, slot, ids: family.name.clone(), serial: None }
}

fn described(key: Key, health: Health, family: &Family) -> Sighting {
    Sighting::new(key, health).text(attribute::VENDOR, Some(&family.vendor)).text(attribute::FAMILY, Some(&family.name))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same stick with all the ids that it shows, one after the other.
    #[test]
    fn a_stick_is_one_device_whichever_of_its_ids_it_shows() {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::at(folder.path());
        let mut sticks = 0;
        for family in families::all().iter().filter(|family| family.usb_ids().count() > 1) {
            sticks += 1;
            let with_ids = |(vendor, product)| Device {
                slot: "0000:01:00.0/1.2".to_owned(),
                node: Some("/dev/bus/usb/002/009".to_owned()),
                authorized: true,
                vendor,
                product,
                ..Device::default()
            };
            let seen = family.usb_ids().map(|ids| {
                let sticks = sightings(&root, &[], &[with_ids(ids)]).unwrap();
                assert_eq!(sticks.len(), 1, "{ids:x?}");
                sticks.into_iter().next().unwrap()
            });
            let seen: Vec<_> = seen.collect();
            for other in &seen[1..] {
                assert_eq!((&other.key, &other.attributes), (&seen[0].key, &seen[0].attributes), "{}", family.name);
            }
        }
        assert_eq!(sticks, 2, "Coral and Movidius");
    }

    #[test]
    fn a_node_is_named_by_the_address_in_hexadecimal() {
        let pattern = "/dev/metis-{domain}:{bus}:{function}";
        assert_eq!(node_of_address(pattern, "0001:0a:00.1").as_deref(), Some("/dev/metis-1:a:1"));
        for odd in ["", "0001", "0001:0a", "0001:0a:00", "x:0a:00.1", "0001:fff:00.1"] {
            assert_eq!(node_of_address(pattern, odd), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn any_address_is_read_or_refused(address in ".{0,24}") {
            let _ = node_of_address("{domain}:{bus}:{function}", &address);
        }

        #[test]
        fn an_address_of_pci_comes_back(domain in any::<u32>(), bus in any::<u8>(), function in 0..8_u8) {
            let node = node_of_address("{domain}:{bus}.{function}", &format!("{domain:04x}:{bus:02x}:1f.{function}"));
            prop_assert_eq!(node, Some(format!("{domain:x}:{bus:x}.{function}")));
        }
    }
}
