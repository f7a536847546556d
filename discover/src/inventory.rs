//! Everything that is known of a machine at one moment, as its `ClusterNode` shows it.

use std::error::Error;

use hatrack_api::cluster_node::{Device, DeviceClass, Disk, Health, HealthState, Identity, Interface, Summary, System};
use serde::{Deserialize, Serialize};

use crate::host::{self, Host};
use crate::names::Names;
use crate::root::{Root, Unreadable};
use crate::sighting::Sighting;
use crate::{accelerator, gpu, network, nvidia, pci, phone, raspberry_pi, storage, usb};

/// What is asked of drivers and servers rather than read: it comes later than sysfs, or never.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// NVML's.
    pub nvml: nvidia::View,
    /// The adb server's.
    pub adb: phone::adb::View,
}

/// One look at sysfs and procfs, before devices have names.
#[derive(Debug)]
pub struct Facts {
    host: Host,
    pci: Result<Vec<pci::Function>, Unreadable>,
    usb: Result<Vec<usb::Device>, Unreadable>,
    storage: Result<Vec<Disk>, Unreadable>,
    interfaces: Result<Vec<Interface>, Unreadable>,
}

/// Reads everything that sysfs and procfs show: some milliseconds.
pub fn look(root: &Root) -> Facts {
    Facts {
        host: host::collect(root),
        pci: pci::scan(root),
        usb: usb::scan(root),
        storage: storage::collect(root),
        interfaces: network::collect(root),
    }
}

/// Everything that is known of a machine at one moment.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Inventory {
    /// What tells this machine from every other; absent where the machine has nothing to trust.
    #[serde(rename = "hardwareID")]
    pub hardware_id: Option<String>,
    /// Who it is.
    pub identity: Identity,
    /// What it runs on.
    pub system: System,
    /// GPUs, phones and accelerators, sorted by name.
    pub devices: Vec<Device>,
    /// Disks, sorted by name.
    pub storage: Vec<Disk>,
    /// Network interfaces, sorted by name.
    pub interfaces: Vec<Interface>,
    /// What could not be told, as a sentence each: the facts concerned stand as they were last seen.
    pub doubts: Vec<String>,
}

impl Inventory {
    /// Puts a look and the answers together. What could not be told now is taken from `previous` and noted in
    /// [`Inventory::doubts`]: it is never left out, because left out means absent.
    pub fn compose(root: &Root, facts: Facts, answers: &Answers, names: &mut Names, previous: Option<&Self>) -> Self {
        let mut doubts = Doubts::default();
        let Host { identity, system, hardware_id, unreadable } = match previous {
            Some(previous) => facts.host.or_as_seen(&previous.identity, &previous.system),
            None => facts.host,
        };
        for error in unreadable {
            doubts.note(&error);
        }
        let before = |class| previous.map(|inventory| inventory.of_class(class)).unwrap_or_default();
        let pci = facts.pci.as_deref();
        let usb = facts.usb.as_deref();
        let mut seen = Vec::new();
        let mut kept = Vec::new();
        let mut take = |class, looked: Looked, doubts: &mut Doubts| match looked {
            Ok(sightings) => seen.extend(sightings),
            Err(why) => kept.extend(unobserved(before(class), &doubts.add(why))),
        };
        let gpus = pci.map_err(chain).and_then(|pci| gpu::sightings(root, pci, &answers.nvml).map_err(|e| chain(&e)));
        take(DeviceClass::Gpu, gpus, &mut doubts);
        take(DeviceClass::Phone, usb.map(|usb| phone::sightings(usb, &answers.adb)).map_err(chain), &mut doubts);
        let accelerators = pci.map_err(chain).and_then(|pci| {
            let usb = usb.map_err(chain)?;
            let on_buses = accelerator::sightings(root, pci, usb).map_err(|error| chain(&error))?;
            let cameras = raspberry_pi::cameras(root).map_err(|error| chain(&error))?;
            Ok(on_buses.into_iter().chain(cameras).collect())
        });
        take(DeviceClass::Accelerator, accelerators, &mut doubts);
        let mut devices = names.assign(seen);
        let earlier = previous.map(|inventory| inventory.devices.as_slice()).unwrap_or_default();
        gpu::recall(&mut devices, earlier, &answers.nvml);
        phone::recall(&mut devices, earlier);
        devices.extend(kept);
        devices.sort_by(|a, b| a.name.cmp(&b.name));
        let last = |error: Unreadable, doubts: &mut Doubts| _ = doubts.add(chain(&error));
        let storage = facts.storage.unwrap_or_else(|error| {
            last(error, &mut doubts);
            previous.map(|inventory| inventory.storage.clone()).unwrap_or_default()
        });
        let interfaces = facts.interfaces.unwrap_or_else(|error| {
            last(error, &mut doubts);
            previous.map(|inventory| inventory.interfaces.clone()).unwrap_or_default()
        });
        Self { hardware_id, identity, system, devices, storage, interfaces, doubts: doubts.0 }
    }

    /// Usable and present devices by class. A GPU that only carries MIG instances is counted by them.
    pub fn summary(&self) -> Summary {
        let count = |class: DeviceClass| {
            let devices = self.devices.iter().filter(|device| device.class == class && !gpu::carries_instances(device));
            let (usable, present) =
                devices.fold((0, 0), |(usable, all), device| (usable + u32::from(device.health.is_usable()), all + 1));
            Some(format!("{usable}/{present}"))
        };
        Summary {
            gpus: count(DeviceClass::Gpu),
            phones: count(DeviceClass::Phone),
            accelerators: count(DeviceClass::Accelerator),
            hats: None,
        }
    }

    fn of_class(&self, class: DeviceClass) -> Vec<Device> {
        self.devices.iter().filter(|device| device.class == class).cloned().collect()
    }
}

type Looked = Result<Vec<Sighting>, String>;

/// Sentences on what could not be told, each once.
#[derive(Default)]
struct Doubts(Vec<String>);

impl Doubts {
    fn note(&mut self, error: &Unreadable) {
        self.add(chain(error));
    }

    fn add(&mut self, why: String) -> String {
        if !self.0.contains(&why) {
            self.0.push(why.clone());
        }
        why
    }
}

/// Devices that could not be looked at stand as they were, and say so. What was unusable stays so.
fn unobserved(devices: Vec<Device>, why: &str) -> Vec<Device> {
    let keep = |mut device: Device| {
        if device.health.state == HealthState::Ready {
            device.health = Health::degraded("Unobserved", why);
        }
        device
    };
    devices.into_iter().map(keep).collect()
}

/// An error and its sources in one line.
fn chain(error: &Unreadable) -> String {
    match error.source() {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
