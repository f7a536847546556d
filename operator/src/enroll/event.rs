//! A verdict as a Kubernetes Event on its request: what `kubectl describe csr` shows.

use std::time::Duration;

use hatrack_api::GROUP;
use hatrack_service::log::chain;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::PostParams;
use kube::{Api, Client};

use super::request::Request;
use crate::failure::{Kind, within};

/// Where Events about what belongs to no namespace are kept.
const NAMESPACE: &str = "default";

/// Longest note, in bytes (events.k8s.io/v1).
const MAX_NOTE: usize = 1024;

/// Events on requests for certificates.
pub struct Events {
    api: Api<Event>,
    limit: Duration,
    instance: String,
}

impl Events {
    /// Events that are reported by this machine.
    pub fn new(client: &Client, limit: Duration) -> Self {
        let host = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
        let instance = host.unwrap_or_else(|| "hatrack-operator".to_owned());
        Self { api: Api::namespaced(client.clone(), NAMESPACE), limit, instance }
    }

    /// Tells what became of a request. The condition and the log say the same: an Event that cannot be written is none.
    pub async fn tell(&self, request: &Request, action: &str, reason: &str, note: &str) {
        let event = self.event(request, action, reason, note);
        match within(self.limit, self.api.create(&PostParams::default(), &event)).await {
            Err(failure) if failure.kind() != Kind::AlreadyExists => {
                tracing::debug!(error = chain(&failure), "an Event was not written");
            }
            _ => {}
        }
    }

    /// The name has the request and the reason, so that the same is not told twice.
    fn event(&self, request: &Request, action: &str, reason: &str, note: &str) -> Event {
        let metadata = &request.object.metadata;
        let uid = metadata.uid.clone().unwrap_or_default();
        let end = note.floor_char_boundary(MAX_NOTE);
        Event {
            metadata: ObjectMeta {
                name: Some(format!("hatrack-request-{uid}-{}", reason.to_lowercase())),
                namespace: Some(NAMESPACE.to_owned()),
                ..ObjectMeta::default()
            },
            action: Some(action.to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(note[..end].to_owned()),
            reason: Some(reason.to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some("certificates.k8s.io/v1".to_owned()),
                kind: Some("CertificateSigningRequest".to_owned()),
                name: metadata.name.clone(),
                uid: Some(uid),
                ..ObjectReference::default()
            }),
            reporting_controller: Some(format!("{GROUP}/hatrack-operator")),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if action == "Approved" { "Normal" } else { "Warning" }.to_owned()),
            ..Event::default()
        }
    }
}
