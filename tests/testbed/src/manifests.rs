//! Kubernetes objects from a folder of manifests, in the order that kustomize gives them.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use kube::api::DynamicObject;
use serde::Deserialize;

use crate::error::{Error, Result};

/// The only fields of a kustomization that this loader can honour. Another one would change what
/// a cluster gets, so it is refused rather than passed over.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Kustomization {
    #[serde(rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(rename = "kind")]
    _kind: Option<String>,
    /// Without it kustomize would sort by kind: roles before the policies that fence them.
    #[serde(rename = "sortOptions")]
    _sort_options: Option<SortOptions>,
    #[serde(rename = "commonAnnotations", default)]
    common_annotations: BTreeMap<String, String>,
    resources: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SortOptions {
    #[serde(rename = "order")]
    _order: Order,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Order {
    Fifo,
}

/// The objects of a file, or of a folder: with a `kustomization.yaml` its resources in their order,
/// without one every `*.yaml` and `*.yml` beneath it, sorted by name.
///
/// # Errors
/// When something cannot be read, is no Kubernetes object, or the folder holds none at all.
pub fn load(path: &Path) -> Result<Vec<DynamicObject>> {
    let objects = objects(path)?;
    if objects.is_empty() {
        return Err(Error::Manifest { path: path.to_path_buf(), reason: "holds no objects".into() });
    }
    Ok(objects)
}

fn objects(path: &Path) -> Result<Vec<DynamicObject>> {
    if !path.is_dir() {
        return read(path);
    }
    let kustomization = path.join("kustomization.yaml");
    if !kustomization.exists() {
        return all(&beneath(path)?);
    }
    let Kustomization { common_annotations, resources, .. } =
        serde_saphyr::from_str(&text(&kustomization)?).map_err(malformed(&kustomization))?;
    let resources: Vec<_> = resources.iter().map(|resource| path.join(resource)).collect();
    let mut objects = all(&resources)?;
    for object in objects.iter_mut().filter(|_| !common_annotations.is_empty()) {
        object.metadata.annotations.get_or_insert_default().extend(common_annotations.clone());
    }
    Ok(objects)
}

fn all(paths: &[PathBuf]) -> Result<Vec<DynamicObject>> {
    let objects: Vec<_> = paths.iter().map(|path| objects(path)).collect::<Result<_>>()?;
    Ok(objects.into_iter().flatten().collect())
}

fn beneath(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(Error::file("read", dir))?;
    let is_manifest =
        |path: &PathBuf| path.is_dir() || path.extension().is_some_and(|kind| kind == "yaml" || kind == "yml");
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(is_manifest).collect();
    paths.sort();
    Ok(paths)
}

fn read(file: &Path) -> Result<Vec<DynamicObject>> {
    let objects: Vec<DynamicObject> = serde_saphyr::from_multiple(&text(file)?).map_err(malformed(file))?;
    for object in &objects {
        if object.types.is_none() || object.metadata.name.is_none() {
            return Err(Error::Manifest {
                path: file.to_path_buf(),
                reason: "an object has no apiVersion, kind or metadata.name".into(),
            });
        }
    }
    Ok(objects)
}

fn text(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(Error::file("read", path))
}

fn malformed(path: &Path) -> impl FnOnce(serde_saphyr::Error) -> Error {
    let path = path.to_path_buf();
    move |error| Error::Manifest { path, reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config_map(name: &str) -> String {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n")
    }

    fn folder(files: &[(&str, String)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        dir
    }

    fn names(dir: &Path) -> Vec<String> {
        load(dir).unwrap().into_iter().map(|object| object.metadata.name.unwrap()).collect()
    }

    #[test]
    fn a_kustomization_gives_the_order() {
        let dir = folder(&[
            (
                "kustomization.yaml",
                "kind: Kustomization\nsortOptions: {order: fifo}\nresources: [second, first.yaml]\n".into(),
            ),
            ("first.yaml", config_map("first")),
            ("unlisted.yaml", config_map("unlisted")),
            ("second/b.yaml", config_map("b")),
            ("second/a.yaml", format!("{}---\n{}---\n", config_map("a1"), config_map("a2"))),
        ]);
        assert_eq!(names(dir.path()), ["a1", "a2", "b", "first"]);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        let cases = [
            ("another field of a kustomization", "kustomization.yaml", "namePrefix: x\nresources: []\n".into()),
            (
                "another order than that of the list",
                "kustomization.yaml",
                "sortOptions: {order: legacy}\nresources: []\n".into(),
            ),
            ("a listed file that is missing", "kustomization.yaml", "resources: [missing.yaml]\n".into()),
            ("an object without a kind", "a.yaml", "metadata: {name: a}\n".into()),
            ("an object without a name", "a.yaml", "apiVersion: v1\nkind: ConfigMap\n".into()),
            ("no YAML", "a.yaml", "a: [\n".into()),
            ("a folder without manifests", "a.txt", config_map("a")),
        ];
        for (name, file, content) in cases {
            let dir = folder(&[(file, content)]);
            assert!(load(dir.path()).is_err(), "{name} was accepted");
        }
    }

    #[test]
    fn the_repositorys_manifests_load() {
        let objects = load(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../k8s"))).unwrap();
        assert!(objects.iter().any(|object| object.metadata.name.as_deref() == Some("clusternodes.society.zeta.io")));
    }
}
