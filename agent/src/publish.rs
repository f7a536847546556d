//! Tells the cluster what the machine has.
//!
//! * In: the newest [`Observation`], the newest version of the object ([`Own`]), what is worn ([`Wearing`]).
//! * Out: what became of it ([`Publication`]); answers to writes go back into [`Own`].
//!
//! Registration is level-triggered: at each change of either input, [`step::next`] says what is to be written, if anything.
//! Between the inputs and the writes there is no queue, so what goes out after a failure is the newest state.

pub mod status;
pub mod step;

use std::sync::Arc;
use std::time::{Duration, Instant};

use hatrack_api::{ClusterNode, ClusterNodeStatus};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use self::step::{Situation, Step};
use crate::client::backoff::Backoff;
use crate::client::outcome::Failure;
use crate::client::{ApiServer, Write};
use crate::clock::Clock;
use crate::config::Config;
use crate::log::{Trouble, chain};
use crate::observe::Observation;
use crate::own::{Own, Seen, path};
use crate::standing::Standing;
use crate::wear::Wearing;

/// What became of the newest observation.
#[derive(Debug, Clone)]
pub enum Publication {
    /// It has not been written yet: why.
    Waiting(String),
    /// The object shows it.
    Shown,
    /// It could not be written: why.
    Failed(String),
}

/// Tells the cluster what the machine has.
pub struct Publisher {
    /// The configuration.
    pub config: Arc<Config>,
    /// Where it is written.
    pub server: Arc<ApiServer>,
    /// The object.
    pub own: Own,
    /// What is to be written.
    pub observations: watch::Receiver<Option<Arc<Observation>>>,
    /// What is worn.
    pub wearing: watch::Receiver<Wearing>,
    /// The time.
    pub clock: Arc<Clock>,
    /// Until when an answer that is awaited holds the first write back.
    pub settled_by: Instant,
    /// What became of it.
    pub publications: watch::Sender<Publication>,
}

/// What was last sent and what the API server made of it.
struct Sent {
    status: ClusterNodeStatus,
    answered: ClusterNodeStatus,
}

impl Publisher {
    /// Runs without end.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(self.config.backoff);
        let mut trouble = Trouble::default();
        let mut seen = self.own.subscribe();
        let mut sent = None;
        let mut was_overtaken = false;
        loop {
            self.observations.mark_unchanged();
            seen.mark_unchanged();
            self.wearing.mark_unchanged();
            match self.turn(&mut sent).await {
                Ok(Some(())) => {
                    was_overtaken = false;
                    backoff.reset();
                    trouble.log_end("this machine can be registered again");
                }
                Ok(None) => self.changed(&mut seen).await,
                // The operator writes into the same object: that it was first once is no trouble.
                Err(failure @ Failure::Outdated { .. }) if !was_overtaken => {
                    was_overtaken = true;
                    tracing::debug!(error = chain(&failure), "the object has a newer version");
                    self.read_anew().await;
                }
                Err(failure) => {
                    trouble.log("this machine's state cannot be written to its ClusterNode", &failure, failure.hint());
                    self.publications.send_replace(Publication::Failed(chain(&failure)));
                    self.pause(&failure, &mut backoff, &mut seen).await;
                }
            }
        }
    }

    /// Does what is to be done next: `None` when that is nothing.
    async fn turn(&mut self, sent: &mut Option<Sent>) -> Result<Option<()>, Failure> {
        let step = self.next_step(sent.as_ref());
        let (name, own) = (&self.config.name, path(&self.config.name));
        match step {
            Step::Wait(why) => {
                self.publications.send_replace(Publication::Waiting(why));
                return Ok(None);
            }
            Step::Rest => {
                self.publications.send_if_modified(|publication| {
                    let news = !matches!(publication, Publication::Shown);
                    if news {
                        *publication = Publication::Shown;
                    }
                    news
                });
                return Ok(None);
            }
            Step::Create(object) => {
                let node: ClusterNode = self.server.write(Write::Apply, &own, &object).await?;
                tracing::info!(name, "registered this machine");
                self.own.offer(node);
            }
            Step::Pin(patch) => {
                let node: ClusterNode = self.server.write(Write::Merge, &own, &patch).await?;
                tracing::info!(name, hardware_id = node.spec.hardware_id, "pinned this machine to its ClusterNode");
                self.own.offer(node);
            }
            Step::Status { object, status } => {
                let node: ClusterNode = self.server.write(Write::Apply, &format!("{own}/status"), &object).await?;
                let answered = node.status.as_ref().map(status::ours).unwrap_or_default();
                if !status::same(&status, &answered) {
                    tracing::error!("the API server did not keep all of the status: apply k8s/crds of this version");
                }
                *sent = Some(Sent { status: *status, answered });
                self.own.offer(node);
            }
        }
        Ok(Some(()))
    }

    fn next_step(&self, sent: Option<&Sent>) -> Step {
        let seen = self.own.get();
        let Some(observation) = self.observations.borrow().clone() else {
            return Step::Wait("this machine has not been looked at yet".to_owned());
        };
        let standing = Standing::of(&seen, observation.inventory().hardware_id.as_deref());
        let situation = Situation {
            config: &self.config,
            observation: &observation,
            standing,
            node: if let Seen::Present(node) = &seen { Some(node) } else { None },
            worn: self.wearing.borrow().worn.clone(),
            now: self.clock.now(),
            settled: Instant::now() >= self.settled_by,
        };
        match step::next(&situation) {
            Step::Status { status, .. } if sent.is_some_and(|sent| sent.would_not_help(&status, &situation)) => {
                Step::Rest
            }
            step => step,
        }
    }

    /// Waits for a change of the inputs, or for the end of the time in which awaited answers hold a write back.
    async fn changed(&mut self, seen: &mut watch::Receiver<Seen>) {
        let rest = self.settled_by.saturating_duration_since(Instant::now());
        let limit = if rest.is_zero() { Duration::MAX } else { rest };
        let either = async {
            tokio::select! {
                result = self.observations.changed() => if result.is_err() { std::future::pending().await },
                result = seen.changed() => if result.is_err() { std::future::pending().await },
                result = self.wearing.changed() => if result.is_err() { std::future::pending().await },
            }
        };
        _ = timeout(limit, either).await;
    }

    /// Waits after a failure. Another content is tried sooner, when it is the content that was refused.
    async fn pause(&mut self, failure: &Failure, backoff: &mut Backoff, seen: &mut watch::Receiver<Seen>) {
        let wait = backoff.after(failure);
        if let Failure::Outdated { .. } | Failure::NotFound { .. } = failure {
            self.read_anew().await;
        }
        if failure.is_about_content() {
            let least = backoff.min().min(wait);
            sleep(least).await;
            _ = timeout(wait.saturating_sub(least), self.changed(seen)).await;
        } else {
            sleep(wait).await;
        }
    }

    async fn read_anew(&self) {
        match self.server.get::<ClusterNode>(&path(&self.config.name)).await {
            Ok(node) => self.own.offer(node),
            Err(failure) => tracing::debug!(error = chain(&failure), "the ClusterNode cannot be read anew"),
        }
    }
}

impl Sent {
    /// The same was sent before, and the object is still what came of it.
    fn would_not_help(&self, status: &ClusterNodeStatus, situation: &Situation) -> bool {
        let shown = situation.node.and_then(|node| node.status.as_ref()).map(status::ours).unwrap_or_default();
        status::same(&self.status, status) && status::same(&self.answered, &shown)
    }
}
