//! The NVML probe against a fake `libnvidia-ml.so.1`: a real child process, real calls through the wrapper.
//!
//! This test has no harness of its own making: called with the probe's subcommand it is the probe, and its tests start
//! it so.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test, without the usual harness")]

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use hatrack_api::cluster_node::{Attribute, HealthState};
use hatrack_discover::inventory::{self, Answers, Inventory};
use hatrack_discover::names::Names;
use hatrack_discover::nvidia::probe::{self, Timing};
use hatrack_discover::nvidia::{Gpu, LIBRARY_VARIABLE, Report, Trouble, View};
use hatrack_discover::root::Root;
use libtest_mimic::{Arguments, Trial};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time;

/// Long enough for the slowest machine that runs the tests; nothing waits for it unless a test fails.
const PATIENCE: Duration = Duration::from_mins(1);

/// A deadline that tests of a hang wait for.
const SHORT: Duration = Duration::from_millis(700);

fn main() -> ExitCode {
    let mut given = env::args().skip(1);
    if given.next().as_deref() == Some(probe::SUBCOMMAND) {
        return probe::run(given.next().as_deref() == Some(probe::WATCH_FLAG));
    }
    // One at a time: a program that another thread has open for writing while this one forks cannot be started.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    // Expanded once for all: whoever asks for it meanwhile shares it.
    let _machine = hatrack_fixtures::machine(MACHINE).expect("the fixture is complete");
    libtest_mimic::run(&arguments, trials()).exit_code()
}

macro_rules! trials {
    ($($test:ident),* $(,)?) => {
        fn trials() -> Vec<Trial> {
            vec![$(Trial::test(stringify!($test), || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on($test());
                Ok(())
            })),*]
        }
    };
}

trials!(
    all_facts_of_eight_gpus_arrive,
    an_old_driver_tells_less_and_nothing_is_wrong,
    a_lost_gpu_does_not_hide_the_others,
    each_way_to_fail_has_its_reason,
    troubles_are_told_by_gpu,
    an_xid_arrives_at_once_and_stays,
    a_hang_is_told_and_ends,
    a_gpu_that_refuses_events_does_not_silence_the_others,
    the_child_ends_with_its_parent,
    mig_instances_are_devices_and_their_gpu_is_not,
    silence_changes_no_fact,
    what_it_told_does_not_outlive_that_it_is_asked,
);

/// A machine with a fake NVML, and the program that probes it.
struct Fake {
    folder: TempDir,
}

impl Fake {
    fn new(machine: &Value) -> Self {
        let fake = Self { folder: tempfile::tempdir().unwrap() };
        fake.becomes(machine);
        let test = env::current_exe().unwrap();
        let library = test.parent().unwrap().join("libhatrack_fake_nvml.so");
        assert!(library.exists(), "cargo built no {}", library.display());
        let script = format!(
            "#!/bin/sh\n{}='{}' {LIBRARY_VARIABLE}=\"${{LIBRARY-{}}}\" exec '{}' \"$@\"\n",
            hatrack_fake_nvml::VARIABLE,
            fake.path("machine.json").display(),
            library.display(),
            test.display(),
        );
        fs::write(fake.program(), script).unwrap();
        fs::set_permissions(fake.program(), fs::Permissions::from_mode(0o755)).unwrap();
        fake
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self) -> PathBuf {
        self.path("program")
    }

    /// Replaces the machine in one step, as the fake reads it at any time.
    fn becomes(&self, machine: &Value) {
        let mut machine = machine.clone();
        machine["events"] = json!(self.path("events"));
        fs::write(self.path("next.json"), machine.to_string()).unwrap();
        fs::rename(self.path("next.json"), self.path("machine.json")).unwrap();
    }

    fn xid(&self, gpu: usize, number: u64) {
        let events = fs::read_to_string(self.path("events")).unwrap_or_default();
        fs::write(self.path("next"), format!("{events}{gpu} {number}\n")).unwrap();
        fs::rename(self.path("next"), self.path("events")).unwrap();
    }

    async fn ask(&self) -> View {
        probe::ask(&self.program(), PATIENCE).await
    }

