//! `hatrack nodes`.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use crate::assert_golden;
use crate::golden::samples;
use crate::golden::transcript::Session;

fn cluster(nodes: &[serde_json::Value]) -> Session {
    let session = Session::new();
    samples::write(nodes, &session.folder().join("lab"));
    session
}

#[test]
fn three_nodes() {
    let mut session = cluster(&samples::three());
    session
        .run("nodes --cluster lab")
        .run("nodes --cluster lab --sort name --no-headers")
        .run("nodes --cluster lab -o wide");
    session.run("nodes --cluster lab -o name").run("nodes --cluster lab --class pi-ai-hat");
    session.run("nodes --cluster lab gpu-1 nobody-1");
    assert_golden!("nodes-3", session);
}

#[test]
fn three_nodes_for_programs() {
    let mut session = cluster(&samples::three());
    session.run("nodes --cluster lab pi-1 -o json").run("nodes --cluster lab pi-1 -o yaml");
    assert_golden!("nodes-3-structured", session);
}

#[test]
fn three_nodes_in_narrow_and_coloured_terminals() {
    let mut session = cluster(&samples::three());
    session.set("COLUMNS", "80").run("nodes --cluster lab");
    session.set("COLUMNS", "40").run("nodes --cluster lab");
    session.run("nodes --cluster lab --color always");
    session.set("NO_COLOR", "1").run("nodes --cluster lab").run("nodes --cluster lab --color always gpu-1");
    assert_golden!("nodes-3-terminals", session);
}

#[test]
fn three_hundred_nodes() {
    let mut session = cluster(&samples::three_hundred());
    session.set("COLUMNS", "100").run("nodes --cluster lab");
    assert_golden!("nodes-300", session);
}

#[test]
fn no_nodes() {
    let mut session = cluster(&[]);
    session.run("nodes --cluster lab").run("nodes --cluster lab -o json").run("nodes --cluster lab -o name");
    assert_golden!("nodes-0", session);
}

#[test]
fn a_watched_folder_shows_each_change_as_a_line() {
    let mut session = cluster(&samples::three());
    let mut process =
        session.command("nodes --cluster lab --watch").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(process.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap).skip_while(|line| !line.starts_with("pi-1"));
    assert!(lines.next().unwrap().starts_with("pi-1"));
    let mut change = |write: &mut dyn FnMut(&mut Session)| {
        write(&mut session);
        let line = lines.next().unwrap();
        line.split_once("  ").unwrap().1.to_owned()
    };
    let manifest = |name: &str, class: &str| {
        format!(
            "apiVersion: society.zeta.io/v1alpha1\nkind: ClusterNode\nmetadata: {{name: {name}}}\nspec: {{class: {class}}}\n"
        )
    };
    let path = "lab/clusternodes/new-1.yaml";
    // A draft first: a reader must never see half of a manifest, and writers rename.
    let put = |session: &mut Session, text: &str| {
        session.file("lab/clusternodes/.new-1.yaml.new", text);
        std::fs::rename(session.folder().join("lab/clusternodes/.new-1.yaml.new"), session.folder().join(path))
            .unwrap();
    };
    let arrived = change(&mut |session| put(session, &manifest("new-1", "worker")));
    assert_eq!(arrived, "new-1  new: Unknown; worker; it has not reported yet");
    let changed = change(&mut |session| put(session, &manifest("new-1", "gpu-worker")));
    assert_eq!(changed, "new-1  class worker -> gpu-worker");
    let phones = change(&mut |session| {
        let mut nodes = samples::three();
        nodes[1]["status"]["summary"]["phones"] = "18/18".into();
        nodes[1]["status"]["devices"][3]["health"] = serde_json::json!({"state": "Ready", "reason": "AdbDevice"});
        nodes[1]["status"]["conditions"][1]["message"] = "18 of 20 phones usable".into();
        samples::write(&nodes[1..2], &session.folder().join("lab"));
    });
    assert_eq!(
        phones,
        "phones-1  phones 17/18 -> 18/18; phone-r58m00003 Unusable (AdbUnauthorized) -> Ready (AdbDevice)"
    );
    let gone = change(&mut |session| std::fs::remove_file(session.folder().join(path)).unwrap());
    assert_eq!(gone, "new-1  gone");
    process.kill().unwrap();
    process.wait().unwrap();
}
