//! The API server, spoken to as this node.
//!
//! Requests are made by hand over kube's transport and not through `kube::Api`, because what decides about a failure is
//! partly in the headers: `Retry-After` says when to come back, `Date` what the time is.

pub mod backoff;
mod credentials;
mod lines;
pub mod outcome;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method, header};
use http_body_util::{BodyExt, Limited};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use kube::client::Body;
use kube::config::Kubeconfig;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use self::credentials::{Credentials, Source};
pub use self::lines::Lines;
use self::outcome::Failure;
use crate::clock::{Clock, since_boot};
use crate::config;
use crate::metrics::Requests;

/// Who writes, in `metadata.managedFields`.
pub const FIELD_MANAGER: &str = "hatrack-agent";

/// No object of ours comes near it; an answer above it is not read to its end.
const MAX_ANSWER_BYTES: usize = 8 << 20;

/// The API server, spoken to as this node.
#[derive(Debug)]
pub struct ApiServer {
    credentials: Credentials,
    timeout: Duration,
    clock: Arc<Clock>,
    requests: Requests,
    renewals: watch::Sender<u64>,
}

/// How a request changes an object.
#[derive(Debug, Clone, Copy)]
pub enum Write {
    /// Server-side apply: creates the object if it is absent.
    Apply,
    /// A JSON merge patch of an object that exists.
    Merge,
    /// A whole object, with its `resourceVersion`.
    Replace,
}

impl ApiServer {
    /// Nothing is read or connected yet: an agent starts without the API server and without its credentials.
    pub fn new(access: &config::Api, clock: Arc<Clock>, requests: Requests) -> Self {
        Self::of(Source::Files(access.clone()), access.request_timeout.get(), clock, requests)
    }

    /// The API server with an access that is in no file.
    pub fn with(&self, kubeconfig: Kubeconfig) -> Self {
        let source = Source::Given(Box::new(kubeconfig));
        Self::of(source, self.timeout, Arc::clone(&self.clock), self.requests.clone())
    }

    fn of(source: Source, timeout: Duration, clock: Arc<Clock>, requests: Requests) -> Self {
        let credentials = Credentials::new(source, Arc::clone(&clock));
        Self { credentials, timeout, clock, requests, renewals: watch::Sender::default() }
    }

    /// Makes an object in a collection.
    pub async fn create<T: DeserializeOwned>(&self, path: &str, object: &Value) -> Result<T, Failure> {
        let request = http::Request::post(format!("{path}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict"))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(object.to_string().into_bytes()))?;
        self.counted("create", self.answer(request)).await
    }

    /// Says that there are new credentials, to who waits for them.
    pub fn renewed(&self) {
        self.renewals.send_modify(|count| *count += 1);
    }

    /// Waits for new credentials.
    pub async fn new_credentials(&self) {
        _ = self.renewals.subscribe().changed().await;
    }

    /// Reads an object or a list.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = http::Request::get(path).body(Body::empty())?;
        self.counted("get", self.answer(request)).await
    }

    /// Writes an object, and returns it as the API server then has it.
    pub async fn write<T: DeserializeOwned>(&self, how: Write, path: &str, object: &Value) -> Result<T, Failure> {
        let (verb, method, content_type) = match how {
            Write::Apply => ("apply", Method::PATCH, "application/apply-patch+yaml"),
            Write::Merge => ("merge", Method::PATCH, "application/merge-patch+json"),
            Write::Replace => ("replace", Method::PUT, "application/json"),
        };
        let request = http::Request::builder()
            .method(method)
            .uri(format!("{path}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict"))
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(object.to_string().into_bytes()))?;
        self.counted(verb, self.answer(request)).await
    }

    /// Opens a watch: JSON lines until the API server ends it.
    pub async fn watch(&self, path: &str) -> Result<Lines, Failure> {
        let request = http::Request::get(path).body(Body::empty())?;
        let opened = async { Ok(Lines::new(self.send(request).await?.into_body())) };
        self.counted("watch", opened).await
    }

    /// Reads the credentials anew with the next request.
    pub async fn reload(&self) {
        self.credentials.forget().await;
    }

    async fn counted<T>(
        &self,
        verb: &'static str,
        request: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let result = match tokio::time::timeout(self.timeout, request).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Timeout(self.timeout)),
        };
        self.requests.count(verb, result.as_ref().err());
        if let Err(Failure::Unauthorized { .. }) = &result {
            self.credentials.forget().await;
        }
        result
    }

    async fn answer<T: DeserializeOwned>(&self, request: http::Request<Body>) -> Result<T, Failure> {
        let body = read(self.send(request).await?.into_body()).await?;
        serde_json::from_slice(&body).map_err(Failure::Unintelligible)
    }

    /// Sends a request; an answer that is no success is a failure.
    async fn send(&self, request: http::Request<Body>) -> Result<http::Response<Body>, Failure> {
        let client = self.credentials.client().await?;
        let sent = since_boot();
        let response = client.send(request).await.map_err(Failure::unreachable)?;
        if let Some(date) = date(response.headers()) {
            self.clock.heard(date, sent);
        }
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let retry_after = retry_after(response.headers(), self.clock.now());
        Err(Failure::of_answer(status, retry_after, &read(response.into_body()).await?))
    }
}

