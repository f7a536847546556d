//! Hats, worn by units of a real service manager.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use hatrack_api::ClusterNode;
use hatrack_api::cluster_node::{WornHat, WornState};
use hatrack_testbed::{Matcher, Response, unique};
use http::{Method, StatusCode};
use jiff::{SignedDuration, Timestamp};
use kube::api::{Patch, PatchParams};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::cluster::Bench;
use crate::manager::Manager;
use crate::program::Setup;
use crate::soon;

const MACHINE: &str = "server-8gpu";
const WEARER: &str = "spiffe://cluster.local/ns/lab/sa/worker";

/// A hat with one service, on one machine.
struct Dressing {
    bench: Bench,
    manager: Manager,
    hat: String,
}

impl Dressing {
    /// `service` is what stands in the section [Service] beside the environment.
    async fn new(service: &str) -> Self {
        let dressing = Self { bench: Bench::new(MACHINE).await, manager: Manager::start().await, hat: unique("hat") };
        let unit = format!(
            "[Unit]\nPartOf=hat@{hat}.target\n[Service]\nEnvironmentFile={folder}/{hat}/*.env\nTimeoutStopSec=60\n{service}\n",
            hat = dressing.hat,
            folder = dressing.folder().display(),
        );
        dressing.manager.unit(&dressing.service(), &unit);
        dressing.manager.enable(&dressing.hat, &dressing.service());
        dressing
    }

    async fn sleeping() -> Self {
        Self::new("ExecStart=/bin/sleep 1000").await
    }

    fn folder(&self) -> PathBuf {
        self.bench.setup().folder.join("hats")
    }

    fn service(&self) -> String {
        format!("{}-work.service", self.hat)
    }

    fn target(&self) -> String {
        format!("hat@{}.target", self.hat)
    }

    fn setup(&self, mut setup: Setup) -> Setup {
        fs::create_dir_all(self.folder()).unwrap();
        _ = write!(
            setup.tables,
            "[wear]\nfolder = \"{}\"\nbus = \"{}\"\nfence-wait = \"200ms\"\nslack = \"200ms\"\n",
            self.folder().display(),
            self.manager.bus()
        );
        setup
    }

    fn entry(&self, binding: &str) -> Value {
        json!({"binding": binding, "name": self.hat, "wearer": WEARER, "phase": "Active"})
    }

    /// Does what the operator does.
    async fn assign(&self, hats: &[Value]) {
        let patch = Patch::Merge(json!({"status": {"hats": hats}}));
        let nodes = self.bench.nodes_as_operator().await;
        nodes.patch_status(&self.bench.name, &PatchParams::default(), &patch).await.unwrap();
    }

    async fn worn(&self, binding: &str, state: WornState) -> WornHat {
        let found = |node: &ClusterNode| worn(node, binding).filter(|worn| worn.state == state);
        let node = self.bench.node_until(&format!("{binding} {state:?}"), |node| found(node).is_some()).await;
        found(&node).unwrap()
    }

    fn pid(&self) -> String {
        self.manager.property(&self.service(), "MainPID")
    }
}

fn worn(node: &ClusterNode, binding: &str) -> Option<WornHat> {
    node.status.as_ref()?.worn.as_ref()?.iter().find(|worn| worn.binding == binding).cloned()
}

async fn until(what: &str, wanted: impl Fn() -> bool) {
    let polled = async {
        while !wanted() {
            sleep(Duration::from_millis(20)).await;
        }
    };
    soon(what, polled).await;
}

