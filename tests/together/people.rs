//! People type `hatrack` while agent and operator do their work: what one is told is what happens.

use hatrack_api::HatBinding;
use hatrack_api::hat_binding::Phase;
use hatrack_testbed::unique;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Duration;

use crate::cluster::{Cluster, needs_gpu, until};
use crate::person::{Person, script};

async fn binding(cluster: &Cluster, name: &str) -> HatBinding {
    until(&cluster.bindings(), name, "asked for", |_| true).await
}

/// The transition of a binding in a plan.
fn planned<'a>(plan: &'a Value, when: &str, binding: &str) -> &'a Value {
    let found = plan[when].as_array().unwrap().iter().find(|transition| transition["binding"] == binding);
    found.unwrap_or_else(|| panic!("{binding} is not in {when} of {plan:#}"))
}

#[tokio::test]
async fn a_command_has_its_gpu_for_as_long_as_nobody_waits_for_it_and_the_next_one_gets_it_as_planned() {
    let cluster = Cluster::start_here().await;
    let hat = unique("trainer");
    let spec =
        json!({"maxWearers": 1, "termSeconds": 10, "succession": {"policy": "Renew"}, "requirements": needs_gpu()});
    cluster.make_hat(&hat, spec).await;
    let (ada, bob) = (Person::arrives(&cluster, "ada").await, Person::arrives(&cluster, "bob").await);
    for person in [&ada, &bob] {
        person.may("wear", &hat).await;
        person.is_known_to_wear(&hat).await;
    }
    let namespace = &cluster.namespace;
    let watch = bob.begins(&format!("bindings --watch -n {namespace}"), &[]);
    watch.program.says("no bindings").await;

    let never = cluster.plane.folder().join("never");
    let training = ada.begins(&format!("wear {hat} -n {namespace} --name training --"), &["sh", "-c", &script(&never)]);
    training.program.says(&format!("{hat} is on")).await;
    let first = cluster.phase(&binding(&cluster, "training").await, Phase::Active).await;
    cluster.wears(&[&first]).await;
    let printed = training.prints("HATRACK_NODE=").await;
    let told = cluster.told(&first);
    assert!(told["NVIDIA_VISIBLE_DEVICES"].starts_with("GPU-") && told["HATRACK_NODE"] == cluster.name, "{told:?}");
    let of_agents = ["HATRACK_EXPIRES_AT", "HATRACK_FENCING_TOKEN", "HATRACK_PHASE"];
    for (name, value) in told.iter().filter(|(name, _)| !of_agents.contains(&name.as_str())) {
        assert!(printed.lines().any(|line| line == format!("{name}={value}")), "{name}={value} is not in\n{printed}");
    }
    let renewed = watch.prints("training  renewed until").await;
    assert!(!renewed.contains("Released"), "{renewed}");
    assert_eq!(cluster.reasons(&first).await.iter().filter(|reason| *reason == "Renewed").count(), 1);
    bob.until_told(&format!("nodes {}", cluster.name), &[&hat]).await;
    assert!(bob.does(&format!("hats {hat}")).await.contains("Worn by"));
    assert_eq!(ada.types(&format!("why -n {namespace} training")).await.code, 0, "it is worn");
    assert!(!training.printed().contains("ended"), "its term was renewed");

    bob.does(&format!("wear {hat} -n {namespace} --name turn")).await;
    let why =
        bob.until_told(&format!("why -n {namespace} turn"), &["1 of 1 wearers", "time alone: it goes on in"]).await;
    assert_eq!(why.code, 1, "it is not worn");
    let plan = bob.json("plan").await;
    let (ends, begins) = (planned(&plan, "later", "training"), planned(&plan, "later", "turn"));
    assert_eq!((&ends["reason"], &begins["reason"]), (&json!("TermEnded"), &json!("Succeeded")));
    training.program.says(&format!("the term of {hat} ended: the command is ended")).await;
    training.prints("ended").await;
    assert_eq!(training.program.end().await.code(), Some(3));
    let second = cluster.phase(&binding(&cluster, "turn").await, Phase::Active).await;
    cluster.wears(&[&second]).await;
    let record =
        cluster.records(&second).await.into_iter().find(|record| record.spec.reason.as_deref() == Some("Succeeded"));
    let outcome = record.unwrap().spec.outcome.unwrap();
    assert_eq!((json!(outcome.node_name), json!(outcome.devices)), (begins["node"].clone(), begins["devices"].clone()));

    let then = first.status.unwrap().bound_at.unwrap().0 + Duration::from_secs(1);
    let whom = async |at: Timestamp| bob.json(&format!("hats {hat} --at {at}")).await["stays"][0]["wearer"].clone();
    assert_eq!(whom(then).await, "spiffe://cluster.local/people/ada");
    assert_eq!(whom(Timestamp::now()).await, "spiffe://cluster.local/people/bob");
    bob.does(&format!("release -n {namespace} turn")).await;
    cluster.wears(&[]).await;
    watch.prints("turn  gone").await;
}

