//! The state file: full disks and broken files stop nothing.

use std::fs;

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
