//! The API server is restored from a backup: versions are counted from an earlier one again, and what was written since is gone.

use hatrack_api::HatBinding;
use hatrack_api::hat_binding::Phase;
use hatrack_testbed::timed;
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};

use crate::cluster::Cluster;

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

/// Where a binding is worn, with what and since when.
fn place(binding: &HatBinding) -> Value {
    let status = json!(binding.status);
    json!([status["nodeName"], status["devices"], status["boundAt"], status["transitions"]])
}
