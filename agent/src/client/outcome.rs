//! What can come of a request, classified in this one place.

use std::error::Error;
use std::io;
use std::time::Duration;

use http::StatusCode;
use rustls::CertificateError;
use serde::Deserialize;

use super::credentials::CredentialsError;

/// An error of any kind below ours.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why a request did not do what it was for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is nothing to connect with: not enrolled yet, or files that are wrong.
    #[error("there are no usable credentials")]
    Credentials(#[source] CredentialsError),
    /// No connection, or one that broke before an answer came.
    #[error("the API server cannot be reached")]
    Unreachable(#[source] Cause),
    /// No answer in time.
    #[error("the API server did not answer within {0:?}")]
    Timeout(Duration),
    /// The answer broke off.
    #[error("the answer of the API server broke off")]
    Broken(#[source] Cause),
    /// The answer is not what the API promises.
    #[error("the answer of the API server cannot be understood")]
    Unintelligible(#[source] serde_json::Error),
    /// The request cannot be built.
    #[error("the request cannot be built")]
    Request(#[from] http::Error),
    /// 401: the certificate is not, or no longer, accepted.
    #[error("the API server does not accept this machine's credentials: {message}")]
    Unauthorized {
        /// The API server's words.
        message: String,
    },
    /// 403: known, and not allowed.
    #[error("not allowed: {message}")]
    Forbidden {
        /// The words of the role or the policy that refused.
        message: String,
    },
    /// 404: the object is absent.
    #[error("not found: {message}")]
    NotFound {
        /// The API server's words.
        message: String,
        /// Kind of what is absent: `namespaces` when the namespace of the object is.
        kind: String,
    },
    /// 404 without a Status: the resource type is absent.
    #[error("the API server does not serve this resource")]
    NotServed,
    /// 409: somebody changed the object since it was read.
    #[error("the object has changed meanwhile: {message}")]
    Outdated {
        /// The API server's words.
        message: String,
    },
    /// 409: somebody else owns a field that the agent writes.
    #[error("another manager has taken a field: {message}")]
    Taken {
        /// The API server's words: which manager owns which field.
        message: String,
    },
    /// 400 or 422: the object is not what the schema allows.
    #[error("refused as invalid: {message}")]
    Invalid {
        /// The API server's words: which field and why.
        message: String,
    },
    /// 410: the history that a watch asked for is gone.
    #[error("the resource version is too old")]
    Gone,
    /// 429, or a 5xx that says when to come back.
    #[error("the API server is busy and asks to wait {}", after.map_or("a while".to_owned(), |after| format!("{after:?}")))]
    Busy {
        /// `Retry-After`.
        after: Option<Duration>,
    },
    /// Any other answer.
    #[error("the API server answered {status}: {message}")]
    Server {
        /// Its code.
        status: StatusCode,
        /// Its words.
        message: String,
    },
}

/// How soon a request that failed is worth another try.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// It may work at any moment.
    Soon,
    /// Somebody has to change something first.
    Late,
    /// The API server said when.
    After(Duration),
}

impl Failure {
    pub(super) fn unreachable(error: kube::Error) -> Self {
        Self::Unreachable(match error {
            kube::Error::Service(cause) => cause,
            other => Box::new(other),
        })
    }

    pub(super) fn of_answer(status: StatusCode, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let answer: Option<Answer> = serde_json::from_slice(body).ok();
        let spoken = answer.is_some();
        let Answer { message, details } = answer.unwrap_or_else(|| Answer::of_text(body));
        match status {
            StatusCode::UNAUTHORIZED => Self::Unauthorized { message },
            StatusCode::FORBIDDEN => Self::Forbidden { message },
            StatusCode::NOT_FOUND if spoken => Self::NotFound { message, kind: details.kind },
            StatusCode::NOT_FOUND => Self::NotServed,
            StatusCode::CONFLICT if details.names_a_manager() => Self::Taken { message },
            StatusCode::CONFLICT => Self::Outdated { message },
            StatusCode::GONE => Self::Gone,
            StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY => Self::Invalid { message },
            StatusCode::TOO_MANY_REQUESTS => Self::Busy { after: retry_after },
            _ if retry_after.is_some() => Self::Busy { after: retry_after },
            _ => Self::Server { status, message },
        }
    }

    /// How soon the request is worth another try.
    pub fn pace(&self) -> Pace {
        match self {
            Self::Busy { after: Some(after) } => Pace::After(*after),
            Self::Forbidden { .. } | Self::NotServed | Self::Invalid { .. } | Self::Taken { .. } => Pace::Late,
            Self::NotFound { kind, .. } if kind == "namespaces" => Pace::Late,
            _ => Pace::Soon,
        }
    }

    /// Whether another content of the request could have another result.
    pub fn is_about_content(&self) -> bool {
        matches!(
            self,
            Self::Taken { .. }
                | Self::Outdated { .. }
                | Self::Invalid { .. }
                | Self::Forbidden { .. }
                | Self::NotFound { .. }
        )
    }

    /// What a person can do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Credentials(_) => Some("enroll this machine, or correct [api] in the agent's configuration"),
            Self::Unreachable(cause) if is_of_another_authority(cause.as_ref()) => Some(
                "the server's certificate is of another authority than this machine enrolled with: make sure of the address; if the cluster was \
                 made anew, give this machine a new token file and restart the agent",
            ),
            Self::Unauthorized { .. } => {
                Some("renew this machine's certificate; the agent reads it when the file changes")
            }
            Self::Forbidden { .. } => Some(
                "`kubectl get clusterrolebinding` shows whether this node may write; its certificate has to name it",
            ),
            Self::NotServed => Some("install the resource types: `kubectl apply -k k8s/crds`"),
            Self::NotFound { kind, .. } if kind == "namespaces" => {
                Some("make the namespace: `kubectl apply -f k8s/namespace.yaml`")
            }
            Self::Taken { .. } => Some(
                "the agent never takes a field by force; `kubectl get cn -o yaml --show-managed-fields` shows who has it",
            ),
            Self::Invalid { .. } => {
                Some("the resource types in the cluster may be older than the agent: apply k8s/crds")
            }
            _ => None,
        }
    }

    /// The kind of failure, for metrics.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Credentials(_) => "credentials",
            Self::Unreachable(_) => "unreachable",
            Self::Timeout(_) => "timeout",
            Self::Broken(_) => "broken",
            Self::Unintelligible(_) => "unintelligible",
            Self::Request(_) => "request",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::NotFound { .. } => "not_found",
            Self::NotServed => "not_served",
            Self::Outdated { .. } => "outdated",
            Self::Taken { .. } => "taken",
            Self::Invalid { .. } => "invalid",
            Self::Gone => "gone",
            Self::Busy { .. } => "busy",
            Self::Server { .. } => "server_error",
        }
    }
}

