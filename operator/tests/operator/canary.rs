//! Nothing is granted before the operator's fence was seen to refuse what it has to.

use std::path::Path;

use hatrack_api::access::hat_role_name;
use hatrack_api::hat_binding::Phase;
use hatrack_testbed::{Options, soon, unique};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::{Api, ResourceExt};
use serde_json::json;

use crate::applicant::{ask, bearer, is_undecided, request, token, verdict};
use crate::cluster::{Bench, Cluster, MANIFESTS, until};

#[tokio::test]
async fn without_its_fence_the_operator_grants_nothing_and_says_why() {
    let cluster = Cluster::empty(Options::default()).await;
    let manifests = Path::new(MANIFESTS);
    for part in ["namespace.yaml", "crds", "hats/policy.yaml", "rbac"] {
        cluster.plane.install(&manifests.join(part)).await.unwrap();
    }
    cluster.impatient().await;
    let operator = cluster.operator().start(cluster.plane.folder());
    let bench = Bench::in_cluster(&cluster).await;
    let hat = bench.hat(json!({})).await;
    let binding = bench.ask(&hat, "ann").await;
    bench.phase(&binding, Phase::Active).await;
    let why = operator.not_ready("no authority is granted").await;
    assert!(why.contains("the fence does not refuse the operator a role that is no grant: it was let pass"), "{why}");
    operator.says("the operator's fence does not hold: no authority is granted").await;
    let newcomer = unique("newcomer");
    let bearer = bearer(&cluster.plane, &token(&cluster.plane, &newcomer).await).await;
    let asked = ask(&bearer, request(&newcomer, "A1")).await;
    let line = operator.says("a request for a certificate waits").await;
    assert!(line["why"].as_str().unwrap().starts_with("no authority is given: the fence does not refuse"), "{line}");
    assert!(is_undecided(&bench.admin, &asked).await);
    let name = hat_role_name(&hat, &binding.uid().unwrap());
    let bindings: Api<RoleBinding> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    assert!(bindings.get_opt(&name).await.unwrap().is_none());
    assert!(operator.metric("hatrack_operator_actions_total{action=\"grant\",outcome=\"withheld\"}").await >= 1.0);
    cluster.plane.install(manifests).await.unwrap();
    soon("the role binding", until(&bindings, &name, |_| true)).await;
    operator.ready().await;
    assert_eq!(verdict(&bench.admin, &asked).await.0, "Approved");
    assert!(operator.metric("hatrack_operator_fence_holds").await > 0.0);
}
