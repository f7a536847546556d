//! A record as a Kubernetes Event on its binding: what `kubectl describe hatbinding` shows.

use std::time::Duration;

use hatrack_api::hat_swap::BindingRef;
use hatrack_api::{GROUP, HatBinding, HatSwap};
use hatrack_hats::ticks::{Targets, Tick};
use hatrack_service::log::chain;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client, Resource};

use super::{Announced, Outcome, Way};
use crate::config::Config;
use crate::failure::{Failure, Kind, within};

/// Longest note, in bytes (events.k8s.io/v1).
const MAX_NOTE: usize = 1024;

/// How often an Event is tried that its namespace refuses, before those of the other namespaces go on without it.
const TRIES: u32 = 5;

/// Events in the namespaces of the bindings.
pub struct Events {
    client: Client,
    limit: Duration,
    instance: String,
    /// The record whose Event was refused last, and how often.
    refused: (Option<String>, u32),
}

impl Events {
    /// Events that are reported by this machine.
    pub fn new(config: &Config, client: &Client) -> Self {
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        Self {
            client: client.clone(),
            limit: config.api.request_timeout.get(),
            instance: host.unwrap_or_else(|| "hatrack-operator".to_owned()),
            refused: (None, 0),
        }
    }

    /// Whether a namespace has refused the Event of a record often enough.
    fn has_had_its_tries(&mut self, swap: &HatSwap) -> bool {
        if self.refused.0 != swap.metadata.name {
            self.refused = (swap.metadata.name.clone(), 0);
        }
        self.refused.1 += 1;
        self.refused.1 >= TRIES
    }
}

impl Way for Events {
    const NAME: &'static str = "events";

    fn is_wanted(&self, targets: &Targets) -> bool {
        targets.events
    }

    async fn announce(&mut self, swap: &HatSwap, _: &Targets) -> Announced {
        let Some(binding) = &swap.spec.binding_ref else { return Ok(Outcome::Pointless) };
        let event = event(swap, binding, &self.instance);
        let events: Api<Event> = Api::namespaced(self.client.clone(), &binding.namespace);
        match within(self.limit, events.create(&PostParams::default(), &event)).await {
            Ok(_) => Ok(Outcome::Done),
            Err(failure) if failure.kind() == Kind::AlreadyExists => Ok(Outcome::Known),
            Err(failure) if has_no_place(&failure) => Ok(Outcome::Pointless),
            Err(failure) if is_of_its_namespace(&failure) && self.has_had_its_tries(swap) => {
                let namespace = &binding.namespace;
                tracing::warn!(error = chain(&failure), namespace, "an Event is left out: its namespace refuses it");
                Ok(Outcome::Pointless)
            }
            Err(failure) => Err(Box::new(failure)),
        }
    }
}

/// The namespace is gone or going, or the API server will never take this Event.
fn has_no_place(failure: &Failure) -> bool {
    match failure.kind() {
        Kind::NotFound | Kind::Invalid => true,
        Kind::Forbidden => failure.message().contains("because it is being terminated"),
        _ => false,
    }
}

/// What a quota or a webhook of one namespace does must not silence all others. A missing right of the operator's is mended by a
/// person: until then every Event waits.
fn is_of_its_namespace(failure: &Failure) -> bool {
    match failure.kind() {
        Kind::Forbidden => !failure.message().contains("cannot create resource"),
        _ => failure.is_of_a_webhook(),
    }
}

/// The Event has the record's name, so that a second one is refused.
fn event(swap: &HatSwap, binding: &BindingRef, instance: &str) -> Event {
    let record = &swap.spec;
    let tick = Tick::of(swap);
    let words = [record.reason.as_deref(), record.message.as_deref()];
    let note = words.into_iter().flatten().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(": ");
    Event {
        metadata: ObjectMeta {
            name: swap.metadata.name.clone(),
            namespace: Some(binding.namespace.clone()),
            ..ObjectMeta::default()
        },
        action: Some(if record.throttle_name.is_some() { "Hold" } else { "Transition" }.to_owned()),
        event_time: Some(MicroTime(record.occurred_at.0)),
        note: Some(cut(note, MAX_NOTE)),
        reason: Some(record.event.as_str().to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(HatBinding::api_version(&()).into_owned()),
            kind: Some(HatBinding::kind(&()).into_owned()),
            name: Some(binding.name.clone()),
            namespace: Some(binding.namespace.clone()),
            uid: Some(binding.uid.clone()),
            ..ObjectReference::default()
        }),
        related: Some(ObjectReference {
            api_version: Some(HatSwap::api_version(&()).into_owned()),
            kind: Some(HatSwap::kind(&()).into_owned()),
            name: swap.metadata.name.clone(),
            namespace: swap.metadata.namespace.clone(),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(format!("{GROUP}/hatrack-operator")),
        reporting_instance: Some(cut(instance.to_owned(), 128)),
        type_: Some(if tick.is_warning() { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

/// At most so many bytes, without half a character at the end.
fn cut(mut text: String, bytes: usize) -> String {
    let end = text.floor_char_boundary(bytes);
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    #[test]
    fn a_note_fits_and_ends_with_a_whole_character() {
        assert_eq!(cut("short".to_owned(), MAX_NOTE), "short");
        let note = cut("é".repeat(1000), MAX_NOTE - 1);
        assert_eq!((note.len(), note.chars().count()), (1022, 511));
    }

    #[test]
    fn what_a_namespace_refuses_is_told_from_a_missing_right_and_from_a_broken_server() {
        let failure = |code: u16, message: &str| {
            Failure::from(kube::Error::Api(Status::failure(message, "Why").with_code(code).boxed()))
        };
        for (code, message, expected) in [
            (403, "events \"u-1\" is forbidden: exceeded quota: few", true),
            (403, "admission webhook \"no.events\" denied the request: never", true),
            (500, "Internal error occurred: failed calling webhook \"no.events\"", true),
            (403, "events is forbidden: User \"society:operator\" cannot create resource \"events\"", false),
            (500, "etcdserver: request timed out", false),
            (429, "too many requests", false),
        ] {
            assert_eq!(is_of_its_namespace(&failure(code, message)), expected, "{message}");
        }
    }

    #[test]
    fn a_hold_and_a_probation_warn() {
        let spec = |event: &str| {
            serde_json::from_value(serde_json::json!({
                "hat": "executor", "wearer": {"spiffeID": "spiffe://cluster.local/ns/a/sa/b"}, "event": event,
                "occurredAt": "2026-01-01T00:00:00Z", "reason": "Because", "message": "of this",
                "bindingRef": {"name": "mine", "namespace": "a", "uid": "u"}
            }))
            .unwrap()
        };
        for (name, expected) in
            [("SwapOn", "Normal"), ("SwapOff", "Normal"), ("Throttled", "Warning"), ("Probation", "Warning")]
        {
            let swap = HatSwap::new("u-1", spec(name));
            let event = event(&swap, swap.spec.binding_ref.as_ref().unwrap(), "machine");
            assert_eq!((event.type_.as_deref(), event.reason.as_deref()), (Some(expected), Some(name)));
            assert_eq!(event.metadata.name.as_deref(), Some("u-1"));
            assert_eq!(event.note.as_deref(), Some("Because: of this"));
        }
    }
}
