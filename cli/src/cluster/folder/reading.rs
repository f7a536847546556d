//! From a file to an object, with what is wrong and on which line.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::Path;

use hatrack_api::{GROUP, VERSION};
use kube::ResourceExt;
use serde_json::Value;
use serde_saphyr::UserMessageFormatter;

use super::{Error, failed};
use crate::cluster::kind::Kind;
use crate::cluster::manifest::{Document, Step};
use crate::cluster::schema::{Schema, Violation};

/// Why a text or an object is not what it should be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    pub fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// The object in a file, if there is such a file.
pub fn read<K: Kind>(path: &Path) -> Result<Option<K>, Error> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    let word = |part: Option<&OsStr>| part.and_then(OsStr::to_str).unwrap_or_default().to_owned();
    let name = word(path.file_stem());
    let namespace = K::IS_NAMESPACED.then(|| word(path.parent().and_then(Path::file_name)));
    let object = parse::<K>(&text, &name, namespace.as_deref(), K::schema()?);
    let manifest =
        |source| Error::Manifest { kind: K::kind(&()).into_owned(), path: path.display().to_string(), source };
    object.map(Some).map_err(manifest)
}

/// The object that a manifest describes. Its name is that of its file, its namespace that of its folder.
fn parse<K: Kind>(text: &str, name: &str, namespace: Option<&str>, schema: &Schema) -> Result<K, Invalid> {
    let unreadable = |error: serde_saphyr::Error| {
        let line = error.location().map(|place| format!("line {}: ", place.line())).unwrap_or_default();
        Invalid(format!("{line}{}", words_of(&error)))
    };
    let document = Document::parse(text).map_err(unreadable)?;
    let value = document.value();
    let mut violations = identity::<K>(&value, name, namespace);
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
    let mut object: K = serde_saphyr::from_str(text).map_err(unreadable)?;
    object.meta_mut().namespace = namespace.map(str::to_owned);
    Ok(object)
}

/// The error in words for people, without the place, which is said before them.
fn words_of(error: &serde_saphyr::Error) -> String {
    let words = error.without_snippet().render_with_formatter(&UserMessageFormatter);
    words.split(" at line ").next().unwrap_or_default().to_owned()
}

/// What must fit before the schema can: the kind, and the names of file and folder.
fn identity<K: Kind>(value: &Value, name: &str, namespace: Option<&str>) -> Vec<Violation> {
    let version = format!("{GROUP}/{VERSION}");
    let kind = K::kind(&());
    let found = value.pointer("/metadata/namespace").and_then(Value::as_str);
    let namespace = namespace.filter(|_| found.is_some()).map(|namespace| ("/metadata/namespace", namespace));
    let wanted = [("/apiVersion", version.as_str()), ("/kind", &*kind), ("/metadata/name", name)];
    let differs = |(pointer, wanted): (&str, &str)| {
        let found = value.pointer(pointer).and_then(Value::as_str);
        let path = pointer.split('/').skip(1).map(|field| Step::Field(field.to_owned())).collect();
        (found != Some(wanted)).then(|| Violation { path, message: format!("must be `{wanted}`") })
    };
    wanted.into_iter().chain(namespace).filter_map(differs).collect()
}

/// Refuses what the API server would.
pub fn admit<K: Kind>(object: &K, old: Option<&K>) -> Result<(), Error> {
    let schema = K::schema()?;
    let value = serde_json::to_value(object)?;
    let old = old.map(serde_json::to_value).transpose()?;
    let mut violations = schema.check(&value);
    violations.extend(schema.check_rules(&value, old.as_ref()));
    if violations.is_empty() {
        return Ok(());
    }
    let found: Vec<_> = violations.iter().map(ToString::to_string).collect();
    Err(Error::Refused { noun: K::NOUN, name: object.name_any(), source: Invalid(found.join("\n")) })
}
