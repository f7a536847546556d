//! The health checks, run as Argo CD runs them: Lua 5.1 with the base and table libraries alone, the object as `obj`.

use std::collections::BTreeSet;

use hatrack_api::hat_binding::Phase;
use hatrack_hats::lifecycle;
use hatrack_hats::throttles::Rule;
use mlua::{Lua, LuaOptions, LuaSerdeExt, StdLib};
use serde_json::{Value, json};

use crate::k8s;

/// What Argo CD shows: status and message.
fn health(check: &str, object: &Value) -> (String, String) {
    let text = std::fs::read_to_string(k8s("apps/health").join(format!("{check}.lua"))).unwrap();
    let lua = Lua::new_with(StdLib::TABLE, LuaOptions::default()).unwrap();
    // Absent fields are absent in Argo CD's tables too, and never a null.
    lua.globals().set("obj", lua.to_value(object).unwrap()).unwrap();
    let shown: Value = lua.from_value(lua.load(text).set_name(check).eval().unwrap()).unwrap();
    let field = |name: &str| shown[name].as_str().unwrap().to_owned();
    let statuses = ["Healthy", "Progressing", "Degraded", "Suspended", "Missing", "Unknown"];
    assert!(statuses.contains(&field("status").as_str()), "Argo CD knows no status {shown}");
    (field("status"), field("message"))
}

#[track_caller]
fn shows(check: &str, object: &Value, status: &str, message: &str) {
    assert_eq!(health(check, object), (status.to_owned(), message.to_owned()), "{object}");
}

fn condition(name: &str, status: &str, reason: &str) -> Value {
    json!({"type": name, "status": status, "reason": reason, "message": "the message"})
}

fn binding(status: &Value) -> Value {
    json!({"metadata": {"name": "mine"}, "spec": {"hat": "executor"}, "status": status})
}

#[test]
fn a_binding_is_healthy_while_it_is_active_and_in_no_other_phase() {
    let until = "2026-01-01T08:00:00Z";
    let placed = json!({"phase": "Active", "nodeName": "gpu-1", "expiresAt": until});
    shows("hatbinding", &binding(&placed), "Healthy", "worn on gpu-1 until 2026-01-01T08:00:00Z");
    shows("hatbinding", &binding(&json!({"phase": "Active"})), "Healthy", "worn");
    let warm = binding(&json!({"phase": "Warmup", "warmupEndsAt": until}));
    shows("hatbinding", &warm, "Progressing", "reading authority until 2026-01-01T08:00:00Z");
    let new = json!({"metadata": {"name": "mine"}, "spec": {"hat": "executor"}});
    shows("hatbinding", &new, "Progressing", "no operator has looked at the request yet");
    let mut going = binding(&placed);
    going["metadata"]["deletionTimestamp"] = json!(until);
    shows("hatbinding", &going, "Progressing", "the hat is being taken off");
    shows("hatbinding", &binding(&json!({"phase": "Strange"})), "Unknown", "unknown phase Strange");
    let healthy =
        Phase::ALL.into_iter().filter(|phase| health("hatbinding", &binding(&json!({"phase": phase}))).0 == "Healthy");
    assert_eq!(healthy.collect::<Vec<_>>(), [Phase::Active]);
    for phase in [Phase::Probation, Phase::Revoked] {
        assert_eq!(health("hatbinding", &binding(&json!({"phase": phase}))).0, "Degraded", "{phase}");
    }
}

#[test]
fn a_held_request_says_why_and_whether_it_waits_or_errs() {
    let held =
        |reason: &str| binding(&json!({"phase": "Pending", "conditions": [condition("Admitted", "False", reason)]}));
    let holding: BTreeSet<Rule> =
        Rule::ALL.into_iter().filter(|rule| ![Rule::Warmup, Rule::Term, Rule::Exclusive].contains(rule)).collect();
    for rule in holding {
        let expected = match rule {
            Rule::Cooldown | Rule::NewHats | Rule::MaxWearers | Rule::Unschedulable => "Progressing",
            Rule::Quorum | Rule::Verdict => "Suspended",
            _ => "Degraded",
        };
        shows("hatbinding", &held(&rule.reason()), expected, &format!("{}: the message", rule.reason()));
    }
    shows("hatbinding", &held("NewRule"), "Unknown", "NewRule: the message");
    shows("hatbinding", &binding(&json!({"phase": "Pending"})), "Progressing", "waits for the operator");
}

