//! `hatrack release`: a hat is taken off, or a request for one back.

use hatrack_api::HatBinding;
use kube::ResourceExt;

use crate::Outcome;
use crate::args::Release;
use crate::cluster::{Cluster, Missing};
use crate::output::Printer;
use crate::output::style::{self, paint};
use crate::view::{bindings, wearer};

/// Deletes the binding; who decides takes the hat off.
pub async fn run(options: &Release, printer: &Printer) -> anyhow::Result<Outcome> {
    let cluster = Cluster::open(&options.cluster).await?;
    let namespace = options.binding.namespace.as_deref().unwrap_or_else(|| cluster.namespace());
    let name = &options.binding.name;
    let binding = cluster.binding(namespace, name).await?.ok_or_else(|| Missing::of::<HatBinding>(name))?;
    cluster.release(&binding).await?;
    cluster.settle()?;
    let who = wearer::short(&binding.spec.wearer.spiffe_id);
    let done = if bindings::phase(&binding).is_worn() {
        format!("{who} takes {} off", binding.spec.hat)
    } else {
        format!("{who} does not ask for {} any more", binding.spec.hat)
    };
    printer.note(&format!("{} {}: {done}", paint(style::GOOD, "ok:"), binding.name_any()));
    Ok(Outcome::Done)
}