#[tokio::test]
async fn a_service_sees_what_it_has_and_its_end_is_told_when_it_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let (seen, gate) = (folder.path().join("environment"), folder.path().join("gate"));
    let dressing = Dressing::new(&format!(
        "ExecStart=/bin/sh -c 'env > {seen}.new && mv {seen}.new {seen}; exec sleep 1000'\n\
         ExecStop=/bin/sh -c 'while [ ! -e {gate} ]; do sleep 0.02; done'",
        seen = seen.display(),
        gate = gate.display()
    ))
    .await;
    let agent = dressing.setup(dressing.bench.direct()).start();
    agent.ready().await;
    let device = dressing.bench.node().await.status.unwrap().devices.unwrap()[0].clone();
    let mut entry = dressing.entry("binding-1");
    entry["devices"] = json!([device.name]);
    dressing.assign(&[entry.clone()]).await;
    dressing.worn("binding-1", WornState::Running).await;
    until("the environment", || seen.exists()).await;
    let environment = fs::read_to_string(&seen).unwrap();
    let uuid = device.attributes["uuid"].to_string();
    for line in [
        format!("HATRACK_HAT={}", dressing.hat),
        "HATRACK_BINDING=binding-1".to_owned(),
        format!("HATRACK_WEARER={WEARER}"),
        "HATRACK_FENCING_TOKEN=0".to_owned(),
        format!("HATRACK_DEVICES={}", device.name),
        format!("NVIDIA_VISIBLE_DEVICES={uuid}"),
        format!("HATRACK_DEVICE_NODES={}", device.nodes.join(" ")),
    ] {
        assert!(environment.lines().any(|found| found == line), "no `{line}` in:\n{environment}");
    }
    assert!((agent.metric("hatrack_agent_hats{state=\"Running\"}").await - 1.0).abs() < f64::EPSILON);
    let file = dressing.folder().join(&dressing.hat).join("binding-1.json");
    let document: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(document["devices"][0]["name"], json!(device.name));
    entry["phase"] = json!("Released");
    dressing.assign(&[entry]).await;
    let stopping = |node: &ClusterNode| {
        worn(node, "binding-1")
            .is_some_and(|worn| worn.state == WornState::Stopping && worn.message.contains(&dressing.service()))
    };
    dressing.bench.node_until("what is waited for", stopping).await;
    assert!(file.exists(), "a service that stops can still read it");
    fs::write(&gate, "").unwrap();
    dressing.worn("binding-1", WornState::Stopped).await;
    assert_eq!(dressing.manager.property(&dressing.service(), "ActiveState"), "inactive");
    until("the end of its files", || !file.exists()).await;
    dressing.assign(&[]).await;
    dressing.bench.node_until("nothing", |node| worn(node, "binding-1").is_none()).await;
}

#[tokio::test]
async fn a_device_has_one_wearer_whatever_the_object_says() {
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    let stop = format!("ExecStop=/bin/sh -c 'while [ ! -e {} ]; do sleep 0.02; done'", gate.display());
    let dressing = Dressing::new(&format!("ExecStart=/bin/sleep 1000\n{stop}")).await;
    let agent = dressing.setup(dressing.bench.direct()).start();
    agent.ready().await;
    let device = dressing.bench.node().await.status.unwrap().devices.unwrap()[0].name.clone();
    let mut first = dressing.entry("first");
    first["devices"] = json!([device]);
    dressing.assign(&[first.clone()]).await;
    dressing.worn("first", WornState::Running).await;
    // As after a restore from a backup in which the first binding has not been placed yet.
    let mut second = first;
    (second["binding"], second["name"]) = (json!("second"), json!(unique("other")));
    dressing.assign(&[second]).await;
    dressing.worn("first", WornState::Stopping).await;
    let waiting = dressing.worn("second", WornState::Starting).await;
    assert_eq!(waiting.message, "waiting for another hat to give its devices back");
    fs::write(&gate, "").unwrap();
    dressing.worn("second", WornState::Running).await;
    assert_eq!(dressing.manager.property(&dressing.service(), "ActiveState"), "inactive");
}

#[tokio::test]
async fn a_hat_without_a_term_ends_without_the_api_and_begins_anew_with_it() {
    let dressing = Dressing::sleeping().await;
    let proxy = dressing.bench.proxy();
    let agent = dressing.setup(dressing.bench.through(&proxy)).start();
    agent.ready().await;
    let mut entry = dressing.entry("b");
    entry["graceSeconds"] = json!(3);
    dressing.assign(&[entry]).await;
    dressing.worn("b", WornState::Running).await;
    proxy.cut().await;
    dressing.manager.until(&dressing.service(), "inactive").await;
    proxy.restore().unwrap();
    dressing.manager.until(&dressing.service(), "active").await;
    dressing.worn("b", WornState::Running).await;
}

