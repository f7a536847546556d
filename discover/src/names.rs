//! Names of devices: chosen once, from serial or slot, and kept over replug, reboot and restart.

use std::collections::{BTreeMap, BTreeSet};

use hatrack_api::cluster_node::{Attribute, Device, DeviceClass, attribute};
use serde::{Deserialize, Serialize};

use crate::sighting::{Key, Sighting};
use crate::{accelerator, gpu, platform};

const MAX_NAME_LENGTH: usize = 63;

/// Names that are kept, of devices that are here or were. A phone over TCP without a serial number has another place each time.
const MOST: usize = 1024;

/// How a device was last seen: enough to know it again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Known {
    class: DeviceClass,
    slot: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    ids: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    serial: Option<String>,
}

/// The names that this machine's devices have had. It is part of the agent's state file and can be recovered from the
/// agent's own `ClusterNode`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Names {
    known: BTreeMap<String, Known>,
}

impl Names {
    /// The names that a `ClusterNode` shows, for a machine that lost its state file.
    pub fn of_devices(devices: &[Device]) -> Self {
        let known = devices.iter().filter_map(|device| Some((device.name.clone(), Known::of_device(device)?)));
        Self { known: known.collect() }
    }

    /// Adds the names that only `other` knows.
    pub fn adopt(&mut self, other: Self) {
        for (name, known) in other.known {
            self.known.entry(name).or_insert(known);
        }
    }

    /// Gives every sighting its name, known or new, and returns the devices sorted by name.
    ///
    /// A device with a serial number is known by it in any slot, as long as only one of its class has that number; two
    /// with one number, and a device without, are known by their slot.
    pub fn assign(&mut self, sightings: Vec<Sighting>) -> Vec<Device> {
        let twins = twins(&sightings);
        let mut sightings = sightings;
        // A device that says who it is comes before one that is only where it was.
        sightings.sort_by(|a, b| (a.key.serial.is_none(), &a.key).cmp(&(b.key.serial.is_none(), &b.key)));
        let mut taken = BTreeSet::new();
        let mut devices: Vec<_> = Vec::with_capacity(sightings.len());
        let mut strangers = Vec::new();
        for sighting in sightings {
            match self.find(&sighting.key, &twins, &taken) {
                Some(name) => {
                    taken.insert(name.clone());
                    devices.push(self.named(name, sighting));
                }
                None => strangers.push(sighting),
            }
        }
        for stranger in strangers {
            let name = self.choose(&stranger.key, &twins);
            devices.push(self.named(name, stranger));
        }
        devices.sort_by(|a, b| a.name.cmp(&b.name));
        devices
    }

    /// Forgets names of devices that are not among `shown` (sorted by name) while there are more than a machine needs: those first that are
    /// known by their place alone, as nothing tells whether what comes there next is the same.
    pub fn forget_beyond_need(&mut self, shown: &[Device]) {
        let surplus = self.known.len().saturating_sub(MOST);
        if surplus == 0 {
            return;
        }
        let is_gone = |name: &String| shown.binary_search_by(|device| device.name.cmp(name)).is_err();
        let gone = self.known.iter().filter(|(name, _)| is_gone(name));
        let mut gone: Vec<_> = gone.map(|(name, known)| (known.serial.is_some(), name.clone())).collect();
        gone.sort_unstable();
        for (_, name) in gone.into_iter().take(surplus) {
            self.known.remove(&name);
        }
    }

    fn find(&self, key: &Key, twins: &BTreeSet<(DeviceClass, String)>, taken: &BTreeSet<String>) -> Option<String> {
        let own_serial = key.serial.as_ref().filter(|serial| !twins.contains(&(key.class, (*serial).clone())));
        let free = || self.known.iter().filter(|(name, known)| known.class == key.class && !taken.contains(*name));
        if let Some(serial) = own_serial
            && let Some((name, _)) = free().find(|(_, known)| known.serial.as_ref() == Some(serial))
        {
            return Some(name.clone());
        }
        free().find(|(_, known)| known.is_in_slot_of(key)).map(|(name, _)| name.clone())
    }

    /// A new name: the class and the serial number, else the class and the slot; with a number behind it when another device has it.
    fn choose(&self, key: &Key, twins: &BTreeSet<(DeviceClass, String)>) -> String {
        let own_serial = key.serial.as_ref().filter(|serial| !twins.contains(&(key.class, (*serial).clone())));
        let words = own_serial.map(|serial| label(serial)).filter(|label| !label.is_empty());
        let words = words.unwrap_or_else(|| label(&key.slot));
        let base: String = format!("{}-{words}", key.class).chars().take(MAX_NAME_LENGTH - 4).collect();
        let base = base.trim_end_matches('-');
        let mut name = base.to_owned();
        let mut number = 2;
        while self.known.contains_key(&name) {
            name = format!("{base}-{number}");
            number += 1;
        }
        name
    }

