//! What can go wrong while a control plane is built, started, used or ended.

use std::fmt;
use std::path::{Path, PathBuf};

/// An error of the test bed, with the context a reader of a failing test needs.
#[derive(thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read, written, locked or removed.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A program that the control plane needs is not there; `hint` says how to get it.
    #[error("{program} is missing: {hint}")]
    Missing {
        /// The program's name.
        program: &'static str,
        /// How to get it.
        hint: &'static str,
    },
    /// A program could not be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A program ran and failed; `output` is the end of what it said.
    #[error("{program} failed ({status}):\n{output}")]
    Failed {
        /// The program.
        program: String,
        /// Its exit status.
        status: String,
        /// The last lines of its output.
        output: String,
    },
    /// The control plane did not become ready; `logs` is the end of each server's log.
    #[error("the control plane did not start: {reason}\n{logs}")]
    NotReady {
        /// What was waited for.
        reason: String,
        /// The last lines of the logs.
        logs: String,
    },
    /// An earlier attempt of this process to start the shared control plane failed.
    #[error("the shared control plane is not available: {0}")]
    Shared(String),
    /// A key or certificate could not be made or read.
    #[error("cannot {action}")]
    Certificate {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: rcgen::Error,
    },
    /// A client certificate was asked for more groups than a certificate of this crate can name.
    #[error("a client certificate names two groups at most, not {0}")]
    TooManyOrganizations(usize),
    /// A TLS endpoint could not be configured.
    #[error("cannot configure TLS")]
    Tls(#[source] rustls::Error),
    /// A socket could not be bound or connected.
    #[error("cannot {action}")]
    Socket {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        #[source]
        source: std::io::Error,
    },
    /// A kubeconfig was refused by the client.
    #[error("cannot use the kubeconfig")]
    Kubeconfig(#[source] kube::config::KubeconfigError),
    /// A request to the API server failed.
    #[error("cannot {action}")]
    Api {
        /// What was tried.
        action: String,
        /// The client's error.
        #[source]
        source: Box<kube::Error>,
    },
    /// A manifest cannot be read as Kubernetes objects.
    #[error("{}: {reason}", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Something that must follow within a bound did not.
    #[error("timed out after {seconds} s: {awaited}")]
    Timeout {
        /// What was waited for.
        awaited: String,
        /// The bound in seconds.
        seconds: u64,
    },
}

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Tests unwrap, and what they print then is this: the logs in it must stay readable.
impl fmt::Debug for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.chain())
    }
}

impl Error {
    /// Adds the file and the verb to an I/O error.
    pub(crate) fn file(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::File { action, path, source }
    }

    pub(crate) fn certificate(action: &'static str) -> impl FnOnce(rcgen::Error) -> Self {
        move |source| Self::Certificate { action, source }
    }

    pub(crate) fn socket(action: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Socket { action, source }
    }

    /// Adds what was tried to an error of the Kubernetes client.
    pub(crate) fn api(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Api { action, source: Box::new(source) }
    }

    /// The error and everything beneath it, for places that can carry text alone.
    #[must_use]
    pub fn chain(&self) -> String {
        hatrack_service::log::chain(self)
    }
}
