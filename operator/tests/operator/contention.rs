//! Somebody writes an object faster than the operator does.

use std::time::Duration;

use hatrack_api::access::hat_role_name;
use hatrack_api::hat_binding::Phase;
use hatrack_api::{ClusterNode, HatBinding};
use hatrack_testbed::{FaultProxy, Matcher, soon, timed, unique};
use http::Method;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::task::JoinHandle;

use crate::cluster::{Bench, Cluster, breakable, until};
use crate::machine::{Machine, assigned, gpu};
use crate::placement::needs;
use crate::program::Setup;

/// Others who ask meanwhile.
const OTHERS: usize = 20;

/// How much later than everybody else's the operator's writes come: longer than any of theirs takes.
const LATE: Duration = Duration::from_millis(700);

/// Changes an annotation of an object without pause.
struct Scribbler(JoinHandle<()>);

impl Drop for Scribbler {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Scribbler {
    fn on<K>(api: Api<K>, object: &impl ResourceExt) -> Self
    where
        K: Resource + Clone + std::fmt::Debug + DeserializeOwned + Send + Sync + 'static,
        K::DynamicType: Send + Sync,
    {
        let name = object.name_any();
        Self(tokio::spawn(async move {
            for number in 0_u64.. {
                let change = Patch::Merge(json!({"metadata": {"annotations": {"scribble": number.to_string()}}}));
                // What the operator does meanwhile refuses none of these: they name no version.
                api.patch(&name, &PatchParams::default(), &change).await.unwrap();
            }
        }))
    }
}

/// Starts an operator whose writes of an object come late, by which every one of them is overtaken.
async fn slow_on(cluster: &Cluster, path: String) -> (FaultProxy, hatrack_testbed::Program) {
    cluster.forget_leader().await;
    let proxy = FaultProxy::start(&cluster.plane, &cluster.identity()).unwrap();
    proxy.delay(Matcher::new(Method::PATCH, path), LATE);
    let operator = Setup::new(&cluster.kubeconfig(proxy.url())).start(cluster.plane.folder());
    operator.ready().await;
    (proxy, operator)
}

/// Others ask, wear and have their authority.
async fn all_are_served(bench: &Bench) {
    let hat = bench.hat(json!({})).await;
    let mut bindings = Vec::new();
    for number in 0..OTHERS {
        bindings.push(bench.ask(&hat, &format!("sa-{number}")).await);
    }
    let roles: Api<RoleBinding> = Api::namespaced(bench.admin.clone(), &bench.namespace);
    for binding in &bindings {
        bench.phase(binding, Phase::Active).await;
        let name = hat_role_name(&hat, &binding.uid().unwrap());
        soon("the role binding", until(&roles, &name, |_| true)).await;
    }
}

#[tokio::test]
async fn a_request_that_is_changed_all_the_time_keeps_nobody_waiting() {
    let cluster = breakable().await;
    let (bench, others) = (Bench::in_cluster(&cluster).await, Bench::in_cluster(&cluster).await);
    let (_proxy, operator) = slow_on(&cluster, format!("/namespaces/{}/hatbindings/", bench.namespace)).await;
    let hat = bench.hat(json!({})).await;
    let restless = bench.ask(&hat, "ann").await;
    let scribbler = Scribbler::on::<HatBinding>(bench.bindings(), &restless);
    all_are_served(&others).await;
    operator.says("changed each time before it could be written: left alone for a while").await;
    drop(scribbler);
    timed("a request is not changed any more, it is Active", bench.phase(&restless, Phase::Active)).await;
    assert_eq!(bench.reasons(&restless).await, ["Admitted"]);
}

#[tokio::test]
async fn a_node_that_changes_all_the_time_keeps_nobody_waiting() {
    let cluster = breakable().await;
    let bench = Bench::in_cluster(&cluster).await;
    let model = unique("model");
    let machine = Machine::join(&bench.admin, json!([gpu("gpu-0", &model, "24Gi")])).await;
    let (_proxy, operator) = slow_on(&cluster, format!("/clusternodes/{}/status", machine.name)).await;
    machine.readiness("True", "LeaseRenewed").await;
    let node = machine.nodes().get(&machine.name).await.unwrap();
    let scribbler = Scribbler::on::<ClusterNode>(machine.nodes(), &node);
    let binding = bench.ask(&bench.hat(needs(&model, "24Gi")).await, "ann").await;
    bench.phase(&binding, Phase::Active).await;
    all_are_served(&bench).await;
    operator.says("changed each time before it could be written: left alone for a while").await;
    drop(scribbler);
    let uid = binding.uid().unwrap();
    let told = machine.until("the hat in its list", |node| assigned(node) == [uid.clone()]);
    timed("a node is not changed any more, it is told what it wears", told).await;
}
