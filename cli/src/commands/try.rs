//! `hatrack try`: this machine as a node, without a cluster, and who wears which hat on it.

use std::path::{Path, PathBuf};

use anyhow::Context;
use hatrack_api::cluster_node::DeviceClass;
use hatrack_api::hat_binding::{Phase, ServiceAccountRef};
use hatrack_api::{ClusterNode, Hat, HatBinding, HatPolicy};
use hatrack_hats::throttles::spiffe_id;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use crate::args::{ClusterOptions, MachineOptions, Try};
use crate::cluster::folder::{self, Folder};
use crate::cluster::kind::Kind;
use crate::cluster::{Ask, Cluster, Registered};
use crate::commands::register::register;
use crate::output::style::{self, paint};
use crate::output::{Printer, lines};
use crate::registration::{self, Wishes};
use crate::view::inventory::{self, Layout, indented};
use crate::view::{bindings, nodes};
use crate::{Outcome, machine, starter};

/// Registers the machine in a folder, puts hats on it and shows the result.
pub async fn run(options: Try, printer: &Printer) -> anyhow::Result<Outcome> {
    let folder = Folder::at(match options.cluster {
        Some(folder) => folder,
        None => new_folder()?,
    });
    let cluster = Cluster::open(&ClusterOptions { cluster: Some(folder.path().to_owned()), context: None }).await?;
    // A tree without a host name is a machine all the same.
    let name =
        registration::name_of(&machine::hostname(&options.machine)?).unwrap_or_else(|_| "this-machine".to_owned());
    let look = machine::look(&options.machine).await?;
    let Registered { node, inventory, .. } = register(&cluster, &name, look, &Wishes::default()).await?;
    let hats = put_hats(&folder, &node)?;
    ask(&folder, &hats)?;
    folder.schedule()?;
    let node = folder.get(None, &name)?.unwrap_or(node);
    let mut asked = folder.list::<HatBinding>()?;
    bindings::sort(&mut asked);
    let layout = Layout { width: printer.width, headers: true, wide: false };
    let story = [
        inventory::essence(&inventory, layout),
        as_node(&node, layout),
        files(&node, &folder),
        worn(&asked, layout),
        why_not(&asked, layout),
        next(&node, &asked, folder.path(), &options.machine, layout),
    ];
    let story: Vec<_> = story.into_iter().filter(|section| !section.is_empty()).collect();
    printer.data(&story.join("\n"))?;
    Ok(Outcome::Done)
}

/// Puts the policy and the hats into the folder that are not there, and names the hats to ask for.
fn put_hats(folder: &Folder, node: &ClusterNode) -> anyhow::Result<Vec<String>> {
    put(folder, starter::policy()?)?;
    for hat in starter::seeds()? {
        put(folder, hat)?;
    }
    let [fits, misses] = starter::hardware(node);
    let hardware = [fits.name_any(), misses.name_any()];
    put(folder, fits)?;
    put(folder, misses)?;
    let [fits, misses] = hardware;
    Ok(vec!["observer".to_owned(), "executor".to_owned(), fits, misses, "hat-designer".to_owned()])
}

fn put<K: Kind>(folder: &Folder, object: K) -> anyhow::Result<()> {
    let writer = folder.lock()?;
    if folder.get::<K>(None, &object.name_any())?.is_none() {
        writer.put(None, object)?;
    }
    Ok(())
}

/// Somebody asks for each hat, unless it was asked for before.
fn ask(folder: &Folder, hats: &[String]) -> anyhow::Result<()> {
    let policy = folder.get::<HatPolicy>(None, hatrack_api::hat_policy::NAME)?.unwrap_or(starter::policy()?).spec;
    for (hat, who) in hats.iter().zip(["ada", "bob", "ada", "bob", "ada"]) {
        if folder.get::<Hat>(None, hat)?.is_none() || folder.get::<HatBinding>(Some(folder::NAMESPACE), hat)?.is_some()
        {
            continue;
        }
        folder.ask(&Ask {
            namespace: folder::NAMESPACE.to_owned(),
            name: Some(hat.clone()),
            hat: hat.clone(),
            spiffe_id: spiffe_id(&policy, folder::NAMESPACE, who),
            account: Some(ServiceAccountRef { namespace: folder::NAMESPACE.to_owned(), name: who.to_owned() }),
        })?;
    }
    Ok(())
}

fn files(node: &ClusterNode, folder: &Folder) -> String {
    let file = folder.file_of::<ClusterNode>(None, &node.name_any());
    let heading = paint(style::HEADING, "Where it is");
    format!("{heading}\n  {}\n", file.display())
}

/// Who wears what, where and until when. Why others do not is told below, in full.
fn worn(asked: &[HatBinding], layout: Layout) -> String {
    let table = bindings::short_table(asked, Timestamp::now());
    format!("{}\n{}", paint(style::HEADING, "Who wears which hat"), table.render(layout.width, true, 2))
}

fn why_not(asked: &[HatBinding], layout: Layout) -> String {
    let held: Vec<_> = asked.iter().filter(|binding| bindings::phase(binding) == Phase::Pending).collect();
    if held.is_empty() {
        return String::new();
    }
    let now = Timestamp::now();
    let why = |binding: &&HatBinding| {
        let name = paint(bindings::style_of(Phase::Pending), &binding.spec.hat);
        format!("  {name}\n{}", indented(&bindings::why(binding, now), 4, layout.width))
    };
    format!("{}\n{}", paint(style::HEADING, "Why not the others"), held.iter().map(why).collect::<String>())
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

/// Commands to go on with, the nearest first.
fn next(node: &ClusterNode, asked: &[HatBinding], folder: &Path, machine: &MachineOptions, layout: Layout) -> String {
    let cluster = format!("--cluster {}", quoted(folder));
    let mut commands = vec![];
    let held = asked.iter().rev().find(|binding| bindings::phase(binding) == Phase::Pending);
    if let Some(held) = held {
        commands.push((format!("hatrack why {} {cluster}", held.name_any()), "why, and what would change it"));
    }
    commands.push((format!("hatrack plan {cluster}"), "what happens next, and when"));
    commands.push((format!("hatrack schedule --watch {cluster}"), "let it happen"));
    let devices = node.status.as_ref().and_then(|status| status.devices.as_deref()).unwrap_or_default();
    if devices.iter().any(|device| device.class == DeviceClass::Phone) {
        commands.push((format!("hatrack phones {cluster}"), "its phones, slot by slot"));
    }
    let root = machine.root.as_deref().map(|root| format!(" --root {}", quoted(root))).unwrap_or_default();
    commands.push((format!("hatrack discover{root}"), "all of this machine"));
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
