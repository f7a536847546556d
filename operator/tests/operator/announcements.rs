//! Every record is announced once: as an Event, as a line of the log, on NATS.

use std::collections::BTreeSet;
use std::path::Path;

use futures::StreamExt;
use hatrack_api::hat_binding::Phase;
use hatrack_api::{HatBinding, HatSwap, SYSTEM_NAMESPACE};
use hatrack_testbed::{Program, soon};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::api::{DeleteParams, ListParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use crate::cluster::{Bench, Cluster, breakable, held};
use crate::nats::{NatsServer, SUBJECT};
use crate::refusal::Refusal;

/// An operator that announces without waiting, and says so on this server.
fn operator(cluster: &Cluster, nats: Option<&NatsServer>) -> Program {
    let mut setup = cluster.operator();
    let server = nats.map(|nats| format!("[nats]\nurl = \"{}\"\ntimeout = \"500ms\"\n", nats.url()));
    setup.tables = format!("[announce]\nremember = \"20ms\"\n{}", server.unwrap_or_default());
    setup.start(cluster.plane.folder())
}

/// One that hears of a server with a certificate, and trusts what an authority has signed.
fn operator_that_trusts(cluster: &Cluster, nats: &NatsServer, authority: &Path) -> Program {
    let mut setup = cluster.operator();
    setup.tables = format!(
        "[announce]\nremember = \"20ms\"\n[nats]\nurl = \"{}\"\ncertificate-authority = \"{}\"\n",
        nats.url(),
        authority.display()
    );
    setup.start(cluster.plane.folder())
}

/// Names of all records of a tenant.
async fn records(bench: &Bench) -> BTreeSet<String> {
    let all = bench.swaps().list(&ListParams::default()).await.unwrap();
    let is_ours = |swap: &&HatSwap| swap.spec.binding_ref.as_ref().is_some_and(|of| of.namespace == bench.namespace);
    all.items.iter().filter(is_ours).map(ResourceExt::name_any).collect()
}

/// Waits until the stream has a message of every record of a tenant, and of each record in it just one.
async fn each_once(bench: &Bench, nats: &NatsServer) -> Vec<(String, Value)> {
    let caught_up = async {
        loop {
            let messages = Box::pin(nats.messages()).await;
            let ids: BTreeSet<String> = messages.iter().map(|(id, _)| id.clone()).collect();
            assert_eq!(ids.len(), messages.len(), "a record is there twice: {messages:#?}");
            if records(bench).await.is_subset(&ids) {
                return messages;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    soon("a message for each record", caught_up).await
}

/// A hat that goes on and off.
async fn worn_and_released(bench: &Bench, hat: &str, account: &str) -> HatBinding {
    let binding = bench.ask(hat, account).await;
    bench.phase(&binding, Phase::Active).await;
    bench.bindings().delete(&binding.name_any(), &DeleteParams::default()).await.unwrap();
    crate::cluster::gone(&bench.bindings(), &binding.name_any()).await;
    binding
}

#[tokio::test]
async fn each_record_is_one_message_though_server_and_operator_are_killed() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let mut nats = NatsServer::start(true).await;
    nats.stream().await;
    let first = operator(&cluster, Some(&nats));
    let hat = bench.hat(json!({})).await;
    let binding = worn_and_released(&bench, &hat, "ann").await;
    let messages = each_once(&bench, &nats).await;
    let first_record = format!("{}-1", binding.uid().unwrap());
    let (_, tick) = messages.iter().find(|(id, _)| *id == first_record).unwrap();
    let occurred_at = tick["occurredAt"].clone();
    assert_eq!(
        *tick,
        json!({"hat": hat, "wearer": {"spiffeID": bench.spiffe("ann")}, "event": "SwapOn", "reason": "Admitted",
            "occurredAt": occurred_at, "binding": format!("{}/{}", bench.namespace, binding.name_any())})
    );

    // Nobody waits for a server that is away, and the next leader knows what it missed.
    nats.kill();
    worn_and_released(&bench, &hat, "bob").await;
    first.says("records are not announced: nats").await;
    drop(first);
    let second = operator(&cluster, Some(&nats));
    worn_and_released(&bench, &hat, "cyd").await;
    nats.start_again().await;
    each_once(&bench, &nats).await;

    // Without a memory everything recent is announced again; the stream is asked what it has, as the server knows ids no more.
    drop(second);
    let maps: Api<ConfigMap> = Api::namespaced(bench.admin.clone(), SYSTEM_NAMESPACE);
    maps.delete("hatrack-announced", &DeleteParams::default()).await.unwrap();
    let third = operator(&cluster, Some(&nats));
    worn_and_released(&bench, &hat, "dee").await;
    each_once(&bench, &nats).await;
    assert!(third.metric("hatrack_operator_announcements_total{way=\"nats\",outcome=\"known\"}").await >= 6.0);
    assert!(third.metric("hatrack_operator_announcements_total{way=\"nats\",outcome=\"done\"}").await >= 2.0);
}

#[tokio::test]
async fn a_server_says_who_it_is_before_it_is_told_anything() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let nats = NatsServer::start_with_tls(&cluster.plane.server_identity().unwrap()).await;
    nats.stream().await;
    let foreign = cluster.plane.folder().join("another-authority.pem");
    let another = rcgen::generate_simple_self_signed(["another authority".to_owned()]).unwrap();
    std::fs::write(&foreign, another.cert.pem()).unwrap();
    let distrustful = operator_that_trusts(&cluster, &nats, &foreign);
    let hat = bench.hat(json!({})).await;
    let binding = worn_and_released(&bench, &hat, "ann").await;
    let line = distrustful.says("records are not announced: nats").await;
    assert!(line["error"].as_str().unwrap().contains("invalid peer certificate: UnknownIssuer"), "{line}");
    assert!(nats.messages().await.is_empty());
    drop(distrustful);
    let _trustful = operator_that_trusts(&cluster, &nats, nats.authority());
    let messages = each_once(&bench, &nats).await;
    assert!(messages.iter().any(|(id, _)| *id == format!("{}-1", binding.uid().unwrap())));
}

#[tokio::test]
async fn without_a_stream_those_who_listen_hear_it() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let mut nats = NatsServer::start(false).await;
    let operator = operator(&cluster, Some(&nats));
    let hat = bench.hat(json!({})).await;
    for account in ["ann", "bob"] {
        let listener = nats.client().await;
        let mut heard = listener.subscribe(SUBJECT).await.unwrap();
        listener.flush().await.unwrap();
        let binding = bench.ask(&hat, account).await;
        let wanted = format!("{}-1", binding.uid().unwrap());
        let tick = async {
            while let Some(message) = heard.next().await {
                if message.headers.unwrap().get("Nats-Msg-Id").unwrap().as_str() == wanted {
                    return;
                }
            }
            panic!("the connection ended");
        };
        soon("the tick", tick).await;
        nats.kill();
        nats.start_again().await;
    }
    operator.says("no stream holds the subject").await;
}

/// Hats go on and off until somebody hears of it on a subject.
async fn is_heard_on(bench: &Bench, nats: &NatsServer, hat: &str, subject: &'static str) -> Value {
    let listener = nats.client().await;
    let mut heard = listener.subscribe(subject).await.unwrap();
    listener.flush().await.unwrap();
    let changing = Box::pin(async {
        loop {
            worn_and_released(bench, hat, "ann").await;
        }
    });
    let heard = async {
        tokio::select! {
            message = heard.next() => message.unwrap(),
            () = changing => panic!("nobody changes hats any more"),
        }
    };
    serde_json::from_slice(&soon(&format!("a tick on {subject}"), Box::pin(heard)).await.payload).unwrap()
}

#[tokio::test]
async fn ticks_go_to_the_subject_that_the_policy_names() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let nats = NatsServer::start(false).await;
    let _operator = operator(&cluster, Some(&nats));
    let hat = bench.hat(json!({})).await;
    assert_eq!(is_heard_on(&bench, &nats, &hat, SUBJECT).await["hat"], hat);
    cluster.policy(&json!({"tickEmit": {"natsSubject": "other.ticks"}})).await;
    assert_eq!(is_heard_on(&bench, &nats, &hat, "other.ticks").await["hat"], hat);
    cluster.policy(&json!({"tickEmit": {"natsSubject": SUBJECT}})).await;
    assert_eq!(is_heard_on(&bench, &nats, &hat, SUBJECT).await["hat"], hat);
}

