//! A machine, as a person wants to see it.

use std::fmt::Write;

use hatrack_api::cluster_node::{Board, Device, DeviceClass, Disk, Health, HealthState, Interface};
use hatrack_discover::doubt::{Doubt, Subject};
use hatrack_discover::inventory::Inventory;
use hatrack_discover::pci::{LinkNow, speed_in_words};
use hatrack_discover::usb::budget::{Budget, Load};

use super::table::{Cell, Column, Table, wrap};
use super::{amount, device};
use crate::machine::Buses;
use crate::output::lines;
use crate::output::style::{self, paint};

const CLASSES: [DeviceClass; 3] = [DeviceClass::Gpu, DeviceClass::Phone, DeviceClass::Accelerator];

/// How a machine is shown.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Columns of the terminal.
    pub width: Option<usize>,
    /// Whether tables have headers.
    pub headers: bool,
    /// Whether everything is shown, however wide.
    pub wide: bool,
}

impl Layout {
    fn table_width(self) -> Option<usize> {
        self.width.filter(|_| !self.wide)
    }
}

/// The whole report.
pub fn report(inventory: &Inventory, buses: &Buses, layout: Layout) -> String {
    let sections = [
        host(inventory),
        devices(inventory, layout),
        advice(&inventory.devices, layout),
        pcie_links(&buses.links, layout),
        usb_controllers(&buses.controllers, layout),
        disks(&inventory.storage, layout),
        interfaces(&inventory.interfaces, layout),
        doubts(&inventory.doubts, layout),
    ];
    let filled: Vec<_> = sections.into_iter().filter(|section| !section.is_empty()).collect();
    filled.join("\n")
}

/// What matters for hats: the machine, its devices, and what is wrong with them.
pub fn essence(inventory: &Inventory, layout: Layout) -> String {
    let sections = [
        host(inventory),
        devices(inventory, layout),
        advice(&inventory.devices, layout),
        doubts(&inventory.doubts, layout),
    ];
    let filled: Vec<_> = sections.into_iter().filter(|section| !section.is_empty()).collect();
    filled.join("\n")
}

fn host(inventory: &Inventory) -> String {
    let system = &inventory.system;
    let cpu = &system.cpu;
    let board = system.board.as_ref();
    let mut facts = vec![
        (
            "system",
            joined([system.os_image.clone(), prefixed("Linux ", &system.kernel_version), some(&system.architecture)]),
        ),
        ("nixos", system.nixos.as_ref().map(|nixos| nixos.version.clone()).unwrap_or_default()),
        ("board", board.map(board_name).unwrap_or_default()),
        ("processor", joined([cpu.model.clone(), counted(cpu.cores, "core"), counted(Some(cpu.threads), "thread")])),
        ("memory", system.memory.as_ref().map(amount::memory).unwrap_or_default()),
        ("addresses", inventory.identity.addresses.join(", ")),
        (
            "hardware id",
            inventory
                .hardware_id
                .as_deref()
                .unwrap_or("none that can be trusted, so the node is not pinned to this machine")
                .to_owned(),
        ),
    ];
    let add_ons = board.into_iter().flat_map(|board| &board.add_ons);
    facts.splice(3..3, add_ons.map(|add_on| ("add-on", words([Some(&add_on.vendor), Some(&add_on.product)]))));
    facts.retain(|(_, value)| !value.is_empty());
    let facts = facts.into_iter().map(|(name, value)| format!("  {name:<12} {value}"));
    paint(style::HEADING, non_empty(&inventory.identity.hostname, "(no host name)")) + "\n" + &lines(facts)
}

/// Maker and model, once each.
fn board_name(board: &Board) -> String {
    let vendor = board.vendor.as_deref().filter(|vendor| !board.model.starts_with(vendor));
    words([vendor, Some(&board.model)])
}

