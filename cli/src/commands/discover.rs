//! `hatrack discover`: what this machine has.

use hatrack_discover::inventory::Inventory;
use hatrack_discover::names::Names;
use serde::Serialize;

use crate::Outcome;
use crate::args::{Discover, Format};
use crate::machine;
use crate::output::{Printer, lines};
use crate::view::inventory::{self, Layout};

const SCHEMA: &str = "hatrack.discover/v1";

/// An inventory that says which shape it has.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    #[serde(flatten)]
    inventory: &'a Inventory,
}

/// Looks at the machine and prints what it has.
pub async fn run(options: &Discover, printer: &Printer) -> anyhow::Result<Outcome> {
    let inventory = machine::look(&options.machine).await?.into_inventory(Names::default());
    let format = options.output.output;
    if printer.structured(format, &Document { schema: SCHEMA, inventory: &inventory })? {
        return Ok(Outcome::Done);
    }
    if format == Format::Name {
        printer.data(&lines(inventory.devices.iter().map(|device| &device.name)))?;
    } else {
        let layout = Layout { width: printer.width, headers: !options.output.no_headers, wide: format == Format::Wide };
        printer.data(&inventory::report(&inventory, layout))?;
    }
    Ok(Outcome::Done)
}
