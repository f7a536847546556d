//! Looks at a machine: this one, or a copy of another one's tree.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use hatrack_api::cluster_node::Identity;
use hatrack_discover::host;
use hatrack_discover::inventory::{self, Answers, Facts, Inventory};
use hatrack_discover::names::Names;
use hatrack_discover::nvidia::{self, probe};
use hatrack_discover::pci::{self, LinkNow};
use hatrack_discover::phone::adb;
use hatrack_discover::root::Root;
use hatrack_discover::usb::{budget, budget::Budget};

use crate::args::MachineOptions;

/// Where adb's own tools look for the server (AOSP `adb.h`, `DEFAULT_ADB_PORT`).
const ADB_SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 5037);

/// This program, even if its file was replaced meanwhile (proc(5)).
const OWN_EXECUTABLE: &str = "/proc/self/exe";

/// The folder of a copied tree cannot be one.
#[derive(Debug, thiserror::Error)]
#[error("`{path}` is no copy of a machine's tree: it has neither `sys` nor `proc`")]
pub struct NoTree {
    path: String,
}

/// What was seen of a machine, before its devices have names.
pub struct Look {
    root: Root,
    facts: Facts,
    answers: Answers,
    buses: Buses,
}

/// What the buses do at this moment: it changes all the time, so it is no part of an inventory.
#[derive(Clone)]
pub struct Buses {
    /// The PCIe links of cards.
    pub links: Vec<LinkNow>,
    /// The USB controllers with a device that is no hub, and what they carry.
    pub controllers: Vec<Budget>,
}

/// Looks at the machine.
pub async fn look(options: &MachineOptions) -> Result<Look, NoTree> {
    let root = root(options)?;
    let facts = inventory::look(&root);
    let (nvml, adb) = tokio::join!(ask_nvml(&root, &facts, options.deadline), ask_adb(&root, options));
    let buses = Buses { links: pci::links_now(&root, facts.functions()), controllers: controllers(&root, &facts) };
    Ok(Look { root, facts, answers: Answers { nvml, adb }, buses })
}

impl Look {
    /// What the buses do at this moment.
    pub fn buses(&self) -> &Buses {
        &self.buses
    }

    /// Everything that is known of the machine. `names` are those that its devices have had.
    pub fn into_inventory(self, mut names: Names) -> Inventory {
        Inventory::compose(&self.root, self.facts, &self.answers, &mut names, None)
    }
}

fn controllers(root: &Root, facts: &Facts) -> Vec<Budget> {
    let mut controllers = budget::of(root, facts.usb_devices());
    controllers.retain(|budget| budget.devices.used > 0);
    controllers
}

/// The host name of the machine.
pub fn hostname(options: &MachineOptions) -> Result<String, NoTree> {
    Ok(host::collect(&root(options)?).identity.hostname)
}

/// Who this machine is.
pub fn identity() -> Identity {
    host::collect(&Root::machine()).identity
}

fn root(options: &MachineOptions) -> Result<Root, NoTree> {
    let Some(path) = &options.root else { return Ok(Root::machine()) };
    if path.join("sys").is_dir() || path.join("proc").is_dir() {
        Ok(Root::at(path))
    } else {
        Err(NoTree { path: path.display().to_string() })
    }
}

/// The driver of this machine knows nothing of another one's tree.
async fn ask_nvml(root: &Root, facts: &Facts, deadline: Duration) -> nvidia::View {
    if root.is_machine() && facts.concern_nvml() {
        probe::ask(Path::new(OWN_EXECUTABLE), deadline).await
    } else {
        nvidia::View::default()
    }
}

/// The server of this machine is asked about another one's tree only when it is named.
async fn ask_adb(root: &Root, options: &MachineOptions) -> adb::View {
    let server = options.adb_server.or(root.is_machine().then_some(ADB_SERVER));
    match server {
        Some(server) => adb::client::ask(server, options.deadline).await,
        None => adb::View::NotAsked,
    }
}
