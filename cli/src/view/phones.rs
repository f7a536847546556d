//! Phones of a node, slot by slot.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use hatrack_api::ClusterNode;
use hatrack_api::cluster_node::{Device, DeviceClass, attribute};
use hatrack_discover::phone::{ANDROID_VERSION, REMOTE};
use kube::ResourceExt;

use super::inventory::{Layout, advice};
use super::table::{Cell, Column, Table};
use super::{device, order};
use crate::output::style::{self, paint};

/// Whether a node has to do with phones.
pub fn concerns(node: &ClusterNode) -> bool {
    !of(node).is_empty() || expected(node).is_some()
}

/// The phones of a node in the order of their slots.
pub fn of(node: &ClusterNode) -> Vec<Device> {
    let devices = node.status.as_ref().and_then(|status| status.devices.as_deref()).unwrap_or_default();
    let mut phones: Vec<_> = devices.iter().filter(|device| device.class == DeviceClass::Phone).cloned().collect();
    phones.sort_by(device::in_order);
    phones
}

/// Where a phone sits on USB; empty for one that is reached over the network.
fn slot(phone: &Device) -> String {
    device::text(phone, attribute::USB_PATH).unwrap_or_default()
}

fn expected(node: &ClusterNode) -> Option<usize> {
    let phones = node.spec.expects.as_ref()?.phones?;
    usize::try_from(phones).ok().filter(|phones| *phones > 0)
}

/// A node with its phones by controller, and what to do about those that do not work.
pub fn report(node: &ClusterNode, layout: Layout) -> String {
    let phones = of(node);
    let missing = expected(node).unwrap_or_default().saturating_sub(phones.len());
    let mut controllers: BTreeMap<String, Vec<&Device>> = BTreeMap::new();
    for phone in &phones {
        controllers.entry(device::split(&slot(phone)).0.to_owned()).or_default().push(phone);
    }
    let width = layout.width.filter(|_| !layout.wide);
    let mut sections = vec![headline(node, &phones, missing)];
    // Phones that are on no bus come last.
    let network = controllers.remove_entry("");
    for (controller, phones) in controllers.into_iter().chain(network) {
        let free = if missing > 0 { free_ports(&phones) } else { BTreeSet::new() };
        let heading = paint(style::HEADING, &title(&controller, phones.len(), free.len()));
        sections.push(format!("{heading}\n{}", table(&phones, &free, layout).render(width, layout.headers, 2)));
    }
    sections.push(advice(&phones, layout));
    sections.retain(|section| !section.is_empty());
    sections.join("\n")
}

fn headline(node: &ClusterNode, phones: &[Device], missing: usize) -> String {
    let usable = phones.iter().filter(|phone| phone.health.is_usable()).count();
    let name = paint(style::HEADING, &node.name_any());
    let mut text = match (phones.len(), usable) {
        (0, _) => format!("{name}  no phones"),
        (present, usable) if usable == present => {
            format!("{name}  {present} {}", device::plural(DeviceClass::Phone, present))
        }
        (present, usable) => {
            format!("{name}  {present} {}, {usable} usable", device::plural(DeviceClass::Phone, present))
        }
    };
    if let Some(expected) = expected(node) {
        _ = write!(text, ", {expected} expected");
    }
    if missing > 0 {
        _ = write!(text, ", {}", paint(style::ILL, &format!("{missing} missing")));
    }
    text + "\n"
}

fn title(controller: &str, phones: usize, free: usize) -> String {
    let noun = device::plural(DeviceClass::Phone, phones);
    let place = match controller {
        "" => "On the network".to_owned(),
        // All that is known of a phone that adb lists and no bus has.
        bus if bus.bytes().all(|byte| byte.is_ascii_digit()) => format!("USB bus {bus}"),
        controller => format!("USB controller {controller}"),
    };
    let free = match free {
        0 => String::new(),
        1 => ", 1 port of its hubs without a phone".to_owned(),
        free => format!(", {free} ports of its hubs without a phone"),
    };
    format!("{place}: {phones} {noun}{free}")
}