fn devices(inventory: &Inventory, layout: Layout) -> String {
    let devices = &inventory.devices;
    if devices.is_empty() {
        let none = if inventory.doubts_about(Subject::Devices).next().is_none() {
            "no GPU, phone or accelerator on PCI or USB"
        } else {
            "none seen, but not everything could be looked at"
        };
        return format!("{} {none}\n", paint(style::HEADING, "Devices:"));
    }
    let mut table = Table::new([
        Column::text("NAME"),
        Column::text("STATE"),
        Column::text("REASON"),
        Column::text("MODEL").cut_to(14),
        Column::number("MEMORY").spare(1),
        Column::text("WHERE").spare(2),
    ]);
    for found in sorted(devices) {
        let style = device::style_of(found.health.state);
        table.row([
            Cell::plain(&found.name),
            Cell::new(found.health.state.as_str(), style),
            Cell::plain(&found.health.reason),
            Cell::optional(device::model(found)),
            Cell::optional(device::memory(found)),
            Cell::optional(device::place(found)),
        ]);
    }
    let heading = paint(style::HEADING, "Devices:");
    format!("{heading} {}\n{}", counts(devices), table.render(layout.table_width(), layout.headers, 2))
}

/// `8 GPUs, 7 usable; 20 phones`.
pub fn counts(devices: &[Device]) -> String {
    let count = |class| {
        let all: Vec<_> = devices.iter().filter(|found| counts_in(found, class)).collect();
        let usable = all.iter().filter(|found| found.health.is_usable()).count();
        match all.len() {
            0 => None,
            present if usable == present => Some(format!("{present} {}", device::plural(class, present))),
            present => Some(format!("{present} {}, {usable} usable", device::plural(class, present))),
        }
    };
    CLASSES.into_iter().filter_map(count).collect::<Vec<_>>().join("; ")
}

/// A card that carries MIG instances is counted by them.
fn counts_in(found: &Device, class: DeviceClass) -> bool {
    found.class == class && !hatrack_discover::gpu::carries_instances(found)
}

/// What to do about devices that are not as they should be: devices with the same trouble together.
pub fn advice(devices: &[Device], layout: Layout) -> String {
    let mut troubles: Vec<(HealthState, &str, &str, Vec<&str>)> = Vec::new();
    let ill =
        |found: &&Device| found.health.state != HealthState::Ready && !hatrack_discover::gpu::carries_instances(found);
    for found in sorted(devices).into_iter().filter(ill) {
        let health = &found.health;
        let same =
            troubles.iter_mut().find(|(_, reason, message, _)| *reason == health.reason && *message == health.message);
        match same {
            Some((.., names)) => names.push(&found.name),
            None => troubles.push((health.state, &health.reason, &health.message, vec![&found.name])),
        }
    }
    if troubles.is_empty() {
        return String::new();
    }
    troubles.sort_by_key(|(state, ..)| std::cmp::Reverse(*state));
    let mut text = format!("{}\n", paint(style::HEADING, "What to do"));
    for (state, reason, message, names) in troubles {
        let reason = paint(device::style_of(state), reason);
        _ = writeln!(text, "  {reason}: {}", named(&names));
        let message = if message.is_empty() { "nothing is known about it" } else { message };
        text.push_str(&indented(message, 4, layout.width));
    }
    text
}

