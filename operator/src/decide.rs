//! The loop: decide, act, look again.
//!
//! * In: the world, the time, whether the fence holds. Out: writes; [`Progress`].
//!
//! A decision is asked for when there is news, when something becomes due, and when the wall clock was set. Its actions are carried out in
//! their order, those that do not depend on each other side by side ([`mod@batches`]). When one fails, the rest is dropped: what it was about is
//! read anew where the answer says that the world is another one, and the decision is asked again, after a while if need be.
//!
//! **What the API server refuses for good** (a namespace that is not there, a webhook of others) must not stand in the way of everything that comes
//! after it in the plan, nor must what somebody changes each time before it is written. A binding that cannot be written is set aside for a while and
//! stays as it is, and so is a node whose hats or whose fence cannot be written: it takes nothing new and keeps what it has. Authority that cannot be
//! given, and what nothing else depends on, is left out for a while; what is left out is looked at again with each decision, and nothing else for its
//! sake.

mod act;
mod batches;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::{StreamExt, stream};
use hatrack_hats::{Action, Moment, Plan, decide};
use hatrack_service::backoff::Pause;
use hatrack_service::clock::since_boot;
use hatrack_service::log::{Trouble, chain};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use self::act::{Actor, Done, Setback};
use self::batches::{Lane, batches};
use crate::canary::Canary;
use crate::clock::{Alarm, now};
use crate::config::Config;
use crate::failure::Failure;
use crate::leader::Leadership;
use crate::metrics::Decisions;
use crate::observe::{Observed, Seen};
use crate::operator::Shared;

/// What became of the last decision.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    /// Why it was not carried out, if it was not.
    pub failure: Option<String>,
}

/// Times in a row that the world may have changed before it is waited for, and that an object may have before it is left alone: somebody may
/// write faster than it is read.
const OVERTAKEN_AT_ONCE: u32 = 3;

/// Decides and acts while this operator leads.
pub struct Decider {
    observed: Observed,
    changes: watch::Receiver<Seen>,
    leadership: Leadership,
    canary: watch::Receiver<Canary>,
    progress: watch::Sender<Progress>,
    decisions: Decisions,
    actor: Actor,
    alarm: Alarm,
    pause: Pause,
    /// What was refused, by what it was about, and until when it is left alone.
    refused: BTreeMap<Subject, Duration>,
    /// How often each was overtaken since a plan was last carried out.
    overtaken: BTreeMap<Subject, u32>,
    set_aside: Duration,
    trouble: Trouble,
}

/// What an action is about, where it can be left alone without harm to others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Binding(String),
    Node(String),
    Grant(String, hatrack_hats::authority::Scope),
    Hat(String),
    Policy,
    Record(String),
}

/// Requests at a time. The API server commits what comes together with one write to its disk.
const AT_A_TIME: usize = 16;

/// How far a lane was gone.
#[derive(Default)]
struct Way {
    /// How many actions were carried out.
    done: usize,
    /// What was left out, and nothing else depends on.
    left_out: Lane,
    stop: Option<Stop>,
}

/// Why a lane was not gone to its end.
enum Stop {
    /// This operator does not lead any more.
    Deposed,
    /// The world is another one.
    Overtaken(Option<Subject>),
    /// This will be refused again.
    Refused(Subject, Failure),
    /// Nothing is known of it.
    Failed(Failure),
}

/// What became of a plan.
enum Outcome {
    /// Everything was done that could be: how many actions, and when something becomes due.
    Done(usize, Option<Moment>),
    /// The world is another one: decide again.
    Overtaken,
    /// This operator does not lead any more.
    Deposed,
}

