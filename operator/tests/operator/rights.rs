//! The operator's rights are the least that work: it asks for nothing beyond them, and it needs each of them.

use std::collections::BTreeSet;
use std::path::Path;

use hatrack_api::hat_binding::Phase;
use hatrack_api::hat_swap::HatSwap;
use hatrack_testbed::{manifests, unique};
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::applicant::{ask, bearer, request, token, verdict};
use crate::cluster::{Bench, MANIFESTS, breakable, gone};
use crate::machine::{Machine, gpu};

/// Rights that no request shows: an apply that makes an object is a patch in the log and needs `create`, and the API server asks
/// for `escalate` and `bind` inside of one, and for `approve` inside of an approval.
const INSIDE: [&str; 7] = [
    "create clusterroles",
    "create clusterrolebindings",
    "escalate roles",
    "escalate clusterroles",
    "bind roles",
    "bind clusterroles",
    "approve signers",
];

/// What is read anew when somebody else was faster, which no test can be sure to bring about for each kind.
const OVERTAKEN: [&str; 5] = ["get clusternodes", "get hats", "get hatpolicies", "get hatbindings", "get hatswaps"];

/// The groups that this test knows to use.
const GROUPS: [&str; 6] =
    ["", "society.zeta.io", "coordination.k8s.io", "events.k8s.io", "rbac.authorization.k8s.io", "certificates.k8s.io"];

fn granted() -> BTreeSet<String> {
    let mut granted = BTreeSet::new();
    let words = |rule: &Value, field: &str| -> Vec<String> { serde_json::from_value(rule[field].clone()).unwrap() };
    for object in manifests(&Path::new(MANIFESTS).join("rbac/operator.yaml")).unwrap() {
        for rule in object.data["rules"].as_array().into_iter().flatten() {
            if !words(rule, "apiGroups").iter().any(|group| GROUPS.contains(&group.as_str())) {
                continue;
            }
            for verb in words(rule, "verbs") {
                granted.extend(words(rule, "resources").iter().map(|resource| format!("{verb} {resource}")));
            }
        }
    }
    granted
}

#[tokio::test]
async fn every_right_is_needed_and_no_other() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    cluster.forget_leader().await;
    forget_announcements(&bench).await;
    let before = cluster.plane.requests_of("society:operator").unwrap().len();
    cluster.policy(&json!({"ttlSecondsAfterEnd": 1, "swapRetentionDays": 1, "nodeGraceSeconds": 1})).await;
    let old = old_record(&bench).await;
    let operator = cluster.operator().start(cluster.plane.folder());
    operator.ready().await;
    let model = unique("model");
    let machine = Machine::join(&bench.admin, json!([gpu("gpu-0", &model, "24Gi")])).await;
    let node: Node = serde_json::from_value(json!({"metadata": {"name": machine.name}})).unwrap();
    Api::all(bench.admin.clone()).create(&PostParams::default(), &node).await.unwrap();
    let selector = format!("device.attributes.model == '{model}'");
    let needs = json!([{"name": "gpu", "class": "gpu", "selectors": [selector]}]);
    let placed = bench.ask(&bench.hat(json!({"requirements": {"devices": needs}})).await, "ann").await;
    bench.phase(&placed, Phase::Active).await;
    let newcomer = unique("newcomer");
    let bearer = bearer(&cluster.plane, &token(&cluster.plane, &newcomer).await).await;
    let asked = ask(&bearer, request(&newcomer, "A1")).await;
    assert_eq!(verdict(&bench.admin, &asked).await.0, "Approved");
    machine.connect(false);
    let supervised = bench.hat(json!({})).await;
    let above = bench.hat(json!({"supervises": [supervised], "termSeconds": 1})).await;
    let short = bench.ask(&above, "bob").await;
    // It ends by itself, its cluster-wide authority goes, and it is deleted when its time to be looked at is over.
    gone(&bench.bindings(), &short.name_any()).await;
    machine.readiness("Unknown", "Fenced").await;
    gone(&bench.swaps(), &old).await;
    cluster.policy(&json!({"ttlSecondsAfterEnd": null, "swapRetentionDays": null})).await;
    cluster.impatient().await;
    let requests = cluster.plane.requests_of("society:operator").unwrap().split_off(before);
    let (tries, asked): (Vec<_>, Vec<_>) = requests.into_iter().partition(|request| request.uri.contains("dryRun=All"));
    let refused: Vec<_> = asked.iter().filter(|request| request.status == 403).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    let used: BTreeSet<String> =
        tries.iter().chain(&asked).map(|request| format!("{} {}", request.verb, request.resource)).collect();
    let excused: BTreeSet<String> = INSIDE.iter().chain(&OVERTAKEN).map(|right| (*right).to_owned()).collect();
    let idle: Vec<_> =
        granted().into_iter().filter(|right| !used.contains(right) && !excused.contains(right)).collect();
    assert!(idle.is_empty(), "granted and not used: {idle:?}; used: {used:?}");
}

/// As if nothing had ever been announced here.
async fn forget_announcements(bench: &Bench) {
    let maps: Api<ConfigMap> = Api::namespaced(bench.admin.clone(), hatrack_api::SYSTEM_NAMESPACE);
    if maps.get_opt("hatrack-announced").await.unwrap().is_some() {
        maps.delete("hatrack-announced", &DeleteParams::default()).await.unwrap();
    }
}

/// A record that is kept for longer than the policy wants, of a binding that nobody remembers.
async fn old_record(bench: &Bench) -> String {
    let name = format!("{}-1", unique("old"));
    let spec = json!({"hat": "forgotten", "wearer": {"spiffeID": bench.spiffe("old")}, "event": "SwapOn",
        "occurredAt": "2020-01-01T00:00:00Z"});
    let mut record = HatSwap::new(&name, serde_json::from_value(spec).unwrap());
    record.metadata.namespace = Some(hatrack_api::SYSTEM_NAMESPACE.to_owned());
    let swaps: Api<HatSwap> = Api::namespaced(bench.forger.clone(), hatrack_api::SYSTEM_NAMESPACE);
    swaps.create(&PostParams::default(), &record).await.unwrap();
    name
}