#[tokio::test]
async fn a_term_ends_without_the_api() {
    let dressing = Dressing::sleeping().await;
    let proxy = dressing.bench.proxy();
    let agent = dressing.setup(dressing.bench.through(&proxy)).start();
    agent.ready().await;
    let mut entry = dressing.entry("b");
    entry["expiresAt"] = json!(Timestamp::now().checked_add(SignedDuration::from_secs(12)).unwrap().to_string());
    dressing.assign(&[entry]).await;
    dressing.manager.until(&dressing.service(), "active").await;
    proxy.cut().await;
    dressing.manager.until(&dressing.service(), "inactive").await;
    proxy.restore().unwrap();
    let ended = dressing.worn("b", WornState::Failed).await;
    assert!(ended.message.contains("its term is over"), "the operator alone ends it for good: {ended:?}");
}

#[tokio::test]
async fn a_fence_ends_every_hat_before_the_lease_is_renewed() {
    let folder = tempfile::tempdir().unwrap();
    let gate = folder.path().join("gate");
    let stop = format!("ExecStop=/bin/sh -c 'while [ ! -e {} ]; do sleep 0.02; done'", gate.display());
    let dressing = Dressing::new(&format!("ExecStart=/bin/sleep 1000\n{stop}")).await;
    let agent = dressing.setup(dressing.bench.direct()).start();
    agent.ready().await;
    dressing.assign(&[dressing.entry("b")]).await;
    dressing.worn("b", WornState::Running).await;
    let fence = Patch::Merge(json!({"spec": {"leaseTransitions": 3}}));
    let fenced = dressing.bench.leases().patch(&dressing.bench.name, &PatchParams::default(), &fence).await.unwrap();
    dressing.manager.until(&dressing.service(), "deactivating").await;
    agent.not_ready("the Lease is not renewed").await;
    let still = dressing.bench.leases().get(&dressing.bench.name).await.unwrap();
    assert_eq!(still.spec, fenced.spec, "no renewal while a hat runs that the operator gave away");
    fs::write(&gate, "").unwrap();
    dressing.bench.lease_until("a renewal", |lease| lease.spec != fenced.spec).await;
    // The operator has left the hat here: it begins anew, with the new token.
    dressing.worn("b", WornState::Running).await;
    let file = dressing.folder().join(&dressing.hat).join("b.env");
    assert!(fs::read_to_string(file).unwrap().contains("HATRACK_FENCING_TOKEN=\"3\""));
}

#[tokio::test]
async fn an_agent_that_is_killed_or_stopped_leaves_its_hats_and_finds_them() {
    let dressing = Dressing::sleeping().await;
    let setup = dressing.setup(dressing.bench.direct());
    let agent = setup.start();
    agent.ready().await;
    dressing.assign(&[dressing.entry("b")]).await;
    dressing.manager.until(&dressing.target(), "active").await;
    agent.signal(Signal::SIGKILL);
    agent.end().await;
    let pid = dressing.pid();
    let agent = setup.start();
    agent.ready().await;
    dressing.worn("b", WornState::Running).await;
    assert!(agent.stop().await.success());
    let agent = setup.start();
    agent.ready().await;
    assert_eq!(agent.count("a hat is put on"), 0);
    assert_eq!(dressing.pid(), pid, "the service goes on");
    // What was taken off meanwhile is stopped by the next agent.
    assert!(agent.stop().await.success());
    dressing.assign(&[]).await;
    let agent = setup.start();
    dressing.manager.until(&dressing.service(), "inactive").await;
    agent.ready().await;
}

#[tokio::test]
async fn wearers_of_one_hat_do_not_collide() {
    let dressing = Dressing::sleeping().await;
    let agent = dressing.setup(dressing.bench.direct()).start();
    agent.ready().await;
    dressing.assign(&[dressing.entry("a"), dressing.entry("b")]).await;
    dressing.worn("a", WornState::Running).await;
    dressing.worn("b", WornState::Running).await;
    let pid = dressing.pid();
    let mut ended = dressing.entry("a");
    ended["phase"] = json!("Revoked");
    dressing.assign(&[ended, dressing.entry("b")]).await;
    dressing.worn("a", WornState::Stopped).await;
    let folder = dressing.folder().join(&dressing.hat);
    until("the end of its files", || !folder.join("a.env").exists()).await;
    dressing.worn("b", WornState::Running).await;
    dressing.manager.until(&dressing.service(), "active").await;
    assert!(folder.join("b.env").exists());
    assert_ne!(dressing.pid(), pid, "nobody could tell whose devices the shared service used");
}

