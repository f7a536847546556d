//! `hatrack node`: what only a person says of a machine.

use std::io::Write;
use std::process::Stdio;

use crate::assert_golden;
use crate::golden::transcript::Session;

/// A folder with one machine that wears a hat.
fn lab() -> Session {
    let mut session = Session::new();
    session.machine("phones-20");
    let registered = session.command("register --root machine --cluster lab --name one").output().unwrap();
    assert!(registered.status.success());
    session
}

fn wears(session: &mut Session, status: &str) {
    let file = session.folder().join("lab/clusternodes/one.yaml");
    let manifest = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, manifest.replace("status:\n", &format!("status:\n{status}"))).unwrap();
}

#[test]
fn a_node_is_cordoned_revoked_repinned_and_removed() {
    let mut session = lab();
    session
        .run("node cordon one --cluster lab")
        .run("node cordon one --cluster lab")
        .run("node uncordon one --cluster lab")
        .run("node uncordon one --cluster lab")
        .run("node repin one --cluster lab")
        .run("node repin one --cluster lab --yes")
        .run("node repin one --cluster lab")
        .run("node revoke one --cluster lab")
        .run("node revoke one --cluster lab")
        .run("nodes --cluster lab -o wide")
        .run("node remove one --cluster lab")
        .run("node remove one --cluster lab --yes")
        .run("node remove one --cluster lab --yes")
        .run("nodes --cluster lab");
    assert_golden!("node", session);
}

#[test]
fn a_node_where_hats_are_worn_is_removed_by_force_alone() {
    let mut session = lab();
    wears(
        &mut session,
        "  worn:\n  - {binding: 6e0d0001-0000-4000-8000-000000000001, state: Running, since: 2026-01-31T12:00:00Z}\n",
    );
    session.run("node remove one --cluster lab --yes").run("node remove one --cluster lab --yes --force");
    assert_golden!("node-worn", session);
}

#[test]
fn the_typed_name_confirms_and_another_does_not() {
    let session = lab();
    let file = session.folder().join("lab/clusternodes/one.yaml");
    for (typed, code, stays) in [("two\n", 1, true), ("", 1, true), ("one\n", 0, false)] {
        let mut command = session.command("node remove one --cluster lab");
        let mut process = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        process.stdin.take().unwrap().write_all(typed.as_bytes()).unwrap();
        assert_eq!((process.wait().unwrap().code(), file.exists()), (Some(code), stays), "{typed:?}");
    }
}
