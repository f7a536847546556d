//! Servers that are killed and started again on what they hold.

use hatrack_testbed::{Server, timed};
use tokio::time::{Duration, sleep};

use crate::cluster::{Cluster, GRACE};

#[tokio::test]
async fn servers_that_are_killed_and_started_again_lose_nothing() {
    let cluster = Cluster::start().await;
    let worn = cluster.wear("before").await;
    cluster.wears(&[&worn]).await;
    let mut all = vec![worn];
    for (number, killed) in
        [&[Server::ApiServer][..], &[Server::Etcd], &[Server::ApiServer, Server::Etcd]].into_iter().enumerate()
    {
        for server in killed {
            cluster.plane.kill(*server).unwrap();
        }
        let system = format!("Seen while servers were away {number}");
        cluster.rename_system(&system);
        if killed.contains(&Server::ApiServer) {
            cluster.agent.not_ready("cannot be reached").await;
            cluster.operator.not_ready("are not watched").await;
        }
        for server in killed.iter().rev() {
            cluster.plane.start(*server).await.unwrap();
        }
        cluster.plane.ready().await.unwrap();
        timed(&format!("{killed:?} killed and there again, the object is true"), cluster.is_true(&system)).await;
        all.push(cluster.wear("after").await);
        cluster.wears(&all.iter().collect::<Vec<_>>()).await;
        cluster.nothing_is_twice().await;
    }
    for binding in &all {
        assert_eq!(cluster.reasons(binding).await, ["Admitted"]);
    }
}

#[tokio::test]
async fn an_outage_longer_than_the_grace_gives_no_node_up_that_comes_back() {
    let cluster = Cluster::start().await;
    let worn = cluster.wear("ann").await;
    cluster.wears(&[&worn]).await;
    cluster.plane.kill(Server::ApiServer).unwrap();
    // As long as it takes for every machine to end its hats by itself, and for the operator to count on it.
    sleep(Duration::from_secs(GRACE + 5)).await;
    cluster.plane.start(Server::ApiServer).await.unwrap();
    timed(
        "the API server is there again after a long time, the object is true",
        cluster.is_true("NixOS 26.05 (Yarara)"),
    )
    .await;
    let next = cluster.wear("bob").await;
    cluster.wears(&[&worn, &next]).await;
    assert_eq!(cluster.reasons(&worn).await, ["Admitted"], "nobody was silent: nobody could be heard");
    let lease = cluster.leases().get(&cluster.name).await.unwrap().spec.unwrap();
    assert_eq!(lease.lease_transitions.unwrap_or_default(), 0, "and no node was fenced");
}
