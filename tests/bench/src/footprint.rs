//! What the agent weighs, and what it does when nothing happens.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result};
use hatrack_testbed::{ControlPlane, FaultProxy};
use serde_json::Value;

use crate::agent::Cluster;
use crate::answers::Answers;
use crate::machine::Machine;
use crate::registration::{next, watch};
use crate::table::Table;

const REST: Duration = Duration::from_mins(1);

/// The size of the stripped binary.
pub(crate) fn measure_binary(table: &mut Table, binary: &Path) -> Result<()> {
    let bytes = fs::metadata(binary).with_context(|| format!("failed to look at `{}`", binary.display()))?.len();
    table.at_most("agent binary, stripped", 7.0, megabytes(bytes), "MB", String::new());
    Ok(())
}

/// One minute in which nothing happens: memory, processor time, requests; and the size of the object.
pub(crate) async fn measure_rest(table: &mut Table, plane: &ControlPlane, cluster: &Cluster) -> Result<()> {
    let machine = Machine::expand()?;
    let node = cluster.admit(plane).await?;
    let proxy = FaultProxy::start(plane, &node.identity)?;
    let mut seen = pin!(watch(cluster, &node));
    let kubeconfig = plane.kubeconfig_via(proxy.url(), &node.identity)?;
    let answers = Answers::about(machine.path()).await?;
    let agent = cluster.start(&node, &kubeconfig, machine.path(), Some(&answers))?;
    next(&mut seen, |devices| devices > 0).await?;
    // The first seconds are the start's: connections, the watch, the first Lease, the answers of NVML and of the phones.
    tokio::time::sleep(Duration::from_secs(5)).await;
    proxy.clear();
    let before = processor_time(agent.pid())?;
    tokio::time::sleep(REST).await;
    let used = processor_time(agent.pid())?.saturating_sub(before);
    let (resident, anonymous) = memory(agent.pid())?;
    table.at_most("agent memory at rest, resident", 10.0, resident, "MB", String::new());
    table.at_most("agent memory at rest, anonymous", 2.5, anonymous, "MB", String::new());
    let share = used.as_secs_f64() / REST.as_secs_f64() * 100.0;
    table.beside(
        "processor time at rest",
        format!("{} ms/min", used.as_millis()),
        format!("{share:.3} % of one core, counted in ticks of 10 ms"),
    );
    report_requests(table, &proxy);
    let request =
        http::Request::get(format!("/apis/society.zeta.io/v1alpha1/clusternodes/{}", node.name)).body(Vec::new())?;
    let object = cluster.admin.request_text(request).await?;
    let kilobytes = megabytes(object.len() as u64) * 1000.0;
    let parts = parts(&serde_json::from_str(&object)?);
    table.at_most("object, 8 GPUs + 20 phones, managedFields too", 16.0, kilobytes, "kB", parts);
    Ok(())
}

/// How the bytes of an object divide: who owns what, each class of devices, and the long lists of the status.
fn parts(object: &Value) -> String {
    let devices = object["status"]["devices"].as_array().map(Vec::as_slice).unwrap_or_default();
    let of_class = |class: &str| {
        let sizes: Vec<_> = devices.iter().filter(|device| device["class"] == class).map(length).collect();
        format!("{} of {} {class}s", sizes.iter().sum::<usize>(), sizes.len())
    };
    let status = |part: &str| format!("{} of {part}", length(&object["status"][part]));
    let managers = format!("{} bytes of managedFields", length(&object["metadata"]["managedFields"]));
    [managers, of_class("gpu"), of_class("phone"), status("storage"), status("interfaces")].join(", ")
}

fn length(value: &Value) -> usize {
    value.to_string().len()
}

/// Requests other than the Lease's renewal.
fn report_requests(table: &mut Table, proxy: &FaultProxy) {
    let mut counted = BTreeMap::new();
    for request in proxy.requests() {
        let kind = if request.path.contains("/leases/") { "Lease" } else { "ClusterNode" };
        *counted.entry(format!("{} {kind}", request.method)).or_insert(0_u32) += 1;
    }
    let others: u32 = counted.iter().filter(|(kind, _)| !kind.ends_with("Lease")).map(|(_, count)| count).sum();
    let list = counted.iter().map(|(kind, count)| format!("{count} {kind}")).collect::<Vec<_>>().join(", ");
    table.at_most("API requests at rest beside the Lease's", 0.0, f64::from(others), "/min", list);
}

/// Processor time of a process so far, in the kernel's ticks of 10 ms (proc_pid_stat(5): fields 14 and 15 are the time in
/// user space and in the kernel; the name before them can hold spaces and ends with `)`).
fn processor_time(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let ticks: Vec<u64> = fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(Duration::from_millis(10) * u32::try_from(ticks.iter().sum::<u64>())?)
}

/// Resident and anonymous memory of a process in MB (proc_pid_status(5)).
fn memory(pid: u32) -> Result<(f64, f64)> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| {
        let line =
            status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name} in status"))?;
        let kibibytes: u64 = line.trim_start_matches(':').trim().trim_end_matches(" kB").parse()?;
        Ok::<_, anyhow::Error>(megabytes(kibibytes * 1024))
    };
    Ok((field("VmRSS")?, field("RssAnon")?))
}

#[expect(clippy::cast_precision_loss, reason = "a size far below 2^52")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}
