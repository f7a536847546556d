//! Gauges of the machine itself, measured when somebody asks: load, memory, temperatures, file systems, the PCIe links of
//! cards, and what each USB controller carries. They change all the time, so they are no part of the ClusterNode.

use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, TryLockError};

use hatrack_discover::gauges::{Gauges, Sample};
use hatrack_discover::pci::{self, LinkNow};
use hatrack_discover::root::Root;
use hatrack_discover::usb;
use hatrack_discover::usb::budget::{self, Budget, Load};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

type Labels = Vec<(&'static str, String)>;
type Measured = Family<Labels, Gauge<f64, AtomicU64>>;

/// Gauges of the machine itself.
#[derive(Debug, Default)]
pub struct Host {
    measuring: Mutex<Option<Gauges>>,
    load: Measured,
    cpu: Measured,
    memory: Measured,
    memory_used: Measured,
    temperature: Measured,
    filesystem: Measured,
    filesystem_available: Measured,
    pcie_width: Measured,
    pcie_speed: Measured,
    pcie_max_speed: Measured,
    usb_devices: Measured,
    usb_devices_limit: Measured,
    usb_endpoints: Measured,
    usb_endpoints_limit: Measured,
    usb_hub_tiers: Measured,
}

impl Host {
    /// Puts the gauges under `/metrics`.
    pub(super) fn register(&self, registry: &mut Registry) {
        let mut plain = |name: &str, help: &str, gauge: &Measured| registry.register(name, help, gauge.clone());
        plain("host_load", "Runnable and blocked tasks, mean of the last minutes", &self.load);
        plain("pcie_link_width", "Lanes in use by a card", &self.pcie_width);
        plain("pcie_link_speed", "Speed of a card's link now in GT/s; it drops while the card idles", &self.pcie_speed);
        plain("pcie_link_max_speed", "Speed that a card has in GT/s", &self.pcie_max_speed);
        plain("usb_devices", "Devices on a USB controller, hubs included", &self.usb_devices);
        plain("usb_devices_limit", "Devices that a USB controller can address", &self.usb_devices_limit);
        plain("usb_endpoints", "Endpoints in use on a USB controller", &self.usb_endpoints);
        plain("usb_endpoints_limit", "Endpoints that a USB controller has", &self.usb_endpoints_limit);
        plain("usb_hub_tiers", "Hubs in the longest chain of a USB controller; 5 is the most", &self.usb_hub_tiers);
        let mut with_unit = |name: &str, help: &str, unit: Unit, gauge: &Measured| {
            registry.register_with_unit(name, help, unit, gauge.clone());
        };
        with_unit("host_cpu_use", "Share of all processors in use since the last scrape", Unit::Ratios, &self.cpu);
        with_unit("host_memory", "Memory that Linux manages", Unit::Bytes, &self.memory);
        with_unit("host_memory_used", "Memory that programs could not get", Unit::Bytes, &self.memory_used);
        with_unit("host_temperature", "Temperature by sensor", Unit::Celsius, &self.temperature);
        with_unit("host_filesystem", "Size of a file system", Unit::Bytes, &self.filesystem);
        let help = "What an unprivileged program can still write";
        with_unit("host_filesystem_available", help, Unit::Bytes, &self.filesystem_available);
    }

    /// Measures: some milliseconds of reading files. A machine on paper has no load, and its USB is on paper as well.
    ///
    /// While a measurement hangs, on a file system or a sensor that does not answer, the others show what was measured before: each of
    /// them would take a thread for good.
    pub fn measure(&self, root: &Root) {
        let mut measuring = match self.measuring.try_lock() {
            Ok(measuring) => measuring,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if root.is_machine() {
            if measuring.is_none() {
                *measuring = Gauges::new().inspect_err(|error| tracing::debug!(%error, "no gauges")).ok();
            }
            if let Some(gauges) = &mut *measuring {
                self.show(&gauges.sample());
            }
        }
        if let Ok(functions) = pci::scan(root) {
            self.show_links(&pci::links_now(root, &functions));
        }
        if let Ok(devices) = usb::scan(root) {
            self.show_usb(&budget::of(root, &devices));
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a gauge is a float; 8 PiB are exact to the byte")]
    fn show(&self, sample: &Sample) {
        let minutes = ["1", "5", "15"].into_iter().zip(sample.load.into_iter().flatten());
        show(&self.load, minutes.map(|(minutes, load)| (vec![("minutes", minutes.to_owned())], load)));
        show(&self.cpu, sample.cpu_use.map(|share| (Labels::new(), share)));
        show(&self.memory_used, sample.memory.map(|(used, _)| (Labels::new(), used as f64)));
        show(&self.memory, sample.memory.map(|(_, total)| (Labels::new(), total as f64)));
        let sensors = sample.temperatures.iter();
        show(&self.temperature, sensors.map(|one| (vec![("sensor", one.sensor.clone())], one.celsius)));
        let mounted = || sample.filesystems.iter().map(|one| (vec![("mount", one.mount.clone())], one));
        show(&self.filesystem, mounted().map(|(labels, one)| (labels, one.total as f64)));
        show(&self.filesystem_available, mounted().map(|(labels, one)| (labels, one.available as f64)));
    }

    fn show_links(&self, links: &[LinkNow]) {
        let shown = |gauge: &Measured, value: fn(&LinkNow) -> Option<f64>| {
            let known = links.iter().filter_map(|one| Some((vec![("address", one.address.clone())], value(one)?)));
            show(gauge, known);
        };
        shown(&self.pcie_width, |one| Some(f64::from(one.link.width)));
        shown(&self.pcie_speed, |one| Some(f64::from(one.speed?) / 10.0));
        shown(&self.pcie_max_speed, |one| Some(f64::from(one.link.max_speed?) / 10.0));
    }

    fn show_usb(&self, budgets: &[Budget]) {
        let used = |gauge: &Measured, load: fn(&Budget) -> Load| {
            show(gauge, budgets.iter().map(|one| (controller(one), f64::from(load(one).used))));
        };
        let limit = |gauge: &Measured, load: fn(&Budget) -> Load| {
            let known = budgets.iter().filter_map(|one| Some((controller(one), f64::from(load(one).limit?))));
            show(gauge, known);
        };
        used(&self.usb_devices, |one| one.devices);
        limit(&self.usb_devices_limit, |one| one.devices);
        used(&self.usb_endpoints, |one| one.endpoints);
        limit(&self.usb_endpoints_limit, |one| one.endpoints);
        used(&self.usb_hub_tiers, |one| one.hub_tiers);
    }
}

fn controller(budget: &Budget) -> Labels {
    vec![("controller", budget.controller.clone())]
}

/// What is no longer there is no longer shown.
fn show(gauge: &Measured, values: impl IntoIterator<Item = (Labels, f64)>) {
    gauge.clear();
    for (labels, value) in values {
        gauge.get_or_create(&labels).set(value);
    }
}
