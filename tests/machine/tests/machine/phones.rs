//! Twenty USB devices that the machine's kernel enumerates, Debian's adb server over them, and the agent's object in the cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use hatrack_api::ClusterNode;
use hatrack_api::cluster_node::{Device, DeviceClass, attribute};
use hatrack_machine::{AgentFiles, Gadget, Machine, Payload, Phones, text, twenty};
use tokio::time::sleep;

use crate::can_run;
use crate::cluster::{Cluster, soon};
use crate::report::{Percentiles, report};

const PROGRAM: &str = env!("CARGO_BIN_EXE_hatrack-phones");

/// A machine with twenty phones, none plugged in, an adb server and an agent that has registered.
pub struct Box20 {
    pub cluster: Cluster,
    pub name: String,
    pub machine: Machine,
    pub phones: Phones,
}

impl Box20 {
    pub async fn start() -> Self {
        let cluster = Cluster::shared().await;
        let name = cluster.allow_new("phones").await;
        let phones = Phones::new(twenty());
        let machine = Machine::warm(payload(&cluster, &agent(&name), &phones)).await.unwrap();
        let started = Self { cluster, name, machine, phones };
        started.prepare().await;
        started.machine.run("systemctl start hatrack-agent").await.unwrap();
        started.until("a machine without phones registers", |node| devices(node).is_empty()).await;
        started
    }

    /// The power goes and comes back. Phones are as at first, and the agent has not been started.
    pub async fn lose_power(&mut self) {
        self.machine.lose_power().await.unwrap();
        let payload = payload(&self.cluster, &agent(&self.name), &self.phones);
        self.machine.start_again(payload).await.unwrap();
        self.prepare().await;
    }

    async fn prepare(&self) {
        self.phones.make(&self.machine).await.unwrap();
        self.machine.run(START_ADB).await.unwrap();
    }

    pub async fn until(&self, what: &str, wanted: impl Fn(&ClusterNode) -> bool) -> ClusterNode {
        self.cluster.node_until(&self.name, what, wanted).await
    }

    /// Plugs a phone in and out again, waiting for the object each time, and returns how long that took: until the phone was
    /// shown at all, until it was shown with adb's word for it, and until it was gone.
    async fn cycle(&self, port: usize) -> [Duration; 3] {
        let (serial, reason) = outcome(&self.phones.gadgets()[port]);
        let shown = |node: &ClusterNode| devices(node).iter().map(seen).find(|seen| seen.0 == serial);
        let what = format!("{serial:?} is shown");
        let start = Instant::now();
        self.phones.plug(&self.machine, [port]).await.unwrap();
        self.until(&what, |node| shown(node).is_some()).await;
        let visible = start.elapsed();
        self.until(&format!("{what} with {reason}"), |node| shown(node).is_some_and(|seen| seen.1 == reason)).await;
        let known = start.elapsed();
        let start = Instant::now();
        self.phones.unplug(&self.machine, [port]).await.unwrap();
        self.until(&format!("{serial:?} is gone"), |node| shown(node).is_none()).await;
        [visible, known, start.elapsed()]
    }

    /// Plugs phones in together and out together, waiting for the object each time.
    async fn all_in_and_out(&self, ports: &[usize]) {
        self.phones.plug(&self.machine, ports.to_vec()).await.unwrap();
        self.shows("all are shown", ports).await;
        self.phones.unplug(&self.machine, ports.to_vec()).await.unwrap();
        self.shows("none is left", &[]).await;
    }

    /// What the agent holds: open files, threads, and kB of memory that is its own.
    async fn held(&self) -> [u64; 3] {
        let count = "cd /proc/$(systemctl show -P MainPID hatrack-agent) && ls fd | wc -l && ls task | wc -l && \
                     awk '/^RssAnon/ {print $2}' status";
        let counted = self.machine.run(count).await.unwrap();
        let numbers: Vec<u64> = counted.lines().map(|line| line.trim().parse().unwrap()).collect();
        numbers.try_into().unwrap()
    }

    /// Waits until the object shows these devices, well or ill as they should be, and no others.
    pub async fn shows(&self, what: &str, which: &[usize]) -> ClusterNode {
        let gadgets = self.phones.gadgets();
        let mut expected: Vec<_> = which.iter().map(|port| outcome(&gadgets[*port])).collect();
        expected.sort();
        self.until(what, |node| {
            let mut shown: Vec<_> = devices(node).iter().map(seen).collect();
            shown.sort();
            shown == expected
        })
        .await
    }
}

/// Starts the adb server, whose key is a secret of the flake's.
pub const START_ADB: &str =
    "mkdir -p /run/secrets && adb keygen /run/secrets/adb-key && udevadm control --reload && systemctl start adb";

/// An agent that does not start by itself, and tries again soon what has failed.
fn agent(name: &str) -> AgentFiles {
    let settings = toml::toml! { backoff = {max = "2s"} };
    AgentFiles { enabled: false, settings, ..AgentFiles::new("phones-1", name) }
}

/// What a machine with phones brings.
pub fn payload(cluster: &Cluster, agent: &AgentFiles, phones: &Phones) -> Payload {
    let mut payload = cluster.payload(agent).unwrap();
    phones.add_to(&mut payload, PROGRAM.as_ref()).unwrap();
    payload.file("/etc/systemd/system/adb.service", text("phones-1", "adb.service").unwrap()).unwrap();
    payload.file("/etc/udev/rules.d/99-local.rules", text("phones-1", "hatrack.rules").unwrap()).unwrap();
    payload.link("/nix/store/android-tools/bin", "/usr/bin").unwrap();
    payload
}