    async fn report(&self) -> Report {
        match self.ask().await {
            View::Report(report) => report,
            other => panic!("{other:?}"),
        }
    }

    /// Watches with an interval at which nothing happens during a test.
    fn watch(&self, timing: Timing) -> (watch::Receiver<View>, tokio::task::JoinHandle<()>) {
        let (sender, views) = watch::channel(View::Pending);
        let program = self.program();
        (views, tokio::spawn(async move { probe::watch(&program, timing, sender).await }))
    }
}

/// A machine with eight GPUs and NVIDIA's driver.
const MACHINE: &str = "server-8gpu";

/// The addresses, minors and UUIDs of [`MACHINE`]'s GPUs.
const EIGHT: [(&str, u32, &str); 8] = [
    ("0000:61:00", 0, "GPU-6694f229-359b-1548-81a0-d5b3ffc6e35c"),
    ("0000:52:00", 1, "GPU-cfaf0010-3f58-4ad4-2308-24d215ceb3a1"),
    ("0000:1b:00", 2, "GPU-6018366c-f658-f7a7-5ed3-4fe53a096533"),
    ("0000:43:00", 3, "GPU-0b3510b0-b46e-e1da-3170-17a6205738d1"),
    ("0000:df:00", 4, "GPU-c24f6aa8-3bf3-6a14-7c2f-7ad016edc5d4"),
    ("0000:d1:00", 5, "GPU-67164890-d49d-0ac1-e5b8-063831360a40"),
    ("0000:9d:00", 6, "GPU-7cc661e9-7589-ca4a-07c1-5471a4517d6c"),
    ("0000:c3:00", 7, "GPU-92b850ad-7eb7-2f82-63f6-5da874007cb4"),
];

fn eight() -> Value {
    let gpu = |(bus, minor, uuid): &(&str, u32, &str)| json!({"bus": bus, "minor": minor, "uuid": uuid});
    json!({"gpus": EIGHT.iter().map(gpu).collect::<Vec<_>>()})
}

/// Eight GPUs of which one has further facts.
fn eight_with(index: usize, facts: &Value) -> Value {
    let mut machine = eight();
    let gpu = machine["gpus"][index].as_object_mut().unwrap();
    gpu.extend(facts.as_object().unwrap().clone());
    machine
}

fn address(index: usize) -> String {
    format!("{}.0", EIGHT[index].0)
}

async fn all_facts_of_eight_gpus_arrive() {
    let report = Fake::new(&eight()).report().await;
    assert_eq!(report.driver_version.as_deref(), Some("580.65.06"));
    assert_eq!(report.cuda_version.as_deref(), Some("13.0"));
    assert_eq!(report.gpus.len(), 8);
    let expected = Gpu {
        address: Some("0000:1b:00.0".to_owned()),
        uuid: Some(EIGHT[2].2.to_owned()),
        model: Some("NVIDIA H100 80GB HBM3".to_owned()),
        serial: Some("1650123000001".to_owned()),
        minor: Some(2),
        memory: Some(85_520_809_984),
        compute_capability: Some("9.0".to_owned()),
        power_limit: Some(700_000),
        ecc: Some(true),
        persistence: Some(true),
        mig: Some(false),
        instances: vec![],
        needs_nothing: true,
        troubles: vec![],
    };
    assert_eq!(report.gpus[2], expected);
}

async fn an_old_driver_tells_less_and_nothing_is_wrong() {
    const FUNCTION_NOT_FOUND: u32 = 13;
    let newer = ["nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetMigMode", "nvmlDeviceGetFieldValues"];
    let fail: serde_json::Map<_, _> =
        newer.iter().map(|name| ((*name).to_owned(), json!(FUNCTION_NOT_FOUND))).collect();
    let machine = json!({"driver": "418.226.00", "cuda": 10010, "gpus": [{"serial": null, "ecc": null, "fail": fail}]});
    let report = Fake::new(&machine).report().await;
    let gpu = &report.gpus[0];
    assert_eq!((gpu.mig, gpu.ecc, gpu.serial.as_deref()), (None, None, None));
    assert_eq!(gpu.memory, Some(85_520_809_984), "the older call tells it");
    assert_eq!(report.cuda_version.as_deref(), Some("10.1"));
    assert_eq!(gpu.troubles, [], "what an old driver cannot tell is no trouble");
}