#[test]
fn every_phase_of_the_table_of_transitions_is_known() {
    for phase in lifecycle::table()
        .lines()
        .flat_map(|line| line.split('|').map(str::trim))
        .filter(|cell| Phase::ALL.iter().any(|phase| phase.as_str() == *cell))
    {
        assert_ne!(health("hatbinding", &binding(&json!({"phase": phase}))).0, "Unknown", "{phase}");
    }
}

fn node(spec: &Value, conditions: &[Value]) -> Value {
    json!({"metadata": {"name": "gpu-1"}, "spec": spec, "status": {"conditions": conditions}})
}

#[test]
fn a_machine_is_healthy_when_nothing_is_wrong_and_everything_is_known() {
    let good = [condition("Ready", "True", "LeaseRenewed"), condition("DevicesHealthy", "True", "AllUsable")];
    let with = |change: Value| {
        let others = good.iter().filter(|known| known["type"] != change["type"]).cloned();
        others.chain([change.clone()]).collect::<Vec<_>>()
    };
    shows("clusternode", &node(&json!({}), &good), "Healthy", "LeaseRenewed: the message");
    shows("clusternode", &json!({"metadata": {}, "spec": {}}), "Progressing", "the machine has not been seen yet");
    for (name, status, shown) in [
        ("Ready", "False", "Degraded"),
        ("Ready", "Unknown", "Degraded"),
        ("IdentityConflict", "True", "Degraded"),
        ("IdentityConflict", "False", "Healthy"),
        ("DevicesHealthy", "False", "Degraded"),
        ("DevicesHealthy", "Unknown", "Unknown"),
        ("AsExpected", "False", "Degraded"),
        ("AsExpected", "Unknown", "Unknown"),
    ] {
        let conditions = with(condition(name, status, "Because"));
        assert_eq!(health("clusternode", &node(&json!({}), &conditions)).0, shown, "{name} {status}");
        let message = if shown == "Healthy" { "LeaseRenewed: the message" } else { "Because: the message" };
        assert_eq!(health("clusternode", &node(&json!({}), &conditions)).1, message, "{name} {status}");
    }
    shows(
        "clusternode",
        &node(&json!({"unschedulable": true}), &good),
        "Suspended",
        "cordoned by a person: spec.unschedulable",
    );
    shows(
        "clusternode",
        &node(&json!({"unschedulable": false, "revoked": false}), &good),
        "Healthy",
        "LeaseRenewed: the message",
    );
    shows("clusternode", &node(&json!({"revoked": true}), &good), "Suspended", "banned by a person: spec.revoked");
    let silent = with(condition("Ready", "Unknown", "Because"));
    assert_eq!(health("clusternode", &node(&json!({"unschedulable": true}), &silent)).0, "Degraded");
}

#[test]
fn a_hat_is_as_sound_as_its_place_in_the_graph() {
    let hat = |conditions: &[Value]| json!({"metadata": {"name": "executor"}, "spec": {}, "status": {"conditions": conditions}});
    shows("hat", &hat(&[condition("GraphValid", "True", "Acyclic")]), "Healthy", "");
    shows("hat", &hat(&[condition("GraphValid", "False", "Flawed")]), "Degraded", "Flawed: the message");
    shows(
        "hat",
        &hat(&[condition("QuorumReached", "True", "Quorum")]),
        "Progressing",
        "no operator has looked at the hat yet",
    );
    shows("hat", &json!({"metadata": {}, "spec": {}}), "Progressing", "no operator has looked at the hat yet");
}
