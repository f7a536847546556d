//! The tasks of a running operator, wired to each other.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use hatrack_service::manager::{self, tell};
use hatrack_service::pages;
use kube::Client;
use sd_notify::NotifyState;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::announce;
use crate::canary::{self, Canary};
use crate::client::client;
use crate::config::Config;
use crate::decide::{Decider, Progress};
use crate::leader::{Elector, Leadership, Resignation};
use crate::metrics::Metrics;
use crate::observe::{self, Observed};
use crate::serve::View;
use crate::{enroll, node_labels, readiness, revocation};

/// Decisions have a thread of their own; these are for requests, watches and pages.
const THREADS: usize = 2;

/// How long a request that was sent may take when the operator ends.
const LAST_REQUESTS: Duration = Duration::from_secs(2);

/// Runs until SIGTERM or SIGINT.
pub fn run(config: Config) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()
        .context("failed to start the event loop")?;
    let ended = runtime.block_on(until_asked_to_stop(config));
    runtime.shutdown_timeout(LAST_REQUESTS);
    ended
}

async fn until_asked_to_stop(config: Config) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::open().context("failed to listen for signals")?;
    let listener = pages::listen(config.listen)
        .await
        .with_context(|| format!("failed to listen on {} (`listen` in the configuration)", config.listen))?;
    let mut tasks = JoinSet::new();
    let mut leading = JoinSet::new();
    let (shared, resignation) = begin(&mut tasks, config, listener);
    let mut leadership = shared.leadership.clone();
    loop {
        tokio::select! {
            () = signals.stop() => break,
            leads = leadership.turned_from(!leading.is_empty()) => {
                if leads {
                    shared.begin_leading(&mut leading)?;
                } else {
                    tracing::warn!("this operator does not lead any more");
                    leading.shutdown().await;
                }
            }
            Some(task) = tasks.join_next() => {
                task.context("a task of the operator failed")?;
                anyhow::bail!("a task of the operator ended");
            }
            Some(task) = leading.join_next() => {
                task.context("a task of the leading operator failed")?;
                anyhow::bail!("a task of the leading operator ended");
            }
        }
    }
    tell(&[NotifyState::Stopping]);
    leading.shutdown().await;
    tasks.shutdown().await;
    resignation.hand_in().await;
    tracing::info!("asked to stop: what is worn goes on");
    Ok(ExitCode::SUCCESS)
}

/// Starts every task that runs always.
fn begin(tasks: &mut JoinSet<()>, config: Config, listener: TcpListener) -> (Shared, Resignation) {
    let metrics = Arc::new(Metrics::new());
    let client = client(&config.api, metrics.requests.clone());
    let observed = Observed::new(config.periods());
    let elector = Elector::new(&config, client.clone());
    let keeper = canary::Keeper::new(&config, client.clone());
    let shared = Shared {
        leadership: elector.leadership(),
        canary: keeper.subscribe(),
        progress: watch::Sender::default(),
        config: Arc::new(config),
        client,
        observed,
        metrics,
    };
    let resignation = elector.resignation();
    observe::begin(tasks, &shared.config, &shared.client, &shared.observed);
    tasks.spawn(elector.run());
    tasks.spawn(keeper.run());
    let view = Arc::new(shared.view());
    tasks.spawn(pages::serve(listener, Arc::clone(&view)));
    tasks.spawn(manager::report(move || view.status()));
    (shared, resignation)
}

/// What tasks share.
pub struct Shared {
    /// The configuration.
    pub config: Arc<Config>,
    /// The API server.
    pub client: Client,
    /// The world as it is observed.
    pub observed: Observed,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Whether this operator leads.
    pub leadership: Leadership,
    /// Whether authority may be granted.
    pub canary: watch::Receiver<Canary>,
    /// What became of the last decision.
    pub progress: watch::Sender<Progress>,
}

impl Shared {
    /// Starts every task that only the leader runs. They are dropped when it does not lead any more. What another leader did before is known
    /// once everything is listed anew.
    fn begin_leading(&self, tasks: &mut JoinSet<()>) -> anyhow::Result<()> {
        self.observed.list_anew();
        let decider = Decider::new(self).context("failed to set an alarm on the wall clock")?;
        tasks.spawn(decider.run());
        let (client, observed) = (self.client.clone(), self.observed.clone());
        tasks.spawn(node_labels::Labeller::new(&self.config, client.clone(), observed.clone()).run());
        tasks.spawn(announce::Announcer::new(self).run());
        tasks.spawn(enroll::Registrar::new(self).run());
        tasks.spawn(revocation::Revoker::new(self).run());
        tasks.spawn(readiness::Watcher::new(&self.config, client, observed).run());
        Ok(())
    }

    fn view(&self) -> View {
        View {
            observed: self.observed.clone(),
            leadership: self.leadership.clone(),
            canary: self.canary.clone(),
            progress: self.progress.subscribe(),
            metrics: Arc::clone(&self.metrics),
        }
    }
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn open() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
