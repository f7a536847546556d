//! The program as a shell and a service manager see it.

use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};

use nix::sys::signal::Signal;

use hatrack_api::cluster_node::{Class, Profile};
use tokio::net::TcpListener;

use crate::cluster::Bench;
use crate::program::{Agent, PROGRAM, Setup};
use crate::soon;

fn check(text: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.toml");
    std::fs::write(&file, text).unwrap();
    Command::new(PROGRAM).arg("check").arg(file).output().unwrap()
}

#[test]
fn a_good_file_is_printed_as_it_is_understood() {
    let output = check("name = \"gpu-1\"\nclass = \"gpu-worker\"\n[lease]\nperiod = \"5s\"\n");
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    for line in ["name = \"gpu-1\"", "class = \"gpu-worker\"", "period = \"5s\"", "duration = \"40s\""] {
        assert!(text.lines().any(|found| found == line), "no `{line}` in:\n{text}");
    }
    assert!(output.stderr.is_empty());
}

#[test]
fn a_wrong_file_is_refused_with_its_place_and_a_hint() {
    for (text, place, hint) in [
        ("class = \"worker\"\nclas = 1\n", "line 2, column 1", "correct that line"),
        ("name = \"a\"\nclass = \"gpu\"\n", "line 2, column 9", "correct that line"),
        ("name = \"a\"\n", "class of this machine is not set", "HATRACK_CLASS"),
        ("name = \"A b\"\nclass = \"worker\"\n", "is no DNS label", "HATRACK_NAME"),
    ] {
        let output = check(text);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(error.contains(place) && error.contains("hint: ") && error.contains(hint), "{text}\n{error}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_file_that_is_named_has_to_be_there() {
    let output = Command::new(PROGRAM).args(["run", "--config", "/nowhere/agent.toml"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("failed to read `/nowhere/agent.toml`: No such file"), "{error}");
}

#[test]
fn a_number_that_cannot_be_expected_is_refused_in_words() {
    for number in ["257", "-1", "99999999999"] {
        let output = check(&format!("name = \"a\"\nclass = \"worker\"\n[expects]\nphones = {number}\n"));
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{number}");
        let said = format!("{number} devices cannot be expected: a node shows from 0 to 256");
        assert!(error.contains("line 4, column 10") && error.contains(&said), "{error}");
    }
    let most = check("name = \"a\"\nclass = \"worker\"\n[expects]\nphones = 256\n");
    assert!(String::from_utf8(most.stdout).unwrap().contains("phones = 256"));
}

#[tokio::test]
async fn the_environment_wins_over_the_file() {
    let bench = Bench::new("phones-20").await;
    let folder = tempfile::tempdir().unwrap();
    let (file, state) = (folder.path().join("other.toml"), folder.path().join("state"));
    let access = "[api]\nserver = \"https://127.0.0.1:1\"\nca = \"/a\"\ncertificate = \"/b\"\nkey = \"/c\"\n";
    let text = "name = \"of-the-file\"\nclass = \"worker\"\nprofile = \"leaf\"\nstate-dir = \"/nowhere\"\n\
                listen = \"127.0.0.1:1\"\nroot = \"/nowhere\"\n";
    std::fs::write(&file, format!("{text}{access}")).unwrap();
    let adb = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let environment = [
        ("HATRACK_CONFIG", file.display().to_string()),
        ("HATRACK_LOG_FORMAT", "json".to_owned()),
        ("HATRACK_LOG", "info".to_owned()),
        ("HATRACK_NAME", bench.name.clone()),
        ("HATRACK_CLASS", "phone-orchestrator".to_owned()),
        ("HATRACK_PROFILE", "edge".to_owned()),
        ("HATRACK_STATE_DIR", state.display().to_string()),
        ("HATRACK_LISTEN", "127.0.0.1:0".to_owned()),
        ("HATRACK_ROOT", bench.machine.path().display().to_string()),
        ("HATRACK_KUBECONFIG", bench.plane.kubeconfig_for(&bench.identity).unwrap().display().to_string()),
        ("HATRACK_ADB_SERVER", adb.local_addr().unwrap().to_string()),
    ];
    let agent = Agent::spawn(Command::new(PROGRAM).arg("run").envs(environment));
    soon("the question to the adb server", adb.accept()).await.unwrap();
    let node = bench.node_until("registered", |node| node.status.is_some()).await;
    assert_eq!((node.spec.class, node.spec.profile), (Class::PhoneOrchestrator, Some(Profile::Edge)));
    assert_eq!(node.status.unwrap().devices.unwrap().len(), 22);
    agent.ready().await;
    assert!(state.join("state.json").exists());
}

#[tokio::test]
async fn flags_win_over_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let machine = hatrack_fixtures::machine("vm-empty").unwrap();
    let mut setup = Setup::new("flags", machine.path(), folder.path());
    setup.environment =
        vec![("HATRACK_CONFIG", "/nowhere/agent.toml".to_owned()), ("HATRACK_LOG_FORMAT", "text".to_owned())];
    let line = setup.start().says("serving /metrics").await;
    assert!(line.is_object(), "{line}");
}

#[test]
fn a_word_of_the_environment_that_is_none_is_refused() {
    let output = Command::new(PROGRAM).arg("run").env("HATRACK_CLASS", "gpu").output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(error.contains("invalid value 'gpu' for '--class <CLASS>'") && error.contains("gpu-worker"), "{error}");
}

#[tokio::test]
async fn the_service_manager_hears_of_readiness_life_and_end() {
    let folder = tempfile::tempdir().unwrap();
    let machine = hatrack_fixtures::machine("server-8gpu").unwrap();
    let manager = UnixDatagram::bind(folder.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(hatrack_testbed::PATIENCE)).unwrap();
    let heard = move |wanted: &'static str| {
        let mut buffer = [0; 4096];
        loop {
            let length = manager.recv(&mut buffer).expect(wanted);
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            if text.contains(wanted) {
                return text;
            }
        }
    };
    let mut setup = Setup::new("unreachable", machine.path(), folder.path());
    setup.kubeconfig(&folder.path().join("no-kubeconfig"));
    setup.environment = vec![
        ("NOTIFY_SOCKET", folder.path().join("notify").display().to_string()),
        ("WATCHDOG_USEC", "200000".to_owned()),
    ];
    let agent = setup.start();
    // Without an API server: readiness is the first look.
    let heard = tokio::task::spawn_blocking(move || {
        heard("READY=1");
        assert!(heard("STATUS=").contains("not registered"));
        for _ in 0..3 {
            heard("WATCHDOG=1");
        }
        heard
    });
    let heard = soon("readiness", heard).await.unwrap();
    agent.look_again();
    let reload = tokio::task::spawn_blocking(move || {
        assert!(heard("RELOADING=1").contains("MONOTONIC_USEC="));
        heard("READY=1");
        heard
    });
    let heard = soon("the reload", reload).await.unwrap();
    agent.signal(Signal::SIGINT);
    let stopping = tokio::task::spawn_blocking(move || heard("STOPPING=1"));
    soon("the end", stopping).await.unwrap();
    assert!(agent.end().await.success());
}

#[tokio::test]
async fn the_machine_is_measured_and_not_only_the_agent() {
    let folder = tempfile::tempdir().unwrap();
    let mut setup = Setup::new("measured", Path::new("/"), folder.path());
    setup.kubeconfig(&folder.path().join("no-kubeconfig"));
    let agent = setup.start();
    let memory = agent.metric("hatrack_agent_host_memory_bytes{}").await;
    assert!(memory > agent.metric("hatrack_agent_host_memory_used_bytes{}").await, "{memory}");
    let (_, text) = agent.get("/metrics").await;
    assert!(text.contains("hatrack_agent_host_load{minutes=\"15\"}") && text.ends_with("# EOF\n"), "{text}");

    let machine = hatrack_fixtures::machine("phones-20").unwrap();
    let mut setup = Setup::new("phones", machine.path(), folder.path());
    setup.kubeconfig(&folder.path().join("no-kubeconfig"));
    let agent = setup.start();
    let devices = agent.metric("hatrack_agent_usb_devices{controller=\"0000:00:14.0\"}").await;
    let tiers = agent.metric("hatrack_agent_usb_hub_tiers{controller=\"0000:00:14.0\"}").await;
    assert!(devices >= 20.0 && tiers >= 3.0, "{devices} devices below {tiers} hubs");
    let idle = hatrack_fixtures::machine("server-8gpu-degraded").unwrap();
    let mut setup = Setup::new("idle", idle.path(), folder.path());
    setup.kubeconfig(&folder.path().join("no-kubeconfig"));
    let cards = setup.start();
    let speed = cards.metric("hatrack_agent_pcie_link_speed{address=\"0000:1b:00.0\"}").await;
    let most = cards.metric("hatrack_agent_pcie_link_max_speed{address=\"0000:1b:00.0\"}").await;
    assert!(speed > 0.0 && speed < most, "{speed} of {most} GT/s");
    let (_, text) = agent.get("/metrics").await;
    assert!(!text.contains("host_memory_bytes{}"), "the load of this machine is not that of the one on paper");
}

#[tokio::test]
async fn what_the_service_manager_reads_for_it_is_the_identity_of_its_own_machine_alone() {
    const UUID: &str = "4c4c4544-0044-3510-8052-b4c04f4b3032";
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("product_uuid"), format!("{UUID}\n")).unwrap();
    let paper = hatrack_fixtures::machine("vm-empty").unwrap();
    for (root, has_it) in [(Path::new("/"), true), (paper.path(), false)] {
        let folder_of_agent = tempfile::tempdir().unwrap();
        let mut setup = Setup::new("identified", root, folder_of_agent.path());
        setup.kubeconfig(&folder.path().join("no-kubeconfig"));
        setup.environment = vec![("CREDENTIALS_DIRECTORY", folder.path().display().to_string())];
        let _agent = setup.start();
        let file = setup.state_dir().join("state.json");
        let kept = soon("the state is kept", async {
            loop {
                match std::fs::read_to_string(&file) {
                    Ok(text) => return text,
                    Err(_) => tokio::time::sleep(std::time::Duration::from_millis(20)).await,
                }
            }
        });
        assert_eq!(kept.await.contains(UUID), has_it, "{}", root.display());
    }
}

#[tokio::test]
async fn a_machine_without_an_identity_says_so() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("root/proc")).unwrap();
    let mut setup = Setup::new("nobody", &folder.path().join("root"), folder.path());
    setup.kubeconfig(&folder.path().join("no-kubeconfig"));
    let agent = setup.start();
    agent.not_ready("no hardware id to trust").await;
    assert!(agent.lines().iter().all(|line| line["level"] != "ERROR"));
}
