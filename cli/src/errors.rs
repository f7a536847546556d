//! Errors as a person reads them: what failed, why, and what to do.

use std::io;

use kube::config::KubeconfigError;

use crate::cluster::{Missing, folder, kubernetes};
use crate::commands::{
    Elsewhere, NoAuthority, NoFolder, NoTokens, NotConfirmed, NotStarted, OwnBinding, StillUsable, StillWorn,
};
use crate::identity::Nobody;
use crate::machine::NoTree;
use crate::output::style::{self, paint};
use crate::output::{Printer, Unwritten};
use crate::registration::Refused;

/// The API server's answer to somebody without the right.
const FORBIDDEN: u16 = 403;

/// How to come to a kubeconfig.
const A_SERVER_HAS_ONE: &str = "a server has one: \
    `(umask 077; ssh root@SERVER cat /etc/rancher/k3s/k3s.yaml | sed s/127.0.0.1/SERVER/ >kubeconfig)`";

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

/// Prints an error with its causes and a hint, and says how to end.
pub fn report(error: &anyhow::Error, printer: &Printer) -> Exit {
    // Not where it is the cause of something else: a command that fails says so, whoever reads what it prints.
    if error.downcast_ref().is_some_and(Unwritten::is_unwanted) {
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
        || matches!(error.downcast_ref(), Some(kubernetes::Error::Refused { source, .. }) if source.is_by_a_rule());
    let no = refused
        || error.is::<Refused>()
        || error.is::<Missing>()
        || error.is::<Nobody>()
        || error.is::<OwnBinding>()
        || error.is::<Elsewhere>()
        || error.is::<NotConfirmed>()
        || error.is::<StillWorn>()
        || error.is::<StillUsable>();
    if no { Exit::No } else { Exit::Error }
}

fn causes(error: &anyhow::Error) -> impl Iterator<Item = &(dyn std::error::Error + 'static)> {
    error.chain()
}

/// What to do about an error.
fn hint(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    of_content(cause).or_else(|| of_kind(cause).map(str::to_owned))
}

/// What to do where it depends on what the error says.
fn of_content(cause: &(dyn std::error::Error + 'static)) -> Option<String> {
    if let Some(refused) = cause.downcast_ref::<Refused>() {
        Some(of_refusal(refused))
    } else if let Some(error) = cause.downcast_ref::<folder::Error>() {
        of_folder(error)
    } else if let Some(error) = cause.downcast_ref::<kubernetes::Error>() {
        of_kubernetes(error)
    } else if let Some(missing) = cause.downcast_ref::<Missing>() {
        of_missing(missing)
    } else if let Some(nobody) = cause.downcast_ref::<Nobody>() {
        Some(of_nobody(nobody))
    } else if let Some(Elsewhere { node, .. }) = cause.downcast_ref() {
        Some(format!("type it on {node}: the devices of the hat are there"))
    } else if let Some(StillWorn { node, .. }) = cause.downcast_ref() {
        Some(format!(
            "`hatrack node cordon {node}` lets them go on to their end and no new ones come; `--force` does not wait for that"
        ))
    } else if let Some(StillUsable { node, .. }) = cause.downcast_ref() {
        Some(format!(
            "its file was written when it was made: use that, or make another with `--replace`; `hatrack token revoke {node}` takes it back"
        ))
    } else {
        None
    }
}

/// What to do about every error of one kind.
fn of_kind(cause: &(dyn std::error::Error + 'static)) -> Option<&'static str> {
    if cause.is::<NotStarted>() {
        Some("`nix run .#init` has it with all that it needs; so has `nix develop github:hatrack/hatrack`")
    } else if cause.is::<OwnBinding>() {
        Some("another identity is needed: a user whom HatPolicy default knows, or `--as-service-account`")
    } else if cause.is::<NotConfirmed>() {
        Some("`--yes` answers beforehand")
    } else if cause.is::<NoFolder>() {
        Some("name it with `--cluster DIR`; in Kubernetes the operator decides, and `hatrack plan` shows what")
    } else if cause.is::<NoTokens>() {
        Some("leave `--cluster` and HATRACK_CLUSTER out: the kubeconfig says which cluster the machine enrolls in")
    } else if cause.is::<NoAuthority>() {
        Some(
            "`kubectl config set-cluster NAME --embed-certs --certificate-authority FILE` adds it; k3s has it in `/etc/rancher/k3s/k3s.yaml`",
        )
    } else if cause.is::<NoTree>() {
        Some("`--root` takes a folder with `sys/`, `proc/` and `etc/` in it")
    } else {
        None
    }
}

fn of_missing(missing: &Missing) -> Option<String> {
    let command = match missing.noun {
        "node" => "nodes",
        "hat" => "hats",
        "binding" => "bindings",
        "token" => "token list",
        "policy" => return Some("without it nothing is admitted: apply `k8s/hats/policy.yaml`".to_owned()),
        _ => return None,
    };
    Some(format!("`hatrack {command}` lists those that there are"))
}

fn of_nobody(nobody: &Nobody) -> String {
    let (user, domain) = (&nobody.user, &nobody.domain);
    if user.is_empty() {
        return "name a service account with `--as-service-account NAMESPACE/NAME`".to_owned();
    }
    format!(
        "an administrator adds `{{user: {user}, spiffeID: spiffe://{domain}/people/{user}}}` to spec.identities of HatPolicy default, \
         or you name a service account with `--as-service-account NAMESPACE/NAME`"
    )
}

fn of_refusal(refused: &Refused) -> String {
    match refused {
        Refused::OtherMachine { .. } => {
            "register under another name with `--name`; if this machine replaces that one, `hatrack node repin NAME` frees the name"
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
        folder::Error::Manifest { .. } => Some("correct the file or move it away; nothing else is touched".to_owned()),
        folder::Error::Refused { .. } => Some("nothing was written".to_owned()),
        folder::Error::Io { .. } | folder::Error::Unwritable { .. } | folder::Error::Schema(_) => None,
    }
}

fn of_kubernetes(error: &kubernetes::Error) -> Option<String> {
    match error {
        kubernetes::Error::NoCluster => Some(format!(
            "name a folder with `--cluster DIR`, or a kubeconfig with KUBECONFIG; {A_SERVER_HAS_ONE}; `hatrack try` needs neither"
        )),
        kubernetes::Error::Refused { source, .. } => {
            of_policy(&source.message).or_else(|| of_secrets(source)).or_else(|| of_answer(source.code))
        }
        kubernetes::Error::Failed { .. } => {
            Some("is the API server of the kubeconfig up, and can it be reached from here?".to_owned())
        }
        kubernetes::Error::Kubeconfig(source) if is_absent(source.as_ref()) => {
            Some(format!("KUBECONFIG names the file; {A_SERVER_HAS_ONE}"))
        }
        kubernetes::Error::Kubeconfig(_) => Some("`kubectl config view` shows the kubeconfig that is used".to_owned()),
    }
}

/// Whether a kubeconfig that is named is not there.
fn is_absent(error: &(dyn std::error::Error + 'static)) -> bool {
    matches!(error.downcast_ref(), Some(KubeconfigError::ReadConfig(source, _)) if source.kind() == io::ErrorKind::NotFound)
}

/// Tokens are the only secrets that are asked for.
fn of_secrets(answer: &kubernetes::Answer) -> Option<String> {
    (answer.code == FORBIDDEN && answer.message.contains("resource \"secrets\"")).then(|| {
        "tokens are Secrets of kube-system: this takes list, create and delete on secrets there, which a cluster administrator has; \
         `--context` uses another context"
            .to_owned()
    })
}

fn of_answer(code: u16) -> Option<String> {
    let hint = match code {
        401 => "the credentials of the kubeconfig are not accepted: they may have expired",
        FORBIDDEN => "ask who runs the cluster for this right, or use another context with `--context`",
        404 => "are the resources of hatrack installed? `kubectl apply -f k8s/crds`",
        409 => "somebody else changed or keeps it: look at it, then try again",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// What to do about the denial of a policy of `k8s/policies`.
fn of_policy(message: &str) -> Option<String> {
    if let Some(verb) = message.split_once("that takes the verb ").and_then(|(_, rest)| rest.split(' ').next()) {
        return Some(format!(
            "who administers the cluster gives it: `kubectl create clusterrole NAME --verb={verb} --resource=hats.{} --resource-name=HAT`, \
             and a binding of that role",
            hatrack_api::GROUP
        ));
    }
    message
        .contains("has no SPIFFE id")
        .then(|| "an administrator adds the user to spec.identities of HatPolicy default".to_owned())
}

#[cfg(test)]
mod tests {
    use anstream::ColorChoice;

    use super::*;

    fn ends(error: impl Into<anyhow::Error>) -> Exit {
        report(&error.into(), &Printer::new(ColorChoice::Never))
    }

    #[test]
    fn only_who_reads_the_output_can_have_enough() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert_eq!(ends(Unwritten::from(broken())), Exit::Quiet);
        assert_eq!(ends(Unwritten::from(io::Error::from(io::ErrorKind::StorageFull))), Exit::Error);
        let unanswered = kubernetes::Error::Failed { action: "revoke the node", source: broken().into() };
        assert_eq!(ends(unanswered), Exit::Error, "the connection to the API server broke");
        assert_eq!(ends(anyhow::Error::from(broken()).context("failed to write `token`")), Exit::Error);
    }
}
