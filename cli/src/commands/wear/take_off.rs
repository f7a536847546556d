//! Takes the hat off when the command has ended: what is not taken off is worn by nobody, without a term for ever.

use std::time::Duration;

use hatrack_api::HatBinding;
use tokio::time::{Instant, sleep, timeout};

use super::process::Signals;
use crate::cluster::{Cluster, kubernetes};
use crate::errors;
use crate::output::Printer;
use crate::output::style::{self, paint};

/// For how long it is tried: an API server that starts anew is back by then.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long one try may take.
const TRY: Duration = Duration::from_secs(10);

/// Between the first two tries; each pause is twice as long as the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(500);

/// Why the hat is still on.
#[derive(Debug, thiserror::Error)]
pub enum StillOn {
    /// There was no answer.
    #[error("the cluster does not answer")]
    NoAnswer,
    /// Somebody did not want to wait for it.
    #[error("it was given up, as a second signal asked for")]
    GivenUp,
}

/// Takes the hat off, and tries again for a while where the cluster is away. A second signal gives up.
pub async fn take_off(
    cluster: &Cluster,
    binding: &HatBinding,
    signals: &mut Signals,
    printer: &Printer,
) -> anyhow::Result<()> {
    let given_up = async {
        signals.next().await;
        printer.note(&format!("{} the hat is being taken off; once more gives that up", paint(style::HINT, "wear:")));
        signals.next().await;
    };
    tokio::select! {
        done = try_until_off(cluster, binding, printer) => done,
        () = given_up => Err(StillOn::GivenUp.into()),
    }
}

async fn try_until_off(cluster: &Cluster, binding: &HatBinding, printer: &Printer) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    let (mut pause, mut is_told) = (FIRST_PAUSE, false);
    loop {
        let Err(error) = try_once(cluster, binding).await else { return Ok(()) };
        if !may_pass(&error) || Instant::now() + pause > end {
            return Err(error);
        }
        if !std::mem::replace(&mut is_told, true) {
            let words = format!("the hat cannot be taken off yet, which is tried for {} s", PATIENCE.as_secs());
            printer.note(&format!("{} {words}", paint(style::CARE, "note:")));
            _ = errors::report(&error, printer);
        }
        sleep(pause).await;
        pause *= 2;
    }
}

async fn try_once(cluster: &Cluster, binding: &HatBinding) -> anyhow::Result<()> {
    timeout(TRY, cluster.release(binding)).await.unwrap_or_else(|_| Err(StillOn::NoAnswer.into()))?;
    cluster.settle().map(drop)
}

fn may_pass(error: &anyhow::Error) -> bool {
    error.is::<StillOn>() || error.downcast_ref().is_some_and(kubernetes::Error::is_passing)
}
