//! Hats that the operator places, worn by units of a machine's own systemd: the agent starts their targets over D-Bus without being root, and
//! polkit lets it do that and nothing else.

use hatrack_api::ClusterNode;
use hatrack_api::cluster_node::{WornHat, WornState};
use hatrack_api::hat_binding::{HatBinding, HatBindingStatus, Phase};
use hatrack_machine::{AgentFiles, Machine, Phones, twenty};
use hatrack_testbed::{timed, unique};
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use crate::can_run;
use crate::cluster::soon;
use crate::phones::{START_ADB, payload};
use crate::report::report;
use crate::society::Society;

/// A hat that needs a phone.
fn needs_a_phone() -> Value {
    let selectors = ["device.health.state == 'Ready'"];
    json!({"requirements": {"devices": [{"name": "phone", "class": "phone", "count": 1, "selectors": selectors}]}})
}

/// A unit that wears a hat. `before` is what it does before it has started, with the environment of the hat.
fn unit(hat: &str, before: &str) -> String {
    format!(
        "[Unit]\nPartOf=hat@{hat}.target\n\
         [Service]\nEnvironmentFile=/run/hatrack/hats/{hat}/*.env\nExecStartPre=/bin/sh -c '{before}'\nExecStart=/bin/sleep infinity\n\
         TimeoutStopSec=25\n[Install]\nWantedBy=hat@{hat}.target\n"
    )
}

/// A machine with an agent, and units that wear hats.
struct Wardrobe {
    society: Society,
    name: String,
    machine: Machine,
    phones: Phones,
}

impl Wardrobe {
    /// With two phones that are not plugged in, and units that do something before they have started.
    async fn start(units: &[(&str, &str)]) -> Self {
        let society = Society::shared().await;
        let name = society.cluster.allow_new("wears").await;
        let mut agent = AgentFiles::new("phones-1", &name);
        agent.settings = toml::toml! {
            lease = {period = "2s", duration = "20s"}
            backoff = {max = "2s"}
            wear = {fence-wait = "1s"}
        };
        let phones = Phones::new(twenty().into_iter().take(2).collect());
        let mut payload = payload(&society.cluster, &agent, &phones);
        for (hat, before) in units {
            let service = format!("{hat}.service");
            payload.file(&format!("/etc/systemd/system/{service}"), unit(hat, before)).unwrap();
            let wants = format!("/etc/systemd/system/hat@{hat}.target.wants/{service}");
            payload.link(&wants, &format!("../{service}")).unwrap();
        }
        let machine = Machine::warm(payload).await.unwrap();
        machine.run("systemctl start hatrack-agent").await.unwrap();
        Self { society, name, machine, phones }
    }

    async fn run(&self, command: &str) -> String {
        self.machine.run(command).await.unwrap()
    }

    async fn until(&self, what: &str, wanted: impl Fn(&ClusterNode) -> bool) -> ClusterNode {
        self.society.cluster.node_until(&self.name, what, wanted).await
    }

    /// Somebody asks for a hat that only this machine can wear.
    async fn ask(&self, hat: &str, spec: Value) -> HatBinding {
        self.society.hat(hat, &self.name, spec).await;
        self.society.ask(hat).await
    }

    /// Waits until the agent says that a hat is worn, and nothing else.
    async fn runs(&self, binding: &HatBinding) {
        let runs = |worn: &WornHat| worn.state == WornState::Running && worn.message.is_empty();
        self.until("the hat is worn", |node| worn(node, binding).is_some_and(runs)).await;
    }

    /// Waits until the agent misses what a hat holds.
    async fn is_degraded(&self, binding: &HatBinding, device: &str) {
        let message = format!("Degraded: {device} gone or unusable");
        self.until(&message, |node| worn(node, binding).is_some_and(|worn| worn.message == message)).await;
    }

    /// Waits until a unit is in a state, by the machine's own word: it may have no network.
    async fn unit_is(&self, unit: &str, state: &str) {
        let show = format!("systemctl show -P ActiveState {unit}");
        let polled = async {
            while self.run(&show).await.trim() != state {
                sleep(Duration::from_millis(200)).await;
            }
        };
        soon(&format!("{unit} {state}"), polled).await;
    }

