//! `hatrack verdict`: a supervisor judges a wearer.

use std::time::Duration;

use hatrack_api::HatBinding;
use hatrack_api::hat_binding::{Verdict as Entry, VerdictAction};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::{Timestamp, Unit};
use tokio::time::sleep;

use super::cosign::OwnBinding;
use crate::Outcome;
use crate::args::Verdict;
use crate::cluster::Cluster;
use crate::identity;
use crate::output::Printer;
use crate::output::style::{self, paint};
use crate::view::wearer;

/// Adds a verdict in the caller's own name.
pub async fn run(options: &Verdict, printer: &Printer) -> anyhow::Result<Outcome> {
    let cluster = Cluster::open(&options.cluster).await?;
    let me = identity::of(&cluster, &options.identity).await?.spiffe_id;
    let namespace = options.binding.namespace.as_deref().unwrap_or_else(|| cluster.namespace());
    let now = Timestamp::now().round(Unit::Second)?.min(Timestamp::now());
    let judge = |binding: &HatBinding| {
        if binding.spec.wearer.spiffe_id == me {
            return Err(OwnBinding { who: wearer::short(&me), what: "a verdict is a supervisor's" }.into());
        }
        let mut spec = binding.spec.clone();
        // Manifests have whole seconds, and one supervisor says one thing at a time.
        let own = spec.verdicts.iter().filter(|verdict| verdict.by == me).map(|verdict| verdict.at.0.as_second());
        let at = own.max().map_or(now.as_second(), |last| now.as_second().max(last + 1));
        spec.verdicts.push(Entry {
            by: me.clone(),
            action: options.action.0,
            reason: options.reason.clone(),
            at: Time(Timestamp::from_second(at)?),
        });
        Ok(Some(spec))
    };
    let judged = cluster.respecify(namespace, &options.binding.name, judge).await?;
    sleep(until_it_counts(&judged, &me)).await;
    cluster.settle()?;
    let (who, hat) = (wearer::short(&judged.spec.wearer.spiffe_id), &judged.spec.hat);
    let done = match options.action.0 {
        VerdictAction::Revoke => format!("{hat} is taken off {who} for good"),
        VerdictAction::Probation => format!("{who} may only read as {hat}, until a restore"),
        VerdictAction::Restore => format!("{who} has {hat} back in full, unless another verdict counts"),
    };
    printer.note(&format!("{} {}: {done}", paint(style::GOOD, "ok:"), wearer::short(&me)));
    Ok(Outcome::Done)
}

/// A second verdict within a second is dated to the next one: what this command says is true from then on.
fn until_it_counts(judged: &HatBinding, me: &str) -> Duration {
    let own = judged.spec.verdicts.iter().filter(|verdict| verdict.by == me).map(|verdict| verdict.at.0).max();
    own.and_then(|at| Duration::try_from(at.duration_since(Timestamp::now())).ok()).unwrap_or_default()
}
