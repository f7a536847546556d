//! `hatrack hats`, `bindings`, `why`, `plan` and `graph` on folders.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::json;

use crate::assert_golden;
use crate::golden::society;
use crate::golden::transcript::Session;

fn small() -> Session {
    let session = Session::new();
    society::small(&session.folder().join("lab"));
    session
}

#[test]
fn a_few_hats() {
    let mut session = small();
    session
        .set("COLUMNS", "100")
        .run("hats --cluster lab")
        .run("hats --cluster lab repair")
        .run("hats --cluster lab boss");
    session
        .run("hats --cluster lab -o wide")
        .run("hats --cluster lab -o name")
        .run("hats --cluster lab repair nothing -o name");
    session.set("COLUMNS", "60").run("hats --cluster lab").run("hats --cluster lab trainer --color always");
    assert_golden!("hats-4", session);
}

#[test]
fn hats_with_a_skill() {
    let mut session = small();
    for skill in ["python", "python=novice", "soldering", "soldering=novice", "pytho", "python=guru"] {
        session.run(&format!("hats --cluster lab -o name --skill {skill}"));
    }
    session.run("hats --cluster lab -o name --skill python=expert --skill soldering");
    session.run("hats --cluster lab -o name --skill python --skill welding");
    session.set("COLUMNS", "100").run("hats --cluster lab trainer").run("hats --cluster lab trainer --skill python");
    assert_golden!("hats-skill", session);
}

#[test]
fn hats_for_programs() {
    let mut session = small();
    session.run("hats --cluster lab boss -o json").run("hats --cluster lab boss -o yaml");
    assert_golden!("hats-structured", session);
}

#[test]
fn who_answers_for_what_was_done_with_a_hat() {
    let mut session = small();
    let at = |minutes: i64| {
        let ago = k8s_openapi::jiff::SignedDuration::from_mins(minutes);
        k8s_openapi::jiff::Timestamp::now().checked_sub(ago).unwrap().to_string()
    };
    let mut ask = |what: &str, minutes: i64, rest: &str| {
        session.note(what).run(&format!("hats repair --cluster lab --at {}{rest}", at(minutes)));
    };
    ask("worn", 28 * 60, "");
    ask("sticky", 26 * 60 + 25, "");
    ask("nobody", 24 * 60, "");
    ask("worn until now", 10 * 60, "");
    ask("worn, by somebody else than asked for", 28 * 60, &format!(" --wearer {}", society::spiffe("ci")));
    ask("sticky, for programs", 26 * 60 + 25, &format!(" --wearer {} -o json", society::spiffe("old")));
    session.run("hats nothing --cluster lab --at 2026-01-01T00:00:00Z");
    assert_golden!("hats-at", session);
}

#[test]
fn a_few_bindings() {
    let mut session = small();
    session.set("COLUMNS", "100").run("bindings --cluster lab").run("bindings --cluster lab -o wide");
    session.run("bindings --cluster lab --hat boss -o name").run("bindings --cluster lab -n elsewhere");
    session.run("bindings --cluster lab repair-dan nothing --no-headers");
    session.set("COLUMNS", "60").run("bindings --cluster lab");
    assert_golden!("bindings-7", session);
}

#[test]
fn many_hats_and_bindings() {
    let mut session = Session::new();
    society::large(&session.folder().join("lab"));
    session.set("COLUMNS", "100").run("hats --cluster lab").run("bindings --cluster lab");
    assert_golden!("hats-many", session);
}

#[test]
fn no_hats() {
    let mut session = Session::new();
    std::fs::create_dir(session.folder().join("lab")).unwrap();
    for command in ["hats", "bindings", "plan", "graph", "schedule", "hats -o json", "why a", "wear a", "cosign a"] {
        session.run(&format!("{command} --cluster lab"));
    }
    session.run("hats --cluster nowhere").run("schedule");
    assert_golden!("hats-none", session);
}

#[test]
fn why_not() {
    let mut session = small();
    session.set("COLUMNS", "100");
    for binding in ["repair-dan", "boss-bob", "trainer-fay", "repair-ci", "trainer-eve", "trainer-old", "nothing"] {
        session.run(&format!("why --cluster lab -n farm {binding}"));
    }
    session.run("why --cluster lab -n farm trainer-fay -o json");
    assert_golden!("why", session);
}

/// What the API server refuses it is in no object but the answer.
#[test]
fn what_only_the_operator_knows_is_told_in_its_words() {
    let mut session = Session::new();
    let said = "0/3 nodes: 3 are set aside (the API server refuses what is to be written of them)";
    let waiting = society::binding("job-dan", "job", "dan", society::held("Unschedulable", said));
    let objects = [society::policy(), society::hat("job", json!({})), waiting];
    society::write(&session.folder().join("lab"), &objects);
    session.run("why --cluster lab -n farm job-dan");
    assert_golden!("why-told", session);
}

/// A term of a second is renewed 86,400 times a day.
#[test]
fn it_is_not_looked_further_ahead_than_a_number_of_transitions() {
    let mut session = Session::new();
    let renewed = json!({"termSeconds": 1, "maxWearers": 1, "succession": {"policy": "Renew"}});
    let gated = json!({"throttles": {"quorumGated": true}});
    let objects = [society::policy(), society::hat("busy", renewed), society::hat("gated", gated)];
    society::write(&session.folder().join("lab"), &objects);
    session.run("wear busy --cluster lab --name worn --as-service-account farm/ci -o name");
    session.run("wear gated --cluster lab --name held --as-service-account farm/dan -o name");
    session.run("why held --cluster lab");
    assert_golden!("why-far", session);
}

#[test]
fn a_plan_writes_nothing() {
    let mut session = small();
    let list = |session: &Session| {
        let listed = Command::new("find").args(["lab", "-type", "f"]).current_dir(session.folder()).output().unwrap();
        String::from_utf8(listed.stdout).unwrap()
    };
    let before = list(&session);
    session
        .set("COLUMNS", "110")
        .run("plan --cluster lab")
        .run("plan --cluster lab --until 1h")
        .run("plan --cluster lab --next 1");
    session.run("plan --cluster lab -o json").run("plan --cluster lab -o name");
    assert_eq!(list(&session), before);
    assert_golden!("plan", session);
}

#[test]
fn a_graph_can_be_drawn() {
    let mut session = small();
    session.run("graph --cluster lab");
    let text = session.command("graph --cluster lab").output().unwrap().stdout;
    let mut dot = Command::new("dot").arg("-Tsvg").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    dot.stdin.take().unwrap().write_all(&text).unwrap();
    let drawn = dot.wait_with_output().unwrap();
    let svg = String::from_utf8(drawn.stdout).unwrap();
    assert!(drawn.status.success() && svg.contains("phones&#45;1") && svg.contains("farm/sa/ci"), "{svg}");
    assert_golden!("graph", session);
}