#[tokio::test]
async fn what_cannot_be_worn_is_said_and_the_agent_is_ready() {
    let dressing = Dressing::new("ExecStart=/bin/false").await;
    let agent = dressing.setup(dressing.bench.direct()).start();
    agent.ready().await;
    let mut injected = dressing.entry("injected");
    injected["wearer"] = json!("spiffe://a/b\nLD_PRELOAD=/x");
    dressing.assign(&[dressing.entry("../../evil"), injected, dressing.entry("b")]).await;
    let evil = dressing.worn("../../evil", WornState::Failed).await;
    assert!(evil.message.contains("cannot be a file name"), "{evil:?}");
    let injected = dressing.worn("injected", WornState::Failed).await;
    assert!(injected.message.contains("is no SPIFFE id"), "{injected:?}");
    let failed = dressing.worn("b", WornState::Failed).await;
    assert!(failed.message.contains(&format!("{} failed", dressing.service())), "{failed:?}");
    agent.ready().await;
}

#[tokio::test]
async fn without_a_service_manager_a_hat_has_failed_and_the_agent_works() {
    let dressing = Dressing::sleeping().await;
    let mut setup = dressing.setup(dressing.bench.direct());
    setup.tables = setup.tables.replace(&dressing.manager.bus(), "unix:path=/nowhere/bus");
    let agent = setup.start();
    agent.ready().await;
    dressing.assign(&[dressing.entry("b")]).await;
    let failed = dressing.worn("b", WornState::Failed).await;
    assert!(failed.message.contains("the service manager cannot be reached at unix:path=/nowhere/bus"), "{failed:?}");
    agent.ready().await;
    let mut ended = dressing.entry("b");
    ended["phase"] = json!("Released");
    dressing.assign(&[ended]).await;
    dressing.worn("b", WornState::Stopped).await;
    assert_eq!(agent.count("hats cannot be put on or taken off"), 1, "said once");
}

const LOOK: &str = "units are looked at";

impl Dressing {
    /// With these keys in the table `[wear]` beside the others.
    fn setup_with(&self, keys: &str) -> Setup {
        let mut setup = self.setup(self.bench.direct());
        setup.tables.push_str(keys);
        setup
    }

    /// Waits until the Lease was renewed this often: the agent decides again at each renewal.
    async fn renewals(&self, times: usize) {
        for _ in 0..times {
            let known = self.bench.leases().get(&self.bench.name).await.unwrap().spec;
            self.bench.lease_until("a renewal", |lease| lease.spec != known).await;
        }
    }
}

#[tokio::test]
async fn units_are_looked_at_for_news_alone_also_when_somebody_stopped_a_target() {
    let dressing = Dressing::sleeping().await;
    let agent = dressing.setup_with("check = \"1h\"\n").start();
    agent.ready().await;
    dressing.assign(&[dressing.entry("b")]).await;
    dressing.worn("b", WornState::Running).await;
    dressing.renewals(5).await;
    let looks = agent.count(LOOK);
    dressing.renewals(5).await;
    assert_eq!(agent.count(LOOK), looks, "nothing was heard of any unit");
    dressing.manager.run(&["stop", &dressing.target()]);
    let failed = dressing.worn("b", WornState::Failed).await;
    assert!(failed.message.contains("somebody else stopped it"), "{failed:?}");
    dressing.renewals(5).await;
    let looks = agent.count(LOOK);
    dressing.renewals(5).await;
    assert_eq!(agent.count(LOOK), looks, "a look at units that are at rest is no news of them");
    dressing.manager.run(&["start", &dressing.target()]);
    dressing.worn("b", WornState::Running).await;
}

