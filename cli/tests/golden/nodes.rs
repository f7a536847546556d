//! `hatrack nodes`.

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
