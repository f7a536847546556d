//! A machine that nobody knows, from power on to a Ready ClusterNode: the unit that the flake renders, a token that a person made, the operator's
//! approval and the cluster's own signer.

use std::process::Command;
use std::time::Instant;

use hatrack_api::ClusterNode;
use hatrack_machine::{AgentFiles, Machine, Payload};
use hatrack_testbed::{program, unique};

use crate::can_run;
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

#[tokio::test]
async fn a_machine_enrolls_from_power_on_with_a_token_that_a_person_made() {
    if !can_run() {
        return;
    }
    let society = Society::shared().await;
    society.cluster.plane.publish_cluster_info().await.unwrap();
    let name = unique("enrolls");
    let mut payload = Payload::default();
    let agent = AgentFiles { has_access: false, ..AgentFiles::new("phones-1", &name) };
    agent.add_to(&mut payload).unwrap();
    payload.secret(TOKEN, token(&society, &name)).unwrap();
    payload.file("/etc/tmpfiles.d/secrets.conf", SECRETS).unwrap();

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
}
