//! The API server's own record of who asked what: the means to count requests.

use std::fs::File;
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::error::{Error, Result};

/// The name of the log in the folder of a control plane.
pub(crate) const AUDIT_LOG: &str = "audit.log";

/// One answered request, as the API server saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEvent {
    /// The user, such as `society:node:gpu-1`.
    pub user: String,
    /// The Kubernetes verb: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, …
    pub verb: String,
    /// Path and query.
    pub uri: String,
    /// The plural of the resource with its subresource, such as `clusternodes/status`; empty for
    /// other paths.
    pub resource: String,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The API server's words where it refused; else empty.
    pub message: String,
    /// When the request came, in RFC 3339 with microseconds.
    pub received: String,
}

/// The part of `audit.k8s.io/v1` Event that is used here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    user: User,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    object_ref: Option<ObjectRef>,
    response_status: Option<Status>,
    request_received_timestamp: String,
}

#[derive(Deserialize)]
struct User {
    /// Absent where the API server accepted nobody.
    #[serde(default)]
    username: String,
}

#[derive(Deserialize)]
struct ObjectRef {
    #[serde(default)]
    resource: String,
    subresource: Option<String>,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

/// A log that is read on from where it was read to.
#[derive(Debug)]
pub struct AuditLog {
    path: PathBuf,
    position: u64,
}

impl AuditLog {
    /// A log from its beginning.
    pub(crate) const fn new(path: PathBuf) -> Self {
        Self { path, position: 0 }
    }

    /// The requests that were answered since the last call, oldest first. The last line may be half written: it is left for the next
    /// call. A log that does not exist is empty.
    ///
    /// # Errors
    /// When it cannot be read, or a line is no event.
    pub fn read_on(&mut self) -> Result<Vec<AuditEvent>> {
        let failed = Error::file("read", &self.path);
        let mut text = String::new();
        match File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.position))?;
            file.read_to_string(&mut text)
        }) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            read => _ = read.map_err(failed)?,
        }
        let complete = text.rfind('\n').map_or("", |end| &text[..=end]);
        self.position += complete.len() as u64;
        complete.lines().map(|line| parse(&self.path, line)).collect()
    }
}

fn parse(path: &Path, line: &str) -> Result<AuditEvent> {
    let line: Line = serde_json::from_str(line)
        .map_err(|error| Error::Manifest { path: path.to_path_buf(), reason: format!("{error} in {line}") })?;
    let Status { code, message } = line.response_status.unwrap_or_default();
    let resource = line.object_ref.map_or_else(String::new, |object| match object.subresource {
        Some(subresource) => format!("{}/{subresource}", object.resource),
        None => object.resource,
    });
    Ok(AuditEvent {
        user: line.user.username,
        verb: line.verb,
        uri: line.request_uri,
        resource,
        status: code,
        message,
        received: line.request_received_timestamp,
    })
}