impl Decider {
    /// Nothing has been decided yet. It fails when the alarm cannot be set.
    pub fn new(shared: &Shared) -> std::io::Result<Self> {
        let config: &Config = &shared.config;
        Ok(Self {
            observed: shared.observed.clone(),
            changes: shared.observed.subscribe(),
            leadership: shared.leadership.clone(),
            canary: shared.canary.clone(),
            progress: shared.progress.clone(),
            decisions: shared.metrics.decisions.clone(),
            actor: Actor::new(shared),
            alarm: Alarm::new()?,
            pause: config.backoff.pause(),
            refused: BTreeMap::new(),
            overtaken: BTreeMap::new(),
            set_aside: config.requests.set_aside.get(),
            trouble: Trouble::default(),
        })
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut overtaken = 0;
        self.observed.did(|seen| seen.world.take_up_all());
        loop {
            if self.changes.wait_for(Seen::is_complete).await.is_err() {
                return;
            }
            self.take_up();
            self.canary.mark_unchanged();
            let decided = self.changes.borrow_and_update().news;
            match self.turn().await {
                Ok(Outcome::Done(acted, wake_at)) => {
                    overtaken = 0;
                    self.went_well();
                    if acted == 0 {
                        self.wait(decided, wake_at).await;
                    }
                }
                Ok(Outcome::Overtaken) if overtaken < OVERTAKEN_AT_ONCE => overtaken += 1,
                // Who does not lead any more is dropped in a moment, unless the Lease is renewed after all.
                Ok(Outcome::Overtaken | Outcome::Deposed) => sleep(self.pause.again()).await,
                Err(failure) => {
                    self.trouble.log("a decision was not carried out", &*failure, None);
                    self.progress.send_replace(Progress { failure: Some(chain(&*failure)) });
                    sleep(self.pause.again()).await;
                }
            }
        }
    }

    fn went_well(&mut self) {
        self.pause.reset();
        self.overtaken.clear();
        self.trouble.log_end("decisions are carried out again");
        self.progress.send_if_modified(|progress| progress.failure.take().is_some());
    }

    /// What was left alone for long enough is tried again.
    fn take_up(&mut self) {
        let now = since_boot();
        for (subject, _) in self.refused.extract_if(.., |_, until| *until <= now) {
            match subject {
                Subject::Binding(uid) => self.observed.did(|seen| seen.world.take_up(&uid)),
                Subject::Node(name) => self.observed.did(|seen| seen.world.take_up_node(&name)),
                // What was left out is open.
                Subject::Grant(..) | Subject::Hat(_) | Subject::Policy | Subject::Record(_) => {}
            }
        }
    }

    async fn turn(&mut self) -> Result<Outcome, Box<dyn std::error::Error + Send + Sync>> {
        let (world, now) = (self.observed.world(), now());
        let actor = self.actor.on(world.clone());
        let began = since_boot();
        let plan = spawn_blocking(move || decide(&world, now)).await?;
        let Plan { actions, wake_at, questions, outlook } = plan;
        self.decisions.decided(since_boot().saturating_sub(began), questions);
        let (mut acted, mut left_out) = (0, vec![]);
        for batch in batches(actions) {
            let lanes = stream::iter(batch).map(|lane| self.go(&actor, lane)).buffer_unordered(AT_A_TIME);
            let mut stops = vec![];
            for way in lanes.collect::<Vec<Way>>().await {
                acted += way.done;
                left_out.extend(way.left_out);
                stops.extend(way.stop);
            }
            if let Some(outcome) = self.judge(stops)? {
                return Ok(outcome);
            }
        }
        self.observed.did(|seen| {
            seen.world.conclude(outlook);
            for action in &left_out {
                seen.world.leave_open(action);
            }
        });
        Ok(Outcome::Done(acted, wake_at))
    }

    /// Carries out what is in a lane.
    async fn go(&self, actor: &Actor, lane: Lane) -> Way {
        let mut way = Way::default();
        let mut actions = lane.into_iter();
        while let Some(action) = actions.next() {
            let subject = subject(&action);
            if subject.as_ref().is_some_and(|subject| self.refused.contains_key(subject)) {
                way.left_out.push(action);
                continue;
            }
            if !self.leadership.holds() {
                return Way { stop: Some(Stop::Deposed), ..way };
            }
            let result = actor.act(&action).await;
            self.decisions.acted(act::name(&action), outcome(&result));
            let stop = match (result, subject) {
                (Ok(Done::Done), _) => {
                    way.done += 1;
                    continue;
                }
                (Ok(Done::Withheld), _) => {
                    way.left_out.push(action);
                    continue;
                }
                (Err(Setback::Overtaken), subject) => Stop::Overtaken(subject),
                (Err(Setback::Refused(failure)), Some(subject)) => Stop::Refused(subject, failure),
                (Err(Setback::Refused(failure)), None) | (Err(Setback::Failed(failure)), _) => Stop::Failed(failure),
            };
            way.left_out.push(action);
            way.left_out.extend(actions);
            return Way { stop: Some(stop), ..way };
        }
        way
    }

