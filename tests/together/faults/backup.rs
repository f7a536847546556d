//! The API server is restored from a backup: versions are counted from an earlier one again, and what was written since is gone.

use hatrack_api::HatBinding;
use hatrack_api::hat_binding::Phase;
use hatrack_testbed::{Server, timed};
use k8s_openapi::api::coordination::v1::Lease;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::cluster::{Cluster, until};

#[tokio::test]
async fn what_a_backup_holds_is_the_truth_again_and_each_device_has_one_wearer() {
    let cluster = Cluster::start().await;
    cluster.rename_system("Before the backup");
    cluster.is_true("Before the backup").await;
    let (kept, taken) = (cluster.wear("kept").await, cluster.wear("taken").await);
    cluster.wears(&[&kept, &taken]).await;
    let backup = cluster.plane.back_up().await.unwrap();

    // What nobody can know any more.
    cluster.is_true("Before the backup").await;
    cluster.bindings().delete(&taken.name_any(), &DeleteParams::default()).await.unwrap();
    cluster.wears(&[&kept]).await;
    let mut later = Vec::new();
    for _ in 0..7 {
        later.push(cluster.wear("later").await);
    }
    let all: Vec<_> = later.iter().chain([&kept]).collect();
    cluster.wears(&all).await;
    cluster.person_writes(json!({"metadata": {"labels": {"written": "later"}}})).await;
    cluster.rename_system("After the backup");
    cluster.is_true("After the backup").await;

    cluster.plane.restore(&backup).await.unwrap();
    let is_true = async {
        cluster.agent.says("the history of the API server has gone back").await;
        cluster.operator.says("the history of the API server has gone back").await;
        cluster.is_true("After the backup").await
    };
    let node = timed("a backup is restored, the object is true", is_true).await;
    assert!(!node.labels().contains_key("written"));
    for binding in [&kept, &taken] {
        let restored = cluster.phase(binding, Phase::Active).await;
        assert_eq!(place(&restored), place(binding));
        assert_eq!(cluster.reasons(binding).await, ["Admitted"]);
    }
    cluster.wears(&[&kept, &taken]).await;
    for binding in &later {
        assert!(cluster.bindings().get_opt(&binding.name_any()).await.unwrap().is_none());
        assert_eq!(cluster.reasons(binding).await, [] as [String; 0]);
    }

    // Work goes on: what is asked for is given, recorded and announced, what is released is free.
    let new = cluster.wear("new").await;
    cluster.is_announced(&new).await;
    cluster.nothing_is_twice().await;
    cluster.bindings().delete(&taken.name_any(), &DeleteParams::default()).await.unwrap();
    cluster.wears(&[&kept, &new]).await;
    cluster.nothing_is_twice().await;
}

#[tokio::test]
async fn etcd_that_is_restored_under_a_running_api_server_is_the_truth_when_that_is_restarted() {
    let cluster = Cluster::start().await;
    let kept = cluster.wear("kept").await;
    cluster.wears(&[&kept]).await;
    let backup = cluster.plane.back_up().await.unwrap();
    let lost = cluster.wear("lost").await;
    cluster.wears(&[&kept, &lost]).await;
    cluster.person_writes(json!({"metadata": {"labels": {"written": "later"}}})).await;
    let before = cluster.is_true("NixOS 26.05 (Yarara)").await;

    let renewed = |lease: &Lease| lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
    let last = renewed(&cluster.leases().get(&cluster.name).await.unwrap());

    // The API server answers out of two times, and agent and operator write what they make of it.
    cluster.plane.restore_etcd(&backup).await.unwrap();
    let is_renewed = |lease: &Lease| renewed(lease) > last;
    until(&cluster.leases(), &cluster.name, "the agent renews its Lease in it", is_renewed).await;
    // No list is older than what was known any more: the object alone tells that the history has gone back.
    cluster.write_past(&before).await;
    cluster.rename_system("Between two times");

    for server in [Server::ApiServer, Server::ControllerManager] {
        cluster.plane.restart(server).await.unwrap();
    }
    let node =
        timed("true after the API server over a restored etcd was restarted", cluster.is_true("Between two times"))
            .await;
    assert!(!node.labels().contains_key("written"));
    assert!(cluster.bindings().get_opt(&lost.name_any()).await.unwrap().is_none());
    cluster.wears(&[&kept]).await;
    let new = cluster.wear("new").await;
    cluster.wears(&[&kept, &new]).await;
    cluster.nothing_is_twice().await;
}

/// Where a binding is worn, with what and since when.
fn place(binding: &HatBinding) -> Value {
    let status = json!(binding.status);
    json!([status["nodeName"], status["devices"], status["boundAt"], status["transitions"]])
}
