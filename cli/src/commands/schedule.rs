//! `hatrack schedule`: the operator of a cluster in a folder.

use std::time::Duration;

use k8s_openapi::jiff::Timestamp;

use crate::Outcome;
use crate::args::Schedule;
use crate::cluster::Cluster;
use crate::cluster::folder::Folder;
use crate::cluster::folder::schedule::Pass;
use crate::cluster::watch::FolderChanges;
use crate::errors;
use crate::output::Printer;
use crate::view::transitions::{self, Times};

/// A cluster in Kubernetes has its own operator.
#[derive(Debug, thiserror::Error)]
#[error("only a cluster in a folder is scheduled here")]
pub struct NoFolder;

/// After an error, and where nothing is due, it is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// Decides and writes, once or for as long as it runs.
pub async fn run(options: &Schedule, printer: &Printer) -> anyhow::Result<Outcome> {
    let Cluster::Folder(folder) = Cluster::open(&options.cluster).await? else { return Err(NoFolder.into()) };
    folder.list::<hatrack_api::Hat>()?;
    if options.watch {
        return watch(&folder, options, printer).await;
    }
    let pass = folder.schedule()?;
    print(&pass, options, true, printer)?;
    if pass.records.is_empty() {
        printer.note("nothing to do");
    }
    Ok(Outcome::Done)
}

async fn watch(folder: &Folder, options: &Schedule, printer: &Printer) -> anyhow::Result<Outcome> {
    let mut changes = FolderChanges::open(folder.clone(), Folder::all_folders)?;
    let mut first = true;
    loop {
        let wait = match folder.schedule() {
            Ok(pass) => {
                print(&pass, options, first, printer)?;
                first = first && pass.records.is_empty();
                pass.wait
            }
            Err(error) => {
                errors::report(&error.into(), printer);
                Some(AGAIN)
            }
        };
        tokio::select! {
            changed = changes.next() => changed?,
            () = tokio::time::sleep(wait.unwrap_or(AGAIN)) => {}
        }
    }
}

/// Prints what was done; in a watch the headers come once.
fn print(pass: &Pass, options: &Schedule, headers: bool, printer: &Printer) -> anyhow::Result<()> {
    if options.watch && pass.records.is_empty() {
        return Ok(());
    }
    let now = Timestamp::now();
    let mut output = options.output.clone();
    output.no_headers = output.no_headers || !headers;
    super::print::objects(&pass.records, &output, printer, |wide| {
        transitions::table(&pass.records, Times::None, wide || options.watch, now)
    })
}
