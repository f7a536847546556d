//! The unit that asks for a worker's first certificate with the kubelet's identity, as systemd runs it. The approval is a person's here.

use hatrack_machine::{AgentFiles, Machine, Payload, text};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use tokio::time::{Duration, sleep};
use toml::{Table, Value};

use crate::can_run;
use crate::cluster::{Cluster, soon};
use crate::report::report;

/// Between two looks at what nobody watches.
const PAUSE: Duration = Duration::from_millis(200);

/// The kubelet's way to the API server, as k3s gives it to it.
const KUBELETS_SERVER: &str = "https://127.0.0.1:6444";

/// Approves the request of a machine that waits for it.
async fn approve(cluster: &Cluster, name: &str) -> CertificateSigningRequest {
    let requests: Api<CertificateSigningRequest> = Api::all(cluster.admin.clone());
    let prefix = format!("hatrack-{name}-");
    let is_waiting = |request: &CertificateSigningRequest| {
        let is_ours = request.metadata.name.as_deref().is_some_and(|name| name.starts_with(&prefix));
        is_ours && request.status.as_ref().is_none_or(|status| status.conditions.is_none())
    };
    let asked = async {
        loop {
            let all = requests.list(&ListParams::default()).await.unwrap();
            if let Some(request) = all.items.into_iter().find(is_waiting) {
                return request;
            }
            sleep(PAUSE).await;
        }
    };
    let request = soon("the request", asked).await;
    let condition = json!({"type": "Approved", "status": "True", "reason": "Test", "message": ""});
    let patch = Patch::Merge(json!({"status": {"conditions": [condition]}}));
    let name = request.metadata.name.clone().unwrap();
    requests.patch_approval(&name, &PatchParams::default(), &patch).await.unwrap();
    request
}

/// Waits until a command in the machine succeeds.
async fn succeeds(machine: &Machine, what: &str, command: &str) {
    let tried = async {
        while machine.try_run(command).await.unwrap().status != 0 {
            sleep(PAUSE).await;
        }
    };
    soon(what, tried).await;
}

async fn is_ready(machine: &Machine) {
    let ask =
        "exec 3<>/dev/tcp/127.0.0.1/9470 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && grep --quiet '200 OK' <&3";
    succeeds(machine, "the agent is ready", &format!("bash -c \"{ask}\"")).await;
}

/// What the flake gives a Kubernetes worker, and in place of k3s its port on loopback, which is not open yet.
fn worker(cluster: &Cluster, name: &str) -> Payload {
    let server = cluster.address();
    let mut enrollment = Table::new();
    enrollment.insert("server".to_owned(), Value::String(server.clone()));
    let settings = Table::from_iter([("enrollment".to_owned(), Value::Table(enrollment))]);
    let agent = AgentFiles { settings, has_access: false, enabled: false, ..AgentFiles::new("gpu-1", name) };
    let mut payload = Payload::default();
    agent.add_to(&mut payload).unwrap();
    for unit in ["hatrack-enroll.service", "hatrack-enroll.timer"] {
        payload.file(&format!("/etc/systemd/system/{unit}"), text("gpu-1", unit).unwrap()).unwrap();
    }
    payload.file("/etc/tmpfiles.d/hatrack.conf", text("gpu-1", "tmpfiles.conf").unwrap()).unwrap();
    let address = server.strip_prefix("https://").unwrap();
    let proxy = format!("[Service]\nExecStart=/lib/systemd/systemd-socket-proxyd {address}\n");
    payload.file("/etc/systemd/system/k3s.service", proxy).unwrap();
    let port = KUBELETS_SERVER.strip_prefix("https://").unwrap();
    payload.file("/etc/systemd/system/k3s.socket", format!("[Socket]\nListenStream={port}\n")).unwrap();
    let kubelet = cluster.kubelet(name, KUBELETS_SERVER).unwrap();
    payload.root_secret("/root/kubelet.kubeconfig", kubelet).unwrap();
    // A key as the agent has them, and not the agent's.
    payload.root_secret("/root/secret.key", cluster.plane.node_identity("another").unwrap().key_pem).unwrap();
    payload
}