    /// The port of a phone, and its serial number, by the device that a binding holds.
    fn held(&self, status: &HatBindingStatus) -> (usize, String) {
        let [device] = status.devices.as_slice() else { panic!("one phone: {status:?}") };
        let serial = |port: usize| self.phones.gadgets()[port].serial.clone().unwrap();
        let port = (0..2).find(|port| *device == format!("phone-{}", serial(*port).to_lowercase())).unwrap();
        (port, serial(port))
    }

    async fn variable(&self, hat: &str, name: &str) -> String {
        let text = self.run(&format!("cat /run/{hat}.seen")).await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        value.unwrap_or_else(|| panic!("no {name} in:\n{text}")).to_owned()
    }
}

fn worn<'a>(node: &'a ClusterNode, binding: &HatBinding) -> Option<&'a WornHat> {
    node.status.as_ref()?.worn.as_ref()?.iter().find(|worn| Some(&worn.binding) == binding.metadata.uid.as_ref())
}

/// Whether a machine has nothing to wear and wears nothing.
fn is_bare(node: &ClusterNode) -> bool {
    let Some(status) = &node.status else { return false };
    let is_empty = |none: Option<bool>| none.unwrap_or(true);
    is_empty(status.hats.as_ref().map(Vec::is_empty)) && is_empty(status.worn.as_ref().map(Vec::is_empty))
}

