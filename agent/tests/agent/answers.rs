//! What NVML and the adb server tell comes late, and may stop coming: facts stay.

use std::env;
use std::fs;
use std::path::PathBuf;

use hatrack_api::ClusterNode;
use hatrack_api::cluster_node::{Attribute, Device};
use hatrack_discover::nvidia::LIBRARY_VARIABLE;
use hatrack_fake_adb::phone::Phone;
use hatrack_fake_adb::server::Server;
use kube::ResourceExt;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::Bench;
use crate::program::Setup;

/// A fake `libnvidia-ml.so.1` and what it tells.
struct FakeNvml(TempDir);

impl FakeNvml {
    fn new(machine: &Value) -> Self {
        let fake = Self(tempfile::tempdir().unwrap());
        fake.becomes(machine);
        fake
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn becomes(&self, machine: &Value) {
        let mut machine = machine.clone();
        machine["events"] = json!(self.path("events"));
        self.replace("machine.json", &machine.to_string());
    }

    /// An XID error of a GPU, by its index.
    fn xid(&self, gpu: usize, number: u64) {
        self.replace("events", &format!("{gpu} {number}\n"));
    }

    fn replace(&self, name: &str, content: &str) {
        fs::write(self.path("next"), content).unwrap();
        fs::rename(self.path("next"), self.path(name)).unwrap();
    }

    /// An agent that loads it.
    fn serve(&self, setup: &mut Setup) {
        let library = env::current_exe().unwrap().parent().unwrap().join("libhatrack_fake_nvml.so");
        assert!(library.exists(), "cargo built no {}", library.display());
        setup.environment.push((LIBRARY_VARIABLE, library.display().to_string()));
        setup.environment.push((hatrack_fake_nvml::VARIABLE, self.path("machine.json").display().to_string()));
        "[nvml]\ndeadline = \"10s\"\ninterval = \"200ms\"\n".clone_into(&mut setup.tables);
    }
}

fn one_gpu() -> Value {
    json!({"gpus": [{"bus": "0000:61:00", "minor": 0, "uuid": "GPU-6694f229-359b-1548-81a0-d5b3ffc6e35c"}]})
}

fn with_model<'a>(node: &'a ClusterNode, model: &str) -> Option<&'a Device> {
    let devices = node.status.as_ref()?.devices.as_ref()?;
    devices.iter().find(|device| device.attributes.get("model") == Some(&Attribute::string(model)))
}

fn reasons(node: &ClusterNode) -> Vec<String> {
    let devices = node.status.as_ref().and_then(|status| status.devices.as_ref());
    devices.into_iter().flatten().map(|device| device.health.reason.clone()).collect()
}

#[tokio::test]
async fn what_nvml_told_outlives_a_restart_and_a_hang() {
    let bench = Bench::new("server-8gpu").await;
    // A driver that does not say what would mend the GPU.
    let mut silent = one_gpu();
    silent["gpus"][0]["recoveryAction"] = json!(null);
    let nvml = FakeNvml::new(&silent);
    let mut setup = bench.direct();
    nvml.serve(&mut setup);
    let agent = setup.start();
    let told = |node: &ClusterNode| json!(node.status).to_string().contains("cudaVersion");
    bench.node_until("what NVML tells", told).await;
    nvml.xid(0, 48);
    let ill = |node: &ClusterNode| reasons(node).contains(&"Xid48".to_owned());
    let before = bench.node_until("the XID error", ill).await;
    agent.ready().await;
    assert!(agent.stop().await.success());

    // The driver tells an XID error once. The next agent knows of it, and has to ask NVML first.
    fs::remove_file(nvml.path("events")).unwrap();
    let agent = setup.start();
    agent.ready().await;
    agent.looked_for("nvml", 0.0).await;
    assert_eq!(bench.node().await, before, "after a restart");
    assert!(agent.stop().await.success());

    // A state file that is lost is no reason to take back what the object shows before NVML has answered.
    fs::remove_dir_all(setup.state_dir()).unwrap();
    let mut hanging = one_gpu();
    hanging["hang"] = json!(["nvmlInit_v2"]);
    nvml.becomes(&hanging);
    let agent = setup.start();
    agent.not_ready("waiting for NVML to answer").await;
    assert_eq!(bench.node().await.resource_version(), before.resource_version());
}

