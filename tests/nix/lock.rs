//! `flake.lock` fits `flake.nix`: what Nix would otherwise find out by asking the network.
//!
//! The rules are those of the lock file's version 7 (Nix manual, "nix3-flake", section "Lock files").
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

type Inputs = BTreeMap<String, Input>;

/// What makes a lock or its flake wrong.
type Spoil<'a> = &'a dyn Fn(&mut Inputs, &mut Value);

/// One input as `flake.nix` writes it.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Input {
    /// `github:OWNER/REPO[/REF]`.
    url: String,
    /// Inputs of the input, and whose they are instead.
    follows: BTreeMap<String, String>,
    /// `flake = false`: files, which are not evaluated.
    is_data: bool,
}

fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads `NAME.url = "…";`, `NAME.flake = false;` and `NAME.inputs.OTHER.follows = "…";` of the block `inputs`.
fn inputs_of(flake: &str) -> Inputs {
    let block = flake.split_once("inputs = {").expect("flake.nix has a block `inputs`").1;
    let block = block.split_once("\n  };").expect("the block `inputs` ends").0;
    let mut inputs = Inputs::new();
    for line in block.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (path, value) = line.split_once(" = ").unwrap_or_else(|| panic!("`{line}` is no `input = value`"));
        let value = value.trim_end_matches(';').trim_matches('"').to_owned();
        match path.split('.').collect::<Vec<_>>()[..] {
            [name, "url"] => inputs.entry(name.to_owned()).or_default().url = value,
            [name, "flake"] => inputs.entry(name.to_owned()).or_default().is_data = value == "false",
            [name, "inputs", other, "follows"] => {
                inputs.entry(name.to_owned()).or_default().follows.insert(other.to_owned(), value);
            }
            _ => panic!("`{path}` is no url, flake or follows"),
        }
    }
    inputs
}

/// Everything that is wrong with a lock for these inputs.
fn faults(inputs: &Inputs, lock: &Value) -> Vec<String> {
    let nodes = lock["nodes"].as_object().expect("the lock has nodes");
    let mut faults = Vec::new();
    if lock["version"] != 7 {
        faults.push(format!("the version is {}", lock["version"]));
    }
    let root = nodes[lock["root"].as_str().expect("the lock names its root")]["inputs"].as_object().expect("inputs");
    let names = |keys: &mut dyn Iterator<Item = &String>| keys.cloned().collect::<Vec<_>>();
    if names(&mut root.keys()) != names(&mut inputs.keys()) {
        faults.push(format!(
            "the inputs are {:?}, locked are {:?}",
            names(&mut inputs.keys()),
            names(&mut root.keys())
        ));
    }
    for (name, input) in inputs {
        let Some(node) = root.get(name).and_then(Value::as_str).and_then(|key| nodes.get(key)) else { continue };
        faults.extend(faults_of_node(name, input, node, root));
    }
    let known: Vec<_> = root.values().filter_map(Value::as_str).collect();
    let unused = nodes.keys().filter(|key| *key != "root" && !known.contains(&key.as_str()));
    faults.extend(unused.map(|key| format!("{key} is locked and no input")));
    faults
}