#[tokio::test]
async fn a_hat_goes_on_with_another_phone_when_its_own_is_lost_and_waits_when_none_is_left() {
    if !can_run() {
        return;
    }
    let hat = unique("tester");
    // The service uses its phone as a person would: adb takes the serial number from the environment.
    let see = format!("env >/run/{hat}.seen; echo ADB=$$(adb get-serialno) $$(adb get-state) >>/run/{hat}.seen");
    let wardrobe = Wardrobe::start(&[(&hat, &see)]).await;
    let Wardrobe { society, machine, phones, .. } = &wardrobe;
    wardrobe.run(START_ADB).await;
    phones.make(machine).await.unwrap();
    phones.plug(machine, [0, 1]).await.unwrap();
    let (target, service) = (format!("hat@{hat}.target"), format!("{hat}.service"));

    let binding = wardrobe.ask(&hat, needs_a_phone()).await;
    let active = society.phase(&binding, Phase::Active).await;
    wardrobe.runs(&binding).await;
    wardrobe.run(&format!("systemctl is-active {target} {service}")).await;
    let (first, serial) = wardrobe.held(&active);
    assert_eq!(active.node_name.as_deref(), Some(&*wardrobe.name));
    let uid = binding.uid().unwrap();
    for (name, value) in [
        ("ANDROID_SERIAL", &*serial),
        ("ADB", &format!("{serial} device")),
        ("HATRACK_HAT", &hat),
        ("HATRACK_BINDING", &uid),
        ("HATRACK_DEVICES", &active.devices[0]),
        ("HATRACK_FENCING_TOKEN", "0"),
    ] {
        assert_eq!(wardrobe.variable(&hat, name).await, value, "{name}");
    }
    let file = format!("/run/hatrack/hats/{hat}/{uid}");
    assert_eq!(
        wardrobe.run(&format!("stat -c '%U:%G %a' {file}.env {file}.json")).await,
        "hatrack:hatrack 640\n".repeat(2)
    );

    // What the agent's user may start is the hat, not what wears it.
    let as_agent = "setpriv --reuid hatrack --regid hatrack --clear-groups -- systemctl --no-ask-password";
    for verb in ["start", "stop"] {
        let refused = machine.try_run(&format!("{as_agent} {verb} {service}")).await.unwrap();
        assert!(refused.output.contains("Interactive authentication required"), "{verb}: {refused:?}");
    }

    // A phone that comes back in time: the service goes on.
    let invocation = format!("systemctl show -P InvocationID {service}");
    let before = wardrobe.run(&invocation).await;
    phones.unplug(machine, [first]).await.unwrap();
    wardrobe.is_degraded(&binding, &active.devices[0]).await;
    phones.plug(machine, [first]).await.unwrap();
    wardrobe.runs(&binding).await;
    assert_eq!(wardrobe.run(&invocation).await, before);
    assert_eq!(society.reasons(&binding).await, ["Admitted"]);
    wardrobe.run(&format!("test -c $(jq -r '.devices[0].nodes[0]' {file}.json)")).await;

    // One that does not: the other phone takes its place.
    let second = 1 - first;
    phones.unplug(machine, [first]).await.unwrap();
    wardrobe.is_degraded(&binding, &active.devices[0]).await;
    let has_moved = |status: &HatBindingStatus| status.phase == Phase::Active && status.devices != active.devices;
    let until = society.until(&binding, "the hat has the other phone", has_moved);
    let moved = timed("the phone of a hat was missed, the hat has the other one", until).await;
    let (port, serial) = wardrobe.held(&moved);
    assert_eq!(port, second);
    wardrobe.runs(&binding).await;
    assert_eq!(wardrobe.variable(&hat, "ADB").await, format!("{serial} device"));
    assert_eq!(society.reasons(&binding).await, ["Admitted", "DeviceLost", "Moved"]);

    // None is left: the request waits, and says for what.
    phones.unplug(machine, [second]).await.unwrap();
    let held = timed("the last phone was unplugged, the hat waits", society.phase(&binding, Phase::Pending)).await;
    wardrobe.until("nothing is worn", is_bare).await;
    wardrobe.unit_is(&service, "inactive").await;
    wardrobe.run(&format!("test ! -e {file}.env -a ! -e {file}.json")).await;
    let says = |status: &HatBindingStatus| {
        status
            .conditions
            .iter()
            .any(|condition| condition.reason == "Unschedulable" && condition.message.contains("no phone"))
    };
    let waits = society.until(&binding, "the request says what is missing", says).await;
    report(&format!(
        "held: {}",
        waits.conditions.iter().map(|condition| &*condition.message).collect::<Vec<_>>().join("; ")
    ));
    assert_eq!((held.node_name, held.devices), (None, Vec::new()));
    assert_eq!(society.reasons(&binding).await, ["Admitted", "DeviceLost", "Moved", "DeviceLost"]);

    // The first one comes back.
    phones.plug(machine, [first]).await.unwrap();
    let back = timed("a phone is there again, the hat is Active", society.phase(&binding, Phase::Active)).await;
    assert_eq!(back.devices, active.devices);
    wardrobe.runs(&binding).await;
    wardrobe.run(&format!("systemctl is-active {target} {service}")).await;
}

#[tokio::test]
async fn hats_outlast_the_agent_and_a_reboot_and_end_without_the_network() {
    if !can_run() {
        return;
    }
    let (lasting, short) = (unique("lasting"), unique("short"));
    let wardrobe = Wardrobe::start(&[(&lasting, &waits_at_gate(&lasting)), (&short, "true")]).await;
    let binding = wardrobe.ask(&lasting, json!({})).await;
    the_agent_is_killed_while_it_starts_a_target(&wardrobe, &lasting, &binding).await;
    the_machine_reboots(&wardrobe, &lasting, &binding).await;
    wardrobe.society.release(&binding).await;
    wardrobe.until("nothing is worn", is_bare).await;
    the_network_is_cut(&wardrobe, &lasting, &short).await;
}

/// What a unit does that takes long to start: it counts, and waits until it may go on.
fn waits_at_gate(hat: &str) -> String {
    format!("echo >>/run/{hat}.starts; until [ -e /run/{hat}.gate ]; do sleep 0.2; done")
}

