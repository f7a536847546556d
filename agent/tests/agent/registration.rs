//! What the cluster sees of a machine, and what it costs.

use hatrack_api::cluster_node::condition as kind;
use hatrack_api::{CLASS_LABEL, ClusterNode, ClusterNodeStatus};
use hatrack_fixtures::uevent;
use hatrack_testbed::Matcher;
use http::Method;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::{Duration, sleep};

use crate::cluster::{Bench, condition, system_name};
use crate::soon;

const MACHINE: &str = "server-8gpu";

#[tokio::test]
async fn a_machine_becomes_a_node_with_a_lease() {
    let bench = Bench::new(MACHINE).await;
    let mut setup = bench.direct();
    "expects = { gpus = 8 }\nprofile = \"home-business\"\n".clone_into(&mut setup.top);
    let agent = setup.start();
    agent.ready().await;

    let node = bench.node().await;
    assert_eq!(node.labels().get(CLASS_LABEL).map(String::as_str), Some("worker"));
    assert_eq!(json!(node.spec.expects), json!({"gpus": 8}));
    assert_eq!(json!(node.spec.profile), "home-business");
    let status = node.status.as_ref().unwrap();
    assert_eq!(status.observed_generation, Some(1));
    assert_eq!(status.devices.as_ref().unwrap().len(), 8);
    assert_eq!(status.summary.as_ref().unwrap().gpus.as_deref(), Some("8/8"));
    assert_eq!(condition(&node, kind::AS_EXPECTED), Some(("True".to_owned(), "AsExpected".to_owned())));
    let managers = node.managed_fields();
    assert!(managers.iter().all(|entry| entry.manager.as_deref() == Some("hatrack-agent")), "{managers:?}");

    let lease = bench.leases().get(&bench.name).await.unwrap().spec.unwrap();
    assert_eq!(lease.holder_identity, node.spec.hardware_id);
    assert_eq!(lease.lease_duration_seconds, Some(2));
    assert!(lease.acquire_time.is_some() && lease.renew_time.is_some());

    assert_eq!(agent.get("/healthz").await, (200, "ok\n".to_owned()));
    assert_eq!(agent.get("/nothing").await.0, 404);
    assert!((agent.metric("hatrack_agent_registered").await - 1.0).abs() < f64::EPSILON);
}

#[tokio::test]
async fn a_registration_is_two_writes_and_rest_is_the_lease_alone() {
    let bench = Bench::new(MACHINE).await;
    let proxy = bench.proxy();
    let agent = bench.through(&proxy).start();
    agent.ready().await;
    let renewals = Matcher::new(Method::PUT, "/leases/");
    soon("ten renewals", proxy.answered(&renewals, 10)).await;

    let requests = proxy.requests();
    let shown = |method: Method, part: &str| {
        requests.iter().filter(|request| request.method == method && request.path.contains(part)).count()
    };
    assert_eq!(shown(Method::PATCH, "/clusternodes/"), 2, "{requests:#?}");
    assert_eq!(shown(Method::GET, "/clusternodes"), 2, "a list and a watch: {requests:#?}");
    // Read ahead, and anew where registering took longer than a period of the Lease.
    let reads = shown(Method::GET, "/leases/");
    assert!((1..=2).contains(&reads), "{requests:#?}");
    assert_eq!(shown(Method::PATCH, "/leases/"), 1, "{requests:#?}");
    let others = requests.iter().filter(|request| request.method != Method::PUT).count();
    assert_eq!(others, 5 + reads, "{requests:#?}");
}

#[tokio::test]
async fn a_restart_changes_nothing_in_the_object() {
    let bench = Bench::new(MACHINE).await;
    let setup = bench.direct();
    let agent = setup.start();
    agent.ready().await;
    assert!(agent.stop().await.success());
    let before = bench.node().await;

    let agent = setup.start();
    agent.ready().await;
    assert!(agent.stop().await.success());
    assert_eq!(bench.node().await, before, "with the state file");

    std::fs::remove_dir_all(setup.state_dir()).unwrap();
    let agent = setup.start();
    agent.ready().await;
    assert_eq!(bench.node().await, before, "without the state file");
}

