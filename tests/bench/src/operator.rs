//! What the operator costs: from a request to an Active hat, in a cluster of 50 and of 1,000 machines, and what it takes to know them.
//!
//! Machines are on paper: eight GPUs each, and a Lease that lasts for the whole run. The binary is named by `HATRACK_OPERATOR`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use hatrack_api::access::OPERATOR_USER;
use hatrack_api::cluster_node::NodeLease;
use hatrack_api::hat_binding::Phase;
use hatrack_api::{ClusterNode, Hat, HatBinding, HatPolicy, SYSTEM_NAMESPACE};
use hatrack_testbed::{ControlPlane, unique};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::sample::Sample;
use crate::table::Table;

const FEW: usize = 50;
const MANY: usize = 1000;
/// Requests one after the other.
const SINGLES: usize = 30;
/// Requests at once.
const BURST: usize = 300;
/// Writes of the bench itself at a time.
pub(crate) const AT_A_TIME: usize = 16;

const NAMESPACE: &str = "default";
const HAT: &str = "bench";

/// The Leases of machines on paper are renewed by nobody.
const FOR_EVER: &str = "lease = \"1h\"\n";

/// Measures everything about the operator.
pub(crate) async fn measure(table: &mut Table, plane: &ControlPlane) -> Result<()> {
    let bench = Bench::prepare(plane).await?;
    let bare = bench.bare_writes().await?;
    bench.join(0..FEW).await?;
    let operator = Operator::start(plane, FOR_EVER)?;
    operator.leads().await?;
    operator.knows_everything().await?;
    let yardstick = format!("{bare:.0} bare writes/s, {AT_A_TIME} at a time");
    let few = bench.singles().await?;
    table.at_most(
        "created -> Active, 50 machines, p99",
        1000.0,
        few.quantile(0.99),
        "ms",
        format!("p50 {:.1} ms; {yardstick}", few.median()),
    );
    bench.join(FEW..MANY).await?;
    let many = bench.singles().await?;
    table.at_most(
        "created -> Active, 1,000 machines, p99",
        1000.0,
        many.quantile(0.99),
        "ms",
        format!("p50 {:.1} ms; {yardstick}", many.median()),
    );
    let rate = bench.burst().await?;
    table.beside("placed and Active per second", format!("{rate:.0}/s"), yardstick);
    drop(operator);
    let began = Instant::now();
    let operator = Operator::start(plane, FOR_EVER)?;
    operator.knows_everything().await?;
    let known = began.elapsed().as_secs_f64();
    table.at_most(
        "start -> 1,000 machines known",
        5.0,
        known,
        "s",
        format!("{} bindings and their records as well", 2 * SINGLES + BURST),
    );
    table.at_most("memory at 1,000 machines (RSS)", 100.0, operator.resident_megabytes()?, "MB", String::new());
    Ok(())
}

/// A cluster of machines on paper with one hat.
pub(crate) struct Bench {
    admin: Client,
}

