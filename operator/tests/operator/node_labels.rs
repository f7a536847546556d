//! Labels of hats on Kubernetes' own Nodes.

use hatrack_api::hat_binding::Phase;
use hatrack_testbed::{soon, unique};
use k8s_openapi::api::core::v1::Node;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::Duration;

use crate::cluster::{Bench, until};
use crate::machine::{Machine, gpu};
use crate::refusal::Refusal;

const PREFIX: &str = "hat.node-restriction.kubernetes.io/";

/// A Node of Kubernetes.
async fn kubernetes_node(admin: &Client, name: &str) -> Api<Node> {
    let nodes: Api<Node> = Api::all(admin.clone());
    let node = serde_json::from_value(json!({"metadata": {"name": name, "labels": {"rack": "1"}}})).unwrap();
    nodes.create(&PostParams::default(), &node).await.unwrap();
    nodes
}

#[tokio::test]
async fn a_node_is_labelled_with_the_hats_that_are_active_there() {
    let (bench, _) = Bench::shared().await;
    let model = unique("model");
    let machine = Machine::join(&bench.admin, json!([gpu("gpu-0", &model, "24Gi")])).await;
    let nodes = kubernetes_node(&bench.admin, &machine.name).await;
    let selector = format!("device.attributes.model == '{model}'");
    let needs = json!({"devices": [{"name": "gpu", "class": "gpu", "selectors": [selector]}]});
    let hat = bench.hat(json!({"requirements": needs, "throttles": {"warmupSeconds": 1}})).await;
    let label = format!("{PREFIX}{hat}");
    let binding = bench.ask(&hat, "ann").await;
    bench.phase(&binding, Phase::Active).await;
    let has_it = |node: &Node| node.labels().contains_key(&label);
    let labelled = soon("the label", until(&nodes, &machine.name, has_it)).await;
    assert_eq!((labelled.labels()[&label].as_str(), labelled.labels()["rack"].as_str()), ("Active", "1"));
    bench.bindings().delete(&binding.name_any(), &DeleteParams::default()).await.unwrap();
    let gone = until(&nodes, &machine.name, |node| !has_it(node));
    assert_eq!(soon("the end of the label", gone).await.labels()["rack"], "1");
}

/// Lets nobody change one Node, as somebody's policy might.
async fn keep_node(admin: &Client, node: &str) -> Refusal {
    let matching = json!({"matchConstraints": {"resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
        "resources": ["nodes"], "resourceNames": [node], "operations": ["UPDATE"]}]}});
    let nodes: Api<Node> = Api::all(admin.clone());
    let dry_run = PatchParams { dry_run: true, ..PatchParams::default() };
    let change = Patch::Merge(json!({"metadata": {"labels": {"rack": "2"}}}));
    let attempt = async || nodes.patch(node, &dry_run, &change).await;
    // Not `Forbidden`: where the metadata alone is asked for, the audit log has no words that tell it from a missing right.
    Refusal::begins(admin, ("Invalid", "this Node is somebody's own"), matching, attempt).await
}

#[tokio::test]
async fn a_node_that_somebody_refuses_keeps_no_other_from_its_labels() {
    let (bench, operator) = Bench::shared().await;
    let mut machines = vec![];
    for _ in 0..3 {
        let model = unique("model");
        machines.push((Machine::join(&bench.admin, json!([gpu("gpu-0", &model, "24Gi")])).await, model));
    }
    machines.sort_by(|(a, _), (b, _)| a.name.cmp(&b.name));
    let nodes: Api<Node> = Api::all(bench.admin.clone());
    for (machine, _) in &machines {
        kubernetes_node(&bench.admin, &machine.name).await;
    }
    let refused = &machines[0].0.name;
    let refusal = keep_node(&bench.admin, refused).await;
    let mut labels = vec![];
    for (_, model) in &machines {
        let selector = format!("device.attributes.model == '{model}'");
        let needs = json!({"devices": [{"name": "gpu", "class": "gpu", "selectors": [selector]}]});
        let hat = bench.hat(json!({"requirements": needs})).await;
        bench.phase(&bench.ask(&hat, "ann").await, Phase::Active).await;
        labels.push(format!("{PREFIX}{hat}"));
    }
    operator.says("the labels of a Node are refused: left alone for a while").await;
    for ((machine, _), label) in machines.iter().zip(&labels).skip(1) {
        soon("the label", until(&nodes, &machine.name, |node| node.labels().contains_key(label))).await;
    }
    assert!(!nodes.get(refused).await.unwrap().labels().contains_key(&labels[0]));
    refusal.ends().await;
    soon("the label", until(&nodes, refused, |node| node.labels().contains_key(&labels[0]))).await;
}

#[tokio::test]
async fn a_node_cannot_give_itself_a_hat() {
    let (bench, cluster) = Bench::with_cluster().await;
    let name = unique("worker");
    kubernetes_node(&bench.admin, &name).await;
    let user = format!("system:node:{name}");
    let identity = cluster.plane.client_certificate(&user, &["system:nodes"], Duration::from_hours(1)).unwrap();
    let kubelet: Api<Node> = Api::all(cluster.plane.client_for(&identity).await.unwrap());
    let label = |key: &str| Patch::Merge(json!({"metadata": {"labels": {key: "Active"}}}));
    kubelet.patch(&name, &PatchParams::default(), &label("example.org/rack")).await.unwrap();
    let own = kubelet.patch(&name, &PatchParams::default(), &label(&format!("{PREFIX}executor"))).await.unwrap_err();
    let kube::Error::Api(refusal) = own else { panic!("{own}") };
    assert_eq!(refusal.code, 403);
    assert!(
        refusal.message.contains("is not allowed to modify labels: hat.node-restriction.kubernetes.io/executor"),
        "{}",
        refusal.message
    );
}
