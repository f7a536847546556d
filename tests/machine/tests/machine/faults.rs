//! What a machine loses, and what holds all the same: the object becomes true again, and nothing that a person wrote is lost.

use std::time::Duration;

use hatrack_api::ClusterNode;
use hatrack_testbed::timed;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::sleep;

use crate::can_run;
use crate::cluster::soon;
use crate::phones::Box20;
use crate::report::report;

/// Where the agent keeps its state.
const STATE: &str = "/var/lib/hatrack";

/// Large enough for a journal.
const STATE_BYTES: u64 = 64 << 20;

/// A phone that comes and goes without end.
const FLAP: &str = "systemd-run --quiet sh -c 'cd /sys/kernel/config/usb_gadget/pixel-2 && while :; do \
                    echo dummy_udc.1 >UDC; sleep 0.4; echo >UDC; done'";

/// Asks the agent for its metrics.
const METRICS: &str = "exec 3<>/dev/tcp/127.0.0.1/9470 && printf 'GET /metrics HTTP/1.0\\r\\n\\r\\n' >&3 && cat <&3";

impl Box20 {
    /// Puts the agent's state on a small disk of its own.
    async fn state_on_disk(&mut self, bytes: u64) {
        self.machine.add_disk("state", bytes).await.unwrap();
        let disk = "/dev/disk/by-id/virtio-state";
        let mount = format!(
            "systemctl stop hatrack-agent && mkfs.ext4 -q {disk} && mount {disk} {STATE} && systemctl start hatrack-agent"
        );
        self.machine.run(&mount).await.unwrap();
    }

    async fn until_metric(&self, line: &str) {
        let shown = async {
            while !self.machine.try_run(METRICS).await.unwrap().output.lines().any(|shown| shown == line) {
                sleep(Duration::from_millis(200)).await;
            }
        };
        soon(line, shown).await;
    }

    /// A person cordons the machine and says what should be there.
    async fn person_writes(&self) {
        let patch = json!({"spec": {"unschedulable": true, "expects": {"phones": 7}}});
        self.cluster.nodes().patch(&self.name, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// Waits until the agent has seen what the person wrote, which stands.
    async fn person_is_heard(&self) {
        let heard = |node: &ClusterNode| {
            node.status.as_ref().and_then(|status| status.observed_generation) == node.metadata.generation
        };
        let node = self.until("the agent has seen the spec", heard).await;
        assert_eq!(node.spec.unschedulable, Some(true));
        assert_eq!(node.spec.expects.and_then(|expects| expects.phones), Some(7));
    }
}

#[tokio::test]
async fn a_state_disk_that_is_full_or_read_only_stops_no_registration() {
    if !can_run() {
        return;
    }
    let mut machine = Box20::start().await;
    machine.state_on_disk(STATE_BYTES).await;
    machine.until_metric("hatrack_agent_state_kept 1").await;

    machine
        .machine
        .run(&format!("dd if=/dev/zero of={STATE}/fill bs=64k 2>/dev/null; sync; df {STATE}"))
        .await
        .unwrap();
    machine.phones.plug(&machine.machine, [0]).await.unwrap();
    let shown = machine.shows("a phone is shown while the disk is full", &[0]);
    timed("the state's disk is full, a phone is shown", shown).await;
    machine.until_metric("hatrack_agent_state_kept 0").await;
    machine.machine.run(&format!("rm {STATE}/fill")).await.unwrap();
    timed("the state's disk has room again, the state is kept", machine.until_metric("hatrack_agent_state_kept 1"))
        .await;

    machine.machine.run(&format!("mount -o remount,ro {STATE}")).await.unwrap();
    machine.phones.plug(&machine.machine, [1]).await.unwrap();
    machine.shows("a second one while it is read-only", &[0, 1]).await;
    machine.until_metric("hatrack_agent_state_kept 0").await;
    machine.person_writes().await;
    machine.person_is_heard().await;
    machine.machine.run(&format!("mount -o remount,rw {STATE}")).await.unwrap();
    timed(
        "the state's disk can be written again, the state is kept",
        machine.until_metric("hatrack_agent_state_kept 1"),
    )
    .await;
}

#[tokio::test]
async fn what_happened_while_the_network_was_cut_or_bad_is_shown_when_it_is_back() {
    if !can_run() {
        return;
    }
    let machine = Box20::start().await;
    machine.machine.set_network(false).await.unwrap();
    machine.phones.plug(&machine.machine, [0, 18]).await.unwrap();
    machine.person_writes().await;
    machine.until_metric("hatrack_agent_registered 0").await;
    machine.machine.set_network(true).await.unwrap();
    timed("the network is back, what happened is shown", machine.shows("what was plugged in meanwhile", &[0, 18]))
        .await;
    machine.person_is_heard().await;

    // Slow, in the wrong order, and with losses.
    machine.machine.run("tc qdisc add dev eth0 root netem delay 200ms 100ms reorder 25% loss 5%").await.unwrap();
    machine.phones.unplug(&machine.machine, [0]).await.unwrap();
    timed("over a bad network, an unplugged phone is gone", machine.shows("the one that is left", &[18])).await;
    machine.machine.run("tc qdisc del dev eth0 root").await.unwrap();

    for _ in 0..5 {
        machine.machine.set_network(false).await.unwrap();
        machine.machine.set_network(true).await.unwrap();
    }
    machine.phones.unplug(&machine.machine, [18]).await.unwrap();
    timed("over a network that came and went, the last is gone", machine.shows("none", &[])).await;
    machine.person_is_heard().await;
}

#[tokio::test]
async fn a_machine_that_loses_its_power_while_it_writes_knows_its_devices_again() {
    if !can_run() {
        return;
    }
    let mut machine = Box20::start().await;
    machine.state_on_disk(STATE_BYTES).await;
    machine.phones.plug(&machine.machine, [0, 10]).await.unwrap();
    let before = machine.shows("two phones", &[0, 10]).await;
    machine.person_writes().await;
    // The state is written each time: the power goes while it is.
    machine.machine.run(FLAP).await.unwrap();
    let seed = fastrand::u64(500..2500);
    report(&format!("the power goes after {seed} ms"));
    sleep(Duration::from_millis(seed)).await;

    machine.lose_power().await;
    machine.machine.add_disk("state", STATE_BYTES).await.unwrap();
    machine
        .machine
        .run(&format!(
            "mkdir -p {STATE} && mount /dev/disk/by-id/virtio-state {STATE} && ls -l {STATE} && ! ls {STATE}/*.corrupt"
        ))
        .await
        .unwrap();
    machine.phones.plug(&machine.machine, [0, 10]).await.unwrap();
    machine.machine.run("systemctl start hatrack-agent").await.unwrap();
    let shown = machine.shows("the same two phones", &[0, 10]);
    let after = timed("the agent is started after a loss of power, the phones are shown", shown).await;
    let names = |node: &ClusterNode| -> Vec<String> {
        crate::phones::devices(node).iter().map(|device| device.name.clone()).collect()
    };
    assert_eq!(names(&after), names(&before), "names are kept");
    machine.person_is_heard().await;
}
