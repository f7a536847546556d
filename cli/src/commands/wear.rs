//! `hatrack wear`: somebody asks for a hat, and perhaps runs a command as its wearer.

mod process;
mod take_off;
mod wait;

use std::process::ExitCode;

use hatrack_api::{ClusterNode, Hat, HatBinding, environment};
use kube::ResourceExt;

use self::process::{Process, Signals};
use self::wait::{Wait, Waited};
use crate::Outcome;
use crate::args::Wear;
use crate::cluster::{Ask, Cluster, Missing};
use crate::identity::{self, Identity};
use crate::output::Printer;
use crate::output::style::{self, paint};
use crate::view::{bindings, wearer};
use crate::{errors, machine};

/// The hat is worn on another machine than this.
#[derive(Debug, thiserror::Error)]
#[error("{hat} is worn on the node `{node}`, and this is another machine")]
pub struct Elsewhere {
    hat: String,
    /// Name of the node.
    pub node: String,
}

/// Asks for the hat; with a command, wears it for as long as the command runs.
pub async fn run(options: Wear, printer: &Printer) -> anyhow::Result<ExitCode> {
    let cluster = Cluster::open(&options.cluster).await?;
    let me = identity::of(&cluster, &options.identity).await?;
    cluster.get::<Hat>(&options.hat).await?.ok_or_else(|| Missing::of::<Hat>(&options.hat))?;
    if options.command.is_empty() {
        ask(&cluster, &options, &me, printer).await
    } else {
        wear(&cluster, &options, &me, printer).await
    }
}

fn asked(cluster: &Cluster, options: &Wear, me: &Identity) -> Ask {
    Ask {
        namespace: options.namespace.clone().unwrap_or_else(|| cluster.namespace().to_owned()),
        name: options.name.clone(),
        hat: options.hat.clone(),
        spiffe_id: me.spiffe_id.clone(),
        account: me.account.clone(),
    }
}

/// Asks, unless the same was asked before.
async fn ask(cluster: &Cluster, options: &Wear, me: &Identity, printer: &Printer) -> anyhow::Result<ExitCode> {
    let ask = asked(cluster, options, me);
    let before = cluster.bindings(Some(&ask.namespace)).await?.into_iter().find(|binding| is_asked(binding, &ask));
    let (binding, done) = match before {
        Some(binding) => (binding, "had asked already"),
        None => (cluster.ask(&ask).await?, "asks"),
    };
    cluster.settle()?;
    let name = binding.name_any();
    let binding = cluster.binding(&ask.namespace, &name).await?.unwrap_or(binding);
    super::bindings::print(std::slice::from_ref(&binding), &options.output, printer)?;
    printer.note(&format!(
        "{} {} {done} for {}: {name}",
        paint(style::GOOD, "ok:"),
        wearer::short(&me.spiffe_id),
        ask.hat
    ));
    if !bindings::phase(&binding).is_worn() {
        let place = options.namespace.as_ref().map(|namespace| format!("-n {namespace} ")).unwrap_or_default();
        printer.note(&format!("{} `hatrack why {place}{name}` says what it waits for", paint(style::HINT, "hint:")));
    }
    Ok(Outcome::Done.into())
}

/// Whether a live binding asks for the same.
fn is_asked(binding: &HatBinding, ask: &Ask) -> bool {
    let same = binding.spec.hat == ask.hat && binding.spec.wearer.spiffe_id == ask.spiffe_id;
    let lives = !bindings::phase(binding).is_ended() && binding.metadata.deletion_timestamp.is_none();
    same && lives && ask.name.as_ref().is_none_or(|name| *name == binding.name_any())
}

/// Asks anew, waits, runs the command and takes the hat off.
async fn wear(cluster: &Cluster, options: &Wear, me: &Identity, printer: &Printer) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::open()?;
    let binding = cluster.ask(&asked(cluster, options, me)).await?;
    let ended = wait_and_run(cluster, options, &binding, &mut signals, printer).await;
    if let Err(error) = take_off::take_off(cluster, &binding, &mut signals, printer).await {
        let command =
            format!("`hatrack release -n {} {}`", binding.namespace().unwrap_or_default(), binding.name_any());
        printer.note(&format!("{} the hat is still on: {command} takes it off", paint(style::CARE, "note:")));
        errors::report(&error, printer);
    }
    ended
}

async fn wait_and_run(
    cluster: &Cluster,
    options: &Wear,
    binding: &HatBinding,
    signals: &mut Signals,
    printer: &Printer,
) -> anyhow::Result<ExitCode> {
    let mut wait = Wait::open(cluster, binding, printer)?;
    let worn = match wait.until_active(options.timeout, signals).await? {
        Waited::Active(binding) => binding,
        Waited::No(why) => {
            printer.note(&format!("{} {why}", paint(style::ILL, "no:")));
            return Ok(Outcome::No.into());
        }
        Waited::Interrupted(code) => return Ok(ExitCode::from(code)),
    };
    let status = worn.status.clone().unwrap_or_default();
    let node = match &status.node_name {
        Some(name) => Some(here(cluster, &worn, name).await?),
        None => None,
    };
    let uid = worn.uid().unwrap_or_default();
    let expires_at = status.expires_at.as_ref().map(|time| time.0.to_string());
    let told = environment::Worn {
        hat: &worn.spec.hat,
        binding: &uid,
        wearer: &worn.spec.wearer.spiffe_id,
        node: status.node_name.as_deref(),
        expires_at: expires_at.as_deref(),
        devices: &status.devices,
    };
    let devices = node.and_then(|node| node.status).and_then(|status| status.devices).unwrap_or_default();
    let _worn = match cluster {
        Cluster::Folder(folder) => Some(folder.begin_to_wear(&uid)?),
        Cluster::Kubernetes(_) => None,
    };
    let mut process = Process::start(&options.command, environment::of(told, &devices))?;
    tokio::select! {
        code = process.ends(signals) => Ok(ExitCode::from(code?)),
        why = wait.until_over() => {
            printer.note(&format!("{} {why}: the command is ended", paint(style::CARE, "note:")));
            Ok(ExitCode::from(process.stop(options.stop_timeout).await?))
        }
    }
}

/// The node of the hat, if it is this machine: elsewhere its devices mean nothing.
async fn here(cluster: &Cluster, binding: &HatBinding, name: &str) -> anyhow::Result<ClusterNode> {
    let node = cluster.get::<ClusterNode>(name).await?.ok_or_else(|| Missing::of::<ClusterNode>(name))?;
    let identity = node.status.as_ref().and_then(|status| status.identity.clone()).unwrap_or_default();
    let this = machine::identity();
    let same = match (&identity.machine_id, &this.machine_id) {
        (Some(theirs), Some(ours)) => theirs == ours,
        _ => identity.hostname == this.hostname,
    };
    if same { Ok(node) } else { Err(Elsewhere { hat: binding.spec.hat.clone(), node: name.to_owned() }.into()) }
}
