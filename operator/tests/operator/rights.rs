//! The operator's rights are the least that work: it asks for nothing beyond them, and it needs each of them.
//!
//! That it never asks for more is looked at after every test of this suite, in its control plane's own log ([`Rights`]).

use std::collections::BTreeSet;
use std::path::Path;

use hatrack_api::access::{MANAGED_BY, hat_role_name};
use hatrack_api::hat_binding::Phase;
use hatrack_api::hat_swap::HatSwap;
use hatrack_testbed::{FaultProxy, Matcher, Response, manifests, soon, unique};
use http::{Method, StatusCode};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use crate::applicant::{ask, bearer, request, token, verdict};
use crate::cluster::{Bench, Cluster, MANIFESTS, breakable, gone};
use crate::machine::{Machine, gpu};
use crate::program::Setup;

const RBAC: &str = "rbac.authorization.k8s.io";

/// The role for the whole cluster.
const ROLE: &str = "hatrack:operator";

/// Rights that no request shows: an apply that makes an object is a patch in the log and needs `create`, and the API server asks
/// for `escalate` and `bind` inside of one, and for `approve` inside of an approval. [`each_right_that_no_request_shows_is_needed`].
const INSIDE: [&str; 7] = [
    "create clusterroles",
    "create clusterrolebindings",
    "escalate roles",
    "escalate clusterroles",
    "bind roles",
    "bind clusterroles",
    "approve signers",
];

/// The groups of what the test below does: a right in another one would be looked at by nobody.
const GROUPS: [&str; 6] = ["", "society.zeta.io", "coordination.k8s.io", "events.k8s.io", RBAC, "certificates.k8s.io"];

fn words(rule: &Value, field: &str) -> Vec<String> {
    serde_json::from_value(rule[field].clone()).unwrap()
}

fn granted() -> BTreeSet<String> {
    let mut granted = BTreeSet::new();
    for object in manifests(&Path::new(MANIFESTS).join("rbac/operator.yaml")).unwrap() {
        for rule in object.data["rules"].as_array().into_iter().flatten() {
            let unknown: Vec<_> =
                words(rule, "apiGroups").into_iter().filter(|group| !GROUPS.contains(&group.as_str())).collect();
            assert!(unknown.is_empty(), "rights in a group that this test does not use: {unknown:?}");
            for verb in words(rule, "verbs") {
                granted.extend(words(rule, "resources").iter().map(|resource| format!("{verb} {resource}")));
            }
        }
    }
    granted
}

/// Lets the operator find once that somebody else was faster, for each kind that it reads anew then.
fn overtake(proxy: &FaultProxy) {
    let conflict = |reason: &str| Response::failure(StatusCode::CONFLICT, reason, "somebody else was faster");
    for kind in ["clusternodes", "hats", "hatpolicies", "hatbindings"] {
        proxy.answer(Matcher::new(Method::PATCH, format!("/{kind}/")), conflict("Conflict"), 1);
    }
    proxy.answer(Matcher::new(Method::POST, "/hatswaps"), conflict("AlreadyExists"), 1);
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
    let proxy = FaultProxy::start(&cluster.plane, &cluster.identity()).unwrap();
    let operator = Setup::new(&cluster.kubeconfig(proxy.url())).start(cluster.plane.folder());
    operator.ready().await;
    let model = unique("model");
    let machine = Machine::join(&bench.admin, json!([gpu("gpu-0", &model, "24Gi")])).await;
    machine.readiness("True", "LeaseRenewed").await;
    overtake(&proxy);
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
    let idle: Vec<_> =
        granted().into_iter().filter(|right| !used.contains(right) && !INSIDE.contains(&right.as_str())).collect();
    assert!(idle.is_empty(), "granted and not used: {idle:?}; used: {used:?}");
}

/// The operator's requests, tried out without it.
struct Tried {
    as_operator: Client,
    namespace: String,
    /// Name of a grant, whose roles are there.
    name: String,
    request: CertificateSigningRequest,
}

impl Tried {
    async fn prepare(cluster: &Cluster, bench: &Bench) -> Self {
        let newcomer = unique("newcomer");
        let bearer = bearer(&cluster.plane, &token(&cluster.plane, &newcomer).await).await;
        let request = ask(&bearer, request(&newcomer, "A1")).await;
        let as_operator = cluster.plane.client_for(&cluster.identity()).await.unwrap();
        let name = hat_role_name("reader", &unique("uid"));
        let tried = Self { as_operator, namespace: bench.namespace.clone(), name, request };
        for kind in ["Role", "ClusterRole"] {
            tried.apply(&bench.forger, kind, &tried.name, false).await.unwrap();
        }
        tried
    }

