//! Decides who of those that ask gets the certificate of a machine.
//!
//! * In: a watch of the requests of the cluster's signer for clients; the world; whether the fence holds. Out: `Approved` or `Denied` on each
//!   request of a machine, with the reason; a machine's first access; Events.
//!
//! ```text
//!   request ─> ours? ─> too many? ─> in order by itself? ─> in order as the cluster is now? ─> access, if it is the first ─> Approved
//!              (left alone) (held)     (denied)               (denied, held)
//! ```
//!
//! A verdict is final, so it is made of what the API server says at that moment and not of what a watch has brought so far. It is written under
//! the `resourceVersion` that was judged: of two operators one decides. The access is given before the approval, and both are idempotent,
//! so that an operator that ends in between is taken over by judging anew. Requests of others are left alone.

mod access;
mod event;
mod request;
mod rules;
#[cfg(test)]
mod samples;

use std::collections::BTreeMap;
use std::time::Duration;

use futures::StreamExt;
use hatrack_api::ClusterNode;
use hatrack_api::enrollment::SIGNER;
use hatrack_service::log::Trouble;
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::Api;
use kube::api::PostParams;
use kube::runtime::watcher::{self, Event};
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use self::access::Access;
use self::event::Events;
use self::request::Request;
use self::rules::{Claim, Delay, Facts, Rate, Refusal, Verdict};
use crate::canary::Canary;
use crate::clock::now;
use crate::config::{self, BackoffLimits};
use crate::failure::{Failure, Kind, within};
use crate::leader::Leadership;
use crate::metrics::Enrollments;
use crate::observe::{Observed, Seen};
use crate::operator::Shared;

/// Judges requests while this operator leads.
pub struct Registrar {
    api: Api<CertificateSigningRequest>,
    access: Access,
    events: Events,
    observed: Observed,
    leadership: Leadership,
    canary: watch::Receiver<Canary>,
    enrollments: Enrollments,
    config: config::Enrollment,
    backoff: BackoffLimits,
    limit: Duration,
    silence: u32,
    resync: Duration,
    /// Requests of machines, decided ones among them: they count.
    known: BTreeMap<String, Request>,
    /// What a list that has begun has named so far.
    listed: BTreeMap<String, Request>,
    is_complete: bool,
    /// What waits, by its name, and for what reason.
    held: BTreeMap<String, &'static str>,
}

impl Registrar {
    /// No request has been seen yet.
    pub fn new(shared: &Shared) -> Self {
        let config = &shared.config;
        let limit = config.api.request_timeout.get();
        Self {
            api: Api::all(shared.client.clone()),
            access: Access::new(shared.client.clone(), limit),
            events: Events::new(&shared.client, limit),
            observed: shared.observed.clone(),
            leadership: shared.leadership.clone(),
            canary: shared.canary.clone(),
            enrollments: shared.metrics.enrollments.clone(),
            config: config.enrollment,
            backoff: config.backoff,
            limit,
            silence: config.api.watch_seconds(),
            resync: config.api.resync.get(),
            known: BTreeMap::new(),
            listed: BTreeMap::new(),
            is_complete: false,
            held: BTreeMap::new(),
        }
    }

