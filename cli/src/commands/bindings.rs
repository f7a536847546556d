//! `hatrack bindings`: who asked for which hat, and what became of it.

use hatrack_api::HatBinding;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use super::follow::{self, Story};
use super::nodes::report_unknown;
use crate::Outcome;
use crate::args::{Bindings, OutputOptions};
use crate::cluster::Cluster;
use crate::output::Printer;
use crate::view::bindings;

/// Lists the bindings.
pub async fn run(options: &Bindings, printer: &Printer) -> anyhow::Result<Outcome> {
    let cluster = Cluster::open(&options.cluster).await?;
    let namespace = options.namespace.as_deref();
    if options.watch {
        let watch = cluster.watch_bindings(namespace, None)?;
        return follow::run(watch, options, options.output.output, printer).await;
    }
    let mut found = cluster.bindings(namespace).await?;
    found.retain(|binding| options.wants(binding));
    bindings::sort(&mut found);
    print(&found, &options.output, printer)?;
    printer.note(&bindings::summary(&found));
    Ok(report_unknown(&options.names, &found, printer))
}

impl Story<HatBinding> for Bindings {
    fn wants(&self, binding: &HatBinding) -> bool {
        let named = self.names.is_empty() || self.names.contains(&binding.name_any());
        let placed = self.namespace.is_none() || self.namespace == binding.namespace();
        named && placed && self.hat.as_ref().is_none_or(|hat| binding.spec.hat == *hat)
    }

    fn begin(&self, found: &mut Vec<HatBinding>, printer: &Printer) -> anyhow::Result<()> {
        bindings::sort(found);
        print(found, &self.output, printer)?;
        printer.note(&bindings::summary(found));
        Ok(())
    }

    fn arrival(&self, binding: &HatBinding) -> String {
        let who = crate::view::wearer::short(&binding.spec.wearer.spiffe_id);
        let why = bindings::why(binding, Timestamp::now());
        let why = if why.is_empty() { why } else { format!("; {why}") };
        format!("new: {who} asks for {}; {}{why}", binding.spec.hat, bindings::phase(binding))
    }

    fn change(&self, old: &HatBinding, new: &HatBinding) -> String {
        bindings::changes(old, new, Timestamp::now())
    }
}

/// Prints bindings in the form that was asked for.
pub fn print(found: &[HatBinding], output: &OutputOptions, printer: &Printer) -> anyhow::Result<()> {
    super::print::objects(found, output, printer, |wide| bindings::table(found, wide, Timestamp::now()))
}