/// A few names, and how many more: the table above has them all.
fn named(names: &[&str]) -> String {
    const SHOWN: usize = 2;
    if names.len() <= SHOWN + 1 {
        return names.join(", ");
    }
    format!("{} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN)
}

/// Widths and speeds, in use and of the card. Shown when asked for: a low speed only says that a card idles.
fn pcie_links(links: &[LinkNow], layout: Layout) -> String {
    let mut table = Table::new([Column::text("ADDRESS"), Column::text("LANES"), Column::text("SPEED")]);
    let speed = |tenths: Option<u16>| tenths.map_or_else(|| "?".to_owned(), speed_in_words);
    for now in links {
        table.row([
            Cell::plain(&now.address),
            Cell::plain(format!("{}/{}", now.link.width, now.link.max_width)),
            Cell::plain(format!("{} of {}", speed(now.speed), speed(now.link.max_speed))),
        ]);
    }
    section("PCIe", links.is_empty() || !layout.wide, &table, layout)
}

/// A controller that is full refuses the next phone, and only these numbers say why.
fn usb_controllers(controllers: &[Budget], layout: Layout) -> String {
    let mut table = Table::new([
        Column::text("CONTROLLER"),
        Column::number("DEVICES"),
        Column::number("ENDPOINTS"),
        Column::number("HUB-TIERS"),
    ]);
    for budget in controllers {
        table.row([
            Cell::plain(&budget.controller),
            load(budget.devices),
            load(budget.endpoints),
            load(budget.hub_tiers),
        ]);
    }
    section("USB", controllers.is_empty(), &table, layout)
}

/// `24/96`, or `24` where no limit is known.
fn load(load: Load) -> Cell {
    let text = load.limit.map_or_else(|| load.used.to_string(), |limit| format!("{}/{limit}", load.used));
    Cell::new(text, if load.is_full() { style::ILL } else { style::PLAIN })
}

fn disks(disks: &[Disk], layout: Layout) -> String {
    let mut table = Table::new([
        Column::text("NAME"),
        Column::number("SIZE"),
        Column::text("KIND"),
        Column::text("MODEL").cut_to(12),
        Column::text("STATE"),
        Column::text("BY-ID").cut_to(16).spare(1),
    ]);
    for disk in disks {
        let kind = disk.rotational.map(|rotational| if rotational { "spinning" } else { "solid state" });
        let health = disk.health.as_ref();
        let state = health.map(|health| Cell::new(state_of(health), device::style_of(health.state)));
        table.row([
            Cell::plain(&disk.name),
            Cell::plain(amount::disk(&disk.size)),
            Cell::optional(kind),
            Cell::optional(disk.model.as_deref()),
            state.unwrap_or_else(|| Cell::plain("")),
            Cell::optional(disk.by_id.as_deref()),
        ]);
    }
    section("Disks", disks.is_empty(), &table, layout)
}

/// The state, with its reason when there is something to say.
fn state_of(health: &Health) -> String {
    match health.state {
        HealthState::Ready => health.state.to_string(),
        HealthState::Degraded | HealthState::Unusable => format!("{}: {}", health.state, health.reason),
    }
}

fn interfaces(interfaces: &[Interface], layout: Layout) -> String {
    let mut table =
        Table::new([Column::text("NAME"), Column::text("LINK"), Column::number("SPEED"), Column::text("MAC")]);
    for interface in interfaces {
        let link = match interface.carrier {
            Some(true) => Cell::new("up", style::GOOD),
            Some(false) => Cell::new("no cable", style::CARE),
            None => Cell::new("down", style::FAINT),
        };
        table.row([
            Cell::plain(&interface.name),
            link,
            Cell::optional(interface.speed.map(speed)),
            Cell::optional(interface.mac.as_deref()),
        ]);
    }
    section("Network", interfaces.is_empty(), &table, layout)
}

fn section(title: &str, empty: bool, table: &Table, layout: Layout) -> String {
    if empty {
        return String::new();
    }
    format!("{}\n{}", paint(style::HEADING, title), table.render(layout.table_width(), layout.headers, 2))
}

fn doubts(doubts: &[Doubt], layout: Layout) -> String {
    if doubts.is_empty() {
        return String::new();
    }
    let mut text = format!("{}\n", paint(style::HEADING, "What could not be told"));
    for doubt in doubts {
        text.push_str(&indented(&doubt.why, 2, layout.width));
    }
    text
}

/// A text broken to the terminal, with a margin.
pub fn indented(text: &str, margin: usize, width: Option<usize>) -> String {
    let room = width.unwrap_or(100).min(100).saturating_sub(margin).max(20);
    lines(wrap(text, room).into_iter().map(|line| format!("{:margin$}{line}", "")))
}

fn sorted(devices: &[Device]) -> Vec<&Device> {
    let mut sorted: Vec<_> = devices.iter().collect();
    sorted.sort_by(|a, b| device::in_order(a, b));
    sorted
}

/// Mbit/s in words.
fn speed(megabits: i64) -> String {
    if megabits >= 1000 && megabits % 100 == 0 {
        let tenths = megabits / 100;
        let decimal = if tenths % 10 == 0 { String::new() } else { format!(".{}", tenths % 10) };
        return format!("{}{decimal} Gbit/s", tenths / 10);
    }
    format!("{megabits} Mbit/s")
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

fn prefixed(prefix: &str, text: &str) -> Option<String> {
    some(text).map(|text| format!("{prefix}{text}"))
}

fn counted(count: Option<i32>, what: &str) -> Option<String> {
    match count? {
        ..=0 => None,
        1 => Some(format!("1 {what}")),
        count => Some(format!("{count} {what}s")),
    }
}

fn joined<const N: usize>(parts: [Option<String>; N]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn words<const N: usize>(parts: [Option<&str>; N]) -> String {
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn non_empty<'a>(text: &'a str, otherwise: &'a str) -> &'a str {
    if text.is_empty() { otherwise } else { text }
}
