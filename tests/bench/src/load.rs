//! Machines that live: each has a certificate, a watch and a connection of its own, renews its Lease every ten seconds and reports what it
//! wears, as its agent does. Meanwhile hats are asked for, and a machine falls silent.
//!
//! This process has a few connections for each machine: `make bench` takes the limit on open files off as far as it may.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use hatrack_api::cluster_node::NodeLease;
use hatrack_api::hat_binding::Phase;
use hatrack_api::{ClusterNode, HatBinding, SYSTEM_NAMESPACE, access};
use hatrack_fixtures::wearing;
use hatrack_testbed::ControlPlane;
use jiff::Timestamp;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, ResourceExt};
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::operator::{AT_A_TIME, Bench, Operator};
use crate::sample::Sample;
use crate::table::Table;

/// Machines, and what the rows of a fleet of so many are called.
const FLEETS: [(usize, Rows); 2] = [
    (
        1000,
        Rows {
            has_targets: true,
            active: "created -> Active, 1,000 that live, p99",
            rate: "placed and Active per second, 1,000 that live",
            lost: "node lost -> hats moved, 1,000 that live",
            memory: "memory at 1,000 machines that live (RSS)",
        },
    ),
    (
        5000,
        Rows {
            has_targets: false,
            active: "created -> Active, 5,000 that live, p99",
            rate: "placed and Active per second, 5,000 that live",
            lost: "node lost -> hats moved, 5,000 that live",
            memory: "memory at 5,000 machines that live (RSS)",
        },
    ),
];

struct Rows {
    /// The design sets targets for a thousand machines. More show where the limits are.
    has_targets: bool,
    active: &'static str,
    rate: &'static str,
    lost: &'static str,
    memory: &'static str,
}

impl Rows {
    fn put(&self, table: &mut Table, what: &'static str, limit: (f64, &str), value: f64, in_words: String) {
        let (limit, unit) = limit;
        if self.has_targets {
            table.at_most(what, limit, value, unit, in_words);
        } else {
            table.beside(what, format!("{value:.3} {unit}"), in_words);
        }
    }
}

/// How often an agent renews its Lease.
const PERIOD: Duration = Duration::from_secs(10);
/// How many seconds a machine may be silent.
const GRACE: u64 = 20;
/// How many it then has to stop its hats.
const STOP: u64 = 5;
/// What has not happened after so long does not come any more.
const LIMIT: Duration = Duration::from_mins(5);

/// Measures the operator beside fleets that live.
pub(crate) async fn measure(table: &mut Table, plane: &ControlPlane) -> Result<()> {
    let bench = Bench::prepare(plane).await?;
    bench.policy(&json!({"nodeGraceSeconds": GRACE})).await?;
    let operator = Operator::start(plane, &format!("lease = \"15s\"\nstop = \"{STOP}s\"\n"))?;
    within("a leader", operator.leads()).await?;
    let mut fleet = Fleet::default();
    for (size, rows) in FLEETS {
        within("the machines that join", fleet.grow(size, plane, &bench)).await?;
        within("an operator that knows them", operator.knows_everything()).await?;
        // Everybody renews twice before anything is measured.
        sleep(2 * PERIOD).await;
        fleet.pulse().clear();
        let singles = within("hats that are asked for one by one", bench.singles()).await?;
        let renewed = fleet.pulse().in_words();
        let active = format!("p50 {:.1} ms; {renewed}", singles.median());
        rows.put(table, rows.active, (1000.0, "ms"), singles.quantile(0.99), active);
        let rate = within("hats that are asked for at once", bench.burst()).await?;
        table.beside(rows.rate, format!("{rate:.0}/s"), String::new());
        let lost = within("hats of the machine that was lost", fleet.lose_one(&bench)).await?;
        rows.put(table, rows.lost, (5.0, "s"), lost.beyond.as_secs_f64(), lost.in_words);
        rows.put(table, rows.memory, (100.0, "MB"), operator.resident_megabytes()?, String::new());
    }
    Ok(())
}

/// Waits for a part of the measurement, and says which one did not come.
async fn within<T>(what: &str, part: impl Future<Output = Result<T>>) -> Result<T> {
    timeout(LIMIT, part).await.with_context(|| format!("{what}: not within {LIMIT:?}"))?.context(what.to_owned())
}

/// What renewals of Leases took, since it was cleared.
#[derive(Default)]
struct Pulse {
    times: Mutex<Vec<Duration>>,
    failed: AtomicUsize,
}

impl Pulse {
    fn times(&self) -> MutexGuard<'_, Vec<Duration>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn clear(&self) {
        self.times().clear();
        self.failed.store(0, Ordering::Relaxed);
    }

    fn in_words(&self) -> String {
        let times = std::mem::take(&mut *self.times());
        let (count, failed) = (times.len(), self.failed.load(Ordering::Relaxed));
        if times.is_empty() {
            return "no Lease was renewed meanwhile".to_owned();
        }
        let sample = Sample::from_times(times);
        format!(
            "{count} renewals meanwhile, {failed} failed, median {:.1} ms, p99 {:.1} ms",
            sample.median(),
            sample.quantile(0.99)
        )
    }
}

/// Machines that live until this is dropped.
#[derive(Default)]
struct Fleet {
    machines: BTreeMap<String, Machine>,
    /// How many have joined, lost ones included.
    joined: usize,
    pulse: Arc<Pulse>,
}

struct Machine {
    /// When its Lease was last renewed.
    renewed: Arc<Mutex<Instant>>,
    agent: JoinHandle<()>,
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.agent.abort();
    }
}

