//! Waits for a hat, and for its end.

use std::time::Duration;

use hatrack_api::HatBinding;
use hatrack_api::hat_binding::Phase;
use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use tokio::time::timeout;

use super::process::Signals;
use crate::cluster::Cluster;
use crate::cluster::kind::Kind;
use crate::cluster::watch::{Change, Watch};
use crate::errors;
use crate::output::Printer;
use crate::output::style::{self, paint};
use crate::view::{age, bindings};

/// How long after the end of a term its renewal may still be on its way: the operator begins to act at the end.
const SLACK: Duration = Duration::from_secs(5);

/// How long the last question whether a term was renewed may take.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// What a wait came to.
pub enum Waited {
    /// The hat is on, with full authority.
    Active(Box<HatBinding>),
    /// It will not be, or not in time.
    No(String),
    /// Somebody does not want to wait any more: the exit code that says so.
    Interrupted(u8),
}

/// Follows one binding. In a folder it decides as well: there is no operator.
pub struct Wait<'a> {
    cluster: &'a Cluster,
    printer: &'a Printer,
    watch: Watch<HatBinding>,
    key: String,
    name: String,
    known: HatBinding,
    told: String,
    trouble: bool,
}

impl<'a> Wait<'a> {
    /// Begins to follow a binding.
    pub fn open(cluster: &'a Cluster, binding: &HatBinding, printer: &'a Printer) -> anyhow::Result<Self> {
        let name = binding.name_any();
        let watch = cluster.watch_bindings(binding.namespace().as_deref(), Some(&name))?;
        let (key, known) = (binding.key(), binding.clone());
        Ok(Self { cluster, printer, watch, key, name, known, told: String::new(), trouble: false })
    }

    /// Waits until the hat is Active.
    pub async fn until_active(&mut self, timeout: Option<Duration>, signals: &mut Signals) -> anyhow::Result<Waited> {
        let patience = tokio::time::sleep(timeout.unwrap_or(Duration::from_hours(24 * 365)));
        tokio::pin!(patience);
        loop {
            let next = tokio::select! {
                next = self.next() => next?,
                () = &mut patience => {
                    let why = bindings::why(&self.known, Timestamp::now());
                    return Ok(Waited::No(format!("{} was not to be had in time: {why}", self.known.spec.hat)));
                }
                code = signals.next() => return Ok(Waited::Interrupted(code)),
            };
            let Some(binding) = next else {
                return Ok(Waited::No(format!("the binding {} is gone", self.name)));
            };
            match bindings::phase(&binding) {
                Phase::Active => {
                    self.say(&format!("{} is on", binding.spec.hat));
                    return Ok(Waited::Active(binding.into()));
                }
                phase if phase.is_ended() => {
                    return Ok(Waited::No(format!("the request for {} ended: {phase}", binding.spec.hat)));
                }
                _ => self.tell(&binding),
            }
        }
    }

    /// Waits until the hat is off, by what the cluster says or by the clock, and says why.
    pub async fn until_over(&mut self) -> String {
        loop {
            let Some(next) = self.next_in_term().await else {
                return self.term_ended();
            };
            match next {
                Ok(Some(binding)) if binding.metadata.deletion_timestamp.is_some() => {
                    return format!("{} was released", binding.spec.hat);
                }
                Ok(Some(binding)) if bindings::phase(&binding) == Phase::Expired => return self.term_ended(),
                Ok(Some(binding)) if !bindings::phase(&binding).is_worn() => {
                    let why = bindings::why(&binding, Timestamp::now());
                    let why = if why.is_empty() { why } else { format!(" ({why})") };
                    return format!("{} is off: {}{why}", binding.spec.hat, bindings::phase(&binding));
                }
                Ok(Some(_)) => {}
                Ok(None) => return format!("the binding {} is gone", self.name),
                // The hat is worn until its end also while the cluster cannot be seen.
                Err(error) => {
                    _ = errors::report(&error, self.printer);
                    tokio::time::sleep(Duration::from_secs(5)).await;
                }
            }
        }
    }

    fn term_ended(&self) -> String {
        format!("the term of {} ended", self.known.spec.hat)
    }

    /// The binding as it is after the next change; `None`: its term ended and was not renewed.
    async fn next_in_term(&mut self) -> Option<anyhow::Result<Option<HatBinding>>> {
        let Some(ends) = ends(&self.known) else { return Some(self.next().await) };
        if let Ok(next) = timeout(left(ends), self.next()).await {
            return Some(next);
        }
        // A cluster that is known to be away renews nothing.
        if !self.cluster.is_folder()
            && !self.trouble
            && let Ok(next) = timeout(left(ends + SLACK), self.next()).await
        {
            return Some(next);
        }
        // In a folder nobody else looks at the clock; elsewhere the watch may have died without a trace.
        let renewed = timeout(LAST_LOOK, self.renewed(ends)).await.ok()??;
        Some(Ok(Some(renewed)))
    }

    /// The binding with a later end, if its term was renewed at this one.
    async fn renewed(&mut self, ended: Timestamp) -> Option<HatBinding> {
        self.cluster.settle().ok()?;
        let binding = self.cluster.binding(&self.known.namespace()?, &self.name).await.ok()??;
        let renewed = bindings::phase(&binding).is_worn() && ends(&binding).is_none_or(|ends| ends > ended);
        renewed.then(|| {
            self.known = binding.clone();
            binding
        })
    }

    /// The binding as it is after the next change; `None`: it is gone.
    async fn next(&mut self) -> anyhow::Result<Option<HatBinding>> {
        loop {
            let wait = self.cluster.settle()?.wait;
            let change = match wait {
                None => self.watch.next().await?,
                Some(wait) => match timeout(wait, self.watch.next()).await {
                    Ok(change) => change?,
                    Err(_due) => continue,
                },
            };
            let found = match change {
                Change::All(bindings) => bindings.into_iter().find(|binding| binding.key() == self.key),
                Change::Applied(binding) if binding.key() == self.key => Some(*binding),
                Change::Gone(key) if key == self.key => None,
                Change::Applied(_) | Change::Gone(_) => continue,
                Change::Trouble(error) => {
                    if !std::mem::replace(&mut self.trouble, true) {
                        _ = errors::report(&error, self.printer);
                    }
                    continue;
                }
            };
            self.trouble = false;
            let found = found.filter(|binding| binding.uid() == self.known.uid());
            if let Some(binding) = &found {
                self.known = binding.clone();
            }
            return Ok(found);
        }
    }

    /// Says what it waits for, once.
    fn tell(&mut self, binding: &HatBinding) {
        let now = Timestamp::now();
        let status = binding.status.clone().unwrap_or_default();
        let words = match (status.phase, &status.warmup_ends_at) {
            (Phase::Warmup, Some(ends)) => {
                format!("{} warms up for {}", binding.spec.hat, age::between(now, ends.0.max(now)))
            }
            _ => format!("{} waits: {}", binding.name_any(), bindings::why(binding, now)),
        };
        let what = format!("{:?} {}", status.phase, if status.phase == Phase::Warmup { "" } else { &words });
        if std::mem::replace(&mut self.told, what.clone()) != what {
            self.say(&words);
        }
    }

    fn say(&self, words: &str) {
        self.printer.note(&format!("{} {words}", paint(style::HINT, "wear:")));
    }
}

/// When the term of a binding ends.
fn ends(binding: &HatBinding) -> Option<Timestamp> {
    binding.status.as_ref()?.expires_at.as_ref().map(|ends| ends.0)
}

/// How long until then.
fn left(time: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or_default()
}
