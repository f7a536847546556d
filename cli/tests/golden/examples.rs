//! The examples of `k8s/hats/examples`: each can be worn as it is, and its unit is one that systemd takes.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use crate::golden::samples;
use crate::golden::society::{policy, write};
use crate::golden::transcript::Session;

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

#[test]
fn an_example_is_worn_by_a_machine_that_can() {
    let mut session = Session::new();
    let lab = session.folder().join("lab");
    let mut gpus = samples::three()[0].clone();
    gpus["status"]["devices"] = json!([{"name": "gpu-0", "class": "gpu", "health": {"state": "Ready", "reason": "DriverBound"},
        "attributes": {"vendor": {"string": "NVIDIA"}}, "capacity": {"memory": {"value": "80Gi"}}}]);
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
