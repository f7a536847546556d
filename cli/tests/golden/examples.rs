//! The examples of `k8s/hats/examples`: each can be worn as it is, and its unit is one that systemd takes.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hatrack_discover::inventory::{self, Answers, Inventory};
use hatrack_discover::names::Names;
use hatrack_discover::nvidia::{self, LIBRARY_VARIABLE};
use hatrack_discover::root::Root;
use serde_json::{Value, json};

use crate::golden::samples;
use crate::golden::society::{policy, write};
use crate::golden::transcript::Session;

/// For what a test awaits: longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

const EXAMPLES: [&str; 2] = ["trainer", "phone-tester"];

fn folder(example: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../k8s/hats/examples").join(example)
}

#[test]
fn every_example_is_tested() {
    let folders =
        std::fs::read_dir(folder("")).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut names: Vec<_> = folders.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    let mut tested = EXAMPLES.to_vec();
    tested.sort_unstable();
    assert_eq!(names, tested);
}

#[tokio::test]
async fn an_example_is_worn_by_a_machine_that_can() {
    let mut session = Session::new();
    let lab = session.folder().join("lab");
    let mut gpus = samples::three()[0].clone();
    gpus["status"]["devices"] = discovered_gpus(&mut session).await;
    samples::write(&[gpus, samples::phone_box()], &lab);
    write(&lab, &[policy()]);
    for example in EXAMPLES {
        let text = |file: &str| std::fs::read_to_string(folder(example).join(file)).unwrap();
        let binding = text("binding.yaml");
        let name = binding.lines().find_map(|line| line.strip_prefix("  name: ")).unwrap();
        session.file(&format!("lab/hats/{example}.yaml"), &text("hat.yaml"));
        session.file(&format!("lab/hatbindings/farm/{name}.yaml"), &binding);
    }
    let scheduled = session.command("schedule --cluster lab").output().unwrap();
    let listed = session.command("bindings --cluster lab --no-headers").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let active = listed.lines().filter(|line| line.contains("Active")).count();
    assert_eq!(active, EXAMPLES.len(), "{listed}{}", String::from_utf8_lossy(&scheduled.stderr));
}

/// The devices of a machine as discovery finds them, with a driver that tells the memory of one card.
async fn discovered_gpus(session: &mut Session) -> Value {
    let library = std::env::current_exe().unwrap().parent().unwrap().join("libhatrack_fake_nvml.so");
    assert!(library.exists(), "cargo built no {}", library.display());
    session.file("nvml.json", &json!({"gpus": [{}]}).to_string());
    let probe = session.folder().join("probe");
    let script = format!(
        "#!/bin/sh\n{}='{}' {LIBRARY_VARIABLE}='{}' exec '{}' \"$@\"\n",
        hatrack_fake_nvml::VARIABLE,
        session.folder().join("nvml.json").display(),
        library.display(),
        env!("CARGO_BIN_EXE_hatrack"),
    );
    session.file("probe", &script);
    std::fs::set_permissions(&probe, std::fs::Permissions::from_mode(0o755)).unwrap();
    let machine = hatrack_fixtures::machine("server-8gpu").unwrap();
    let root = Root::at(machine.path());
    let answers = Answers { nvml: nvidia::probe::ask(&probe, PATIENCE).await, ..Answers::default() };
    let inventory = Inventory::compose(&root, inventory::look(&root), &answers, &mut Names::default(), None);
    serde_json::to_value(inventory.devices).unwrap()
}

#[test]
fn a_plain_unit_has_one_wearer() {
    for example in EXAMPLES {
        let hat = std::fs::read_to_string(folder(example).join("hat.yaml")).unwrap();
        let hat: Value = serde_saphyr::from_str(&hat).unwrap();
        assert_eq!(hat["spec"]["maxWearers"], 1, "{example}.service is no template");
    }
}

#[test]
fn systemd_takes_the_units_and_the_hat_begins_and_ends_them() {
    for example in EXAMPLES {
        let units = tempfile::tempdir().unwrap();
        let unit = units.path().join(format!("{example}.service"));
        let text = std::fs::read_to_string(folder(example).join(format!("{example}.service"))).unwrap();
        std::fs::write(&unit, &text).unwrap();
        std::fs::write(units.path().join("hat@.target"), "[Unit]\nDescription=Hat %i\n").unwrap();
        let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output().unwrap();
        let said = String::from_utf8_lossy(&verified.stderr).into_owned();
        assert!(verified.status.success() && !said.contains(example), "{said}");
        for line in [format!("PartOf=hat@{example}.target"), format!("WantedBy=hat@{example}.target")] {
            assert!(text.lines().any(|found| found == line), "{example}: {line}");
        }
        assert!(text.contains(&format!("EnvironmentFile=/run/hatrack/hats/{example}/*.env")), "{example}");
    }
}