    fn named(&mut self, name: String, sighting: Sighting) -> Device {
        let Sighting { key, attributes, capacity, nodes, health } = sighting;
        let class = key.class;
        // A phone in a boot ROM has no serial number to show; it is still the one that had it.
        let serial = key.serial.or_else(|| self.known.get(&name).and_then(|known| known.serial.clone()));
        self.known.insert(name.clone(), Known { class, slot: key.slot, ids: key.ids, serial });
        Device { name, class, attributes, capacity, nodes, health }
    }
}

impl Known {
    fn of_device(device: &Device) -> Option<Self> {
        let text = |name: &str| match device.attributes.get(name)? {
            Attribute::String(text) => Some(text.clone()),
            _ => None,
        };
        let on_pci = || {
            let address = text(accelerator::MANAGEMENT_FUNCTION).or_else(|| text(attribute::PCI_BUS_ID))?;
            Some(text(gpu::MIG_INSTANCE).map_or(address.clone(), |place| format!("{address}/{place}")))
        };
        let on_chip = || Some(platform::slot(&text(platform::PLATFORM_DEVICE)?));
        let slot = text(attribute::USB_PATH).or_else(on_pci).or_else(on_chip);
        let serial = text(attribute::SERIAL);
        if slot.is_none() && serial.is_none() {
            return None;
        }
        Some(Self { class: device.class, slot: slot.unwrap_or_default(), ids: String::new(), serial })
    }

    /// A name recovered from a `ClusterNode` has no ids: its slot is all there is to know it by. A device with a
    /// serial number of its own is not another one that sat in its slot before.
    fn is_in_slot_of(&self, key: &Key) -> bool {
        let same_kind = self.ids.is_empty() || self.ids == key.ids;
        let other_serial = self.serial.is_some() && key.serial.is_some() && self.serial != key.serial;
        self.slot == key.slot && same_kind && !other_serial
    }
}

/// Serial numbers that more than one device of a class reports: they tell nothing apart.
fn twins(sightings: &[Sighting]) -> BTreeSet<(DeviceClass, String)> {
    let mut seen = BTreeSet::new();
    let numbers = sightings.iter().filter_map(|sighting| Some((sighting.key.class, sighting.key.serial.clone()?)));
    numbers.filter(|number| !seen.insert(number.clone())).collect()
}

