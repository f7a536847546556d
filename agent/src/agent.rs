//! The tasks of a running agent, wired to each other.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use hatrack_service::manager::tell;
use hatrack_service::pages;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::client::ApiServer;
use crate::clock::Clock;
use crate::config::{Config, Enrollment};
use crate::enroll::{self, Enrolled};
use crate::lease::{self, Renewal};
use crate::metrics::Metrics;
use crate::observe::{Activity, Observation, Observer, Outputs};
use crate::own::{Follower, Own};
use crate::publish::{Publication, Publisher};
use crate::serve::View;
use crate::standing::Standing;
use crate::state::{self, Kept, State, StateFile};
use crate::supervisor;
use crate::wear::{self, Wearer, Wearing};

/// Exit status of an agent that ended while the ClusterNode of its name belonged to another machine.
const ANOTHER_MACHINE: u8 = 3;

/// How long it may take to keep the newest state when the agent ends.
const LAST_WRITE: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT.
pub fn run(config: Config) -> anyhow::Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("failed to start the event loop")?;
    let ended = runtime.block_on(until_asked_to_stop(config));
    runtime.shutdown_timeout(LAST_WRITE);
    ended
}

async fn until_asked_to_stop(config: Config) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::open().context("failed to listen for signals")?;
    let listener = pages::listen(config.listen)
        .await
        .with_context(|| format!("failed to listen on {} (`listen` in the configuration)", config.listen))?;
    let wiring = Wiring::new(config);
    let view = Arc::new(wiring.view());
    let mut tasks = JoinSet::new();
    let mut keeper = wiring.begin(&mut tasks, listener, &view);
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => break,
            _ = signals.interrupt.recv() => break,
            Some(()) = signals.reload.recv() => {
                tracing::info!("asked to look again");
                tell(&[NotifyState::Reloading, monotonic()]);
                wiring.server.reload().await;
                wiring.nudge.notify_one();
                tell(&[NotifyState::Ready]);
            }
            Some(task) = tasks.join_next() => {
                task.context("a task of the agent failed")?;
                anyhow::bail!("a task of the agent ended");
            }
            ended = &mut keeper => {
                ended.context("a task of the agent failed")?;
                anyhow::bail!("a task of the agent ended");
            }
        }
    }
    tell(&[NotifyState::Stopping]);
    tracing::info!("asked to stop: the ClusterNode, the Lease and the hats stay as they are");
    let standing = view.standing();
    // Without those who observe there are no more observations: the keeper of the state writes the last one and ends.
    let last = async {
        tasks.shutdown().await;
        drop(wiring);
        keeper.await
    };
    if timeout(LAST_WRITE, last).await.is_err() {
        tracing::warn!(
            "the newest state was not written in time: what NVML told last, and new names of devices, may be lost"
        );
    }
    Ok(match standing {
        Standing::Another { .. } => ExitCode::from(ANOTHER_MACHINE),
        _ => ExitCode::SUCCESS,
    })
}

/// systemd wants it beside RELOADING since version 253.
fn monotonic() -> NotifyState<'static> {
    NotifyState::monotonic_usec_now().unwrap_or(NotifyState::MonotonicUsec(0))
}

/// What the tasks share, and the channels between them.
struct Wiring {
    config: Arc<Config>,
    clock: Arc<Clock>,
    metrics: Arc<Metrics>,
    server: Arc<ApiServer>,
    own: Own,
    nudge: Arc<Notify>,
    observations: watch::Sender<Option<Arc<Observation>>>,
    activity: watch::Sender<Activity>,
    publications: watch::Sender<Publication>,
    renewals: watch::Sender<Renewal>,
    kept: watch::Sender<Kept>,
    wearing: watch::Sender<Wearing>,
    enrolled: watch::Sender<Enrolled>,
}