    fn api(&self, client: &Client, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(RBAC, "v1", kind));
        if kind.starts_with("Cluster") {
            Api::all_with(client.clone(), &resource)
        } else {
            Api::namespaced_with(client.clone(), &self.namespace, &resource)
        }
    }

    /// Applies one half of a grant, as the operator does.
    async fn apply(&self, client: &Client, kind: &str, name: &str, dry_run: bool) -> kube::Result<()> {
        let mut object = json!({"apiVersion": format!("{RBAC}/v1"), "kind": kind,
            "metadata": {"name": name, "labels": {MANAGED_BY.0: MANAGED_BY.1}}});
        let fields = match kind {
            "Role" | "ClusterRole" => json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}),
            _ => json!({"roleRef": {"apiGroup": RBAC, "kind": kind.trim_end_matches("Binding"), "name": name},
                "subjects": [{"kind": "ServiceAccount", "name": "ann", "namespace": self.namespace}]}),
        };
        object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let params = PatchParams { dry_run, ..PatchParams::apply("hatrack-operator").force() };
        self.api(client, kind).patch(name, &params, &Patch::Apply(&object)).await.map(drop)
    }

    /// What the operator needs a right for.
    async fn try_out(&self, right: &str) -> kube::Result<()> {
        let fresh = hat_role_name("reader", &unique("uid"));
        match right {
            "create clusterroles" | "escalate clusterroles" => {
                self.apply(&self.as_operator, "ClusterRole", &fresh, true).await
            }
            "escalate roles" => self.apply(&self.as_operator, "Role", &fresh, true).await,
            "create clusterrolebindings" | "bind clusterroles" => {
                self.apply(&self.as_operator, "ClusterRoleBinding", &self.name, true).await
            }
            "bind roles" => self.apply(&self.as_operator, "RoleBinding", &self.name, true).await,
            "approve signers" => {
                let mut approved = self.request.clone();
                let condition = json!({"type": "Approved", "status": "True", "reason": "Machine", "message": ""});
                approved.status = Some(serde_json::from_value(json!({"conditions": [condition]})).unwrap());
                let requests: Api<CertificateSigningRequest> = Api::all(self.as_operator.clone());
                let try_out = PostParams { dry_run: true, ..PostParams::default() };
                requests.replace_subresource("approval", &self.request.name_any(), &try_out, &approved).await.map(drop)
            }
            _ => panic!("nothing needs {right}"),
        }
    }
}

/// The words with which the API server refuses.
const fn refusal(verb: &str) -> &'static str {
    match verb.as_bytes() {
        b"create" => "cannot create resource",
        b"approve" => "user not permitted to approve requests with signerName \"kubernetes.io/kube-apiserver-client\"",
        _ => "is attempting to grant RBAC permissions not currently held",
    }
}

/// The operator's role for the cluster, with each verb in a rule of its own, and without one of them.
fn without(role: &ClusterRole, verb: &str, resource: &str) -> ClusterRole {
    let mut less = role.clone();
    let rules = role.rules.iter().flatten().flat_map(|rule| {
        let of_one = |name: &String| {
            let mut one = rule.clone();
            one.resources = Some(vec![name.clone()]);
            one.verbs.retain(|known| (known.as_str(), name.as_str()) != (verb, resource));
            one
        };
        rule.resources.iter().flatten().map(of_one).collect::<Vec<_>>()
    });
    less.rules = Some(rules.filter(|rule| !rule.verbs.is_empty()).collect());
    let count = |role: &ClusterRole| -> usize {
        role.rules.iter().flatten().map(|rule| rule.verbs.len() * rule.resources.iter().flatten().count()).sum()
    };
    assert_eq!(count(&less) + 1, count(role), "the role has no {verb} on {resource}");
    less
}

#[tokio::test]
async fn each_right_that_no_request_shows_is_needed() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let tried = Tried::prepare(&cluster, &bench).await;
    let roles: Api<ClusterRole> = Api::all(bench.admin.clone());
    let whole = roles.get(ROLE).await.unwrap();
    for right in INSIDE {
        let (verb, resource) = right.split_once(' ').unwrap();
        tried.try_out(right).await.unwrap_or_else(|error| panic!("with everything granted: {right}: {error}"));
        change(&roles, &without(&whole, verb, resource)).await;
        let refused = async {
            loop {
                match tried.try_out(right).await {
                    Ok(()) => sleep(Duration::from_millis(50)).await,
                    Err(kube::Error::Api(status)) => return status,
                    Err(error) => panic!("{right}: {error}"),
                }
            }
        };
        let refused = soon(&format!("a refusal without {right}"), refused).await;
        assert!(refused.code == 403 && refused.message.contains(refusal(verb)), "{right}: {}", refused.message);
        change(&roles, &whole).await;
        let again = async {
            while tried.try_out(right).await.is_err() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        soon(&format!("that {right} is granted again"), again).await;
    }
    cluster.forgive();
}

/// Puts the rules of a role in the place of those that are there.
async fn change(roles: &Api<ClusterRole>, role: &ClusterRole) {
    let rules = Patch::Merge(json!({"rules": role.rules}));
    roles.patch(ROLE, &PatchParams::default(), &rules).await.unwrap();
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
