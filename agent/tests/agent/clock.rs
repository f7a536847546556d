//! A wall clock that jumps, made by libfaketime in front of the C library.

use std::fs;
use std::path::PathBuf;

use hatrack_api::cluster_node::NodeLease;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;

use crate::cluster::{Bench, condition};
use crate::program::{Agent, Setup};

const MACHINE: &str = "server-8gpu";

/// Debian's place for it, below the folder of the architecture; package `faketime`.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap().map(|entry| entry.unwrap().path());
    let mut found = folders.map(|folder| folder.join("faketime/libfaketime.so.1")).filter(|file| file.exists());
    found.next().expect("libfaketime is installed (Debian: apt-get install faketime)")
}

/// A wall clock that is as far off as a file says, for one agent.
pub struct WallClock(PathBuf);

impl WallClock {
    /// It is right; `set` changes that, also while the agent runs.
    pub fn of(setup: &mut Setup) -> Self {
        let clock = Self(setup.folder.join("offset"));
        clock.set("+0");
        setup.environment = vec![
            ("LD_PRELOAD", library().display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", clock.0.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        clock
    }

    /// So far off, as `faketime` writes it: `+5h`, `-2m`, `-40y`.
    pub fn set(&self, offset: &str) {
        fs::write(&self.0, offset).unwrap();
    }
}

/// Waits until the agent knows that its wall clock is so many seconds ahead of the API server's.
pub async fn skewed(agent: &Agent, seconds: f64) {
    let skew = async {
        while (agent.metric("hatrack_agent_clock_skew_seconds").await - seconds).abs() >= 10.0 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    crate::soon("the skew", skew).await;
}

fn renewed(lease: &NodeLease) -> Timestamp {
    let MicroTime(time) = lease.spec.as_ref().unwrap().renew_time.clone().unwrap();
    time
}

#[tokio::test]
async fn a_clock_that_jumps_changes_nothing() {
    let bench = Bench::new(MACHINE).await;
    let mut setup = bench.direct();
    let clock = WallClock::of(&mut setup);
    let agent = setup.start();
    agent.ready().await;
    let before = bench.node().await;
    for (jump, seconds) in [("+5h", 18_000.0), ("-2m", -120.0)] {
        clock.set(jump);
        skewed(&agent, seconds).await;
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
