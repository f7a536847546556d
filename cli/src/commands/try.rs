//! `hatrack try`: this machine as a node, without a cluster.

use std::path::{Path, PathBuf};

use anyhow::Context;
use hatrack_api::ClusterNode;
use hatrack_api::cluster_node::DeviceClass;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::Outcome;
use crate::args::{ClusterOptions, MachineOptions, Try};
use crate::cluster::folder::Folder;
use crate::cluster::{Cluster, Registered};
use crate::commands::register::register;
use crate::machine;
use crate::output::style::{self, paint};
use crate::output::{Printer, lines};
use crate::registration::{self, Wishes};
use crate::view::inventory::{self, Layout};
use crate::view::nodes;

/// Registers the machine in a folder and shows the result.
pub async fn run(options: Try, printer: &Printer) -> anyhow::Result<Outcome> {
    let folder = match options.cluster {
        Some(folder) => folder,
        None => new_folder()?,
    };
    let cluster = Cluster::open(&ClusterOptions { cluster: Some(folder.clone()), context: None }).await?;
    // A tree without a host name is a machine all the same.
    let name =
        registration::name_of(&machine::hostname(&options.machine)?).unwrap_or_else(|_| "this-machine".to_owned());
    let look = machine::look(&options.machine).await?;
    let buses = look.buses().clone();
    let Registered { node, inventory, .. } = register(&cluster, &name, look, &Wishes::default()).await?;
    let layout = Layout { width: printer.width, headers: true, wide: false };
    let story = [
        inventory::report(&inventory, &buses, layout),
        as_node(&node, layout),
        files(&node, &folder),
        next(&node, &folder, &options.machine, layout),
    ];
    printer.data(&story.join("\n"))?;
    Ok(Outcome::Done)
}

/// A folder that stays: the next commands are about it.
fn new_folder() -> anyhow::Result<PathBuf> {
    let folder = tempfile::Builder::new().prefix("hatrack-").tempdir();
    Ok(folder.context("failed to make a folder for the cluster")?.keep())
}

fn as_node(node: &ClusterNode, layout: Layout) -> String {
    let table = nodes::table(std::slice::from_ref(node), false, Timestamp::now());
    let heading = paint(style::HEADING, "As a node of a cluster");
    format!("{heading}\n{}", table.render(layout.width, true, 2))
}

fn files(node: &ClusterNode, folder: &Path) -> String {
    let file = Folder::at(folder).file_of(&node.name_any());
    let heading = paint(style::HEADING, "Where it is");
    format!("{heading}\n  {}\n", file.display())
}

/// Commands to go on with, the nearest first.
fn next(node: &ClusterNode, folder: &Path, machine: &MachineOptions, layout: Layout) -> String {
    let cluster = format!("--cluster {}", quoted(folder));
    let mut commands = vec![(format!("hatrack nodes {cluster} -o wide"), "the nodes of this folder")];
    let devices = node.status.as_ref().and_then(|status| status.devices.as_deref()).unwrap_or_default();
    if devices.iter().any(|device| device.class == DeviceClass::Phone) {
        commands.push((format!("hatrack phones {cluster}"), "its phones, slot by slot"));
    }
    let root = machine.root.as_deref().map(|root| format!(" --root {}", quoted(root))).unwrap_or_default();
    commands.push((format!("hatrack discover{root} -o yaml"), "everything that was found"));
    commands.push(("hatrack register".to_owned(), "the same in your Kubernetes cluster"));
    paint(style::HEADING, "What to type next") + "\n" + &lines(beside(&commands, layout))
}

/// Each command with its purpose beside it, or above it where there is no room.
fn beside(commands: &[(String, &str)], layout: Layout) -> Vec<String> {
    let longest = |length: fn(&(String, &str)) -> usize| commands.iter().map(length).max().unwrap_or_default();
    let (command_width, why_width) = (longest(|(command, _)| command.len()), longest(|(_, why)| why.len()));
    let fits = layout.width.is_none_or(|width| 2 + command_width + 2 + why_width <= width);
    let line = |(command, why): &(String, &str)| {
        let padding = " ".repeat(command_width - command.len());
        let (command, why) = (paint(style::HINT, command), paint(style::FAINT, why));
        if fits { format!("  {command}{padding}  {why}") } else { format!("  {why}\n    {command}") }
    };
    commands.iter().map(line).collect()
}

/// A path that a shell takes as one word.
fn quoted(path: &Path) -> String {
    let path = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@".contains(c);
    if path.chars().all(plain) { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}
