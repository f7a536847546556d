//! A cluster in a folder: `DIR/<plural>/[<namespace>/]<name>.yaml`, status included.
//!
//! A reader sees each manifest whole, as it is renamed into its place; writers wait for the lock on `DIR/.lock`. What the
//! API server would refuse is refused here by the same schema.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use hatrack_api::{ClusterNode, GROUP, VERSION};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;
use serde_saphyr::UserMessageFormatter;

use super::Registered;
use super::manifest::{Document, Step};
use super::schema::{Schema, Violation};
use crate::registration::{Refused, Registration};

const PLURAL: &str = "clusternodes";

/// A cluster in a folder.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

/// Why a folder cannot be read or written as a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no such folder.
    #[error("there is no folder `{0}`")]
    Absent(String),
    /// A file or folder cannot be read or written.
    #[error("failed to {action} `{path}`")]
    Io {
        /// What was tried.
        action: &'static str,
        /// With what.
        path: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A file is no manifest of a node.
    #[error("`{path}` is not a ClusterNode as a cluster takes it")]
    Manifest {
        /// The file.
        path: String,
        /// Why not, with the line.
        #[source]
        source: Invalid,
    },
    /// A cluster does not take the node as it would be written.
    #[error("the node `{name}` is refused")]
    Refused {
        /// Name of the node.
        name: String,
        /// Why.
        #[source]
        source: Invalid,
    },
    /// A node cannot be written as YAML.
    #[error("failed to write the node `{name}` as YAML")]
    Unwritable {
        /// Name of the node.
        name: String,
        /// Why.
        #[source]
        source: serde_saphyr::ser_error::Error,
    },
    /// The schema of this program itself is no JSON.
    #[error("failed to read the schema of ClusterNodes")]
    Schema(#[from] serde_json::Error),
}

/// Why a text or an object is no node.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Folder {
    /// The cluster in a folder, which need not exist yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Where a node is kept.
    pub fn file_of(&self, name: &str) -> PathBuf {
        self.path.join(PLURAL).join(format!("{name}.yaml"))
    }

    /// The folders whose content is the cluster's.
    pub fn folders(&self) -> [PathBuf; 2] {
        [self.path.clone(), self.path.join(PLURAL)]
    }

    /// An error of something that was tried with the folder.
    pub fn failed_to(&self, action: &'static str, source: io::Error) -> Error {
        failed(action, &self.path)(source)
    }

    /// Every node, sorted by name.
    pub fn nodes(&self) -> Result<Vec<ClusterNode>, Error> {
        if !self.path.is_dir() {
            return Err(Error::Absent(self.path.display().to_string()));
        }
        let folder = self.path.join(PLURAL);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed("read", &folder)(error)),
        };
        let mut paths = Vec::new();
        for entry in entries {
            paths.push(entry.map_err(failed("read", &folder))?.path());
        }
        paths.retain(|path| is_manifest(path));
        paths.sort();
        let schema = Schema::of_nodes()?;
        paths.iter().filter_map(|path| read(path, &schema).transpose()).collect()
    }

    /// One node.
    pub fn node(&self, name: &str) -> Result<Option<ClusterNode>, Error> {
        if !self.path.is_dir() {
            return Err(Error::Absent(self.path.display().to_string()));
        }
        read(&self.file_of(name), &Schema::of_nodes()?)
    }

    /// Writes a node.
    pub fn register(
        &self,
        name: &str,
        plan: impl FnOnce(Option<&ClusterNode>) -> Result<Registration, Refused>,
    ) -> anyhow::Result<Registered> {
        let _lock = self.lock()?;
        let schema = Schema::of_nodes()?;
        let existing = read(&self.file_of(name), &schema)?;
        let registration = plan(existing.as_ref())?;
        let node = merged(existing.as_ref(), &registration, &Time(Timestamp::now()))?;
        admit(&schema, &node, existing.as_ref(), name)?;
        if existing.as_ref() != Some(&node) {
            self.write(&node, name)?;
        }
        Ok(Registered { node, created: existing.is_none(), inventory: registration.inventory })
    }

    /// Held until dropped.
    fn lock(&self) -> Result<File, Error> {
        let folder = self.path.join(PLURAL);
        fs::create_dir_all(&folder).map_err(failed("create", &folder))?;
        let path = self.path.join(".lock");
        let open = File::options().create(true).truncate(false).write(true).open(&path);
        let file = open.map_err(failed("open", &path))?;
        file.lock().map_err(failed("lock", &path))?;
        Ok(file)
    }

    fn write(&self, node: &ClusterNode, name: &str) -> Result<(), Error> {
        let text =
            serde_saphyr::to_string(node).map_err(|source| Error::Unwritable { name: name.to_owned(), source })?;
        let path = self.file_of(name);
        let draft = path.with_file_name(format!(".{name}.yaml.new"));
        let write = || {
            let mut file = File::create(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        write().map_err(failed("write", &path))
    }
}

/// The node with what the API server keeps: the identity of the object, and counters of its changes.
fn merged(existing: Option<&ClusterNode>, registration: &Registration, now: &Time) -> Result<ClusterNode, Error> {
    let mut node = ClusterNode::new(&registration.name, registration.spec.clone());
    if let Some(existing) = existing {
        node.metadata = existing.metadata.clone();
        node.status.clone_from(&existing.status);
    }
    node.metadata.labels.get_or_insert_default().extend(registration.labels.clone());
    node.metadata.creation_timestamp.get_or_insert_with(|| now.clone());
    if node.metadata.uid.is_none() {
        node.metadata.uid = Some(new_uid()?);
    }
    let respecified = existing.is_none_or(|existing| existing.spec != registration.spec);
    let generation = node.metadata.generation.unwrap_or_default() + i64::from(respecified);
    node.metadata.generation = Some(generation);
    node.status = Some(registration.status(node.status.as_ref(), Some(generation), now));
    let version: u64 = node.metadata.resource_version.as_deref().and_then(|v| v.parse().ok()).unwrap_or_default();
    if existing != Some(&node) {
        node.metadata.resource_version = Some((version + 1).to_string());
    }
    Ok(node)
}

fn new_uid() -> Result<String, Error> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    let uid = fs::read_to_string(path).map_err(failed("read", path))?;
    Ok(uid.trim().to_owned())
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Io { action, path, source }
}

