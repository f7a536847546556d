//! `hatrack discover`: what this machine has.

use hatrack_discover::inventory::Inventory;
use hatrack_discover::names::Names;
use hatrack_discover::pci::LinkNow;
use hatrack_discover::usb::budget::{Budget, Load};
use serde::Serialize;

use crate::Outcome;
use crate::args::{Discover, Format};
use crate::machine::{self, Buses};
use crate::output::{Printer, lines};
use crate::view::inventory::{self, Layout};

const SCHEMA: &str = "hatrack.discover/v1";

/// An inventory that says which shape it has.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    schema: &'static str,
    #[serde(flatten)]
    inventory: &'a Inventory,
    pcie_links: Vec<Link<'a>>,
    usb_controllers: Vec<Controller<'a>>,
}

/// The PCIe link of a card. Speeds are in GT/s, widths in lanes.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Link<'a> {
    address: &'a str,
    width: u8,
    max_width: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    speed: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_speed: Option<f32>,
}

impl<'a> From<&'a LinkNow> for Link<'a> {
    fn from(now: &'a LinkNow) -> Self {
        let gigatransfers = |tenths: u16| f32::from(tenths) / 10.0;
        Self {
            address: &now.address,
            width: now.link.width,
            max_width: now.link.max_width,
            speed: now.speed.map(gigatransfers),
            max_speed: now.link.max_speed.map(gigatransfers),
        }
    }
}

/// What a USB controller carries, and the most that it can.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Controller<'a> {
    name: &'a str,
    devices: Amount,
    endpoints: Amount,
    hub_tiers: Amount,
}

#[derive(Serialize)]
struct Amount {
    used: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<u32>,
}

impl From<Load> for Amount {
    fn from(load: Load) -> Self {
        Self { used: load.used, limit: load.limit }
    }
}

impl<'a> Document<'a> {
    fn new(inventory: &'a Inventory, buses: &'a Buses) -> Self {
        let controller = |budget: &'a Budget| Controller {
            name: &budget.controller,
            devices: budget.devices.into(),
            endpoints: budget.endpoints.into(),
            hub_tiers: budget.hub_tiers.into(),
        };
        Self {
            schema: SCHEMA,
            inventory,
            pcie_links: buses.links.iter().map(Link::from).collect(),
            usb_controllers: buses.controllers.iter().map(controller).collect(),
        }
    }
}

/// Looks at the machine and prints what it has.
pub async fn run(options: &Discover, printer: &Printer) -> anyhow::Result<Outcome> {
    let look = machine::look(&options.machine).await?;
    let buses = look.buses().clone();
    let inventory = look.into_inventory(Names::default());
    let format = options.output.output;
    if printer.structured(format, &Document::new(&inventory, &buses))? {
        return Ok(Outcome::Done);
    }
    if format == Format::Name {
        printer.data(&lines(inventory.devices.iter().map(|device| &device.name)))?;
    } else {
        let layout = Layout { width: printer.width, headers: !options.output.no_headers, wide: format == Format::Wide };
        printer.data(&inventory::report(&inventory, &buses, layout))?;
    }
    Ok(Outcome::Done)
}
