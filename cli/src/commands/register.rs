//! `hatrack register`: this machine becomes a node.

use hatrack_api::ClusterNode;

use crate::Outcome;
use crate::args::Register;
use crate::cluster::{Cluster, Registered};
use crate::machine::{self, Look};
use crate::output::Printer;
use crate::output::style::{self, paint};
use crate::registration::{self, Wishes};

/// Registers the machine and prints its node.
pub async fn run(options: Register, printer: &Printer) -> anyhow::Result<Outcome> {
    let cluster = Cluster::open(&options.cluster).await?;
    let guessed = options.class.is_none();
    let wishes = Wishes { class: options.class, profile: options.profile, expects: options.expect };
    let name = match options.name {
        Some(name) => name,
        None => registration::name_of(&machine::hostname(&options.machine)?)?,
    };
    let look = machine::look(&options.machine).await?;
    let registered = register(&cluster, &name, look, &wishes).await?;
    let node = &registered.node;
    let done = if registered.created { "registered" } else { "brought up to date" };
    printer.note(&format!("{} {name} is {done}", paint(style::GOOD, "ok:")));
    if registered.created && guessed {
        let class = node.spec.class;
        printer.note(&format!(
            "{} class {class} fits what was found; `--class` says otherwise",
            paint(style::HINT, "hint:")
        ));
    }
    super::nodes::print(std::slice::from_ref(node), &options.output, printer)?;
    Ok(Outcome::Done)
}

/// Registers the machine; its devices keep the names that the node has for them.
pub async fn register(cluster: &Cluster, name: &str, look: Look, wishes: &Wishes) -> anyhow::Result<Registered> {
    let plan = |existing: Option<&ClusterNode>| {
        let inventory = look.into_inventory(registration::names_of(existing));
        registration::plan(name, existing, inventory, wishes)
    };
    cluster.register(name, plan).await
}