#[tokio::test]
async fn a_hundred_restarts_in_the_middle_of_their_work_change_nothing_in_the_object() {
    restarts(100).await;
}

#[tokio::test]
#[ignore = "takes minutes: cargo test --workspace --test agent -- --ignored a_thousand"]
async fn a_thousand_restarts_in_the_middle_of_their_work_change_nothing_in_the_object() {
    restarts(1000).await;
}

/// Kills the agent and starts it again, so many times: now when it is ready, now at any moment before.
async fn restarts(times: usize) {
    let bench = Bench::new(MACHINE).await;
    let setup = bench.direct();
    let agent = setup.start();
    agent.ready().await;
    bench
        .patch(json!({"metadata": {"labels": {"rack": "7"}, "annotations": {"note": "mind the step"}},
        "spec": {"unschedulable": true, "expects": {"gpus": 8}}}))
        .await;
    let before = bench.node_until("seen", |node| node.status.as_ref().unwrap().observed_generation == Some(2)).await;
    agent.signal(Signal::SIGKILL);
    agent.end().await;
    let seed = fastrand::u64(..);
    let mut random = fastrand::Rng::with_seed(seed);
    for number in 0..times {
        let agent = setup.start();
        if number % 2 == 0 {
            agent.ready().await;
        } else {
            sleep(Duration::from_millis(random.u64(0..100))).await;
        }
        agent.signal(Signal::SIGKILL);
        agent.end().await;
    }
    assert_eq!(bench.node().await, before, "restarted at the moments of seed {seed}");
}

#[tokio::test]
async fn what_changes_in_the_machine_changes_in_the_object() {
    let bench = Bench::new(MACHINE).await;
    let agent = bench.direct().start();
    agent.ready().await;
    bench.rename_system("Hatrack Test 2");
    agent.look_again();
    let node = bench.node_until("the new name", |node| system_name(node) == Some("Hatrack Test 2")).await;
    assert_eq!(node.status.unwrap().devices.unwrap().len(), 8);
}

#[tokio::test]
async fn a_uevent_of_the_kernel_changes_the_object() {
    let bench = Bench::new(MACHINE).await;
    let agent = bench.direct().start();
    agent.ready().await;
    bench.rename_system("Hatrack Test 3");
    if uevent::is_announced(uevent::Device::Bridge) {
        bench.node_until("seen after the uevent", |node| system_name(node) == Some("Hatrack Test 3")).await;
    }
}

#[tokio::test]
async fn what_no_event_tells_of_is_seen_by_the_full_pass() {
    let bench = Bench::new(MACHINE).await;
    let mut setup = bench.direct();
    setup.full_pass = "200ms";
    let agent = setup.start();
    agent.ready().await;
    bench.rename_system("Hatrack Test 4");
    bench.node_until("seen by the pass", |node| system_name(node) == Some("Hatrack Test 4")).await;
    agent.looked_for("pass", 1.0).await;
}

#[tokio::test]
async fn a_machine_with_more_than_an_object_has_room_for_shows_what_fits_and_says_so() {
    const DISKS: u8 = 250;
    let bench = Bench::new(MACHINE).await;
    for number in 0..DISKS {
        // sdaa, sdab, …, as Linux counts on after sdz.
        let disk = format!("sd{}{}", char::from(b'a' + number / 26), char::from(b'a' + number % 26));
        let device = format!("sys/devices/pci0000:00/0000:00:1f.2/{number}/block/{disk}");
        bench.machine.write(&format!("{device}/size"), "976773168\n").unwrap();
        bench.machine.link(&format!("sys/block/{disk}"), &format!("../{}", device.trim_start_matches("sys/"))).unwrap();
    }
    let agent = bench.direct().start();
    let line = agent.says("disks, and an object has room for 128: the last ones by name are left out").await;
    assert_eq!((line["level"].as_str(), line["about"].as_str()), (Some("WARN"), Some("Storage")), "{line}");
    agent.ready().await;
    let storage = bench.node().await.status.unwrap().storage.unwrap();
    assert_eq!((storage.len(), storage[0].name.as_str()), (128, "nvme0n1"));
    agent.look_again();
    agent.looked(1.0).await;
    assert_eq!(agent.lines().iter().filter(|line| line["about"] == "Storage").count(), 1, "said once");
}