async fn a_lost_gpu_does_not_hide_the_others() {
    let report = Fake::new(&eight_with(4, &json!({"lost": true}))).report().await;
    assert_eq!(report.gpus.len(), 8);
    assert_eq!((report.gpus[4].address.as_deref(), report.gpus[4].troubles.as_slice()), (None, &[Trouble::Lost][..]));
    assert_eq!(report.gpu_at(&address(5)).unwrap().troubles, []);
    let inventory = inventory_of_fixture(&View::Report(report), None);
    assert_eq!(health_of(&inventory, 4), (HealthState::Unusable, "GpuLost".to_owned()));
    assert_eq!(inventory.summary().gpus.as_deref(), Some("7/8"));
}

async fn each_way_to_fail_has_its_reason() {
    let failing = |code: u32| json!({"fail": {"nvmlInit_v2": code}});
    let cases = [
        ("NvmlVersionMismatch", failing(18)),
        ("NvmlDriverNotLoaded", failing(9)),
        ("NvmlNoPermission", failing(4)),
        ("NvmlError", failing(999)),
        ("NvmlVersionMismatch", json!({"fail": {"nvmlDeviceGetCount_v2": 18}})),
        ("NvmlCrashed", json!({"crash": ["nvmlDeviceGetUUID"], "gpus": [{}]})),
    ];
    for (reason, machine) in cases {
        assert_eq!(reason_of(&Fake::new(&machine).ask().await), reason, "{machine}");
    }
    for function in ["nvmlInit_v2", "nvmlDeviceGetName"] {
        let fake = Fake::new(&json!({"hang": [function], "gpus": [{}]}));
        assert_eq!(reason_of(&probe::ask(&fake.program(), SHORT).await), "NvmlTimeout", "{function}");
    }
    let fake = Fake::new(&eight());
    let script = fs::read_to_string(fake.program()).unwrap().replace("LIBRARY-", "LIBRARY-/nowhere");
    fs::write(fake.program(), script).unwrap();
    assert_eq!(reason_of(&fake.ask().await), "NvmlLibraryMissing");
}

async fn troubles_are_told_by_gpu() {
    let cases = [
        (json!({"eccErrors": 3}), Trouble::UncorrectableEcc(3)),
        (json!({"remapPending": true}), Trouble::RemapPending),
        (json!({"remapFailed": true}), Trouble::RemapFailed),
        (json!({"retirementPending": true}), Trouble::RetirementPending),
        (json!({"recoveryAction": 1}), Trouble::ResetRequired),
        (json!({"recoveryAction": 2}), Trouble::RebootRequired),
        (json!({"fail": {"nvmlDeviceGetName": 16}}), Trouble::ResetRequired),
    ];
    for (facts, trouble) in cases {
        let report = Fake::new(&eight_with(1, &facts)).report().await;
        assert_eq!(report.gpus[1].troubles, [trouble], "{facts}");
        assert!(report.gpus.iter().enumerate().all(|(index, gpu)| index == 1 || gpu.troubles.is_empty()), "{facts}");
    }
}

async fn an_xid_arrives_at_once_and_stays() {
    let fake = Fake::new(&eight());
    let (mut views, watching) = fake.watch(Timing { deadline: PATIENCE, interval: PATIENCE * 60 });
    report_that(&mut views, |report| report.gpus.len() == 8).await;
    fake.xid(3, 13);
    fake.xid(3, 48);
    let report = report_that(&mut views, |report| report.gpus[3].troubles.len() == 2).await;
    assert_eq!(report.gpus[3].troubles, [Trouble::Xid(13), Trouble::Xid(48)]);
    assert_eq!(report.gpus[3].verdict().unwrap().reason, "Xid48", "13 is a program's");
    fake.becomes(&eight_with(3, &json!({"lost": true})));
    fake.xid(4, 79);
    let report = report_that(&mut views, |report| !report.gpus[4].troubles.is_empty()).await;
    assert_eq!(report.gpus[3].troubles, [Trouble::Lost], "it has no address any more");
    watching.abort();
}

