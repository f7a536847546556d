//! A cluster in a folder: `DIR/<plural>/[<namespace>/]<name>.yaml`, status included.
//!
//! A reader sees each manifest whole, as it is renamed into its place; writers wait for the lock on `DIR/.lock`. What the
//! API server would refuse is refused here by the same schema.

mod reading;
pub mod schedule;
pub mod wearing;
mod writing;

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use hatrack_api::{ClusterNode, Hat, HatBinding, HatPolicy, HatSwap};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;

use self::reading::{Invalid, read};
use super::kind::Kind;
use super::society::Society;
use super::{Ask, Registered};
use crate::registration::{Refused, Registration};

/// The namespace of those who name none.
pub const NAMESPACE: &str = "default";

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
    /// A file is no manifest of the kind that belongs there.
    #[error("`{path}` is not a {kind} as a cluster takes it")]
    Manifest {
        /// The kind.
        kind: String,
        /// The file.
        path: String,
        /// Why not, with the line.
        #[source]
        source: Invalid,
    },
    /// A cluster does not take the object as it would be written.
    #[error("the {noun} `{name}` is refused")]
    Refused {
        /// What it is.
        noun: &'static str,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: Invalid,
    },
    /// An object cannot be written as YAML.
    #[error("failed to write the {noun} `{name}` as YAML")]
    Unwritable {
        /// What it is.
        noun: &'static str,
        /// Its name.
        name: String,
        /// Why.
        #[source]
        source: serde_saphyr::ser_error::Error,
    },
    /// The schema of this program itself is no JSON.
    #[error("failed to read a schema")]
    Schema(#[from] serde_json::Error),
}

impl Folder {
    /// The cluster in a folder, which need not exist yet.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where an object is kept. `namespace` counts for kinds that live in one.
    pub fn file_of<K: Kind>(&self, namespace: Option<&str>, name: &str) -> PathBuf {
        let folder = self.folder_of::<K>();
        let folder = if K::IS_NAMESPACED { folder.join(namespace.unwrap_or(NAMESPACE)) } else { folder };
        folder.join(format!("{name}.yaml"))
    }

    fn folder_of<K: Kind>(&self) -> PathBuf {
        self.path.join(&*K::plural(&()))
    }

    /// The folders in which the manifests of a kind are, and are to come.
    pub fn folders<K: Kind>(&self) -> Vec<PathBuf> {
        let folder = self.folder_of::<K>();
        let namespaces = if K::IS_NAMESPACED { subfolders(&folder) } else { Vec::new() };
        [vec![self.path.clone(), folder], namespaces].concat()
    }

    /// The folders in which anything of the cluster is.
    pub fn all_folders(&self) -> Vec<PathBuf> {
        [
            self.folders::<ClusterNode>(),
            self.folders::<Hat>(),
            self.folders::<HatBinding>(),
            self.folders::<HatPolicy>(),
            self.folders::<HatSwap>(),
        ]
        .concat()
    }

    /// An error of something that was tried with the folder.
    pub fn failed_to(&self, action: &'static str, source: io::Error) -> Error {
        failed(action, &self.path)(source)
    }

    /// Every object of a kind, sorted by namespace and name.
    pub fn list<K: Kind>(&self) -> Result<Vec<K>, Error> {
        self.exists()?;
        let folder = self.folder_of::<K>();
        let folders = if K::IS_NAMESPACED { subfolders(&folder) } else { vec![folder] };
        let mut objects = Vec::new();
        for folder in folders {
            for path in manifests(&folder)? {
                objects.extend(read::<K>(&path)?);
            }
        }
        Ok(objects)
    }

    /// One object.
    pub fn get<K: Kind>(&self, namespace: Option<&str>, name: &str) -> Result<Option<K>, Error> {
        self.exists()?;
        read(&self.file_of::<K>(namespace, name))
    }

    /// Everything that decisions are about.
    pub fn society(&self) -> Result<Society, Error> {
        Ok(Society {
            hats: self.list()?,
            bindings: self.list()?,
            swaps: self.list()?,
            policies: self.list()?,
            nodes: self.list()?,
            is_folder: true,
        })
    }

    fn exists(&self) -> Result<(), Error> {
        if self.path.is_dir() { Ok(()) } else { Err(Error::Absent(self.path.display().to_string())) }
    }

    /// Writes a node.
    pub fn register(
        &self,
        name: &str,
        plan: impl FnOnce(Option<&ClusterNode>) -> Result<Registration, Refused>,
    ) -> anyhow::Result<Registered> {
        let writer = self.lock()?;
        let existing = read::<ClusterNode>(&self.file_of::<ClusterNode>(None, name))?;
        let registration = plan(existing.as_ref())?;
        let node = registered(existing.as_ref(), &registration);
        let node = writer.put(existing.as_ref(), node)?;
        Ok(Registered { node, created: existing.is_none(), inventory: registration.inventory })
    }

    /// Asks for a hat.
    pub fn ask(&self, ask: &Ask) -> Result<HatBinding, Error> {
        let writer = self.lock()?;
        let mut binding = ask.binding();
        binding.metadata.namespace = Some(ask.namespace.clone());
        if binding.metadata.name.is_none() {
            let prefix = binding.metadata.generate_name.take().unwrap_or_default();
            binding.metadata.name = Some(format!("{prefix}{}", &writing::new_uid()?[..5]));
        }
        let existing = self.get::<HatBinding>(Some(&ask.namespace), &binding.name_any())?;
        if existing.is_some() {
            let source = Invalid::new("there is a binding of this name already");
            return Err(Error::Refused { noun: HatBinding::NOUN, name: binding.name_any(), source });
        }
        writer.put(None, binding)
    }

    /// Deletes the binding that was seen, and no later one of its name. What became of it meanwhile decides how.
    pub fn release(&self, seen: &HatBinding) -> Result<(), Error> {
        let writer = self.lock()?;
        let now = self.get::<HatBinding>(seen.namespace().as_deref(), &seen.name_any())?;
        match now.filter(|now| now.uid() == seen.uid()) {
            Some(now) => writer.delete(&now),
            None => Ok(()),
        }
    }
}

/// The node of a machine over the one that was there.
fn registered(existing: Option<&ClusterNode>, registration: &Registration) -> ClusterNode {
    let now = Time(Timestamp::now());
    let mut node = ClusterNode::new(&registration.name, registration.spec.clone());
    let mut generation = 1;
    if let Some(existing) = existing {
        node.metadata = existing.metadata.clone();
        generation = writing::generation(existing, &node);
    }
    node.metadata.labels.get_or_insert_default().extend(registration.labels.clone());
    let before = existing.and_then(|node| node.status.as_ref());
    node.status = Some(registration.status(before, Some(generation), &now));
    node
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.display().to_string();
    move |source| Error::Io { action, path, source }
}

/// The manifests of a folder, sorted by name; none where there is no such folder.
fn manifests(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed("read", folder)(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(failed("read", folder))?.path());
    }
    paths.retain(|path| is_manifest(path));
    paths.sort();
    Ok(paths)
}

/// The folders in a folder, sorted by name. One that cannot be read is reported when its content is.
fn subfolders(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut folders: Vec<_> = entries.filter(|path| !is_hidden(path) && path.is_dir()).collect();
    folders.sort();
    folders
}

/// Files that begin with a dot are drafts of writers and of editors.
fn is_manifest(path: &Path) -> bool {
    !is_hidden(path) && path.extension() == Some(OsStr::new("yaml"))
}

fn is_hidden(path: &Path) -> bool {
    path.file_name().and_then(OsStr::to_str).is_none_or(|name| name.starts_with('.'))
}