/// Files that begin with a dot are drafts of writers and of editors.
fn is_manifest(path: &Path) -> bool {
    let hidden = path.file_name().and_then(OsStr::to_str).is_none_or(|name| name.starts_with('.'));
    !hidden && path.extension() == Some(OsStr::new("yaml"))
}

fn read(path: &Path, schema: &Schema) -> Result<Option<ClusterNode>, Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let name = path.file_stem().and_then(OsStr::to_str).unwrap_or_default();
    let node = parse(&text, name, schema);
    node.map(Some).map_err(|source| Error::Manifest { path: path.display().to_string(), source })
}

/// The node that a manifest describes. `name` is the one that its file has.
fn parse(text: &str, name: &str, schema: &Schema) -> Result<ClusterNode, Invalid> {
    let unreadable = |error: serde_saphyr::Error| {
        let line = error.location().map(|place| format!("line {}: ", place.line())).unwrap_or_default();
        Invalid(format!("{line}{}", words_of(&error)))
    };
    let document = Document::parse(text).map_err(unreadable)?;
    let value = document.value();
    let mut violations = identity(&value, name);
    if violations.is_empty() {
        violations = schema.check(&value);
    }
    if violations.is_empty() {
        violations = schema.check_rules(&value, None);
    }
    if !violations.is_empty() {
        let mut found: Vec<_> =
            violations.iter().map(|found| (document.line(&found.path), found.to_string())).collect();
        found.sort();
        let found: Vec<_> = found.into_iter().map(|(line, what)| format!("line {line}: {what}")).collect();
        return Err(Invalid(found.join("\n")));
    }
    serde_saphyr::from_str(text).map_err(unreadable)
}

/// The error in words for people, without the place, which is said before them.
fn words_of(error: &serde_saphyr::Error) -> String {
    let words = error.without_snippet().render_with_formatter(&UserMessageFormatter);
    words.split(" at line ").next().unwrap_or_default().to_owned()
}

/// What must fit before the schema can: the kind, and the name of the file.
fn identity(value: &Value, name: &str) -> Vec<Violation> {
    let version = format!("{GROUP}/{VERSION}");
    let wanted = [("/apiVersion", version.as_str()), ("/kind", "ClusterNode"), ("/metadata/name", name)];
    let differs = |(pointer, wanted): (&str, &str)| {
        let found = value.pointer(pointer).and_then(Value::as_str);
        let path = pointer.split('/').skip(1).map(|field| Step::Field(field.to_owned())).collect();
        (found != Some(wanted)).then(|| Violation { path, message: format!("must be `{wanted}`") })
    };
    wanted.into_iter().filter_map(differs).collect()
}

/// Refuses what the API server would.
fn admit(schema: &Schema, node: &ClusterNode, old: Option<&ClusterNode>, name: &str) -> Result<(), Error> {
    let value = serde_json::to_value(node)?;
    let old = old.map(serde_json::to_value).transpose()?;
    let mut violations = schema.check(&value);
    violations.extend(schema.check_rules(&value, old.as_ref()));
    if violations.is_empty() {
        return Ok(());
    }
    let found: Vec<_> = violations.iter().map(ToString::to_string).collect();
    Err(Error::Refused { name: name.to_owned(), source: Invalid(found.join("\n")) })
}