/// The lower-case letters and digits of a text, with one `-` for each run of anything else.
fn label(text: &str) -> String {
    let mut label = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_ascii_alphanumeric() {
            label.push(c.to_ascii_lowercase());
        } else if !label.is_empty() && !label.ends_with('-') {
            label.push('-');
        }
    }
    label.trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use hatrack_api::cluster_node::Health;

    use super::*;

    fn phone(slot: &str, serial: Option<&str>) -> Sighting {
        let key = Key {
            class: DeviceClass::Phone,
            slot: slot.to_owned(),
            ids: "usb".to_owned(),
            serial: serial.map(str::to_owned),
        };
        Sighting::new(key, Health::ready("AdbDevice"))
            .text(attribute::USB_PATH, Some(slot))
            .text(attribute::SERIAL, serial)
    }

    fn names(devices: &[Device]) -> Vec<&str> {
        devices.iter().map(|device| device.name.as_str()).collect()
    }

    #[test]
    fn a_serial_number_keeps_its_name_in_another_slot() {
        let mut known = Names::default();
        assert_eq!(names(&known.assign(vec![phone("c/1", Some("R58M123ABC"))])), ["phone-r58m123abc"]);
        assert_eq!(names(&known.assign(vec![phone("c/2", Some("R58M123ABC"))])), ["phone-r58m123abc"]);
    }

    #[test]
    fn a_slot_keeps_its_name_while_the_serial_number_is_unknown() {
        let mut known = Names::default();
        assert_eq!(names(&known.assign(vec![phone("0000:00:14.0/3.2", None)])), ["phone-0000-00-14-0-3-2"]);
        let later = known.assign(vec![phone("0000:00:14.0/3.2", Some("X1"))]);
        assert_eq!(names(&later), ["phone-0000-00-14-0-3-2"]);
        assert_eq!(names(&known.assign(vec![phone("0000:00:14.0/4", Some("X1"))])), ["phone-0000-00-14-0-3-2"]);
    }

    #[test]
    fn a_phone_that_showed_no_serial_number_for_a_while_is_known_by_it_in_another_slot() {
        let mut known = Names::default();
        known.assign(vec![phone("c/1", Some("A"))]);
        assert_eq!(names(&known.assign(vec![phone("c/1", None)])), ["phone-a"]);
        assert_eq!(names(&known.assign(vec![phone("c/2", Some("A"))])), ["phone-a"]);
    }

    #[test]
    fn a_phone_without_a_serial_number_does_not_take_the_name_of_one_that_moved() {
        let mut known = Names::default();
        known.assign(vec![phone("c/1", Some("A"))]);
        let both = known.assign(vec![phone("c/1", None), phone("c/2", Some("A"))]);
        assert_eq!(names(&both), ["phone-a", "phone-c-1"]);
        assert_eq!(both[0].attributes[attribute::USB_PATH].to_string(), "c/2");
    }

    #[test]
    fn another_phone_in_the_same_slot_is_another_device() {
        let mut known = Names::default();
        known.assign(vec![phone("c/1", Some("A"))]);
        assert_eq!(names(&known.assign(vec![phone("c/1", Some("B"))])), ["phone-b"]);
        assert_eq!(
            names(&known.assign(vec![phone("c/2", Some("A")), phone("c/1", Some("B"))])),
            ["phone-a", "phone-b"]
        );
    }

    #[test]
    fn twins_are_told_apart_by_their_slots() {
        let mut known = Names::default();
        let twins = || vec![phone("c/1", Some("0123456789ABCDEF")), phone("c/2", Some("0123456789ABCDEF"))];
        assert_eq!(names(&known.assign(twins())), ["phone-c-1", "phone-c-2"]);
        assert_eq!(names(&known.assign(twins())), ["phone-c-1", "phone-c-2"]);
    }

    #[test]
    fn names_come_back_from_the_object_when_the_state_file_is_lost() {
        let mut known = Names::default();
        known.assign(vec![phone("c/1", None)]);
        let devices = known.assign(vec![phone("c/1", Some("A"))]);
        let mut recovered = Names::of_devices(&devices);
        assert_eq!(names(&recovered.assign(vec![phone("c/9", Some("A"))])), ["phone-c-1"]);
    }

    #[test]
    fn a_mig_instance_and_its_gpu_keep_their_names_when_the_state_file_is_lost() {
        let part = |place: Option<&str>| {
            let slot = place.map_or("0000:3b:00.0".to_owned(), |place| format!("0000:3b:00.0/{place}"));
            let key = Key { class: DeviceClass::Gpu, slot, ids: "10de:2330".to_owned(), serial: None };
            Sighting::new(key, Health::ready("NvmlReports")).on_pci("0000:3b:00.0", None).text(gpu::MIG_INSTANCE, place)
        };
        let card = || vec![part(None), part(Some("1/0")), part(Some("11/0"))];
        let expected = ["gpu-0000-3b-00-0", "gpu-0000-3b-00-0-1-0", "gpu-0000-3b-00-0-11-0"];
        let devices = Names::default().assign(card());
        assert_eq!(names(&devices), expected);
        let mut recovered = Names::of_devices(&devices);
        assert_eq!(names(&recovered.assign(card().into_iter().rev().collect())), expected);
        let mut without_card = Names::of_devices(&devices[1..]);
        assert_eq!(names(&without_card.assign(vec![part(None)])), ["gpu-0000-3b-00-0"], "an instance is not its card");
    }

    #[test]
    fn a_device_inside_the_chip_is_known_by_its_kernel_name() {
        let npu = || {
            let slot = platform::slot("fdab0000.npu");
            let key = Key { class: DeviceClass::Accelerator, slot, ids: "rockchip-npu".to_owned(), serial: None };
            Sighting::new(key, Health::ready("DriverBound")).text(platform::PLATFORM_DEVICE, Some("fdab0000.npu"))
        };
        let devices = Names::default().assign(vec![npu()]);
        let mut recovered = Names::of_devices(&devices);
        assert_eq!(recovered.assign(vec![npu()]), devices);
        assert_eq!(names(&devices), ["accelerator-platform-fdab0000-npu"]);
    }

    #[test]
    fn names_are_forgotten_when_there_are_too_many_and_those_of_serial_numbers_last() {
        let mut known = Names::default();
        let slots = |count: usize| (0..count).map(|number| phone(&format!("tcp/{number:04}"), None));
        known.assign(vec![phone("c/1", Some("A"))]);
        let shown = known.assign(slots(MOST - 1).collect());
        known.forget_beyond_need(&[]);
        assert_eq!(known.known.len(), MOST, "so many have room");
        let later = known.assign(vec![phone("c/2", None), phone("c/3", Some("B"))]);
        known.forget_beyond_need(&later);
        assert_eq!(known.known.len(), MOST);
        assert!(["phone-a", "phone-b", "phone-c-2"].iter().all(|name| known.known.contains_key(*name)));
        let forgotten = |known: &Names| shown.iter().filter(|device| !known.known.contains_key(&device.name)).count();
        assert_eq!(forgotten(&known), 2);
        let all = known.assign(slots(MOST + 10).collect());
        known.forget_beyond_need(&all);
        assert_eq!((known.known.len(), forgotten(&known)), (MOST + 10, 0), "what is here is never forgotten");
    }

    #[test]
    fn a_name_is_a_dns_label_whatever_the_serial_number_says() {
        let mut known = Names::default();
        let odd = ["(no serial number)", "", "💥", "Ünïcode 7", &"z".repeat(200)];
        let sightings = odd.iter().enumerate().map(|(i, serial)| phone(&format!("c/{i}"), Some(serial))).collect();
        for device in known.assign(sightings) {
            assert!(device.name.len() <= MAX_NAME_LENGTH && !device.name.ends_with('-'), "{}", device.name);
            assert!(device.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
        }
    }
}
