//! The operator understands the file that the NixOS module writes. `tests/nix/run` compares it with the hosts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// As the module hands it to the writer of TOML.
fn configuration() -> Value {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/nix/texts/control-1/operator.json");
    serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap()
}

fn check(configuration: &Value) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("operator.toml");
    std::fs::write(&file, toml::to_string(configuration).unwrap()).unwrap();
    Command::new(env!("CARGO_BIN_EXE_hatrack-operator")).arg("check").arg(file).output().unwrap()
}

#[test]
fn the_configuration_of_the_control_plane_is_understood() {
    let output = check(&configuration());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_key_that_the_operator_does_not_know_is_refused() {
    let mut configuration = configuration();
    configuration["listn"] = "127.0.0.1:1".into();
    let output = check(&configuration);
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && words.contains("listn"), "{words}");
}
