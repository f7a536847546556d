//! From an object to its file, by one writer at a time, with what an API server keeps: identity and counters of changes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use kube::core::object::HasSpec;

use super::reading::admit;
use super::{Error, Folder, failed};
use crate::cluster::kind::Kind;

/// The right to write into a folder, until it is dropped.
pub struct Writer<'a> {
    folder: &'a Folder,
    _lock: File,
}

impl Folder {
    /// Waits until nobody else writes. The folder is made if there is none.
    pub fn lock(&self) -> Result<Writer<'_>, Error> {
        fs::create_dir_all(&self.path).map_err(failed("create", &self.path))?;
        let lock = locked_file(&self.path.join(".lock"))?;
        Ok(Writer { folder: self, _lock: lock })
    }
}

/// A file that this process alone has locked.
fn locked_file(path: &Path) -> Result<File, Error> {
    let open = File::options().create(true).truncate(false).write(true).open(path);
    let file = open.map_err(failed("open", path))?;
    file.lock().map_err(failed("lock", path))?;
    Ok(file)
}

impl Writer<'_> {
    /// Writes an object over `old`, and says how it is now. Without a difference nothing is written.
    pub fn put<K: Kind>(&self, old: Option<&K>, mut new: K) -> Result<K, Error> {
        let generation = old.map_or(1, |old| generation(old, &new));
        let metadata = new.meta_mut();
        metadata.creation_timestamp.get_or_insert_with(|| Time(Timestamp::now()));
        if metadata.uid.is_none() {
            metadata.uid = Some(new_uid()?);
        }
        metadata.generation = Some(generation);
        admit(&new, old)?;
        if old != Some(&new) {
            let version: u64 = new.resource_version().and_then(|version| version.parse().ok()).unwrap_or_default();
            new.meta_mut().resource_version = Some((version + 1).to_string());
            self.write(&new)?;
        }
        Ok(new)
    }

    /// Deletes an object: at once, or, where a finalizer keeps it, by marking it.
    pub fn delete<K: Kind>(&self, object: &K) -> Result<(), Error> {
        if object.finalizers().is_empty() {
            return self.remove(object);
        }
        let mut marked = object.clone();
        marked.meta_mut().deletion_timestamp.get_or_insert_with(|| Time(Timestamp::now()));
        self.put(Some(object), marked).map(drop)
    }

    /// Removes the file of an object; one that is gone already is no error.
    pub fn remove<K: Kind>(&self, object: &K) -> Result<(), Error> {
        let path = self.folder.file_of::<K>(object.namespace().as_deref(), &object.name_any());
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", &path)(error)),
            _ => Ok(()),
        }
    }

    fn write<K: Kind>(&self, object: &K) -> Result<(), Error> {
        let name = object.name_any();
        let text = serde_saphyr::to_string(object).map_err(|source| Error::Unwritable {
            noun: K::NOUN,
            name: name.clone(),
            source,
        })?;
        let path = self.folder.file_of::<K>(object.namespace().as_deref(), &name);
        let draft = path.with_file_name(format!(".{name}.yaml.new"));
        let write = || {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder)?;
            }
            let mut file = File::create(&draft)?;
            file.write_all(text.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, &path)
        };
        write().map_err(failed("write", &path))
    }
}

/// How often `spec` changed, this change included.
pub fn generation<K: Kind>(old: &K, new: &K) -> i64 {
    let respecified = HasSpec::spec(old) != HasSpec::spec(new);
    old.meta().generation.unwrap_or_default() + i64::from(respecified)
}

/// A random UUID of the kernel's.
pub fn new_uid() -> Result<String, Error> {
    let path = Path::new("/proc/sys/kernel/random/uuid");
    let uid = fs::read_to_string(path).map_err(failed("read", path))?;
    Ok(uid.trim().to_owned())
}