    /// What the stops of a batch make of the plan: `None` if it goes on.
    fn judge(&mut self, stops: Vec<Stop>) -> Result<Option<Outcome>, Failure> {
        let mut outcome = None;
        let mut failed = None;
        for stop in stops {
            match stop {
                Stop::Deposed => return Ok(Some(Outcome::Deposed)),
                Stop::Overtaken(subject) => {
                    outcome = Some(Outcome::Overtaken);
                    if let Some(subject) = subject {
                        self.was_overtaken(subject);
                    }
                }
                Stop::Failed(failure) => failed = Some(failure),
                Stop::Refused(subject, failure) => {
                    tracing::warn!(
                        error = chain(&failure),
                        ?subject,
                        hint = failure.hint(),
                        "refused: left alone for a while"
                    );
                    if self.leave_alone(subject) {
                        outcome = Some(Outcome::Overtaken);
                    }
                }
            }
        }
        failed.map_or(Ok(outcome), Err)
    }

    /// Who writes an object faster than the operator does must not stop what is decided of all others.
    fn was_overtaken(&mut self, subject: Subject) {
        let times = self.overtaken.entry(subject.clone()).or_default();
        *times += 1;
        if *times > OVERTAKEN_AT_ONCE {
            tracing::warn!(?subject, "changed each time before it could be written: left alone for a while");
            self.leave_alone(subject);
        }
    }

    /// Leaves a subject alone for a while. Says whether decisions have to be made without it.
    fn leave_alone(&mut self, subject: Subject) -> bool {
        let matters = match &subject {
            Subject::Binding(uid) => {
                self.observed.did(|seen| seen.world.set_aside(uid));
                true
            }
            Subject::Node(name) => {
                self.observed.did(|seen| seen.world.set_aside_node(name));
                true
            }
            Subject::Grant(..) | Subject::Hat(_) | Subject::Policy | Subject::Record(_) => false,
        };
        self.refused.insert(subject, since_boot().saturating_add(self.set_aside));
        matters
    }

    /// Waits for something to decide.
    async fn wait(&mut self, decided: u64, wake_at: Option<Moment>) {
        let refused = self.refused.values().min().map(|until| until.saturating_sub(since_boot()));
        let retry = async {
            match refused {
                Some(left) => sleep(left).await,
                None => std::future::pending().await,
            }
        };
        let news = async { drop(self.changes.wait_for(|seen| seen.news != decided).await) };
        tokio::select! {
            () = news => {}
            _ = self.canary.changed() => {}
            rang = self.alarm.ring(wake_at.map(|moment| moment.wall)) => {
                if let Err(error) = rang {
                    tracing::warn!(%error, "the alarm on the wall clock failed");
                    sleep(self.pause.again()).await;
                }
            }
            () = retry => {}
        }
    }
}

/// `None`: it is not said what it is about, so that it cannot be left out.
fn subject(action: &Action) -> Option<Subject> {
    match action {
        Action::Finalize { binding }
        | Action::SetStatus { binding, .. }
        | Action::Unfinalize { binding }
        | Action::Delete { binding }
        // Its finalizer stays, so that what could not be taken back is not forgotten.
        | Action::Withdraw { binding, .. } => Some(Subject::Binding(binding.clone())),
        Action::Record(swap) => swap.spec.binding_ref.as_ref().map(|binding| Subject::Binding(binding.uid.clone())),
        Action::Grant(grant) => Some(Subject::Grant(grant.binding.clone(), grant.scope.clone())),
        Action::SetHatStatus { hat, .. } => Some(Subject::Hat(hat.clone())),
        Action::SetPolicyStatus { .. } => Some(Subject::Policy),
        Action::Collect { swap } => Some(Subject::Record(swap.clone())),
        // What it cannot be told, it may still do: nothing of it is given to others.
        Action::Fence { node, .. } | Action::Assign { node, .. } => Some(Subject::Node(node.clone())),
    }
}

fn outcome(done: &Result<Done, Setback>) -> &'static str {
    match done {
        Ok(Done::Done) => "done",
        Ok(Done::Withheld) => "withheld",
        Err(Setback::Overtaken) => "overtaken",
        Err(Setback::Refused(_)) => "refused",
        Err(Setback::Failed(_)) => "failed",
    }
}
