//! Everything that is known of a machine at one moment, as its `ClusterNode` shows it.

use hatrack_api::ClusterNodeStatus;
use hatrack_api::cluster_node::{Device, DeviceClass, Disk, Health, HealthState, Identity, Interface, Summary, System};
use serde::{Deserialize, Serialize};

use crate::doubt::{Doubt, Doubts, Subject};
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

impl Facts {
    /// What tells this machine from every other, if it can be read.
    pub fn hardware_id(&self) -> Option<&str> {
        self.host.hardware_id.as_deref()
    }

    /// The functions on PCI, as far as they could be read.
    pub fn functions(&self) -> &[pci::Function] {
        self.pci.as_deref().unwrap_or_default()
    }

    /// The devices on USB, as far as they could be read.
    pub fn usb_devices(&self) -> &[usb::Device] {
        self.usb.as_deref().unwrap_or_default()
    }

    /// Whether NVML can tell more: a GPU has NVIDIA's driver, or it could not be told whether one has.
    pub fn concern_nvml(&self) -> bool {
        self.pci.as_ref().map_or(true, |functions| functions.iter().any(gpu::has_nvidia_driver))
    }
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
    /// What is used up on the USB controllers where nothing more fits, as a sentence each. Each look tells it anew.
    #[serde(skip)]
    pub exhausted: Vec<String>,
    /// What could not be told: the facts concerned stand as they were last seen.
    pub doubts: Vec<Doubt>,
}

impl Inventory {
    /// Puts a look and the answers together. What could not be told now is taken from `previous` and noted in
    /// [`Inventory::doubts`]: it is never left out, because left out means absent.
    pub fn compose(root: &Root, facts: Facts, answers: &Answers, names: &mut Names, previous: Option<&Self>) -> Self {
        let nothing = Self::default();
        let before = previous.unwrap_or(&nothing);
        let mut doubts = Doubts::default();
        let Host { identity, system, hardware_id, unreadable } = match previous {
            Some(previous) => facts.host.or_as_seen(&previous.identity, &previous.system),
            None => facts.host,
        };
        for error in &unreadable {
            doubts.note(Subject::Host, error.sentence());
        }
        let buses = Buses { root, pci: facts.pci.as_deref(), usb: facts.usb.as_deref() };
        let devices = buses.devices(answers, names, &before.devices, &mut doubts);
        names.forget_beyond_need(&devices);
        let devices = doubts.fitting(Subject::Devices, "devices", ClusterNodeStatus::MOST_DEVICES, devices);
        let storage = doubts.or_last(Subject::Storage, facts.storage, || before.storage.clone());
        let storage = doubts.fitting(Subject::Storage, "disks", ClusterNodeStatus::MOST_DISKS, storage);
        let interfaces = doubts.or_last(Subject::Network, facts.interfaces, || before.interfaces.clone());
        let most = ClusterNodeStatus::MOST_INTERFACES;
        let interfaces = doubts.fitting(Subject::Network, "network interfaces", most, interfaces);
        let exhausted = buses.usb.map(|devices| usb::budget::exhausted(root, devices)).unwrap_or_default();
        Self { hardware_id, identity, system, devices, storage, interfaces, exhausted, doubts: doubts.into_vec() }
    }

    /// What could not be told about one part of the machine, as a sentence each.
    pub fn doubts_about(&self, subject: Subject) -> impl Iterator<Item = &str> {
        self.doubts.iter().filter(move |doubt| doubt.about == subject).map(|doubt| doubt.why.as_str())
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
}

/// What a look found on the buses, or why it found nothing.
struct Buses<'a> {
    root: &'a Root,
    pci: Result<&'a [pci::Function], &'a Unreadable>,
    usb: Result<&'a [usb::Device], &'a Unreadable>,
}

/// Devices of one class, or why they could not be looked at.
type Looked = Result<Vec<Sighting>, String>;

impl Buses<'_> {
    /// The devices of every class with their names. Those of a class that could not be looked at stand as they were.
    fn devices(&self, answers: &Answers, names: &mut Names, before: &[Device], doubts: &mut Doubts) -> Vec<Device> {
        let looked = [
            (DeviceClass::Gpu, self.gpus(answers)),
            (DeviceClass::Phone, self.phones(answers)),
            (DeviceClass::Accelerator, self.accelerators()),
        ];
        let (mut seen, mut kept) = (Vec::new(), Vec::new());
        for (class, sightings) in looked {
            match sightings {
                Ok(sightings) => seen.extend(sightings),
                Err(why) => {
                    let as_they_were = before.iter().filter(|device| device.class == class);
                    kept.extend(as_they_were.map(|device| unobserved(device, &why)));
                    doubts.note(Subject::Devices, why);
                }
            }
        }
        let mut devices = names.assign(seen);
        gpu::recall(&mut devices, before, &answers.nvml);
        phone::recall(&mut devices, before);
        kept.extend(phone::out_of_sight(&devices, before, &answers.adb));
        devices.extend(kept);
        devices.sort_by(|a, b| a.name.cmp(&b.name));
        devices
    }

    fn gpus(&self, answers: &Answers) -> Looked {
        let sightings = gpu::sightings(self.root, self.pci()?, &answers.nvml);
        sightings.map_err(|error| error.sentence())
    }

    fn phones(&self, answers: &Answers) -> Looked {
        Ok(phone::sightings(self.usb()?, &answers.adb))
    }

    fn accelerators(&self) -> Looked {
        let on_buses = accelerator::sightings(self.root, self.pci()?, self.usb()?);
        let mut sightings = on_buses.map_err(|error| error.sentence())?;
        sightings.extend(raspberry_pi::cameras(self.root).map_err(|error| error.sentence())?);
        Ok(sightings)
    }

    fn pci(&self) -> Result<&[pci::Function], String> {
        self.pci.map_err(Unreadable::sentence)
    }

    fn usb(&self) -> Result<&[usb::Device], String> {
        self.usb.map_err(Unreadable::sentence)
    }
}

/// A device that could not be looked at stands as it was, and says so. What was unusable stays so.
fn unobserved(device: &Device, why: &str) -> Device {
    let mut device = device.clone();
    if device.health.state == HealthState::Ready {
        device.health = Health::degraded("Unobserved", why);
    }
    device
}
