//! Hats asked for, scheduled, worn, vouched for, judged and taken off in a folder.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::assert_golden;
use crate::golden::society::{self, hat, policy};
use crate::golden::transcript::Session;

fn with(hats: &[Value]) -> Session {
    let mut session = Session::new();
    session.set("COLUMNS", "110");
    society::write(&session.folder().join("lab"), &[&[policy()][..], hats].concat());
    session
}

fn command(session: &Session, line: &str, then: &[&str]) -> Command {
    let mut command = session.command(line);
    command.args(then).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// How it ended, and what it said on stdout and stderr.
fn ended(child: Child) -> (i32, String, String) {
    let output = child.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

fn bindings(session: &Session) -> String {
    String::from_utf8(session.command("bindings --cluster lab -o name").output().unwrap().stdout).unwrap()
}

#[test]
fn a_hat_is_asked_for_worn_and_taken_off() {
    let mut session = with(&[hat("plain", json!({"termSeconds": 30_000, "maxWearers": 1}))]);
    session.run("wear plain --cluster lab --name mine --as-service-account farm/ci");
    session.note("the same again").run("wear plain --cluster lab --as-service-account farm/ci");
    session.note("another one waits").run("wear plain --cluster lab --name theirs --as-service-account farm/dan");
    session.run("why theirs --cluster lab").run("release mine --cluster lab").run("bindings --cluster lab");
    session.run("release mine --cluster lab").run("schedule --cluster lab");
    assert_golden!("wear", session);
}

#[test]
fn people_are_known_by_the_policy() {
    let mut session = with(&[hat("plain", json!({}))]);
    session.run("wear plain --cluster lab");
    session.set("USER", "eve").run("wear plain --cluster lab");
    session.set("USER", "ada").run("wear plain --cluster lab --name mine").run("wear nothing --cluster lab");
    session.run("wear plain --cluster lab --name mine --as-service-account farm/ci");
    assert_golden!("wear-people", session);
}

#[test]
fn others_vouch_and_judge() {
    let gated = json!({"throttles": {"quorumGated": true, "quorumSize": 2}});
    let mut session = with(&[hat("gated", gated)]);
    session.run("wear gated --cluster lab --name mine --as-service-account farm/ci");
    session.run("cosign mine --cluster lab --as-service-account farm/ci");
    session.set("USER", "ada").run("cosign mine --cluster lab --attestation reviewed").run("cosign mine --cluster lab");
    session.set("USER", "bob").run("cosign mine --cluster lab").run("bindings --cluster lab");
    session.run("verdict mine probation --cluster lab --reason careless").run("bindings --cluster lab");
    session.run("verdict mine restore --cluster lab").run("bindings --cluster lab");
    session.run("verdict mine revoke --cluster lab --as-service-account farm/ci");
    session
        .run("verdict mine revoke --cluster lab --reason again")
        .run("bindings --cluster lab")
        .run("why mine --cluster lab");
    assert_golden!("judged", session);
}

#[test]
fn a_manifest_that_somebody_wrote_is_scheduled() {
    let mut session = with(&[hat("plain", json!({}))]);
    session.file(
        "lab/hatbindings/farm/mine.yaml",
        "apiVersion: society.zeta.io/v1alpha1\nkind: HatBinding\nmetadata: {name: mine}\nspec:\n  hat: plain\n  wearer: {spiffeID: 'spiffe://cluster.local/ns/farm/sa/ci'}\n",
    );
    session
        .run("plan --cluster lab")
        .run("schedule --cluster lab")
        .run("schedule --cluster lab")
        .run("bindings --cluster lab");
    session.file(
        "lab/hatbindings/farm/bad.yaml",
        "apiVersion: society.zeta.io/v1alpha1\nkind: HatBinding\nmetadata: {name: bad, namespace: other}\nspec: {}\n",
    );
    session.run("schedule --cluster lab");
    assert_golden!("schedule", session);
}

#[test]
fn a_command_has_the_hat_for_as_long_as_it_runs() {
    let session = with(&[hat("plain", json!({"termSeconds": 30_000}))]);
    let script = "env | grep ^HATRACK_ | cut -d= -f1 | sort; exit 7";
    let line = "wear plain --cluster lab --as-service-account farm/ci --";
    let (code, out, err) = ended(command(&session, line, &["sh", "-c", script]).spawn().unwrap());
    assert_eq!(
        (code, out.as_str()),
        (7, "HATRACK_BINDING\nHATRACK_EXPIRES_AT\nHATRACK_HAT\nHATRACK_WEARER\n"),
        "{err}"
    );
    assert!(err.contains("wear: plain is on"), "{err}");
    assert_eq!(bindings(&session), "", "it is taken off");
}

#[test]
fn a_command_ends_with_its_hat() {
    let session = with(&[hat("short", json!({"termSeconds": 2, "succession": {"policy": "None"}}))]);
    let script = "trap 'echo asked; exit 3' TERM; echo on; while :; do sleep 0.1; done";
    let line = "wear short --cluster lab --as-service-account farm/ci --";
    let (code, out, err) = ended(command(&session, line, &["sh", "-c", script]).spawn().unwrap());
    assert_eq!((code, out.as_str()), (3, "on\nasked\n"), "{err}");
    assert!(err.contains("the command is ended"), "{err}");
}

#[test]
fn a_command_that_does_not_end_is_killed() {
    let session = with(&[hat("plain", json!({}))]);
    let script = "trap '' TERM; echo on; while :; do sleep 0.1; done";
    let line = "wear plain --cluster lab --name mine --stop-timeout 0.5 --as-service-account farm/ci --";
    let mut child = command(&session, line, &["sh", "-c", script]).spawn().unwrap();
    let mut first = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut first).unwrap();
    assert_eq!(first, "on\n");
    assert!(session.command("release mine --cluster lab").status().unwrap().success());
    let (code, _, err) = ended(child);
    assert_eq!(code, 137, "{err}");
    assert!(err.contains("plain was released") || err.contains("is gone"), "{err}");
}

#[test]
fn who_waits_no_longer_takes_the_request_back() {
    let session = with(&[hat("gated", json!({"throttles": {"quorumGated": true}}))]);
    let line = "wear gated --cluster lab --timeout 1s --as-service-account farm/ci -- true";
    let (code, _, err) = ended(command(&session, line, &[]).spawn().unwrap());
    assert_eq!(code, 1, "{err}");
    assert!(err.contains("waits: 0 of 3 co-signers") && err.contains("gated was not to be had in time"), "{err}");
    assert_eq!(bindings(&session), "", "it is taken back");
}

#[test]
fn a_hat_is_not_given_on_while_its_command_runs() {
    let machine = "builder: the node is this machine";
    let session = with(&[hat(
        "builder",
        json!({"description": machine, "maxWearers": 1, "requirements": {"node": ["node.cpu.threads >= 1"]}}),
    )]);
    assert!(session.command("register --cluster lab --name here --deadline 1").status().unwrap().success());
    let script = "trap '' TERM; echo $HATRACK_NODE; read -r _";
    let line = "wear builder --cluster lab --name mine --as-service-account farm/ci --";
    let mut child = command(&session, line, &["sh", "-c", script]).stdin(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    out.read_line(&mut first).unwrap();
    assert_eq!(first, "here\n");
    assert!(session.command("release mine --cluster lab").status().unwrap().success());
    let node = || std::fs::read_to_string(session.folder().join("lab/clusternodes/here.yaml")).unwrap();
    assert!(node().contains("state: Stopping"), "{}", node());
    drop(child.stdin.take());
    let (_, _, err) = ended(child);
    assert!(!node().contains("state: "), "{} {err}", node());
}
