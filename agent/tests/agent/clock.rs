//! A wall clock that jumps, made by libfaketime in front of the C library.

use std::fs;
use std::path::PathBuf;

use hatrack_api::cluster_node::NodeLease;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::cluster::{Bench, condition};

const MACHINE: &str = "server-8gpu";

/// Debian's place for it, below the folder of the architecture; package `faketime`.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut found = folders.map(|folder| folder.join("faketime/libfaketime.so.1")).filter(|file| file.exists());
    found.next().expect("libfaketime is installed (Debian: apt-get install faketime)")
}

fn renewed(lease: &NodeLease) -> Timestamp {
    let MicroTime(time) = lease.spec.as_ref().unwrap().renew_time.clone().unwrap();
    time
}

#[tokio::test]
async fn a_clock_that_jumps_changes_nothing() {
    let bench = Bench::new(MACHINE).await;
    let mut setup = bench.direct();
    let offset = setup.folder.join("offset");
    fs::write(&offset, "+0").unwrap();
    setup.environment = vec![
        ("LD_PRELOAD", library().display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", offset.display().to_string()),
        ("FAKETIME_NO_CACHE", "1".to_owned()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
    ];
    let agent = setup.start();
    agent.ready().await;
    let before = bench.node().await;
    for (jump, seconds) in [("+5h", 18_000.0), ("-2m", -120.0)] {
        fs::write(&offset, jump).unwrap();
        let skew = async {
            loop {
                let skew = agent.metric("hatrack_agent_clock_skew_seconds").await;
                if (skew - seconds).abs() < 10.0 {
                    return;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        crate::soon("the jump", skew).await;
        let jumped = bench.leases().get(&bench.name).await.unwrap();
        for _ in 0..3 {
            let last = renewed(&bench.leases().get(&bench.name).await.unwrap());
            let lease = bench.lease_until("a renewal", |lease| renewed(lease) > last).await;
            let off = renewed(&lease).duration_since(Timestamp::now()).abs();
            assert!(off < SignedDuration::from_secs(60), "the renewal after {jump} is {off:?} off: {jumped:?}");
        }
        agent.ready().await;
        assert_eq!(bench.node().await, before, "after {jump}");
    }
    // A condition that changes has the API server's time, too.
    bench.patch(serde_json::json!({"spec": {"expects": {"gpus": 9}}})).await;
    let short = Some(("False".to_owned(), "DevicesMissing".to_owned()));
    let node = bench.node_until("the shortfall", |node| condition(node, "AsExpected") == short).await;
    let conditions = node.status.unwrap().conditions.unwrap();
    let changed = conditions.iter().find(|condition| condition.type_ == "AsExpected").unwrap();
    let off = changed.last_transition_time.0.duration_since(Timestamp::now()).abs();
    assert!(off < SignedDuration::from_secs(60), "{off:?}");
}