impl Bench {
    /// Nothing waits but for the operator.
    pub(crate) async fn prepare(plane: &ControlPlane) -> Result<Self> {
        plane.install(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../../k8s")).await?;
        let admin = plane.admin().await?;
        let bench = Self { admin };
        bench
            .policy(&json!({"throttles": {"cooldownSeconds": 0, "warmupSeconds": 0, "maxBindingsPerWearer": 100_000,
                "maxNewHatsPerDay": 100_000}}))
            .await?;
        let selectors = ["device.capacity.memory.compareTo(quantity('24Gi')) >= 0", "device.attributes.model == 'L4'"];
        let spec = json!({"authority": {"rules": [{"verbs": ["get"], "resources": ["pods"]}]},
            "requirements": {"devices": [{"name": "gpu", "class": "gpu", "selectors": selectors}]}});
        let hat = Hat::new(HAT, serde_json::from_value(spec)?);
        Api::<Hat>::all(bench.admin.clone()).create(&PostParams::default(), &hat).await?;
        Ok(bench)
    }

    /// The administrator's client.
    pub(crate) const fn admin(&self) -> &Client {
        &self.admin
    }

    /// Changes the limits of the cluster.
    pub(crate) async fn policy(&self, spec: &Value) -> Result<()> {
        let policies: Api<HatPolicy> = Api::all(self.admin.clone());
        let change = Patch::Merge(json!({"spec": spec}));
        policies.patch("default", &PatchParams::default(), &change).await?;
        Ok(())
    }

    /// All requests.
    pub(crate) fn bindings(&self) -> Api<HatBinding> {
        Api::namespaced(self.admin.clone(), NAMESPACE)
    }

    /// Objects that the API server stores in a second when nobody does anything else.
    async fn bare_writes(&self) -> Result<f64> {
        let maps: Api<ConfigMap> = Api::namespaced(self.admin.clone(), NAMESPACE);
        let began = Instant::now();
        let writes = stream::iter(0..BURST).map(|_| async {
            let map: ConfigMap = serde_json::from_value(json!({"metadata": {"name": unique("bare")}}))?;
            maps.create(&PostParams::default(), &map).await?;
            anyhow::Ok(())
        });
        writes.buffer_unordered(AT_A_TIME).try_collect::<Vec<()>>().await?;
        Ok(per_second(BURST, began.elapsed()))
    }

    /// Registers machines.
    async fn join(&self, numbers: std::ops::Range<usize>) -> Result<()> {
        let joined = stream::iter(numbers).map(|number| self.machine(number)).buffer_unordered(AT_A_TIME);
        joined.try_collect::<Vec<()>>().await.map(drop)
    }

    /// Registers a machine.
    pub(crate) async fn machine(&self, number: usize) -> Result<()> {
        let name = format!("node-{number}");
        let nodes: Api<ClusterNode> = Api::all(self.admin.clone());
        let spec = json!({"class": "gpu-worker", "hardwareID": name});
        nodes.create(&PostParams::default(), &ClusterNode::new(&name, serde_json::from_value(spec)?)).await?;
        let status = Patch::Merge(json!({"status": {"devices": (0..8).map(gpu).collect::<Vec<Value>>()}}));
        nodes.patch_status(&name, &PatchParams::default(), &status).await?;
        let leases: Api<NodeLease> = Api::namespaced(self.admin.clone(), SYSTEM_NAMESPACE);
        let lease = json!({"metadata": {"name": name}, "spec": {"holderIdentity": name, "renewTime": "2026-01-01T00:00:00.000000Z"}});
        leases.create(&PostParams::default(), &serde_json::from_value(lease)?).await?;
        Ok(())
    }

    async fn ask(&self) -> Result<HatBinding> {
        let account = unique("sa");
        let spec = json!({"hat": HAT, "wearer": {"spiffeID": format!("spiffe://cluster.local/ns/{NAMESPACE}/sa/{account}"),
            "serviceAccountRef": {"namespace": NAMESPACE, "name": account}}});
        let binding = HatBinding::new(&unique("ask"), serde_json::from_value(spec)?);
        Ok(self.bindings().create(&PostParams::default(), &binding).await?)
    }

    /// Requests one after the other: from before each is created until its phase is seen.
    pub(crate) async fn singles(&self) -> Result<Sample> {
        let mut times = Vec::new();
        for _ in 0..SINGLES {
            let began = Instant::now();
            let asked = self.ask().await?;
            self.active([asked.name_any()].into()).await?;
            times.push(began.elapsed());
        }
        Ok(Sample::from_times(times))
    }

    /// Many requests at once: how many are Active in a second.
    pub(crate) async fn burst(&self) -> Result<f64> {
        let began = Instant::now();
        let asked = stream::iter(0..BURST).map(|_| self.ask()).buffer_unordered(AT_A_TIME);
        let asked: Vec<HatBinding> = asked.try_collect().await?;
        self.active(asked.iter().map(ResourceExt::name_any).collect()).await?;
        Ok(per_second(BURST, began.elapsed()))
    }

    /// Waits until all of these are Active. A watch that the API server ends begins anew.
    async fn active(&self, mut waiting: BTreeSet<String>) -> Result<()> {
        let is_active =
            |binding: &HatBinding| binding.status.as_ref().is_some_and(|status| status.phase == Phase::Active);
        while !waiting.is_empty() {
            let list = self.bindings().list(&ListParams::default()).await?;
            for binding in list.items.iter().filter(|binding| is_active(binding)) {
                waiting.remove(&binding.name_any());
            }
            let version = list.metadata.resource_version.unwrap_or_default();
            let mut events = self.bindings().watch(&WatchParams::default(), &version).await?.boxed();
            while !waiting.is_empty()
                && let Some(event) = events.try_next().await?
            {
                if let WatchEvent::Modified(binding) = event
                    && is_active(&binding)
                {
                    waiting.remove(&binding.name_any());
                }
            }
        }
        Ok(())
    }
}

fn gpu(number: usize) -> Value {
    json!({"name": format!("gpu-{number}"), "class": "gpu", "capacity": {"memory": {"value": "24Gi"}},
        "attributes": {"model": {"string": "L4"}, "vendor": {"string": "nvidia"}, "pciBusID": {"string": format!("0000:0{number}:00.0")},
            "serial": {"string": unique("serial")}},
        "health": {"state": "Ready", "reason": "NvmlReport", "message": ""}})
}

fn per_second(count: usize, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
    let count = count as f64;
    count / time.as_secs_f64()
}

/// A running operator with its own certificate; it ends with this value.
pub(crate) struct Operator {
    child: Child,
    port: u16,
}

impl Operator {
    /// Starts it with these lines in the table `[nodes]`.
    pub(crate) fn start(plane: &ControlPlane, nodes: &str) -> Result<Self> {
        let binary = std::env::var_os("HATRACK_OPERATOR").map(PathBuf::from);
        let binary = binary.context("HATRACK_OPERATOR names no operator: run `make bench`")?;
        let identity = plane.client_certificate(OPERATOR_USER, &[], Duration::from_hours(1))?;
        let kubeconfig = plane.kubeconfig_for(&identity)?;
        let port = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let file = plane.folder().join("operator.toml");
        std::fs::write(&file, format!("listen = \"127.0.0.1:{port}\"\n[nodes]\n{nodes}"))?;
        let child = Command::new(&binary)
            .args(["run", "--config"])
            .arg(&file)
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("failed to start `{}`", binary.display()))?;
        Ok(Self { child, port })
    }

    /// Waits until a page says so.
    async fn says(&self, path: &str, wanted: impl Fn(&str) -> bool) -> Result<()> {
        loop {
            if self.page(path).await.is_ok_and(|answer| wanted(&answer)) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// A whole answer, with its head.
    async fn page(&self, path: &str) -> Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        Ok(answer)
    }

    /// Waits until it leads.
    pub(crate) async fn leads(&self) -> Result<()> {
        self.says("/metrics", |text| text.contains("hatrack_operator_leads 1")).await
    }

    /// Waits until it has seen every object.
    pub(crate) async fn knows_everything(&self) -> Result<()> {
        self.says("/readyz", |text| text.starts_with("HTTP/1.1 200")).await
    }

    pub(crate) fn resident_megabytes(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes / 1024.0)
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        // A child that has ended already is what is wanted.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
