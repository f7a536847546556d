//! `k8s/` as kubectl and Argo CD take it: what is applied, in which order, and what Argo CD then shows.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bootstrap;
mod health;
mod kubectl;
mod operator;
mod waves;

use std::path::{Path, PathBuf};

use kube::api::DynamicObject;

/// A folder or file of `k8s/`.
fn k8s(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../k8s").join(path).canonicalize().unwrap()
}

/// Kind and name.
fn named(object: &DynamicObject) -> String {
    format!("{} {}", object.types.as_ref().unwrap().kind, object.metadata.name.as_deref().unwrap())
}