#[tokio::test]
async fn an_object_that_a_person_deletes_comes_back() {
    let bench = Bench::new(MACHINE).await;
    let agent = bench.direct().start();
    agent.ready().await;
    let before = bench.node().await;
    bench.nodes().delete(&bench.name, &DeleteParams::default()).await.unwrap();
    let back = |node: &hatrack_api::ClusterNode| node.uid() != before.uid() && node.status.is_some();
    let after = bench.node_until("the node is back", back).await;
    assert_eq!(after.spec, before.spec);
    assert_eq!(after.status.unwrap().devices, before.status.unwrap().devices);
}

#[tokio::test]
async fn spec_belongs_to_people() {
    let bench = Bench::new(MACHINE).await;
    let agent = bench.direct().start();
    agent.ready().await;
    bench.patch(json!({"spec": {"expects": {"gpus": 9}, "unschedulable": true}})).await;
    let short = Some(("False".to_owned(), "DevicesMissing".to_owned()));
    let node = bench.node_until("the shortfall", |node| condition(node, kind::AS_EXPECTED) == short).await;
    assert_eq!(node.status.as_ref().unwrap().observed_generation, Some(2));

    bench.patch(json!({"spec": {"class": "gpu-worker"}})).await;
    let differs = Some(("False".to_owned(), "SpecDiffers".to_owned()));
    let node = bench.node_until("the difference", |node| condition(node, kind::AS_EXPECTED) == differs).await;
    assert_eq!(node.spec.class.as_str(), "gpu-worker");
    assert_eq!(node.spec.unschedulable, Some(true), "a cordon stands");

    assert!(agent.stop().await.success());
    let agent = bench.direct().start();
    agent.ready().await;
    assert_eq!(bench.node().await.metadata.resource_version, node.metadata.resource_version, "also over a restart");
}

#[tokio::test]
async fn what_the_operator_writes_stands() {
    let bench = Bench::new(MACHINE).await;
    let agent = bench.direct().start();
    agent.ready().await;
    let hats = json!([{"binding": "u", "name": "repair", "wearer": "spiffe://a/ns/b/sa/c", "phase": "Active"}]);
    let ready = json!({
        "type": "Ready", "status": "True", "reason": "Renewed", "message": "",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let status = json!({
        "apiVersion": "society.zeta.io/v1alpha1", "kind": "ClusterNode", "metadata": {"name": bench.name},
        "status": {"hats": hats, "summary": {"hats": "repair"}, "conditions": [ready]},
    });
    let operator = PatchParams::apply("hatrack-operator");
    bench.nodes_as_operator().await.patch_status(&bench.name, &operator, &Patch::Apply(status)).await.unwrap();
    bench.rename_system("Hatrack Test 2");
    agent.look_again();
    let node = bench.node_until("the new name", |node| system_name(node) == Some("Hatrack Test 2")).await;
    assert_eq!(condition(&node, kind::READY), Some(("True".to_owned(), "Renewed".to_owned())));
    let status = node.status.clone().unwrap();
    assert_eq!(status.hats.unwrap()[0].name, "repair");
    assert_eq!(status.summary.unwrap().hats.as_deref(), Some("repair"));

    assert!(agent.stop().await.success());
    let agent = bench.direct().start();
    agent.ready().await;
    // What the agent says of the hat in `worn` is its own, and has tests of its own.
    let stands = |node: ClusterNode| ClusterNodeStatus { worn: None, ..node.status.unwrap() };
    assert_eq!(stands(bench.node().await), stands(node), "also over a restart");
}