/// Whether a connection failed for the authority that signed the server's certificate. What an [`io::Error`] holds is not among its sources.
fn is_of_another_authority(error: &(dyn Error + 'static)) -> bool {
    let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    matches!(error.downcast_ref(), Some(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)))
        || held.is_some_and(|held| is_of_another_authority(held))
        || error.source().is_some_and(is_of_another_authority)
}

/// `metav1.Status`, as far as it is used.
#[derive(Deserialize)]
struct Answer {
    message: String,
    #[serde(default)]
    details: Details,
}

#[derive(Deserialize, Default)]
struct Details {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    causes: Vec<Why>,
}

#[derive(Deserialize)]
struct Why {
    #[serde(default)]
    reason: String,
}

impl Details {
    /// Server-side apply names each field that another manager owns.
    fn names_a_manager(&self) -> bool {
        self.causes.iter().any(|cause| cause.reason == "FieldManagerConflict")
    }
}

impl Answer {
    /// Proxies and overloaded servers answer in plain text.
    fn of_text(body: &[u8]) -> Self {
        let text = String::from_utf8_lossy(body);
        Self { message: text.trim().chars().take(200).collect(), details: Details::default() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn failure(status: u16, body: &str) -> Failure {
        Failure::of_answer(StatusCode::from_u16(status).unwrap(), None, body.as_bytes())
    }

    #[test]
    fn every_answer_has_its_class_and_its_pace() {
        let status = r#"{"kind":"Status","message":"why","details":{"kind":"clusternodes"}}"#;
        let taken =
            r#"{"message":"why","details":{"causes":[{"reason":"FieldManagerConflict","field":".status.devices"}]}}"#;
        let namespace = r#"{"kind":"Status","message":"why","details":{"kind":"namespaces"}}"#;
        for (code, body, label, pace) in [
            (400, status, "invalid", Pace::Late),
            (401, status, "unauthorized", Pace::Soon),
            (403, status, "forbidden", Pace::Late),
            (404, status, "not_found", Pace::Soon),
            (404, namespace, "not_found", Pace::Late),
            (404, "404 page not found", "not_served", Pace::Late),
            (409, status, "outdated", Pace::Soon),
            (409, taken, "taken", Pace::Late),
            (410, status, "gone", Pace::Soon),
            (422, status, "invalid", Pace::Late),
            (429, "slow down", "busy", Pace::Soon),
            (500, status, "server_error", Pace::Soon),
            (503, "", "server_error", Pace::Soon),
        ] {
            let failure = failure(code, body);
            assert_eq!((failure.label(), failure.pace()), (label, pace), "{code} {body}");
        }
    }

    #[test]
    fn the_server_says_when_to_come_back() {
        for code in [429, 500, 503] {
            let after = Duration::from_secs(7);
            let failure = Failure::of_answer(StatusCode::from_u16(code).unwrap(), Some(after), b"");
            assert_eq!(failure.pace(), Pace::After(after), "{code}");
        }
    }

    #[test]
    fn the_words_of_a_refusal_are_kept() {
        assert_eq!(failure(403, r#"{"message":"a node may not"}"#).to_string(), "not allowed: a node may not");
        assert_eq!(failure(502, "bad gateway\n").to_string(), "the API server answered 502 Bad Gateway: bad gateway");
    }

    proptest! {
        #[test]
        fn any_answer_is_a_failure_that_can_be_told(
            code in 400..600_u16, body in prop::collection::vec(any::<u8>(), 0..400), after in prop::option::of(any::<u64>()),
        ) {
            let status = StatusCode::from_u16(code).unwrap();
            let failure = Failure::of_answer(status, after.map(Duration::from_secs), &body);
            prop_assert!(!failure.to_string().is_empty() && !failure.label().is_empty());
            prop_assert!(failure.to_string().chars().count() <= 300, "a page of a proxy is cut");
        }
    }
}