/// Serial number and the reason of the health that a device is to have.
type Outcome = (Option<String>, String);

fn outcome(gadget: &Gadget) -> Outcome {
    let reason = match (gadget.adb.as_deref(), gadget.interfaces[0].name.as_str()) {
        (Some("device"), _) => "AdbDevice",
        (Some("unauthorized"), _) => "AdbUnauthorized",
        (Some(_), _) => "AdbOffline",
        (None, "MTP") => "AdbOff",
        (None, "fastboot") => "FastbootMode",
        (None, "PTP") => "AppleDevice",
        (None, _) => "",
    };
    (gadget.serial.clone(), reason.to_owned())
}

fn seen(device: &Device) -> Outcome {
    let serial = device.attributes.get(attribute::SERIAL).map(ToString::to_string);
    (serial, if device.class == DeviceClass::Phone { device.health.reason.clone() } else { String::new() })
}

/// The devices that an object shows.
pub fn devices(node: &ClusterNode) -> &[Device] {
    node.status.as_ref().and_then(|status| status.devices.as_deref()).unwrap_or_default()
}

#[tokio::test]
async fn twenty_phones_come_and_go_and_the_object_is_right_each_time() {
    if !can_run() {
        return;
    }
    let machine = Box20::start().await;
    let all: Vec<_> = (0..20).collect();

    // One after the other, then all at once.
    machine.phones.plug(&machine.machine, [0]).await.unwrap();
    machine.shows("one phone is shown", &[0]).await;
    machine.phones.plug(&machine.machine, [18]).await.unwrap();
    machine.shows("and an iPhone beside it", &[0, 18]).await;
    machine.phones.unplug(&machine.machine, [0]).await.unwrap();
    machine.shows("and the iPhone alone", &[18]).await;
    machine.phones.unplug(&machine.machine, [18]).await.unwrap();
    machine.shows("and none", &[]).await;

    let start = Instant::now();
    machine.phones.plug(&machine.machine, all.clone()).await.unwrap();
    let node = machine.shows("all twenty are shown", &all).await;
    report(&format!(
        "20 devices plugged in at once, all shown with adb's word after {:.1} s",
        start.elapsed().as_secs_f64()
    ));
    let summary = node.status.as_ref().unwrap().summary.clone().unwrap();
    assert_eq!((summary.phones.as_deref(), summary.accelerators.as_deref()), (Some("12/19"), Some("1/1")));
    let states = machine.machine.run("adb devices | sed 1d | awk 'NF {print $NF}' | sort | uniq -c").await.unwrap();
    let states: Vec<_> = states.lines().map(str::trim).collect();
    assert_eq!(states, ["12 device", "1 offline", "2 unauthorized"], "what adb itself says");
    let twins = devices(&node).iter().filter(|device| seen(device).0.as_deref() == Some("TWIN"));
    let places: BTreeSet<_> = twins.map(|twin| twin.attributes[attribute::USB_PATH].to_string()).collect();
    assert_eq!(places.len(), 2, "two phones of one serial number are told apart by their ports: {places:?}");
    let by_name: BTreeMap<_, _> = devices(&node).iter().map(|device| (device.name.as_str(), device)).collect();
    assert_eq!(by_name.len(), 20, "no two have one name");
    assert!(by_name.contains_key("phone-pixel10001"), "{:?}", by_name.keys());
    for phone in machine.phones.gadgets().iter().filter(|phone| phone.adb.as_deref() == Some("unauthorized")) {
        let keys = format!("adb pubkey /run/secrets/adb-key && cat {}", phone.screen().display());
        let keys = machine.machine.run(&keys).await.unwrap();
        // Behind the key stands who made it.
        let keys: Vec<_> = keys.lines().filter_map(|line| line.split(' ').next()).collect();
        assert!(
            matches!(keys[..], [own, asked] if own == asked),
            "{} is asked to trust another key: {keys:?}",
            phone.name
        );
    }

    machine.phones.unplug(&machine.machine, all).await.unwrap();
    machine.shows("and none again", &[]).await;
}

#[tokio::test]
async fn a_phone_that_comes_and_goes_two_hundred_times_costs_the_agent_nothing() {
    const CYCLES: usize = 200;
    /// What an allocator keeps for itself, in kB. A leak of one device in each cycle would be more.
    const SLACK: u64 = 2048;
    if !can_run() {
        return;
    }
    let machine = Box20::start().await;
    // One alone tells the times, and lets the agent have what it keeps.
    let mut times = [Percentiles::default(), Percentiles::default(), Percentiles::default()];
    for _ in 0..8 {
        for (times, time) in times.iter_mut().zip(machine.cycle(0).await) {
            times.add(time);
        }
    }
    for (what, times) in ["shown", "shown with adb's word", "gone"].iter().zip(&mut times) {
        report(&format!("from the port to the object, {what}: {}", times.text()));
    }
    let all: Vec<_> = (0..20).collect();
    machine.all_in_and_out(&all).await;

    let before = machine.held().await;
    let start = Instant::now();
    for _ in 0..CYCLES / all.len() {
        machine.all_in_and_out(&all).await;
    }
    report(&format!("{CYCLES} times in and out, {} at once, in {:.0} s", all.len(), start.elapsed().as_secs_f64()));

    // Connections to the adb server and threads that wait for work end a moment later.
    let rests = async {
        loop {
            let held = machine.held().await;
            if held[0] <= before[0] && held[1] <= before[1] {
                return held;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    let after = soon("the agent lets go of files and threads", rests).await;
    report(&format!("open files, threads, kB of the agent: {before:?} before, {after:?} after"));
    assert!(after[2] <= before[2] + SLACK, "memory is left: {before:?}, {after:?}");
}
