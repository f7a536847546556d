//! Errors as a person reads them: what failed, why, and what to do.

use std::io;

use crate::cluster::{NoNode, folder, kubernetes};
use crate::commands::NotStarted;
use crate::machine::NoTree;
use crate::output::Printer;
use crate::output::style::{self, paint};
use crate::registration::Refused;

/// How a failed command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Whoever read the output has enough.
    Quiet,
    /// The answer is no.
    No,
    /// It could not be done.
    Error,
}

impl From<Exit> for std::process::ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Quiet => Self::SUCCESS,
            Exit::No => Self::from(1),
            Exit::Error => Self::from(2),
        }
    }
}

/// The API server's answer to an object that breaks a rule of its schema.
const INVALID: u16 = 422;

/// Prints an error with its causes and a hint, and says how to end.
pub fn report(error: &anyhow::Error, printer: &Printer) -> Exit {
    if causes(error).any(|cause| cause.downcast_ref::<io::Error>().is_some_and(is_broken_pipe)) {
        return Exit::Quiet;
    }
    printer.note(&format!("{} {error}", paint(style::ILL.bold(), "error:")));
    let mut said = error.to_string();
    for cause in causes(error).skip(1).map(ToString::to_string) {
        // Some libraries say in an error what its source says again.
        if !said.contains(&cause) {
            let cause = cause.trim_end().replace('\n', "\n    ");
            printer.note(&format!("  {} {cause}", paint(style::FAINT, "because:")));
        }
        said = cause;
    }
    if let Some(hint) = causes(error).find_map(hint) {
        printer.note(&format!("{} {hint}", paint(style::HINT, "hint:")));
    }
    let refused = matches!(error.downcast_ref(), Some(folder::Error::Refused { .. }))
        || matches!(error.downcast_ref(), Some(kubernetes::Error::Refused { source, .. }) if source.code == INVALID);
    if refused || error.is::<Refused>() || error.is::<NoNode>() { Exit::No } else { Exit::Error }
}

fn causes(error: &anyhow::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    error.chain()
}

fn is_broken_pipe(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// What to do about an error.
fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(refused) = cause.downcast_ref::<Refused>() {
        return Some(of_refusal(refused));
    }
    if let Some(error) = cause.downcast_ref::<folder::Error>() {
        return of_folder(error);
    }
    if let Some(error) = cause.downcast_ref::<kubernetes::Error>() {
        return of_kubernetes(error);
    }
    if cause.is::<NotStarted>() {
        return Some(
            "`nix run .#init` has it with all that it needs; so has `nix develop github:hatrack/hatrack`".to_owned(),
        );
    }
    if cause.is::<NoNode>() {
        return Some("`hatrack nodes` lists those that there are".to_owned());
    }
    cause.downcast_ref::<NoTree>().map(|_| "`--root` takes a folder with `sys/`, `proc/` and `etc/` in it".to_owned())
}

fn of_refusal(refused: &Refused) -> String {
    match refused {
        Refused::OtherMachine { .. } => {
            "register under another name with `--name`, or clear `spec.hardwareID` of that node if this machine replaces it"
        }
        Refused::Revoked(_) => "a person revoked it: register under another name with `--name`, or clear `spec.revoked`",
        Refused::NoName { .. } => "name the node with `--name`",
    }
    .to_owned()
}

fn of_folder(error: &folder::Error) -> Option<String> {
    match error {
        folder::Error::Absent(path) => {
            Some(format!("`hatrack register --cluster {path}` makes it, with this machine in it"))
        }
        folder::Error::Manifest { .. } => {
            Some("correct the file or move it away; other nodes are not touched".to_owned())
        }
        folder::Error::Refused { .. } => Some("nothing was written".to_owned()),
        folder::Error::Io { .. } | folder::Error::Unwritable { .. } | folder::Error::Schema(_) => None,
    }
}

fn of_kubernetes(error: &kubernetes::Error) -> Option<String> {
    match error {
        kubernetes::Error::NoCluster => Some(
            "name a folder with `--cluster DIR`, or a kubeconfig with KUBECONFIG; `hatrack try` needs neither"
                .to_owned(),
        ),
        kubernetes::Error::Refused { source, .. } => of_answer(source.code),
        kubernetes::Error::Failed { .. } => {
            Some("is the API server of the kubeconfig up, and can it be reached from here?".to_owned())
        }
        kubernetes::Error::Kubeconfig(_) => Some("`kubectl config view` shows the kubeconfig that is used".to_owned()),
    }
}

fn of_answer(code: u16) -> Option<String> {
    let hint = match code {
        401 => "the credentials of the kubeconfig are not accepted: they may have expired",
        403 => "ask who runs the cluster for this right, or use another context with `--context`",
        404 => "are the resources of hatrack installed? `kubectl apply -f k8s/crds`",
        409 => "somebody else changed or keeps it: look at it, then try again",
        _ => return None,
    };
    Some(hint.to_owned())
}