#[tokio::test]
async fn an_xid_error_is_history_when_the_agent_starts_after_the_reset_that_it_asked_for() {
    let bench = Bench::new("server-8gpu").await;
    let nvml = FakeNvml::new(&one_gpu());
    let mut setup = bench.direct();
    nvml.serve(&mut setup);
    let agent = setup.start();
    let told = |node: &ClusterNode| json!(node.status).to_string().contains("cudaVersion");
    bench.node_until("what NVML tells", told).await;
    nvml.xid(0, 48);
    let is_ill = |node: &ClusterNode| reasons(node).contains(&"Xid48".to_owned());
    bench.node_until("the XID error", is_ill).await;
    agent.ready().await;
    assert!(agent.stop().await.success());
    fs::remove_file(nvml.path("events")).unwrap();
    let _agent = setup.start();
    bench.node_until("a GPU that is well", |node| !is_ill(node)).await;
}

#[tokio::test]
async fn what_nvml_told_goes_when_it_is_switched_off_and_is_remembered_when_it_is_switched_on_again() {
    let bench = Bench::new("server-8gpu").await;
    let mut silent = one_gpu();
    silent["gpus"][0]["recoveryAction"] = json!(null);
    let nvml = FakeNvml::new(&silent);
    let mut setup = bench.direct();
    let without = setup.tables.clone();
    nvml.serve(&mut setup);
    let told = |node: &ClusterNode| json!(node.status).to_string().contains("cudaVersion");
    let is_ill = |node: &ClusterNode| reasons(node).contains(&"Xid48".to_owned());
    let agent = setup.start();
    bench.node_until("what NVML tells", told).await;
    nvml.xid(0, 48);
    bench.node_until("the XID error", is_ill).await;
    agent.ready().await;
    assert!(agent.stop().await.success());
    fs::remove_file(nvml.path("events")).unwrap();

    let with = std::mem::replace(&mut setup.tables, without);
    let agent = setup.start();
    let node = bench.node_until("what PCI tells alone", |node| !told(node)).await;
    assert!(reasons(&node).iter().all(|reason| reason == "DriverBound"), "{:?}", reasons(&node));
    agent.ready().await;
    assert!(agent.stop().await.success());

    setup.tables = with;
    let _agent = setup.start();
    bench.node_until("what NVML tells, and told", |node| told(node) && is_ill(node)).await;
}

#[tokio::test]
async fn what_phones_told_outlives_a_restart() {
    let bench = Bench::new("phones-20").await;
    let adb = Server::start().await.unwrap();
    let phone = Phone::on_usb("R5CT30ABC1D", "1-1.1.1");
    adb.set([phone.clone()]);
    let mut setup = bench.direct();
    setup.class = "phone-orchestrator";
    setup.tables = format!("[adb]\nserver = \"{}\"\n", adb.address());
    let agent = setup.start();
    let told = |node: &ClusterNode| json!(node.status).to_string().contains("androidVersion");
    bench.node_until("what the phone tells", told).await;
    agent.ready().await;
    let before = bench.node().await;
    assert!(with_model(&before, "SM-F721U").is_some());
    assert!(agent.stop().await.success());
    let agent = setup.start();
    agent.ready().await;
    assert_eq!(bench.node().await, before, "after a restart");
    assert!(agent.stop().await.success());

    // A phone whose shell hangs from now on is the phone that it was.
    adb.set([phone.that_hangs()]);
    setup.tables.push_str("phone-deadline = \"200ms\"\n");
    setup.settle = "1s";
    let agent = setup.start();
    agent.ready().await;
    assert_eq!(bench.node().await, before, "while the phone is silent");
}