#[tokio::test]
async fn units_are_looked_at_each_time_a_check_is_due() {
    let dressing = Dressing::sleeping().await;
    let agent = dressing.setup_with("check = \"100ms\"\n").start();
    agent.ready().await;
    dressing.assign(&[dressing.entry("b")]).await;
    dressing.worn("b", WornState::Running).await;
    let looks = agent.count(LOOK);
    until("more looks", || agent.count(LOOK) > looks + 5).await;
}

#[tokio::test]
async fn a_hat_that_nobody_assigned_is_stopped_each_time_it_is_started() {
    let dressing = Dressing::sleeping().await;
    let agent = dressing.setup_with("check = \"1h\"\n").start();
    agent.ready().await;
    dressing.assign(&[dressing.entry("b")]).await;
    dressing.worn("b", WornState::Running).await;
    let stray = format!("hat@{}.target", unique("stray"));
    for times in 1..=2 {
        dressing.manager.run(&["start", &stray]);
        until("it is stopped", || agent.count("a hat is taken off") == times).await;
        dressing.manager.until(&stray, "inactive").await;
    }
    assert_eq!(dressing.manager.property(&dressing.target(), "ActiveState"), "active");
}

#[tokio::test]
async fn nothing_is_started_and_nothing_counts_as_started_without_its_files() {
    let dressing = Dressing::sleeping().await;
    let agent = dressing.setup(dressing.bench.direct()).start();
    agent.ready().await;
    let in_the_way = dressing.folder().join(&dressing.hat);
    fs::write(&in_the_way, "").unwrap();
    dressing.assign(&[dressing.entry("b")]).await;
    let failed = dressing.worn("b", WornState::Failed).await;
    assert!(failed.message.contains("cannot be written"), "{failed:?}");
    dressing.renewals(2).await;
    let kept: Value = serde_json::from_slice(&fs::read(dressing.folder().join(".kept.json")).unwrap()).unwrap();
    assert_eq!(kept["records"]["b"]["ordered"], json!(false), "{kept}");
    assert_eq!(dressing.manager.property(&dressing.target(), "ActiveState"), "inactive");
    fs::remove_file(&in_the_way).unwrap();
    dressing.worn("b", WornState::Running).await;
}

#[tokio::test]
async fn a_bus_that_goes_and_comes_back_changes_nothing_and_is_listened_to_again() {
    let dressing = Dressing::sleeping().await;
    let agent = dressing.setup_with("check = \"1h\"\n").start();
    agent.ready().await;
    dressing.assign(&[dressing.entry("b")]).await;
    dressing.worn("b", WornState::Running).await;
    let pid = dressing.pid();
    let looks = agent.count(LOOK);
    dressing.manager.restart_bus().await;
    until("a look over the new bus", || agent.count(LOOK) > looks).await;
    assert_eq!(dressing.pid(), pid, "the service goes on");
    dressing.worn("b", WornState::Running).await;
    dressing.manager.run(&["stop", &dressing.service()]);
    dressing.manager.run(&["stop", &dressing.target()]);
    dressing.worn("b", WornState::Failed).await;
}

#[tokio::test]
async fn a_hat_that_cannot_be_started_stands_in_the_way_of_no_other() {
    let dressing = Dressing::sleeping().await;
    // Before the other by name.
    let masked = unique("a-masked");
    let target = format!("hat@{masked}.target");
    dressing.manager.mask(&target);
    let agent = dressing.setup(dressing.bench.direct()).start();
    agent.ready().await;
    let mut entry = dressing.entry("masked");
    entry["name"] = json!(masked);
    dressing.assign(&[entry.clone(), dressing.entry("b")]).await;
    let failed = dressing.worn("masked", WornState::Failed).await;
    assert!(failed.message.contains(&format!("{target} is masked")), "{failed:?}");
    let running = dressing.worn("b", WornState::Running).await;
    assert_eq!(running.message, "", "what is wrong with one hat is said of that alone");
    let mut released = dressing.entry("b");
    released["phase"] = json!("Released");
    dressing.assign(&[entry.clone(), released]).await;
    dressing.worn("b", WornState::Stopped).await;
    assert_eq!(dressing.manager.property(&dressing.service(), "ActiveState"), "inactive");

    // Behind a fence as well: nothing of what cannot be started runs.
    dressing.assign(&[entry.clone(), dressing.entry("c")]).await;
    dressing.worn("c", WornState::Running).await;
    let pid = dressing.pid();
    let fence = Patch::Merge(json!({"spec": {"leaseTransitions": 3}}));
    let fenced = dressing.bench.leases().patch(&dressing.bench.name, &PatchParams::default(), &fence).await.unwrap();
    dressing.bench.lease_until("a renewal", |lease| lease.spec != fenced.spec).await;
    assert_ne!(dressing.pid(), pid, "it was stopped first");
    dressing.worn("c", WornState::Running).await;

    // What was never started has stopped, and starts once it can.
    dressing.manager.unmask(&target);
    dressing.worn("masked", WornState::Running).await;
    dressing.manager.mask(&target);
    entry["phase"] = json!("Released");
    dressing.assign(&[entry, dressing.entry("c")]).await;
    dressing.worn("masked", WornState::Stopped).await;
}