async fn events(bench: &Bench) -> Vec<Event> {
    let events: Api<Event> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    events.list(&ListParams::default()).await.unwrap().items
}

/// The Event of a record.
async fn event(bench: &Bench, record: &str) -> Event {
    let events: Api<Event> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    let told = async {
        loop {
            if let Some(event) = events.get_opt(record).await.unwrap() {
                return event;
            }
            sleep(Duration::from_millis(50)).await;
        }
    };
    soon(&format!("the Event {record}"), told).await
}

fn ticks(operator: &Program, record_of: &str) -> Vec<String> {
    let lines = operator.lines();
    let ours = lines.iter().filter(|line| line["message"] == "hat.tick" && line["binding"] == record_of);
    ours.map(|line| format!("{} {}", line["event"].as_str().unwrap(), line["reason"].as_str().unwrap())).collect()
}

#[tokio::test]
async fn a_record_is_an_event_and_a_line_and_the_policy_can_switch_them_off() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let first = operator(&cluster, None);
    let hat = bench.hat(json!({"maxWearers": 1})).await;
    let binding = bench.ask(&hat, "ann").await;
    bench.phase(&binding, Phase::Active).await;
    let second = bench.ask(&hat, "bob").await;
    bench.until(&second, "held", |binding| held(binding).is_some()).await;
    let (uid, waiting) = (binding.uid().unwrap(), second.uid().unwrap());
    let on = event(&bench, &format!("{uid}-1")).await;
    let regarding = on.regarding.unwrap();
    assert_eq!((regarding.kind.as_deref(), regarding.uid), (Some("HatBinding"), Some(uid.clone())));
    assert_eq!(regarding.name, Some(binding.name_any()));
    assert_eq!((on.type_.as_deref(), on.reason.as_deref()), (Some("Normal"), Some("SwapOn")));
    assert!(on.note.as_deref().unwrap().starts_with("Admitted: "), "{:?}", on.note);
    let hold = event(&bench, &format!("{waiting}-0-throttled-maxwearers")).await;
    assert_eq!((hold.type_.as_deref(), hold.reason.as_deref()), (Some("Warning"), Some("Throttled")));
    let line = first.says("hat.tick").await;
    assert_eq!(line["wearer.spiffeID"], bench.spiffe("ann"));
    let place = |binding: &HatBinding| format!("{}/{}", bench.namespace, binding.name_any());
    assert_eq!(ticks(&first, &place(&binding)), ["SwapOn Admitted"]);

    // The next leader tells what the one before it had not told, and nothing else.
    let told = events(&bench).await.len();
    assert!(first.stop().await.success());
    let next = operator(&cluster, None);
    bench.bindings().delete(&binding.name_any(), &DeleteParams::default()).await.unwrap();
    event(&bench, &format!("{uid}-2")).await;
    event(&bench, &format!("{waiting}-1")).await;
    assert_eq!(ticks(&next, &place(&binding)), ["SwapOff Released"]);
    assert_eq!(events(&bench).await.len(), told + 2);

    // What is switched off is not told later either.
    let quiet = json!({"tickEmit": {"enableEvents": false, "enableLokiStructuredLogs": false}});
    cluster.policy(&quiet).await;
    let mut silent = worn_and_released(&bench, &bench.hat(json!({})).await, "cyd").await;
    while ticks(&next, &place(&silent)).len() == 2 {
        // The operator had not heard of the policy yet.
        silent = worn_and_released(&bench, &bench.hat(json!({})).await, "cyd").await;
    }
    cluster.policy(&json!({"tickEmit": {"enableEvents": true, "enableLokiStructuredLogs": true}})).await;
    let mut loud = worn_and_released(&bench, &bench.hat(json!({})).await, "dee").await;
    while ticks(&next, &place(&loud)).len() < 2 {
        loud = worn_and_released(&bench, &bench.hat(json!({})).await, "dee").await;
    }
    event(&bench, &format!("{}-2", loud.uid().unwrap())).await;
    let of_silent = format!("{}-2", silent.uid().unwrap());
    assert!(events(&bench).await.iter().all(|event| event.name_any() != of_silent), "told though it was switched off");
}

