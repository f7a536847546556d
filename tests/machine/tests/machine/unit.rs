//! The agent's unit as systemd runs it: without root, without capabilities, and with a regular expression between it and other units.

use hatrack_machine::{AgentFiles, Machine};

use crate::can_run;
use crate::cluster::Cluster;
use crate::report::report;

#[tokio::test]
async fn the_agent_has_no_rights_beyond_its_own_and_starts_targets_of_hats_alone() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::shared().await;
    let name = cluster.allow_new("unit").await;
    let machine = Machine::warm(cluster.payload(&AgentFiles::new("phones-1", &name)).unwrap()).await.unwrap();
    machine.run("systemctl start hatrack-agent").await.unwrap();
    let node = cluster.node_until(&name, "the machine registers", |node| node.status.is_some()).await;

    // Root alone reads the UUID, and the agent is not root.
    let uuid = machine.run("cat /sys/class/dmi/id/product_uuid").await.unwrap();
    assert_eq!(node.spec.hardware_id.as_deref(), Some(uuid.trim()));
    let as_agent = |command: &str| format!("setpriv --reuid hatrack --regid hatrack --clear-groups -- {command}");
    let refused = machine.try_run(&as_agent("cat /sys/class/dmi/id/product_uuid")).await.unwrap();
    assert!(refused.output.contains("Permission denied"), "{refused:?}");

    let process = "/proc/$(systemctl show -P MainPID hatrack-agent)/status";
    let rights = machine.run(&format!("grep -E '^(Uid|CapPrm|CapEff|CapBnd|NoNewPrivs)' {process}")).await.unwrap();
    let lines: Vec<Vec<&str>> = rights.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[0][1..], ["990"; 4], "{rights}");
    for line in &lines[1..4] {
        assert_eq!(line[1], "0000000000000000", "{rights}");
    }
    assert_eq!(lines[4][1], "1", "{rights}");

    // The threshold is in tenths, and is one that still passes.
    let score = machine.try_run("systemd-analyze security --no-pager --threshold=19 hatrack-agent").await.unwrap();
    let overall = score.output.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_default();
    report(overall.trim());
    assert_eq!(score.status, 0, "{}", score.output);
    let strict = machine.try_run("systemd-analyze security --no-pager --threshold=1 hatrack-agent").await.unwrap();
    assert_ne!(strict.status, 0, "a threshold that nothing passes was passed");

    machine.run(&as_agent("systemctl start hat@repair.target")).await.unwrap();
    machine.run("systemctl is-active hat@repair.target").await.unwrap();
    machine.run(&as_agent("systemctl stop hat@repair.target")).await.unwrap();
    for unit in ["start multi-user.target", "stop dbus.service", "restart hat@repair.target", "start hat@a_b.target"] {
        let refused = machine.try_run(&as_agent(&format!("systemctl --no-ask-password {unit}"))).await.unwrap();
        assert!(refused.output.contains("Interactive authentication required"), "{unit}: {refused:?}");
    }
}