fn faults_of_node(name: &str, input: &Input, node: &Value, root: &serde_json::Map<String, Value>) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |wrong: bool, text: String| {
        if wrong {
            faults.push(format!("{name}: {text}"));
        }
    };
    let (original, locked) = (&node["original"], &node["locked"]);
    fault(url_of(original) != input.url, format!("is {} in flake.nix and {} in the lock", input.url, url_of(original)));
    for key in ["owner", "repo", "type"] {
        fault(original[key] != locked[key], format!("{key} is {} and locked {}", original[key], locked[key]));
    }
    let revision = locked["rev"].as_str().unwrap_or_default();
    fault(
        revision.len() != 40 || !revision.bytes().all(|byte| byte.is_ascii_hexdigit()),
        format!("rev is `{revision}`"),
    );
    let hash = locked["narHash"].as_str().unwrap_or_default();
    fault(!is_sha256(hash), format!("narHash is `{hash}`"));
    let is_data = node["flake"] == false;
    fault(is_data != input.is_data, format!("`flake` is {} in flake.nix and {} in the lock", !input.is_data, !is_data));
    fault(locked["lastModified"].as_u64().is_none_or(|time| time == 0), "lastModified is missing".to_owned());

    let follows: BTreeMap<_, _> = node["inputs"].as_object().into_iter().flatten().collect();
    let wanted: BTreeMap<_, _> =
        input.follows.iter().map(|(other, target)| (other, Value::from(vec![target.as_str()]))).collect();
    fault(
        follows.len() != wanted.len() || follows.iter().any(|(other, target)| wanted.get(other) != Some(*target)),
        format!("its inputs are {wanted:?} in flake.nix and {follows:?} in the lock"),
    );
    for target in input.follows.values() {
        fault(!root.contains_key(target), format!("follows {target}, which is no input"));
    }
    faults
}

fn url_of(original: &Value) -> String {
    let part = |key: &str| original[key].as_str();
    let reference = part("ref").map(|name| format!("/{name}")).unwrap_or_default();
    let [kind, owner, repo] = ["type", "owner", "repo"].map(|key| part(key).unwrap_or("?"));
    format!("{kind}:{owner}/{repo}{reference}")
}

/// 32 bytes in base 64, as subresource integrity writes them.
fn is_sha256(hash: &str) -> bool {
    hash.strip_prefix("sha256-").is_some_and(|digest| {
        let body = digest.trim_end_matches('=');
        digest.len() == 44
            && body.len() == 43
            && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte))
    })
}

#[test]
fn the_lock_fits_the_flake() {
    let lock = serde_json::from_str(&file("flake.lock")).unwrap();
    assert_eq!(faults(&inputs_of(&file("flake.nix")), &lock), Vec::<String>::new());
}

#[test]
fn the_lock_is_written_as_nix_writes_it() {
    let text = file("flake.lock");
    let lock: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(text, serde_json::to_string_pretty(&lock).unwrap() + "\n");
}

#[test]
fn what_does_not_fit_is_found() {
    let inputs = inputs_of(&file("flake.nix"));
    let lock: Value = serde_json::from_str(&file("flake.lock")).unwrap();
    let cases: [(&str, Spoil); 10] = [
        ("the version is 6", &|_, lock| lock["version"] = 6.into()),
        ("the inputs are", &|inputs, _| drop(inputs.insert("new".to_owned(), Input::default()))),
        ("disko: is github:a/b in flake.nix", &|inputs, _| {
            inputs.get_mut("disko").unwrap().url = "github:a/b".to_owned();
        }),
        ("nixpkgs: is github:NixOS/nixpkgs/nixos-26.05", &|_, lock| {
            lock["nodes"]["nixpkgs"]["original"]["ref"] = "nixos-25.11".into();
        }),
        ("disko: rev is `main`", &|_, lock| lock["nodes"]["disko"]["locked"]["rev"] = "main".into()),
        ("disko: narHash is `sha256-AAAA`", &|_, lock| {
            lock["nodes"]["disko"]["locked"]["narHash"] = "sha256-AAAA".into();
        }),
        ("disko: lastModified is missing", &|_, lock| lock["nodes"]["disko"]["locked"]["lastModified"] = 0.into()),
        ("disko: `flake` is false in flake.nix and true in the lock", &|inputs, _| {
            inputs.get_mut("disko").unwrap().is_data = true;
        }),
        ("sops-nix: its inputs are", &|inputs, _| inputs.get_mut("sops-nix").unwrap().follows.clear()),
        ("stray is locked and no input", &|_, lock| lock["nodes"]["stray"] = lock["nodes"]["disko"].clone()),
    ];
    for (words, spoil) in cases {
        let (mut inputs, mut lock) = (inputs.clone(), lock.clone());
        spoil(&mut inputs, &mut lock);
        let faults = faults(&inputs, &lock);
        assert!(faults.iter().any(|fault| fault.contains(words)), "expected `{words}` in {faults:?}");
    }
}
