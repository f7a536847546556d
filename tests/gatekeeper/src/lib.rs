//! The table of cases in `cases/`: what exists, what is judged, and what each rule has to say.
//!
//! A file is about one rule. `given` exists in all of its cases; an object of a case takes the place of the one of its kind and name,
//! and `without` takes one away. Missing are filled in: `apiVersion`, `uid` (from kind and name), `creationTimestamp`
//! (an hour ago) and a Hat's empty `authority`. A string `now`, `now-90s` or `now+90s` is that time.
//!
//! `denied` names the Gatekeeper policies that deny, `held` the rule by which `hats` holds the request; where only the first is given, it is
//! the same rule. `only_gatekeeper` says why there is nothing to ask `hats`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// A case.
#[derive(Clone, Debug)]
pub struct Case {
    /// The rule that its file is about.
    pub rule: String,
    /// Where it is: file and name.
    pub name: String,
    /// What exists.
    pub objects: Vec<Value>,
    /// What is judged: a HatBinding or a Hat.
    pub review: Value,
    /// Names of the Gatekeeper policies that deny it.
    pub denied: BTreeSet<String>,
    /// A part of what the one that denies says; empty where several deny.
    pub message: String,
    /// What the rules of hats hold the request for; `None`: they admit it.
    pub held: Option<String>,
    /// Whether the rules of hats are not asked.
    pub only_gatekeeper: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    given: Vec<Value>,
    cases: Vec<Written>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    name: String,
    #[serde(default)]
    objects: Vec<Value>,
    #[serde(default)]
    without: Vec<String>,
    review: Value,
    #[serde(default)]
    denied: BTreeSet<String>,
    #[serde(default)]
    message: String,
    held: Option<String>,
    only_gatekeeper: Option<String>,
}

/// Why a table cannot be read.
#[derive(Debug)]
pub struct Malformed(String);

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Malformed {}

/// Every case of every file, as if it were `now`.
///
/// # Errors
/// When a file cannot be read or is not of the form above.
pub fn cases(now: Timestamp) -> Result<Vec<Case>, Malformed> {
    let mut cases = Vec::new();
    for path in files()? {
        let malformed = |error: &dyn std::fmt::Display| Malformed(format!("{}: {error}", path.display()));
        let text = fs::read_to_string(&path).map_err(|error| malformed(&error))?;
        let file: File = serde_saphyr::from_str(&text).map_err(|error| malformed(&error))?;
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        for case in file.cases {
            let case = complete(&stem, &file.given, case, now);
            // YAML reads some words as booleans.
            if let Some(nameless) =
                case.objects.iter().chain([&case.review]).find(|object| !object["metadata"]["name"].is_string())
            {
                return Err(malformed(&format!("{}: metadata.name is no text: {nameless}", case.name)));
            }
            // A policy that denies for another reason than the one that is meant would pass.
            if case.denied.len() == 1 && case.message.is_empty() {
                return Err(malformed(&format!(
                    "{}: one policy denies, and `message` does not say with which words",
                    case.name
                )));
            }
            cases.push(case);
        }
    }
    Ok(cases)
}

fn files() -> Result<Vec<PathBuf>, Malformed> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let entries = fs::read_dir(&folder).map_err(|error| Malformed(format!("{}: {error}", folder.display())))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    Ok(files)
}

fn complete(file: &str, given: &[Value], case: Written, now: Timestamp) -> Case {
    let replaced = |object: &&Value| !case.objects.iter().any(|own| key(own) == key(object));
    let kept = given.iter().filter(replaced).filter(|object| !case.without.contains(&key(object)));
    let objects = kept.chain(&case.objects).map(|object| filled(object, now)).collect();
    let denied_by = case.denied.first().cloned();
    Case {
        rule: file.to_owned(),
        name: format!("{file}: {}", case.name),
        objects,
        review: filled(&case.review, now),
        held: case.held.or(denied_by),
        denied: case.denied,
        message: case.message,
        only_gatekeeper: case.only_gatekeeper.is_some(),
    }
}

/// Kind, namespace and name, as `without` names an object.
pub fn key(object: &Value) -> String {
    let path = [&object["kind"], &object["metadata"]["namespace"], &object["metadata"]["name"]];
    path.into_iter().filter_map(Value::as_str).collect::<Vec<_>>().join("/")
}

fn filled(object: &Value, now: Timestamp) -> Value {
    let mut object = timed(object, now);
    let uid = key(&object);
    let defaults = json!({"uid": uid, "creationTimestamp": timed(&json!("now-3600s"), now)});
    object["apiVersion"] = json!("society.zeta.io/v1alpha1");
    add_missing(&mut object["metadata"], &defaults);
    if object["kind"] == "Hat" {
        add_missing(&mut object["spec"], &json!({"authority": {}}));
    }
    object
}

fn add_missing(object: &mut Value, defaults: &Value) {
    let missing = Map::new();
    if object.is_null() {
        *object = json!({});
    }
    for (name, value) in defaults.as_object().unwrap_or(&missing) {
        if object[name].is_null() {
            object[name] = value.clone();
        }
    }
}

/// The value with its times in place.
fn timed(value: &Value, now: Timestamp) -> Value {
    match value {
        Value::String(text) => time(text, now).map_or_else(|| value.clone(), |time| json!(time.to_string())),
        Value::Array(items) => items.iter().map(|item| timed(item, now)).collect(),
        Value::Object(fields) => fields.iter().map(|(name, field)| (name.clone(), timed(field, now))).collect(),
        other => other.clone(),
    }
}

fn time(text: &str, now: Timestamp) -> Option<Timestamp> {
    let offset = text.strip_prefix("now")?;
    let seconds = if offset.is_empty() { 0 } else { offset.strip_suffix('s')?.parse().ok()? };
    Timestamp::from_second(now.as_second()).ok()?.checked_add(SignedDuration::from_secs(seconds)).ok()
}