impl Wiring {
    fn new(config: Config) -> Self {
        let clock = Arc::new(Clock::default());
        let metrics = Arc::new(Metrics::new());
        let server = ApiServer::new(&config.api, Arc::clone(&clock), metrics.requests.clone());
        Self {
            config: Arc::new(config),
            clock,
            metrics,
            server: Arc::new(server),
            own: Own::default(),
            nudge: Arc::default(),
            observations: watch::Sender::new(None),
            activity: watch::Sender::default(),
            publications: watch::Sender::new(Publication::Waiting("the agent has just started".to_owned())),
            renewals: watch::Sender::default(),
            kept: watch::Sender::default(),
            wearing: watch::Sender::default(),
            enrolled: watch::Sender::default(),
        }
    }

    /// Starts every task, and apart from the others the one that keeps the state: it ends after them.
    fn begin(&self, tasks: &mut JoinSet<()>, listener: TcpListener, view: &Arc<View>) -> JoinHandle<()> {
        let file = StateFile::of(&self.config.state_dir);
        tasks.spawn(self.observer(file.load()).run());
        tasks.spawn(Follower::new(&self.config, self.own.clone(), Arc::clone(&self.server)).run());
        tasks.spawn(self.lease_keeper().run());
        if let Some(enrollment) = self.config.enrollment.clone() {
            tasks.spawn(self.identity_keeper(enrollment).run());
        }
        tasks.spawn(self.publisher().run());
        tasks.spawn(self.wearer().run());
        tasks.spawn(pages::serve(listener, Arc::clone(view)));
        tasks.spawn(supervisor::report(Arc::clone(view), self.observations.subscribe()));
        let retry = self.config.backoff.max.get();
        tokio::spawn(state::keep(file, self.observations.subscribe(), retry, self.kept.clone()))
    }

    fn observer(&self, kept: Option<State>) -> Observer {
        let outputs = Outputs {
            observations: self.observations.clone(),
            activity: self.activity.clone(),
            looks: self.metrics.looks.clone(),
        };
        Observer::new(&self.config, kept, self.own.clone(), Arc::clone(&self.nudge), outputs)
    }

    fn identity_keeper(&self, enrollment: Enrollment) -> enroll::Keeper {
        enroll::Keeper::new(
            &self.config,
            enrollment,
            Arc::clone(&self.server),
            Arc::clone(&self.clock),
            self.observations.subscribe(),
            self.enrolled.clone(),
        )
    }

    fn lease_keeper(&self) -> lease::Keeper {
        let inputs = lease::Inputs {
            own: self.own.subscribe(),
            observations: self.observations.subscribe(),
            wearing: self.wearing.subscribe(),
        };
        lease::Keeper::new(
            &self.config,
            inputs,
            self.own.clone(),
            Arc::clone(&self.server),
            Arc::clone(&self.clock),
            self.renewals.clone(),
        )
    }

    fn wearer(&self) -> Wearer {
        let inputs = wear::Inputs {
            own: self.own.subscribe(),
            observations: self.observations.subscribe(),
            renewals: self.renewals.subscribe(),
        };
        Wearer::new(&self.config, inputs, Arc::clone(&self.clock), self.wearing.clone())
    }

    fn publisher(&self) -> Publisher {
        Publisher {
            config: Arc::clone(&self.config),
            server: Arc::clone(&self.server),
            own: self.own.clone(),
            observations: self.observations.subscribe(),
            wearing: self.wearing.subscribe(),
            clock: Arc::clone(&self.clock),
            settled_by: Instant::now() + self.config.discovery.settle.get(),
            publications: self.publications.clone(),
        }
    }

    fn view(&self) -> View {
        View {
            observations: self.observations.subscribe(),
            activity: self.activity.subscribe(),
            own: self.own.clone(),
            publications: self.publications.subscribe(),
            renewals: self.renewals.subscribe(),
            wearing: self.wearing.subscribe(),
            lease_duration: self.config.lease.duration.get(),
            kept: self.kept.subscribe(),
            enrolled: self.enrolled.subscribe(),
            clock: Arc::clone(&self.clock),
            metrics: Arc::clone(&self.metrics),
            root: self.config.root.clone(),
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    reload: Signal,
}

impl Signals {
    fn open() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            reload: signal(SignalKind::hangup())?,
        })
    }
}