#[tokio::test]
async fn a_namespace_that_goes_takes_its_events_along_and_stops_nothing() {
    let (going, operator) = Bench::shared().await;
    let (staying, _) = Bench::shared().await;
    let hat = going.hat(json!({})).await;
    let binding = going.ask(&hat, "ann").await;
    going.phase(&binding, Phase::Active).await;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(going.admin.clone());
    namespaces.delete(&going.namespace, &DeleteParams::default()).await.unwrap();
    crate::cluster::gone(&namespaces, &going.namespace).await;
    assert_eq!(going.reasons(&binding).await, ["Admitted", "Released"]);
    let other = staying.ask(&hat, "bob").await;
    event(&staying, &format!("{}-1", other.uid().unwrap())).await;
    let pointless = operator.metric("hatrack_operator_announcements_total{way=\"events\",outcome=\"pointless\"}").await;
    assert!(pointless >= 1.0, "{:#?}", operator.lines());
}

/// Lets nobody write Events into a tenant's namespace, as a quota that is used up does.
async fn refuse_events(bench: &Bench) -> Refusal {
    let matching = json!({"matchConstraints": {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": bench.namespace}},
        "resourceRules": [{"apiGroups": ["events.k8s.io"], "apiVersions": ["v1"], "resources": ["events"], "operations": ["CREATE"]}],
    }});
    let events: Api<Event> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    let event = json!({"metadata": {"name": "probe"}, "action": "Try", "reason": "Trial", "type": "Normal",
        "eventTime": "2026-01-01T00:00:00.000000Z", "reportingController": "a/b", "reportingInstance": "c",
        "regarding": {"kind": "Namespace", "namespace": bench.namespace, "name": "x"}});
    let event: Event = serde_json::from_value(event).unwrap();
    let dry_run = PostParams { dry_run: true, ..PostParams::default() };
    let attempt = async || events.create(&dry_run, &event).await;
    Refusal::begins(&bench.admin, ("Forbidden", "exceeded quota"), matching, attempt).await
}

#[tokio::test]
async fn a_namespace_that_refuses_events_silences_no_other() {
    let (refusing, operator) = Bench::shared().await;
    let (other, _) = Bench::shared().await;
    refuse_events(&refusing).await;
    let hat = refusing.hat(json!({})).await;
    let silent = refusing.ask(&hat, "ann").await;
    refusing.phase(&silent, Phase::Active).await;
    let told = other.ask(&hat, "bob").await;
    event(&other, &format!("{}-1", told.uid().unwrap())).await;
    operator.says("an Event is left out: its namespace refuses it").await;
    assert!(events(&refusing).await.is_empty());
}