async fn a_hang_is_told_and_ends() {
    let fake = Fake::new(&eight());
    let (mut views, watching) = fake.watch(Timing { deadline: SHORT, interval: Duration::from_millis(20) });
    fake.xid(3, 79);
    report_that(&mut views, |report| report.gpus[3].troubles == [Trouble::Xid(79)]).await;
    fs::write(fake.path("events"), "").unwrap();
    fake.becomes(&eight_with(3, &json!({"lost": true})));
    report_that(&mut views, |report| report.gpus[3].troubles == [Trouble::Lost]).await;
    let mut hanging = eight();
    hanging["hang"] = json!(["nvmlDeviceGetCount_v2"]);
    fake.becomes(&hanging);
    let failed = |view: &View| reason_of(view) == "NvmlTimeout";
    time::timeout(PATIENCE, views.wait_for(failed)).await.expect("the hang is told").unwrap();
    fake.becomes(&eight());
    let report = report_that(&mut views, |_| true).await;
    assert_eq!(
        report.gpus[3].troubles,
        [Trouble::Xid(79)],
        "a new child does not make the GPU well, nor that it was lost meanwhile"
    );
    watching.abort();
}

async fn a_gpu_that_refuses_events_does_not_silence_the_others() {
    let fake = Fake::new(&eight_with(0, &json!({"fail": {"nvmlDeviceRegisterEvents": 999}})));
    let (mut views, watching) = fake.watch(Timing { deadline: PATIENCE, interval: PATIENCE * 60 });
    report_that(&mut views, |report| report.gpus.len() == 8).await;
    fake.xid(1, 95);
    let report = report_that(&mut views, |report| !report.gpus[1].troubles.is_empty()).await;
    assert_eq!(report.gpus[1].troubles, [Trouble::Xid(95)]);
    watching.abort();
}

async fn the_child_ends_with_its_parent() {
    let fake = Fake::new(&json!({"hang": ["nvmlInit_v2"]}));
    let mut command = Command::new(fake.program());
    command.arg(probe::SUBCOMMAND).arg(probe::WATCH_FLAG).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    assert!(child.try_wait().unwrap().is_none());
    drop(child.stdin.take());
    let ended = tokio::task::spawn_blocking(move || child.wait().unwrap());
    assert!(time::timeout(PATIENCE, ended).await.expect("it ends although NVML hangs").unwrap().success());
}

async fn mig_instances_are_devices_and_their_gpu_is_not() {
    let instances = json!({"mig": true, "instances": [
        {"place": [1, 0], "uuid": "MIG-1", "profile": "3g.40gb", "memory": 42_000_000_000_u64},
        null,
        {"place": [11, 0], "uuid": "MIG-2", "profile": "1g.10gb", "memory": 10_737_418_240_u64},
    ]});
    let report = Fake::new(&eight_with(2, &instances)).report().await;
    assert_eq!(report.gpus[2].instances.len(), 2);
    let inventory = inventory_of_fixture(&View::Report(report), None);
    assert_eq!(health_of(&inventory, 2), (HealthState::Unusable, "MigParent".to_owned()));
    assert_eq!(inventory.summary().gpus.as_deref(), Some("9/9"), "seven GPUs and two instances");
    let instance = inventory.devices.iter().find(|device| device.name == "gpu-0000-1b-00-0-11-0").unwrap();
    for (name, value) in
        [("uuid", "MIG-2"), ("migProfile", "1g.10gb"), ("migInstance", "11/0"), ("parentUUID", EIGHT[2].2)]
    {
        assert_eq!(instance.attributes.get(name), Some(&Attribute::string(value)), "{name}");
    }
    assert_eq!(instance.capacity["memory"].value.0, "10Gi");
    assert_eq!(instance.health.state, HealthState::Ready);

    let empty = Fake::new(&eight_with(2, &json!({"mig": true, "instances": [null, null]}))).report().await;
    let inventory = inventory_of_fixture(&View::Report(empty), None);
    assert_eq!(health_of(&inventory, 2), (HealthState::Unusable, "MigWithoutInstances".to_owned()));
    assert_eq!(inventory.summary().gpus.as_deref(), Some("7/8"));
}