fn table(phones: &[&Device], free: &BTreeSet<String>, layout: Layout) -> Table {
    let mut columns = vec![
        Column::text("PORT"),
        Column::text("STATE"),
        Column::text("REASON"),
        Column::text("NAME").cut_to(16),
        Column::text("MODEL").cut_to(10).spare(1),
        Column::text("ANDROID").spare(2),
    ];
    if layout.wide {
        columns.extend(["MEMORY", "SERIAL", "NODE", "MESSAGE"].map(Column::text));
    }
    let width = columns.len();
    let mut rows: BTreeMap<Place, Vec<Cell>> = BTreeMap::new();
    for (number, phone) in phones.iter().enumerate() {
        rows.insert(Place(port(phone), number), row(phone, layout));
    }
    for port in free {
        let mut cells = vec![Cell::plain(""); width];
        cells[0] = Cell::plain(port);
        cells[1] = Cell::new("empty", style::FAINT);
        rows.insert(Place(port.clone(), usize::MAX), cells);
    }
    let mut table = Table::new(columns);
    for cells in rows.into_values() {
        table.row(cells);
    }
    table
}

fn row(phone: &Device, layout: Layout) -> Vec<Cell> {
    let health = &phone.health;
    let mut cells = vec![
        Cell::plain(port(phone)),
        Cell::new(health.state.as_str(), device::style_of(health.state)),
        Cell::plain(&health.reason),
        Cell::plain(&phone.name),
        Cell::optional(device::model(phone)),
        Cell::optional(device::text(phone, ANDROID_VERSION)),
    ];
    if layout.wide {
        cells.extend([
            Cell::optional(device::memory(phone)),
            Cell::optional(device::text(phone, attribute::SERIAL)),
            Cell::plain(phone.nodes.join(" ")),
            Cell::plain(&health.message),
        ]);
    }
    cells
}

/// The chain of ports, or the address on the network.
fn port(phone: &Device) -> String {
    let slot = slot(phone);
    if slot.is_empty() {
        return device::text(phone, REMOTE).unwrap_or_default();
    }
    device::split(&slot).1.to_owned()
}

/// A chain of ports, in natural order.
#[derive(PartialEq, Eq)]
struct Place(String, usize);

impl Ord for Place {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        order::natural(&self.0, &other.0).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Ports below the last one that is used on a hub with phones: where a missing phone may be. A port with a further hub
/// behind it is used.
fn free_ports(phones: &[&Device]) -> BTreeSet<String> {
    let chains: Vec<String> = phones.iter().map(|phone| device::split(&slot(phone)).1.to_owned()).collect();
    let hubs: BTreeSet<&str> = chains.iter().filter_map(|chain| Some(chain.rsplit_once('.')?.0)).collect();
    let used = |hub: &str| -> BTreeSet<u32> {
        let below = chains.iter().filter_map(|chain| chain.strip_prefix(hub)?.strip_prefix('.'));
        below.filter_map(|ports| ports.split('.').next()?.parse().ok()).collect()
    };
    let gaps = |hub: &&str| {
        let used = used(hub);
        let last = used.last().copied().unwrap_or_default();
        (1..last).filter(|port| !used.contains(port)).map(|port| format!("{hub}.{port}")).collect::<Vec<_>>()
    };
    hubs.iter().flat_map(gaps).collect()
}

#[cfg(test)]
mod tests {
    use hatrack_api::cluster_node::{Attribute, Health};

    use super::*;

    fn phone(slot: &str) -> Device {
        let attributes = BTreeMap::from([(attribute::USB_PATH.to_owned(), Attribute::string(slot))]);
        Device {
            name: format!("phone-{slot}"),
            class: DeviceClass::Phone,
            attributes,
            capacity: BTreeMap::new(),
            nodes: Vec::new(),
            health: Health::ready("AdbDevice"),
        }
    }

    #[test]
    fn a_free_port_is_one_between_phones_and_not_one_with_a_hub() {
        let phones = ["c/1.1", "c/1.2.1", "c/1.2.4", "c/1.5"].map(phone);
        let free = free_ports(&phones.iter().collect::<Vec<_>>());
        assert_eq!(free.into_iter().collect::<Vec<_>>(), ["1.2.2", "1.2.3", "1.3", "1.4"]);
    }

    #[test]
    fn a_phone_without_a_hub_or_without_usb_has_no_free_neighbour() {
        let phones = ["c/4", ""].map(phone);
        assert!(free_ports(&phones.iter().collect::<Vec<_>>()).is_empty());
    }
}