#[tokio::test]
async fn a_worker_enrolls_by_its_kubelet_and_works_on_without_k3s() {
    if !can_run() {
        return;
    }
    let cluster = Cluster::shared().await;
    let name = cluster.allow_new("worker").await;
    let machine = Machine::warm(worker(&cluster, &name)).await.unwrap();
    machine.run("systemd-tmpfiles --create hatrack.conf").await.unwrap();
    machine.run("systemctl start hatrack-agent hatrack-enroll.timer").await.unwrap();
    // A machine that has just been installed: its agent runs, and there is no kubelet yet.
    let waits = "journalctl --unit hatrack-enroll | grep 'failed to use the kubeconfig'";
    succeeds(&machine, "it waits for the kubelet", waits).await;
    machine.run("systemctl is-active hatrack-agent").await.unwrap();

    let k3s_is_there = "install -D -m 600 /root/kubelet.kubeconfig /var/lib/rancher/k3s/agent/kubelet.kubeconfig \
                        && systemctl start k3s.socket";
    machine.run(k3s_is_there).await.unwrap();
    let request = approve(&cluster, &name).await;
    assert_eq!(request.spec.username, Some(format!("system:node:{name}")));
    let node = cluster.node_until(&name, "the machine registers", |node| node.status.is_some()).await;
    let annotations = request.metadata.annotations.unwrap();
    let hardware_id = annotations.get(hatrack_api::enrollment::HARDWARE_ID_ANNOTATION);
    assert_eq!(node.spec.hardware_id.as_ref(), hardware_id, "both units see the same machine");
    let owner = machine.run("stat --format '%U %a' /var/lib/hatrack /var/lib/hatrack/kubeconfig").await.unwrap();
    assert_eq!(owner, "hatrack 750\nhatrack 600\n");
    succeeds(&machine, "the unit ends", "test $(systemctl is-active hatrack-enroll) = inactive").await;
    assert_eq!(machine.run("systemctl show --property Result --value hatrack-enroll").await.unwrap(), "success\n");

    machine.run("systemctl stop k3s.socket k3s.service").await.unwrap();
    machine.run("systemctl restart hatrack-agent").await.unwrap();
    is_ready(&machine).await;

    // What the timer does when the certificate is gone, and links to what is root's lie in its place: they bring nothing and give nothing away.
    let links = "install -m 600 /var/lib/hatrack/kubeconfig /root/kept && ln -sf /root/kept /var/lib/hatrack/kubeconfig \
                 && ln -s /root/secret.key /var/lib/hatrack/requested.key && systemctl start k3s.socket";
    machine.run(links).await.unwrap();
    machine.run("systemctl start --no-block hatrack-enroll").await.unwrap();
    approve(&cluster, &name).await;
    succeeds(
        &machine,
        "there is a certificate again",
        "test -f /var/lib/hatrack/kubeconfig -a ! -L /var/lib/hatrack/kubeconfig",
    )
    .await;
    let owners =
        machine.run("stat --format '%U %a' /root/kept /root/secret.key /var/lib/hatrack/kubeconfig").await.unwrap();
    assert_eq!(owners, "root 600\nroot 600\nhatrack 600\n");
    let kept = machine.run("cat /var/lib/hatrack/kubeconfig").await.unwrap();
    let secret = machine.run("base64 --wrap 0 /root/secret.key").await.unwrap();
    assert!(!kept.contains(secret.trim()), "the key that root alone may read");

    let score = machine.try_run("systemd-analyze security --no-pager --threshold=19 hatrack-enroll").await.unwrap();
    let overall = score.output.lines().find(|line| line.contains("Overall exposure level")).unwrap_or_default();
    report(overall.trim());
    assert_eq!(score.status, 0, "{}", score.output);
}
