//! The state file: full disks and broken files stop nothing.

use std::fs;

use hatrack_api::cluster_node::{Attribute, attribute};
use hatrack_testbed::soon;
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::{Duration, sleep};

use crate::cluster::{Bench, system_name};

const MACHINE: &str = "server-8gpu";

/// Runs the agent in a mount namespace of its own, where the state folder is a small disk that is full.
fn on_a_full_disk(state: &str) -> Vec<String> {
    let script = format!(
        "mkdir -p {state} && mount -t tmpfs -o size=128k tmpfs {state} && head -c 131072 /dev/zero > {state}/full && exec \"$0\" \"$@\""
    );
    ["unshare", "--map-root-user", "--mount", "sh", "-c", &script].map(String::from).to_vec()
}

#[tokio::test]
async fn a_full_disk_does_not_stop_registration() {
    let bench = Bench::new(MACHINE).await;
    let mut setup = bench.direct();
    setup.wrapper = on_a_full_disk(&setup.state_dir().display().to_string());
    let agent = setup.start();
    let line = agent.says("the state file cannot be written").await;
    assert!(line["error"].as_str().unwrap().contains("No space left on device"), "{line}");
    agent.ready().await;
    bench.rename_system("Hatrack Test 2");
    agent.look_again();
    bench.node_until("the new name", |node| system_name(node) == Some("Hatrack Test 2")).await;
    assert!((agent.metric("hatrack_agent_state_kept").await).abs() < f64::EPSILON);
    assert_eq!(agent.count("the state file cannot be written"), 1, "said once");

    // The folder as the agent sees it.
    let full = format!("/proc/{}/root{}/full", agent.pid(), setup.state_dir().display());
    fs::remove_file(full).unwrap();
    agent.says("the state file can be written again").await;
    assert!(agent.stop().await.success());
}

#[tokio::test]
async fn a_broken_state_file_is_set_aside_and_names_come_from_the_object() {
    let bench = Bench::new(MACHINE).await;
    let setup = bench.direct();
    let agent = setup.start();
    agent.ready().await;
    assert!(agent.stop().await.success());
    let before = bench.node().await;
    let file = setup.state_dir().join("state.json");
    let half = fs::read(&file).unwrap();
    fs::write(&file, &half[..half.len() / 2]).unwrap();
    let agent = setup.start();
    agent.says("the state file cannot be used").await;
    agent.ready().await;
    assert_eq!(bench.node().await, before);
    assert_eq!(fs::read(setup.state_dir().join("state.json.corrupt")).unwrap(), &half[..half.len() / 2]);
    assert!(agent.stop().await.success());
    assert_eq!(fs::read(&file).unwrap(), half, "the file is whole again");
}

#[tokio::test]
async fn a_machine_that_lost_its_state_keeps_the_names_of_its_object_though_it_can_read_that_only_later() {
    let bench = Bench::new("phones-20").await;
    let agent = bench.direct().start();
    agent.ready().await;
    assert!(agent.stop().await.success());
    // A phone that got its name when it was in another slot and its serial number was not known.
    let mut status = bench.node().await.status.unwrap();
    let phone = status.devices.iter_mut().flatten().find(|device| device.attributes.contains_key(attribute::SERIAL));
    let phone = phone.unwrap();
    let (chosen, serial) = (phone.name.clone(), phone.attributes[attribute::SERIAL].clone());
    "phone-old".clone_into(&mut phone.name);
    phone.attributes.insert(attribute::USB_PATH.to_owned(), Attribute::String("0000:00:14.0/9.9".to_owned()));
    status.devices.as_mut().unwrap().sort_by(|a, b| a.name.cmp(&b.name));
    let object = json!({
        "apiVersion": "society.zeta.io/v1alpha1", "kind": "ClusterNode", "metadata": {"name": bench.name}, "status": status,
    });
    let nodes: Api<hatrack_api::ClusterNode> = Api::all(bench.plane.client_for(&bench.identity).await.unwrap());
    let agents = PatchParams::apply("hatrack-agent");
    nodes.patch_status(&bench.name, &agents, &Patch::Apply(object)).await.unwrap();

    // The machine is installed again: neither its state nor its certificate is there.
    let state = bench.setup().state_dir();
    fs::remove_dir_all(&state).unwrap();
    let mut setup = bench.setup();
    let access = setup.folder.join("kubeconfig");
    setup.kubeconfig(&access);
    let looked = async {
        while !fs::read_to_string(state.join("state.json")).is_ok_and(|text| text.contains(&chosen)) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    let agent = setup.start();
    soon("the machine is looked at", looked).await;
    assert!(agent.stop().await.success(), "a new token takes a restart");
    let agent = setup.start();
    agent.looked_for("start", 1.0).await;
    fs::copy(bench.plane.kubeconfig_for(&bench.identity).unwrap(), &access).unwrap();
    agent.ready().await;
    let devices = bench.node().await.status.unwrap().devices.unwrap();
    let named = |name: &str| devices.iter().find(|device| device.name == name);
    assert_eq!(named("phone-old").map(|phone| &phone.attributes[attribute::SERIAL]), Some(&serial));
    assert!(named(&chosen).is_none() && devices.len() == 22, "{devices:?}");
}
