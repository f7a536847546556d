//! `hatrack discover`, `register` and `try` on machines of the fixtures.

use std::process::Stdio;

use crate::assert_golden;
use crate::golden::transcript::Session;

#[test]
fn this_machine_can_be_looked_at() {
    let session = Session::new();
    let output = session.command("discover -o json --deadline 2").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let document: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["schema"], "hatrack.discover/v1");
}

#[test]
fn discover_machines() {
    let machines = [
        "vm-empty",
        "server-8gpu",
        "gpu-no-driver",
        "mixed-accelerators",
        "phones-20",
        "pi5-ai-hat-plus",
        "laptop-intel-npu",
    ];
    for machine in machines {
        let mut session = Session::new();
        session.machine(machine).run("discover --root machine");
        assert_golden!(format!("discover-{machine}"), session);
    }
}

#[test]
fn discover_in_every_form() {
    let mut session = Session::new();
    session.machine("pi5-ai-hat-plus");
    for form in ["wide", "json", "yaml", "name"] {
        session.run(&format!("discover --root machine -o {form}"));
    }
    session
        .run("discover --root machine --no-headers")
        .set("COLUMNS", "60")
        .run("discover --root machine --color always");
    assert_golden!("discover-forms", session);
}

#[test]
fn try_an_empty_machine_and_a_full_one() {
    for machine in ["vm-empty", "server-8gpu-phones-20"] {
        let mut session = Session::new();
        session.machine(machine).set("COLUMNS", "100").run("try --root machine --cluster lab");
        session.set("COLUMNS", "60").run("try --root machine --cluster lab-of-a-long-name");
        assert_golden!(format!("try-{machine}"), session);
    }
}

#[test]
fn try_makes_a_folder_of_its_own() {
    let mut session = Session::new();
    session.machine("vm-empty");
    let output = session.command("try --root machine").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let prefix = format!("{}/hatrack-", session.folder().display());
    let file = text.lines().map(str::trim).find(|line| line.starts_with(&prefix)).unwrap();
    assert!(std::path::Path::new(file).is_file(), "{text}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn register_once_and_again() {
    let mut session = Session::new();
    session.machine("phones-20");
    session.run("register --root machine --cluster lab --name phones-1 --expect phones=20");
    session.run("register --root machine --cluster lab --name phones-1 -o name");
    session.run("register --root machine --cluster lab --name phones-1 --profile home-business -o name");
    session.run("register --root machine --cluster lab -o name");
    assert_golden!("register", session);
}

#[test]
fn registering_again_changes_nothing() {
    let mut session = Session::new();
    session.machine("server-8gpu").run("register --root machine --cluster lab --name gpu-1");
    let file = session.folder().join("lab/clusternodes/gpu-1.yaml");
    let first = std::fs::read_to_string(&file).unwrap();
    session.run("register --root machine --cluster lab --name gpu-1");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), first);
}

#[test]
fn another_machine_under_the_name_is_refused() {
    let mut session = Session::new();
    session.machine("phones-20").run("register --root machine --cluster lab --name one");
    let file = session.folder().join("lab/clusternodes/one.yaml");
    let first = std::fs::read_to_string(&file).unwrap();
    session.machine("server-8gpu").run("register --root machine --cluster lab --name one");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), first);
    std::fs::write(&file, first.replacen("spec:\n", "spec:\n  revoked: true\n", 1)).unwrap();
    session.machine("phones-20").run("register --root machine --cluster lab --name one");
    assert_golden!("register-refused", session);
}

#[test]
fn a_class_cannot_change_while_hats_are_worn() {
    let mut session = Session::new();
    session.machine("vm-empty").run("register --root machine --cluster lab --name one --class worker");
    let file = session.folder().join("lab/clusternodes/one.yaml");
    let worn = "status:\n  hats:\n  - {binding: b, name: executor, wearer: w, phase: Active}\n";
    std::fs::write(&file, std::fs::read_to_string(&file).unwrap().replace("status:\n", worn)).unwrap();
    session.run("register --root machine --cluster lab --name one --class control-plane");
    assert_golden!("register-class", session);
}

#[test]
fn writers_of_one_node_wait_for_each_other() {
    const WRITERS: usize = 8;
    let mut session = Session::new();
    session.machine("vm-empty");
    let start = |number| {
        let line = format!("register --root machine --cluster lab --name one --expect phones={number}");
        session.command(&line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let writers: Vec<_> = (1..=WRITERS).map(start).collect();
    for mut writer in writers {
        assert!(writer.wait().unwrap().success());
    }
    let manifest = std::fs::read_to_string(session.folder().join("lab/clusternodes/one.yaml")).unwrap();
    // Each changed `spec`, so a generation that is less would be a change that was lost.
    assert!(manifest.contains(&format!("generation: {WRITERS}\n")), "{manifest}");
    assert!(manifest.contains(&format!("resourceVersion: \"{WRITERS}\"\n")), "{manifest}");
}
