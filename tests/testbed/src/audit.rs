//! The API server's own record of who asked what: the means to count requests.

use std::fs;
use std::path::Path;

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

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
}

/// Reads a log with one event a line. The last line may be half written: it is left for the next
/// reader. A log that does not exist yet is empty.
pub(crate) fn read(path: &Path) -> Result<Vec<AuditEvent>> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::file("read", path)(error)),
    };
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete.lines().map(|line| parse(path, line)).collect()
}

fn parse(path: &Path, line: &str) -> Result<AuditEvent> {
    let line: Line = serde_json::from_str(line)
        .map_err(|error| Error::Manifest { path: path.to_path_buf(), reason: format!("{error} in {line}") })?;
    let resource = line.object_ref.map_or_else(String::new, |object| match object.subresource {
        Some(subresource) => format!("{}/{subresource}", object.resource),
        None => object.resource,
    });
    Ok(AuditEvent {
        user: line.user.username,
        verb: line.verb,
        uri: line.request_uri,
        resource,
        status: line.response_status.map_or(0, |status| status.code),
        received: line.request_received_timestamp,
    })
}