/// The target waits for its unit, and the agent for the target.
async fn the_agent_is_killed_while_it_starts_a_target(wardrobe: &Wardrobe, hat: &str, binding: &HatBinding) {
    let service = format!("{hat}.service");
    wardrobe.unit_is(&service, "activating").await;
    let agent = "systemctl show -P MainPID hatrack-agent";
    let killed = wardrobe.run(agent).await;
    wardrobe.run("systemctl kill -s KILL hatrack-agent").await;
    let again = async {
        while [&killed, "0\n"].contains(&&*wardrobe.run(agent).await) {
            sleep(Duration::from_millis(200)).await;
        }
    };
    soon("the agent is started again", timed("the agent was killed, the next one runs", again)).await;
    wardrobe.unit_is("hatrack-agent", "active").await;
    assert_eq!(wardrobe.run(&format!("systemctl show -P ActiveState {service}")).await, "activating\n");
    wardrobe.run(&format!("touch /run/{hat}.gate")).await;
    wardrobe.runs(binding).await;
    assert_eq!(wardrobe.run(&format!("wc -l </run/{hat}.starts")).await, "1\n", "it was started once");
    assert_eq!(wardrobe.society.reasons(binding).await, ["Admitted"]);
}

/// The machine wears the hat again, without anybody having decided anything.
async fn the_machine_reboots(wardrobe: &Wardrobe, hat: &str, binding: &HatBinding) {
    let before = wardrobe.society.phase(binding, Phase::Active).await;
    wardrobe.machine.reboot().await.unwrap();
    wardrobe.run(&format!("touch /run/{hat}.gate")).await;
    wardrobe.unit_is(&format!("{hat}.service"), "active").await;
    let boot = wardrobe.run("cat /proc/sys/kernel/random/boot_id").await;
    let runs_since_boot = |node: &ClusterNode| {
        let identity = node.status.as_ref().and_then(|status| status.identity.as_ref());
        let has_booted = identity.is_some_and(|identity| identity.boot_id.as_deref() == Some(boot.trim()));
        has_booted && worn(node, binding).is_some_and(|worn| worn.state == WornState::Running)
    };
    let worn_again = wardrobe.until("the hat is worn since the new start", runs_since_boot);
    timed("the machine answers after a reboot, the hat is shown as worn", worn_again).await;
    assert_eq!(wardrobe.society.phase(binding, Phase::Active).await, before);
}

/// One hat ends with its term, the other when nothing was heard for the grace; and that one begins anew once the operator has placed it again.
async fn the_network_is_cut(wardrobe: &Wardrobe, lasting: &str, short: &str) {
    let Wardrobe { society, machine, .. } = wardrobe;
    society.policy(json!({"nodeGraceSeconds": 60})).await;
    let (binding, service) = (society.ask(lasting).await, format!("{lasting}.service"));
    wardrobe.runs(&binding).await;
    let brief = wardrobe.ask(short, json!({"termSeconds": 45})).await;
    wardrobe.runs(&brief).await;
    machine.set_network(false).await.unwrap();
    wardrobe.unit_is(&format!("{short}.service"), "inactive").await;
    assert_eq!(wardrobe.run(&format!("systemctl show -P ActiveState {service}")).await, "active\n");
    timed("the hat with a term has ended without the network, the other ends", wardrobe.unit_is(&service, "inactive"))
        .await;
    // The operator knows without the machine that both have ended there.
    society.phase(&brief, Phase::Expired).await;
    society.phase(&binding, Phase::Pending).await;
    machine.set_network(true).await.unwrap();
    let worn_anew = async {
        society.phase(&binding, Phase::Active).await;
        wardrobe.runs(&binding).await;
    };
    timed("the network is back, the hat is worn anew", worn_anew).await;
    wardrobe.until("the short hat is forgotten", |node| worn(node, &brief).is_none()).await;
    let token = format!("grep --no-filename FENCING /run/hatrack/hats/{lasting}/*.env");
    assert_eq!(wardrobe.run(&token).await, "HATRACK_FENCING_TOKEN=\"1\"\n");
    assert_eq!(society.reasons(&brief).await, ["Admitted", "TermEnded"]);
    assert_eq!(society.reasons(&binding).await, ["Admitted", "NodeLost", "Moved"]);
}
