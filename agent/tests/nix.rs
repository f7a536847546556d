//! The agent understands the files that the NixOS module writes. `tests/nix/run` compares these files with the hosts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// Host and configuration, as the module hands it to the writer of TOML.
fn hosts() -> Vec<(PathBuf, Value)> {
    let texts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/nix/texts");
    let folders = std::fs::read_dir(texts).unwrap().map(|folder| folder.unwrap().path());
    let files = folders.map(|folder| folder.join("agent.json")).filter(|file| file.exists());
    files.map(|file| (file.clone(), serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap())).collect()
}

fn check(configuration: &Value) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, toml::to_string(configuration).unwrap()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_hatrack-agent")).arg("check").arg(file).output().unwrap()
}

#[test]
fn the_configuration_of_every_host_is_understood() {
    let hosts = hosts();
    assert!(hosts.len() >= 3, "{hosts:?}");
    for (file, configuration) in hosts {
        let output = check(&configuration);
        assert!(output.status.success(), "{}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn a_key_that_the_agent_does_not_know_is_refused() {
    for (file, mut configuration) in hosts() {
        configuration["clas"] = "worker".into();
        let output = check(&configuration);
        let words = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && words.contains("clas"), "{}: {words}", file.display());
    }
}