async fn read(body: Body) -> Result<bytes::Bytes, Failure> {
    let collected = Limited::new(body, MAX_ANSWER_BYTES).collect().await.map_err(Failure::Broken)?;
    Ok(collected.to_bytes())
}

/// `Date` (RFC 9110, 6.6.1) in the form that RFC 2822 has, too.
fn date(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(header::DATE)?.to_str().ok()?;
    DateTimeParser::new().parse_timestamp(text).ok()
}

/// `Retry-After` (RFC 9110, 10.2.3): the API server writes seconds, a proxy in front of it perhaps a time, which is set
/// against the clock of who sent it.
fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let time = DateTimeParser::new().parse_timestamp(text).ok()?;
    let wait = time.duration_since(date(headers).unwrap_or(now));
    Some(Duration::try_from(wait).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use jiff::fmt::rfc2822::DateTimePrinter;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers_are_read() {
        let now = "1994-11-06T08:49:30Z".parse().unwrap();
        let mut headers = HeaderMap::new();
        assert_eq!((date(&headers), retry_after(&headers, now)), (None, None));
        let mut wait = |text: &str| {
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(wait("3"), Some(Duration::from_secs(3)));
        assert_eq!(wait("soon"), None);
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::from_secs(7)), "by the clock that is known");
        assert_eq!(wait("Sun, 06 Nov 1994 08:49:00 GMT"), Some(Duration::ZERO), "a time that has passed");
        headers.insert(header::DATE, "Sun, 06 Nov 1994 08:48:50 GMT".parse().unwrap());
        assert_eq!(date(&headers), Some("1994-11-06T08:48:50Z".parse().unwrap()));
        assert_eq!(retry_after(&headers, now), Some(Duration::from_secs(10)), "by the sender's own clock");
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_left_alone(wait in "[ -~]{0,40}|[0-9]{1,30}", sent in "[ -~]{0,40}", now in any::<i32>()) {
            let now = Timestamp::from_second(now.into()).unwrap();
            let headers = [(header::RETRY_AFTER, &wait), (header::DATE, &sent)];
            let headers: HeaderMap = headers.into_iter().map(|(name, text)| (name, text.parse().unwrap())).collect();
            let _ = (date(&headers), retry_after(&headers, now));
        }

        #[test]
        fn a_time_is_set_against_the_clock_of_who_sent_it(sent in 0..4_000_000_000_i64, wait in 0..100_000_u32) {
            let printer = DateTimePrinter::new();
            let at = |seconds: i64| printer.timestamp_to_rfc9110_string(&Timestamp::from_second(seconds).unwrap()).unwrap();
            let headers = [(header::RETRY_AFTER, at(sent + i64::from(wait))), (header::DATE, at(sent))];
            let headers: HeaderMap = headers.into_iter().map(|(name, text)| (name, text.parse().unwrap())).collect();
            prop_assert_eq!(date(&headers), Some(Timestamp::from_second(sent).unwrap()));
            prop_assert_eq!(retry_after(&headers, Timestamp::UNIX_EPOCH), Some(Duration::from_secs(wait.into())));
        }
    }
}