#[tokio::test]
async fn two_people_vouch_for_a_request_and_a_supervisor_takes_the_hat_off_again() {
    let cluster = Cluster::start_here().await;
    let (hat, lead) = (unique("deployer"), unique("lead"));
    cluster.make_hat(&hat, json!({"throttles": {"quorumGated": true, "quorumSize": 2}})).await;
    cluster.make_hat(&lead, json!({"supervises": [hat]})).await;
    let (ada, bob, eve) = (
        Person::arrives(&cluster, "ada").await,
        Person::arrives(&cluster, "bob").await,
        Person::arrives(&cluster, "eve").await,
    );
    let judge = Person::account(&cluster, "judge").await;
    for (person, verb, hat) in
        [(&ada, "wear", &hat), (&bob, "cosign", &hat), (&eve, "cosign", &hat), (&judge, "wear", &lead)]
    {
        person.may(verb, hat).await;
    }
    ada.is_known_to_wear(&hat).await;
    judge.is_known_to_wear(&lead).await;
    let namespace = &cluster.namespace;
    let watch = bob.begins(&format!("bindings --watch -n {namespace}"), &[]);
    watch.program.says("no bindings").await;

    let never = cluster.plane.folder().join("never");
    let deploying = ada.begins(&format!("wear {hat} -n {namespace} --name deploy --"), &["sh", "-c", &script(&never)]);
    deploying.program.says("0 of 2 co-signers").await;
    bob.until_told(&format!("why -n {namespace} deploy"), &["0 of 2 co-signers"]).await;
    bob.does(&format!("cosign -n {namespace} deploy --attestation reviewed")).await;
    bob.until_told(&format!("why -n {namespace} deploy"), &["1 of 2 co-signers", "people/bob", "reviewed"]).await;
    eve.does(&format!("cosign -n {namespace} deploy")).await;
    deploying.prints("HATRACK_HAT=").await;
    let deploy = cluster.phase(&binding(&cluster, "deploy").await, Phase::Active).await;
    assert!(cluster.reasons(&deploy).await.contains(&"Quorum".to_owned()));
    bob.until_told(&format!("why -n {namespace} deploy"), &["Active"]).await;

    // Whoever wears a supervising hat may judge, and nobody else.
    let verdict = format!("verdict -n {namespace} deploy revoke --reason");
    let refused = judge.types(&format!("{verdict} early")).await;
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("that takes the verb supervise on it"), "{}", refused.stderr);
    judge.does(&format!("wear {lead} -n {namespace} --name lead")).await;
    cluster.phase(&binding(&cluster, "lead").await, Phase::Active).await;
    judge.is_allowed(&json!({"group": "society.zeta.io", "resource": "hats", "name": hat, "verb": "supervise"})).await;
    judge.does(&format!("verdict -n {namespace} deploy probation --reason slow")).await;
    bob.until_told(&format!("bindings -n {namespace} deploy"), &["Probation", "slow"]).await;
    judge.does(&format!("{verdict} harmful")).await;
    deploying.program.says("the command is ended").await;
    deploying.prints("ended").await;
    assert_eq!(deploying.program.end().await.code(), Some(3));
    watch.prints("Active -> Probation; may only read, says").await;
    watch.prints("judge: harmful").await;
    let graph = bob.does("graph").await;
    let (above, below) = (format!("\"hat:{lead}\""), format!("\"hat:{hat}\""));
    assert!(graph.contains(&format!("{above} -> {below} [label=\"supervises\"]")), "{graph}");
    assert!(graph.contains(&format!("/sa/judge\" -> {above} [label=\"Active\"")), "{graph}");
    assert!(bob.does(&format!("hats {hat}")).await.contains("Revoked"));
    judge.does(&format!("release -n {namespace} lead")).await;
    watch.prints("lead  gone").await;
}