    /// Runs until it is dropped.
    pub async fn run(mut self) {
        let mut changes = self.observed.subscribe();
        let ours = watcher::Config::default().fields(&format!("spec.signerName={SIGNER}")).timeout(self.silence);
        let mut events = self.observed.follow(self.api.clone(), ours, self.resync);
        let mut trouble = Trouble::default();
        let mut pause = self.backoff.pause();
        loop {
            if changes.wait_for(Seen::is_complete).await.is_err() {
                return;
            }
            self.canary.mark_unchanged();
            let mut failure = self.look().await.err();
            let again = match failure {
                Some(_) => Some(pause.again()),
                None => (!self.held.is_empty()).then(|| self.config.look_again.get()),
            };
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => self.take(event),
                    Some(Err(error)) => {
                        sleep(pause.again()).await;
                        failure = Some(error.into());
                    }
                    None => return,
                },
                _ = self.canary.changed(), if again.is_some() => {}
                () = sleep(again.unwrap_or_default()), if again.is_some() => {}
            }
            if let Some(failure) = failure {
                trouble.log("requests for certificates cannot be decided", &failure, failure.hint());
            } else {
                trouble.log_end("requests for certificates are decided again");
                pause.reset();
            }
        }
    }

    fn take(&mut self, event: Event<CertificateSigningRequest>) {
        match event {
            Event::Init => self.listed.clear(),
            Event::InitApply(object) => {
                let ours = Request::ours(object);
                self.listed.extend(ours.map(|request| (request.name(), request)));
            }
            Event::InitDone => {
                self.known = std::mem::take(&mut self.listed);
                self.is_complete = true;
            }
            Event::Apply(object) => self.saw(object),
            Event::Delete(object) => {
                if let Some(name) = object.metadata.name {
                    self.known.remove(&name);
                    self.held.remove(&name);
                }
            }
        }
    }

    fn saw(&mut self, object: CertificateSigningRequest) {
        if let Some(request) = Request::ours(object) {
            self.known.insert(request.name(), request);
        }
    }

    /// Decides what can be decided. What fails is looked at again, and keeps nothing else from being decided.
    async fn look(&mut self) -> Result<(), Failure> {
        if !self.is_complete {
            return Ok(());
        }
        let waiting = self.known.values().filter(|request| !request.is_decided());
        let mut waiting: Vec<Request> = waiting.cloned().collect();
        waiting.sort_by_key(|request| (request.created(), request.name()));
        self.held.retain(|name, _| waiting.iter().any(|request| request.name() == *name));
        let mut failed = None;
        for request in waiting {
            if !self.leadership.holds() {
                break;
            }
            if let Err(failure) = self.settle(&request).await {
                let is_cut_off = failure.concerns_every_request();
                failed = Some(failure);
                if is_cut_off {
                    break;
                }
            }
        }
        failed.map_or(Ok(()), Err)
    }

    async fn settle(&mut self, request: &Request) -> Result<(), Failure> {
        let rate = Rate { limit: self.config.requests.get(), within: self.config.window };
        if let Some(delay) = rules::too_many(request, self.known.values(), rate, Timestamp::now()) {
            self.hold(request, &delay).await;
            return Ok(());
        }
        let claim = match rules::claim(request, self.config.longest_life) {
            Ok(claim) => claim,
            Err(refusal) => return self.deny(request, &refusal).await,
        };
        match self.judge(request, &claim).await? {
            Verdict::Approve { is_first } => self.approve(request, &claim, is_first).await,
            Verdict::Deny(refusal) => self.deny(request, &refusal).await,
            Verdict::Hold(delay) => {
                self.hold(request, &delay).await;
                Ok(())
            }
        }
    }

    /// Judges by what the API server says now.
    async fn judge(&self, request: &Request, claim: &Claim) -> Result<Verdict, Failure> {
        let node = self.access.find::<ClusterNode>(&claim.node).await?;
        // The role first: access that is given meanwhile is then no role without a binding.
        let has_role = self.access.was_given(&claim.node).await?;
        let has_access = self.access.of(&claim.node).await?;
        let (world, steady) = (self.observed.world(), now().steady);
        let is_another = |name: &str, node: &hatrack_hats::world::NodeView| {
            let pinned = node.node.spec.hardware_id.as_deref();
            name != claim.node && pinned == Some(&claim.hardware_id) && node.is_registered() && node.is_ready(steady)
        };
        let alive_as = world.nodes().find(|(name, node)| is_another(name, node)).map(|(name, _)| name.to_owned());
        let canary = self.canary.borrow().clone();
        let facts = Facts {
            node: node.as_ref(),
            has_access,
            has_role,
            alive_as: alive_as.as_deref(),
            token_used_by: rules::token_used_by(request, self.known.values()),
            no_authority: canary.doubt(),
        };
        Ok(rules::judge(claim, &facts))
    }

    async fn approve(&mut self, request: &Request, claim: &Claim, is_first: bool) -> Result<(), Failure> {
        let node = &claim.node;
        if is_first && self.leadership.holds() {
            self.access.give(node).await?;
            tracing::info!(node, "the machine is given access to its own objects");
        }
        let message = format!("{node} is the machine {}, by {}", claim.hardware_id, claim.by.as_str());
        if self.write(request, "Approved", "Machine", &message).await? {
            let (name, hardware_id, by) = (request.name(), &claim.hardware_id, claim.by.as_str());
            tracing::info!(request = name, node, hardware_id, by, is_first, "a request for a certificate is approved");
            self.enrollments.count("approved", "Machine");
            self.events.tell(request, "Approved", "Machine", &message).await;
        }
        Ok(())
    }

    async fn deny(&mut self, request: &Request, refusal: &Refusal) -> Result<(), Failure> {
        let (reason, message) = (refusal.reason(), refusal.to_string());
        if self.write(request, "Denied", reason, &message).await? {
            let (name, asker) = (request.name(), request.asker());
            tracing::warn!(request = name, asker, reason, why = message, "a request for a certificate is denied");
            self.enrollments.count("denied", reason);
            self.events.tell(request, "Denied", reason, &message).await;
        }
        Ok(())
    }

    /// Says once for each reason that a request waits.
    async fn hold(&mut self, request: &Request, delay: &Delay) {
        let (name, reason, message) = (request.name(), delay.reason(), delay.to_string());
        if self.held.insert(name.clone(), reason) != Some(reason) {
            tracing::warn!(request = name, reason, why = message, "a request for a certificate waits");
            self.enrollments.count("held", reason);
            self.events.tell(request, "Held", reason, &message).await;
        }
    }

    /// Writes a verdict, while this operator leads. Says whether it was this one: somebody else may have been faster, which the watch will say.
    async fn write(&mut self, request: &Request, verdict: &str, reason: &str, message: &str) -> Result<bool, Failure> {
        if !self.leadership.holds() {
            return Ok(false);
        }
        let mut object = request.object.clone();
        let condition = json!({"type": verdict, "status": "True", "reason": reason, "message": message});
        let conditions = &mut object.status.get_or_insert_default().conditions;
        conditions.get_or_insert_default().extend(serde_json::from_value(condition).ok());
        let (name, params) = (request.name(), PostParams::default());
        match within(self.limit, self.api.replace_subresource("approval", &name, &params, &object)).await {
            Ok(object) => {
                self.saw(object);
                Ok(true)
            }
            Err(failure) if matches!(failure.kind(), Kind::Outdated | Kind::NotFound) => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}