async fn silence_changes_no_fact() {
    let instance = json!({"place": [1, 0], "uuid": "MIG-1", "profile": "7g.80gb", "memory": 80_000_000_000_u64});
    let mut machine = eight_with(2, &json!({"mig": true, "instances": [instance]}));
    machine["gpus"][5]["remapPending"] = json!(true);
    let told = inventory_of_fixture(&View::Report(Fake::new(&machine).report().await), None);
    let pending = inventory_of_fixture(&View::Pending, Some(&told));
    assert_eq!(pending, told, "an agent that starts anew writes nothing new");

    let first = inventory_of_fixture(&View::Pending, None);
    assert_eq!(health_of(&first, 5), (HealthState::Ready, "DriverBound".to_owned()));

    let failure = probe::ask(Path::new("/nowhere"), PATIENCE).await;
    let failed = inventory_of_fixture(&failure, Some(&told));
    assert_eq!(failed.devices.len(), told.devices.len());
    assert_eq!(health_of(&failed, 2).1, "MigParent", "it is still divided");
    assert_eq!(health_of(&failed, 5), (HealthState::Degraded, "NvmlError".to_owned()));
    for (before, after) in told.devices.iter().zip(&failed.devices) {
        assert_eq!(
            (&before.name, &before.attributes, &before.capacity),
            (&after.name, &after.attributes, &after.capacity)
        );
    }
}

async fn what_it_told_does_not_outlive_that_it_is_asked() {
    let instance = json!({"place": [1, 0], "uuid": "MIG-1", "profile": "7g.80gb", "memory": 80_000_000_000_u64});
    let mut machine = eight_with(2, &json!({"mig": true, "instances": [instance]}));
    machine["gpus"][5]["lost"] = json!(true);
    let told = inventory_of_fixture(&View::Report(Fake::new(&machine).report().await), None);
    assert_eq!((told.devices.len(), health_of(&told, 5).0), (9, HealthState::Unusable));
    let never = inventory_of_fixture(&View::NotAsked, None);
    assert_eq!(inventory_of_fixture(&View::NotAsked, Some(&told)), never);
    assert_eq!((never.devices.len(), health_of(&never, 5)), (8, (HealthState::Ready, "DriverBound".to_owned())));
    let failed = probe::ask(Path::new("/nowhere"), PATIENCE).await;
    let silent = inventory_of_fixture(&failed, Some(&told));
    assert_eq!(inventory_of_fixture(&View::NotAsked, Some(&silent)), never, "nor does its silence");
}

fn inventory_of_fixture(nvml: &View, previous: Option<&Inventory>) -> Inventory {
    let machine = hatrack_fixtures::machine(MACHINE).unwrap();
    let root = Root::at(machine.path());
    let answers = Answers { nvml: nvml.clone(), ..Answers::default() };
    let mut names = previous.map(|inventory| Names::of_devices(&inventory.devices)).unwrap_or_default();
    Inventory::compose(&root, inventory::look(&root), &answers, &mut names, previous)
}

fn health_of(inventory: &Inventory, index: usize) -> (HealthState, String) {
    let name = format!("gpu-{}", address(index).replace([':', '.'], "-"));
    let device = inventory.devices.iter().find(|device| device.name == name).unwrap();
    (device.health.state, device.health.reason.clone())
}

fn reason_of(view: &View) -> &str {
    if let View::Failed(failure) = view { &failure.reason } else { "" }
}

async fn report_that(views: &mut watch::Receiver<View>, is_it: impl Fn(&Report) -> bool) -> Report {
    let wanted = |view: &View| matches!(view, View::Report(report) if is_it(report));
    let view = time::timeout(PATIENCE, views.wait_for(wanted)).await.expect("a report in time").unwrap();
    let View::Report(report) = &*view else { panic!() };
    report.clone()
}
