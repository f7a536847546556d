//! How soon what an agent knows can be seen in the API.

use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{Stream, TryStreamExt};
use hatrack_api::ClusterNode;
use hatrack_testbed::ControlPlane;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;

use crate::agent::{Cluster, Node};
use crate::machine::Machine;
use crate::sample::Sample;
use crate::table::Table;

const STARTS: usize = 20;
const EVENTS: usize = 100;

/// Between events, so that each is one of its own: the agent takes those of a storm together, which is not measured here.
const PAUSE: Duration = Duration::from_millis(200);

/// From starting the program to its devices in the API, beside the two writes that a registration is.
pub(crate) async fn measure_start(table: &mut Table, plane: &ControlPlane, cluster: &Cluster) -> Result<()> {
    let machine = Machine::expand()?;
    let mut times = Vec::new();
    for _ in 0..STARTS {
        let node = cluster.admit(plane).await?;
        let kubeconfig = plane.kubeconfig_for(&node.identity)?;
        let mut seen = pin!(watch(cluster, &node));
        let start = Instant::now();
        let _agent = cluster.start(&node, &kubeconfig, machine.path(), None)?;
        next(&mut seen, |devices| devices > 0).await?;
        times.push(start.elapsed());
    }
    let (started, bare) = (Sample::from_times(times), two_writes(cluster).await?);
    let yardstick = format!("{:.3} ms for two writes on an open connection", bare.median());
    table.at_most("start -> object visible, median", 20.0, started.median(), "ms", yardstick);
    Ok(())
}

/// From a uevent to the changed object in the API, beside one write.
pub(crate) async fn measure_event(table: &mut Table, plane: &ControlPlane, cluster: &Cluster) -> Result<()> {
    let mut machine = Machine::expand()?;
    let node = cluster.admit(plane).await?;
    let mut seen = pin!(watch(cluster, &node));
    let _agent = cluster.start(&node, &plane.kubeconfig_for(&node.identity)?, machine.path(), None)?;
    let mut devices = next(&mut seen, |devices| devices > 0).await?;
    let mut times = Vec::new();
    for _ in 0..EVENTS {
        tokio::time::sleep(PAUSE).await;
        let start = Instant::now();
        machine.toggle()?;
        devices = next(&mut seen, |now| now != devices).await?;
        times.push(start.elapsed());
    }
    let (events, bare) = (Sample::from_times(times), two_writes(cluster).await?);
    let yardstick = format!("{:.3} ms for two writes on an open connection", bare.median());
    table.beside("uevent -> object visible, median", format!("{:.3} ms", events.median()), yardstick);
    table.at_most("uevent -> object visible, p99", 50.0, events.quantile(0.99), "ms", String::new());
    Ok(())
}

/// Creating an object and writing its status, as a registration does, from a client that is connected already.
async fn two_writes(cluster: &Cluster) -> Result<Sample> {
    let nodes: Api<ClusterNode> = Api::all(cluster.admin.clone());
    let manager = PatchParams::apply("hatrack-bench");
    let mut times = Vec::new();
    for number in 0..STARTS {
        let name = format!("bare-{number}");
        let object = |fields: serde_json::Value| {
            let mut object =
                json!({"apiVersion": "society.zeta.io/v1alpha1", "kind": "ClusterNode", "metadata": {"name": name}});
            object
                .as_object_mut()
                .into_iter()
                .for_each(|map| map.extend(fields.as_object().cloned().unwrap_or_default()));
            Patch::Apply(object)
        };
        let start = Instant::now();
        nodes.patch(&name, &manager, &object(json!({"spec": {"class": "worker"}}))).await?;
        nodes.patch_status(&name, &manager, &object(json!({"status": {"summary": {"gpus": "0/0"}}}))).await?;
        times.push(start.elapsed());
        nodes.delete(&name, &DeleteParams::default()).await?;
    }
    Ok(Sample::from_times(times))
}

pub(crate) fn watch(cluster: &Cluster, node: &Node) -> impl Stream<Item = Result<ClusterNode, watcher::Error>> + use<> {
    let own = watcher::Config::default().fields(&format!("metadata.name={}", node.name));
    watcher(Api::all(cluster.admin.clone()), own).applied_objects()
}

/// Waits for a state whose number of devices is wanted, and returns that number.
pub(crate) async fn next(
    seen: &mut (impl Stream<Item = Result<ClusterNode, watcher::Error>> + Unpin),
    wanted: impl Fn(usize) -> bool,
) -> Result<usize> {
    let waiting = async {
        while let Some(node) = seen.try_next().await? {
            let devices = node.status.and_then(|status| status.devices).map_or(0, |devices| devices.len());
            if wanted(devices) {
                return Ok(devices);
            }
        }
        anyhow::bail!("the watch ended")
    };
    tokio::time::timeout(Duration::from_secs(30), waiting).await.context("the object did not change")?
}