#[tokio::test]
async fn a_stray_that_refuses_to_stop_and_a_folder_in_the_way_concern_nobody_else() {
    let dressing = Dressing::sleeping().await;
    let stray = format!("hat@{}.target", unique("a-stray"));
    dressing.manager.unit(&stray, "[Unit]\nRefuseManualStop=yes\n");
    dressing.manager.run(&["daemon-reload"]);
    dressing.manager.run(&["start", &stray]);
    let blocked = unique("b-blocked");
    let agent = dressing.setup(dressing.bench.direct()).start();
    agent.ready().await;
    fs::write(dressing.folder().join(&blocked), "").unwrap();
    let mut entry = dressing.entry("blocked");
    entry["name"] = json!(blocked);
    dressing.assign(&[entry, dressing.entry("b")]).await;
    let running = dressing.worn("b", WornState::Running).await;
    assert_eq!(running.message, "", "what is wrong with one hat is said of that alone");
    let failed = dressing.worn("blocked", WornState::Failed).await;
    assert!(failed.message.contains(&format!("the files of {blocked} in")), "{failed:?}");
    agent.says(&format!("{stray}: ")).await;
    dressing.assign(&[]).await;
    dressing.manager.until(&dressing.service(), "inactive").await;
    assert_eq!(dressing.manager.property(&stray, "ActiveState"), "active", "it cannot be stopped by hand");
}

#[tokio::test]
async fn what_was_to_begin_before_a_start_waits_for_a_renewal() {
    let dressing = Dressing::sleeping().await;
    let proxy = dressing.bench.proxy();
    let mut setup = dressing.setup(dressing.bench.through(&proxy));
    let bus = dressing.manager.bus();
    // Without a service manager the hat is kept as one that is to begin.
    setup.tables = setup.tables.replace(&bus, "unix:path=/nowhere/bus");
    let agent = setup.start();
    agent.ready().await;
    dressing.assign(&[dressing.entry("b")]).await;
    dressing.worn("b", WornState::Failed).await;
    agent.signal(Signal::SIGKILL);
    agent.end().await;
    let kept: Value = serde_json::from_slice(&fs::read(dressing.folder().join(".kept.json")).unwrap()).unwrap();
    assert_eq!(kept["records"]["b"]["ordered"], json!(false), "{kept}");

    // The object can be read, and the Lease cannot be renewed.
    setup.tables = setup.tables.replace("unix:path=/nowhere/bus", &bus);
    let lease = Matcher::new(Method::PUT, "/leases/");
    let refused = Response::failure(StatusCode::INTERNAL_SERVER_ERROR, "InternalError", "etcd is away");
    proxy.answer(lease.clone(), refused, 1_000);
    proxy.clear();
    let agent = setup.start();
    let waiting = dressing.worn("b", WornState::Starting).await;
    assert_eq!(waiting.message, "waiting for a renewal of the Lease");
    soon("attempts to renew the Lease", proxy.answered(&lease, 3)).await;
    assert_eq!(agent.count("a hat is put on"), 0);
    assert_eq!(dressing.manager.property(&dressing.target(), "ActiveState"), "inactive");
    proxy.restore().unwrap();
    dressing.worn("b", WornState::Running).await;
}
