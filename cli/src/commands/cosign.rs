//! `hatrack cosign`: somebody vouches for a request.

use hatrack_api::HatBinding;
use hatrack_api::hat_binding::Cosignature;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use crate::Outcome;
use crate::args::Cosign;
use crate::cluster::Cluster;
use crate::identity;
use crate::output::Printer;
use crate::output::style::{self, paint};
use crate::view::wearer;

/// Somebody may not say this about themselves.
#[derive(Debug, thiserror::Error)]
#[error("{who} would wear it: {what}")]
pub struct OwnBinding {
    /// Who.
    pub who: String,
    /// What is not for them.
    pub what: &'static str,
}

/// Adds the caller's own co-signature.
pub async fn run(options: &Cosign, printer: &Printer) -> anyhow::Result<Outcome> {
    let cluster = Cluster::open(&options.cluster).await?;
    let me = identity::of(&cluster, &options.identity).await?.spiffe_id;
    let namespace = options.binding.namespace.as_deref().unwrap_or_else(|| cluster.namespace());
    let signed_at = Some(Time(Timestamp::now()));
    let sign = |binding: &HatBinding| {
        if binding.spec.wearer.spiffe_id == me {
            let what = "a co-signature is somebody else's";
            return Err(OwnBinding { who: wearer::short(&me), what }.into());
        }
        if binding.spec.cosigned_by.iter().any(|entry| entry.spiffe_id == me) {
            return Ok(None);
        }
        let mut spec = binding.spec.clone();
        let entry = Cosignature {
            spiffe_id: me.clone(),
            signed_at: signed_at.clone(),
            attestation: options.attestation.clone(),
        };
        spec.cosigned_by.push(entry);
        Ok(Some(spec))
    };
    let signed = cluster.respecify(namespace, &options.binding.name, sign).await?;
    cluster.settle()?;
    let wearer = wearer::short(&signed.spec.wearer.spiffe_id);
    let (who, hat, count) = (wearer::short(&me), &signed.spec.hat, signed.spec.cosigned_by.len());
    let have = if count == 1 { "co-signer" } else { "co-signers" };
    printer.note(&format!("{} {who} vouches for {wearer} as {hat}: {count} {have} now", paint(style::GOOD, "ok:")));
    Ok(Outcome::Done)
}