/// What came of a machine that fell silent.
struct Lost {
    /// From the end of its grace and its time to stop until the last of its hats was worn elsewhere.
    beyond: Duration,
    in_words: String,
}

impl Fleet {
    fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// Lets machines join until there are so many.
    async fn grow(&mut self, size: usize, plane: &ControlPlane, bench: &Bench) -> Result<()> {
        let numbers: Range<usize> = std::mem::replace(&mut self.joined, size)..size;
        let (first, pulse, admin) = (numbers.start, &self.pulse, bench.admin());
        let joining = numbers.map(|number| async move {
            bench.machine(number).await?;
            let name = format!("node-{number}");
            let (role, binding) = access::node(&name);
            Api::<ClusterRole>::all(admin.clone()).create(&PostParams::default(), &role).await?;
            Api::<ClusterRoleBinding>::all(admin.clone()).create(&PostParams::default(), &binding).await?;
            let client = plane.client_for(&plane.node_identity(&name)?).await?;
            let renewed = Arc::new(Mutex::new(Instant::now()));
            let agent = Agent { name: name.clone(), client, renewed: Arc::clone(&renewed), pulse: Arc::clone(pulse) };
            // Renewals are spread over the period, as those of machines are that did not start together.
            let share = u32::try_from((number - first) % 1000).unwrap_or_default();
            let agent = tokio::spawn(agent.live(PERIOD * share / 1000));
            anyhow::Ok((name, Machine { renewed, agent }))
        });
        let joined: Vec<_> = stream::iter(joining).buffer_unordered(AT_A_TIME).try_collect().await?;
        self.machines.extend(joined);
        Ok(())
    }

    /// The machine with the most hats falls silent.
    async fn lose_one(&mut self, bench: &Bench) -> Result<Lost> {
        let mut worn: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for binding in bench.bindings().list(&ListParams::default()).await? {
            if let Some(node) = node_of(&binding) {
                worn.entry(node).or_default().push(binding.name_any());
            }
        }
        let most = worn.into_iter().max_by_key(|(_, hats)| hats.len());
        let (node, hats) = most.context("no machine wears a hat")?;
        let machine = self.machines.remove(&node).context("a hat is worn by nobody")?;
        machine.agent.abort();
        let silent = *machine.renewed.lock().unwrap_or_else(PoisonError::into_inner);
        for hat in &hats {
            while node_of(&bench.bindings().get(hat).await?).is_none_or(|now| now == node) {
                sleep(Duration::from_millis(20)).await;
            }
        }
        let moved = silent.elapsed();
        let beyond = moved.saturating_sub(Duration::from_secs(GRACE + STOP));
        let leases: Api<NodeLease> = Api::namespaced(bench.admin().clone(), SYSTEM_NAMESPACE);
        let is_fenced = |lease: &NodeLease| {
            lease.spec.as_ref().and_then(|spec| spec.lease_transitions).is_some_and(|transitions| transitions > 0)
        };
        let fenced = leases.list(&ListParams::default()).await?;
        let others = fenced.iter().filter(|lease| is_fenced(lease) && self.machines.contains_key(&lease.name_any()));
        let (count, others) = (hats.len(), others.count());
        let in_words =
            format!("{count} hats, {:.1} s after its last renewal; {others} others were fenced", moved.as_secs_f64());
        Ok(Lost { beyond, in_words })
    }
}

/// Where a hat is worn with full authority.
fn node_of(binding: &HatBinding) -> Option<String> {
    let status = binding.status.as_ref().filter(|status| status.phase == Phase::Active)?;
    status.node_name.clone()
}

struct Agent {
    name: String,
    client: Client,
    renewed: Arc<Mutex<Instant>>,
    pulse: Arc<Pulse>,
}

impl Agent {
    async fn live(self, first: Duration) {
        sleep(first).await;
        tokio::join!(self.renew(), self.wear());
    }

    async fn renew(&self) {
        let leases: Api<NodeLease> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let mut known: Option<NodeLease> = None;
        let mut beats = interval(PERIOD);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            beats.tick().await;
            known = self.renew_once(&leases, known.take()).await.ok();
            if known.is_none() {
                self.pulse.failed.fetch_add(1, Ordering::Relaxed);
                beats.reset_after(Duration::from_secs(1));
            }
        }
    }

    async fn renew_once(&self, leases: &Api<NodeLease>, known: Option<NodeLease>) -> kube::Result<NodeLease> {
        let mut lease = match known {
            Some(known) => known,
            None => leases.get(&self.name).await?,
        };
        if let Some(spec) = lease.spec.as_mut() {
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let began = Instant::now();
        let stored = leases.replace(&self.name, &PostParams::default(), &lease).await?;
        *self.renewed.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.pulse.times().push(began.elapsed());
        Ok(stored)
    }

    /// Says of each hat in its list that it is worn, or that it has stopped.
    async fn wear(&self) {
        let nodes: Api<ClusterNode> = Api::all(self.client.clone());
        let own = watcher::Config::default().fields(&format!("metadata.name={}", self.name));
        let mut seen = watcher(nodes.clone(), own).default_backoff().applied_objects().boxed();
        while let Some(node) = seen.next().await {
            let Some(worn) = node.ok().and_then(|node| wearing::report(node.status?)) else { continue };
            let report = Patch::Merge(json!({"status": {"worn": worn}}));
            // The operator waits for it: without the word that a hat was stopped its devices are nobody's.
            while nodes.patch_status(&self.name, &PatchParams::default(), &report).await.is_err() {
                self.pulse.failed.fetch_add(1, Ordering::Relaxed);
                sleep(Duration::from_secs(1)).await;
            }
        }
    }
}
