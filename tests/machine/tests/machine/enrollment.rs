//! A machine that nobody knows, from power on to a Ready ClusterNode: the unit that the flake renders, a token that a person made, the operator's
//! approval and the cluster's own signer.

use std::process::Command;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use hatrack_api::cluster_node::NodeLease;
use hatrack_api::{ClusterNode, SYSTEM_NAMESPACE};
use hatrack_machine::{AgentFiles, Machine, Payload};
use hatrack_testbed::{program, timed, unique};
use kube::Api;

use crate::can_run;
use crate::cluster::until;
use crate::report::report;
use crate::society::Society;

/// Where the token is kept; `/run` is empty when the machine starts.
const TOKEN: &str = "/var/lib/enrollment.toml";

/// What sops-nix does for the agent's unit: the secret is there before any service.
const SECRETS: &str = "C /run/secrets/enrollment-phones-1 0600 root root - /var/lib/enrollment.toml\n";

/// What a person types on the host.
fn hatrack(society: &Society, arguments: &[&str]) -> String {
    let plane = &society.cluster.plane;
    let kubeconfig = plane.kubeconfig_for(&plane.admin_identity().unwrap()).unwrap();
    let mut command = Command::new(program("hatrack").unwrap());
    let output = command.args(arguments).env("KUBECONFIG", kubeconfig).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn token(society: &Society, name: &str) -> String {
    let server = society.cluster.address();
    hatrack(society, &["token", "create", name, "--class", "phone-orchestrator", "--server", &server])
}

fn is_ready(node: &ClusterNode) -> bool {
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True"))
}

/// What a machine brings that nobody knows: the agent, and its token.
async fn unknown(society: &Society, name: &str) -> Payload {
    society.cluster.plane.publish_cluster_info().await.unwrap();
    let mut payload = Payload::default();
    let agent = AgentFiles { has_access: false, ..AgentFiles::new("phones-1", name) };
    agent.add_to(&mut payload).unwrap();
    payload.secret(TOKEN, token(society, name)).unwrap();
    payload.file("/etc/tmpfiles.d/secrets.conf", SECRETS).unwrap();
    payload
}

#[tokio::test]
async fn a_machine_enrolls_from_power_on_with_a_token_that_a_person_made() {
    if !can_run() {
        return;
    }
    let society = Society::shared().await;
    let name = unique("enrolls");
    let payload = unknown(&society, &name).await;

    let start = Instant::now();
    let machine = Machine::boot(payload).await.unwrap();
    let node = society.cluster.node_until(&name, "the machine is Ready", is_ready).await;
    report(&format!(
        "power on to Ready, with a token and the operator's approval, in {:.1} s",
        start.elapsed().as_secs_f64()
    ));
    let uuid = machine.run("cat /sys/class/dmi/id/product_uuid").await.unwrap();
    assert_eq!(node.spec.hardware_id.as_deref(), Some(uuid.trim()));
    let kept = machine.run("stat -c '%n %U %a' /var/lib/hatrack/*").await.unwrap();
    assert!(kept.lines().any(|line| line == "/var/lib/hatrack/kubeconfig hatrack 600"), "{kept}");
    assert!(!kept.contains("requested.key"), "{kept}");

    machine.run(&format!("rm {TOKEN} /etc/tmpfiles.d/secrets.conf")).await.unwrap();
    machine.reboot().await.unwrap();
    let boot = machine.run("cat /proc/sys/kernel/random/boot_id").await.unwrap();
    let is_back = |node: &ClusterNode| {
        let identity = node.status.as_ref().and_then(|status| status.identity.as_ref());
        identity.is_some_and(|identity| identity.boot_id.as_deref() == Some(boot.trim())) && is_ready(node)
    };
    society.cluster.node_until(&name, "it is Ready without its token", is_back).await;
}

#[tokio::test]
async fn a_machine_whose_clock_is_wrong_until_later_enrolls_and_stays() {
    if !can_run() {
        return;
    }
    let society = Society::shared().await;
    let name = unique("past");
    let machine = Machine::warm(unknown(&society, &name).await).await.unwrap();
    // No certificate of the cluster is valid yet in that year.
    let start =
        "date -s '2001-01-01 00:00:00 UTC' && systemd-tmpfiles --create secrets.conf && systemctl start hatrack-agent";
    machine.run(start).await.unwrap();
    let ready = society.cluster.node_until(&name, "the machine is Ready", is_ready);
    timed("the agent is started in the year 2001, the machine is Ready", ready).await;
    assert!(machine.run("date +%Y").await.unwrap().starts_with("2001"), "nobody has set its clock");

    // As a client of NTP does, which has no network before.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    machine.run(&format!("date -s @{now}")).await.unwrap();
    let renewed = |lease: &NodeLease| lease.spec.as_ref().and_then(|spec| spec.renew_time.clone());
    let leases: Api<NodeLease> = Api::namespaced(society.cluster.admin.clone(), SYSTEM_NAMESPACE);
    let before = renewed(&leases.get(&name).await.unwrap());
    let lease = until(&leases, &name, "a renewal", |lease| renewed(lease) > before).await;
    let off = SystemTime::from(renewed(&lease).unwrap().0).duration_since(UNIX_EPOCH).unwrap().as_secs().abs_diff(now);
    assert!(off < 300, "the renewal is {off} s off");
    let asked = machine.run("journalctl --unit hatrack-agent | grep -c 'asked for a certificate'").await.unwrap();
    assert_eq!(asked, "1\n", "the one that it has is good");
    let node = society.cluster.nodes().get(&name).await.unwrap();
    assert!(is_ready(&node), "{node:?}");
}
