//! The rules of hats over the same table: what a Gatekeeper policy denies, the operator holds, and what they admit, it admits.
//!
//! A policy sees a binding that is worn; the rules decide whether it is to be. So a worn binding is put to them as it was when it
//! was put on: without its status, at that time, with the records of that time.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::time::Duration;

use hatrack_api::hat_binding::Phase;
use hatrack_api::{HatBinding, HatSwap};
use hatrack_gatekeeper_tests::{Case, cases, key};
use hatrack_hats::{Action, Moment, World, decide, why};
use jiff::Timestamp;
use serde_json::{Value, json};

fn parsed<T: serde::de::DeserializeOwned>(object: &Value) -> T {
    serde_json::from_value(object.clone()).unwrap_or_else(|error| panic!("{error}: {object}"))
}

fn observe(world: &mut World, object: &Value) {
    match object["kind"].as_str().unwrap() {
        "Hat" => world.observe_hat(parsed(object)),
        "HatPolicy" => world.observe_policy(parsed(object)),
        "HatSwap" => world.observe_swap(parsed(object)),
        "HatBinding" => world.observe_binding(parsed(object), Duration::ZERO),
        other => panic!("a {other} in the table"),
    };
}

fn world(case: &Case, keep: impl Fn(&Value) -> bool) -> World {
    let mut world = World::default();
    for object in case.objects.iter().filter(|object| key(object) != key(&case.review) && keep(object)) {
        observe(&mut world, object);
    }
    world
}

fn at(wall: Timestamp) -> Moment {
    Moment { wall, steady: Duration::ZERO }
}

/// By which rule a binding is held in a world; `None`: it is admitted.
fn held(mut world: World, binding: &Value, now: Timestamp) -> Option<String> {
    observe(&mut world, binding);
    let answer = why(&world, binding["metadata"]["uid"].as_str().unwrap(), at(now)).unwrap();
    answer.err().map(|held| held.rule.as_str().to_owned())
}

/// A hat is judged by what happens to one who asks for it.
fn hat_held(case: &Case, now: Timestamp) -> Option<String> {
    let mut world = world(case, |_| true);
    observe(&mut world, &case.review);
    let asked = json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "HatBinding",
        "metadata": {"name": "asked", "namespace": "a", "uid": "asked", "creationTimestamp": now.to_string()},
        "spec": {"hat": case.review["metadata"]["name"], "wearer": {"spiffeID": "spiffe://x/ann"}}});
    held(world, &asked, now)
}

/// Whether a binding in its warmup becomes Active now.
fn warmup_held(case: &Case, now: Timestamp) -> Option<String> {
    let mut warming = case.review.clone();
    warming["status"]["phase"] = json!("Warmup");
    let mut world = world(case, |_| true);
    observe(&mut world, &warming);
    let uid = case.review["metadata"]["uid"].as_str().unwrap();
    let activates = decide(&world, at(now)).actions.iter().any(|action| {
        matches!(action, Action::SetStatus { binding, status } if binding == uid && status.phase == Phase::Active)
    });
    (!activates).then(|| "warmup".to_owned())
}

fn binding_held(case: &Case, now: Timestamp) -> Option<String> {
    let binding: HatBinding = parsed(&case.review);
    let status = binding.status.unwrap_or_default();
    if !status.phase.is_worn() {
        return held(world(case, |_| true), &case.review, now);
    }
    let put_on = status.bound_at.unwrap().0;
    let mut asked = case.review.clone();
    asked.as_object_mut().unwrap().remove("status");
    let before = |object: &Value| {
        object["kind"] != "HatSwap" || {
            let swap: HatSwap = parsed(object);
            let own = swap.spec.binding_ref.is_some_and(|binding| binding.uid == case.review["metadata"]["uid"]);
            !own && swap.spec.occurred_at.0 <= put_on
        }
    };
    held(world(case, before), &asked, put_on)
}

/// The rule of hats by the name of its policy.
fn rule(policy: &str) -> String {
    let mut words = policy.split('-');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| name + &word[..1].to_uppercase() + &word[1..])
}

#[test]
fn the_rules_hold_what_the_policies_deny() {
    let now = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    let mut wrong = Vec::new();
    let cases = cases(now).unwrap();
    for case in cases.iter().filter(|case| !case.only_gatekeeper) {
        let held = match (case.review["kind"].as_str().unwrap(), case.rule.as_str()) {
            ("Hat", _) => hat_held(case, now),
            (_, "warmup") => warmup_held(case, now),
            _ => binding_held(case, now),
        };
        let expected = case.held.as_deref().map(rule);
        if held != expected {
            wrong.push(format!("{}: expected {expected:?}, got {held:?}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(cases.len() > 80, "{} cases", cases.len());
}
