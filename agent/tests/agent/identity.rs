//! Which machine may speak for a ClusterNode.

use hatrack_api::ClusterNode;
use http::Method;
use kube::ResourceExt;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::cluster::Bench;

const MACHINE: &str = "server-8gpu";

async fn create(bench: &Bench, spec: Value) -> ClusterNode {
    let object = json!({
        "apiVersion": "society.zeta.io/v1alpha1", "kind": "ClusterNode", "metadata": {"name": bench.name}, "spec": spec,
    });
    let node = serde_json::from_value(object).unwrap();
    bench.nodes().create(&PostParams::default(), &node).await.unwrap()
}

#[tokio::test]
async fn a_machine_under_anothers_name_writes_nothing_until_a_person_clears_it() {
    let bench = Bench::new(MACHINE).await;
    let before = create(&bench, json!({"class": "worker", "hardwareID": "another-machine"})).await;
    let proxy = bench.proxy();
    let setup = bench.through(&proxy);
    let agent = setup.start();
    agent.not_ready("spec.hardwareID is another-machine").await;
    bench.rename_system("Hatrack Test 2");
    agent.look_again();
    agent.says("asked to look again").await;
    agent.not_ready("spec.hardwareID is another-machine").await;
    assert_eq!(agent.stop().await.code(), Some(3));
    let written: Vec<_> = proxy.requests().into_iter().filter(|request| request.method != Method::GET).collect();
    assert!(written.is_empty(), "{written:#?}");
    assert_eq!(bench.node().await.resource_version(), before.resource_version());
    assert!(bench.leases().get_opt(&bench.name).await.unwrap().is_none());

    let agent = setup.start();
    agent.not_ready("spec.hardwareID is another-machine").await;
    bench.patch(json!({"spec": {"hardwareID": null}})).await;
    agent.ready().await;
    assert!(bench.node().await.spec.hardware_id.is_some_and(|id| id != "another-machine"));
    assert!(agent.stop().await.success());
}

#[tokio::test]
async fn an_object_made_by_a_person_is_pinned_and_otherwise_left_alone() {
    let bench = Bench::new(MACHINE).await;
    let before = create(&bench, json!({"class": "worker", "expects": {"gpus": 8}, "unschedulable": true})).await;
    let agent = bench.direct().start();
    agent.ready().await;
    let after = bench.node().await;
    let mut expected = before.spec;
    expected.hardware_id.clone_from(&after.spec.hardware_id);
    assert!(after.spec.hardware_id.is_some());
    assert_eq!(after.spec, expected);
    let ours = after.managed_fields().iter().filter(|entry| entry.manager.as_deref() == Some("hatrack-agent"));
    let spec: Vec<_> = ours.filter_map(|entry| entry.fields_v1.as_ref()?.0.get("f:spec").cloned()).collect();
    assert_eq!(spec, [json!({"f:hardwareID": {}})], "the agent owns the one field");
}

#[tokio::test]
async fn a_machine_that_loses_its_node_to_a_replacement_falls_silent() {
    let bench = Bench::new(MACHINE).await;
    let agent = bench.direct().start();
    agent.ready().await;
    bench.patch(json!({"spec": {"hardwareID": null}})).await;
    // The agent pins itself again, or the replacement is faster: try until it was.
    let taken = async {
        loop {
            let nodes = bench.nodes();
            let mut node = nodes.get(&bench.name).await.unwrap();
            node.spec.hardware_id = Some("replacement".to_owned());
            if nodes.replace(&bench.name, &PostParams::default(), &node).await.is_ok() {
                return;
            }
            bench.patch(json!({"spec": {"hardwareID": null}})).await;
        }
    };
    crate::soon("the replacement", taken).await;
    agent.not_ready("spec.hardwareID is replacement").await;
    let lease = bench.leases().get(&bench.name).await.unwrap();
    bench.rename_system("Hatrack Test 2");
    agent.look_again();
    agent.says("asked to look again").await;
    agent.not_ready("the Lease is not renewed").await;
    assert_eq!(bench.leases().get(&bench.name).await.unwrap(), lease);
    assert_eq!(agent.stop().await.code(), Some(3));
}
