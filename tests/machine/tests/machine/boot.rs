//! From power on to registered.

use std::time::{SystemTime, UNIX_EPOCH};

use hatrack_machine::{AgentFiles, Machine, Payload};

use crate::can_run;
use crate::cluster::Cluster;
use crate::report::report;

#[tokio::test]
async fn a_restored_machine_answers_and_knows_the_time() {
    if !can_run() {
        return;
    }
    for _ in 0..2 {
        let mut payload = Payload::default();
        payload.file("/etc/brought", "by the test\n").unwrap();
        let machine = Machine::warm(payload).await.unwrap();
        assert_eq!(machine.run("cat /etc/brought").await.unwrap(), "by the test\n");
        let host = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let guest: u64 = machine.run("date +%s").await.unwrap().trim().parse().unwrap();
        assert!(guest.abs_diff(host) < 60, "{guest} in the machine, {host} on the host");
        let refused = machine.try_run("echo no; exit 3").await.unwrap();
        assert_eq!((refused.status, refused.output.as_str()), (3, "no\n"));
        assert_eq!(machine.run("ls /sys/class/udc | wc -l").await.unwrap(), "20\n");
    }
}

#[tokio::test]
async fn a_machine_registers_from_power_on_by_itself() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::shared().await;
    let name = cluster.allow_new("boot").await;
    let payload = cluster.payload(&AgentFiles::new("phones-1", &name)).unwrap();
    let start = std::time::Instant::now();
    let machine = Machine::boot(payload).await.unwrap();
    let node = cluster.node_until(&name, "the machine registers", |node| node.status.is_some()).await;
    report(&format!("power on to registered in {:.1} s", start.elapsed().as_secs_f64()));
    let status = node.status.unwrap();
    assert_eq!(status.identity.unwrap().hostname, "hatrack-test");
    machine.run("systemctl is-active hatrack-agent").await.unwrap();
}
