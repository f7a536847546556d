//! What can come of a request, classified in this one place.

use std::time::Duration;

use kube::core::Status;
use kube::runtime::watcher;
use tower::BoxError;

/// Why a request did not do what it was for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// There is nothing to connect with: files that are missing or wrong.
    #[error("there is no usable access to the API server")]
    Credentials(#[source] BoxError),
    /// No connection, one that broke, or an answer that cannot be understood.
    #[error("the API server cannot be reached")]
    Unanswered(#[source] BoxError),
    /// No answer in time.
    #[error("the API server did not answer within {0:?}")]
    Timeout(Duration),
    /// A list without a version, from where a watch could go on.
    #[error("the API server's list has no resourceVersion")]
    Versionless,
    /// The API server's refusal.
    #[error("{}", said(.0))]
    Refused(Box<Status>),
}

/// What a refusal is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// There is nothing to connect with.
    Credentials,
    /// There was no answer.
    Unanswered,
    /// 401.
    Unauthorized,
    /// 403.
    Forbidden,
    /// 404: the object, or what it belongs into, is absent.
    NotFound,
    /// 409: there is one already.
    AlreadyExists,
    /// 409: somebody changed the object since it was read.
    Outdated,
    /// 410.
    Gone,
    /// 400, 422: the object is not what the schema or a policy allows.
    Invalid,
    /// 429.
    Busy,
    /// Everything else.
    Server,
}

impl Kind {
    /// The word for metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Credentials => "credentials",
            Self::Unanswered => "unanswered",
            Self::Unauthorized => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::NotFound => "not_found",
            Self::AlreadyExists => "already_exists",
            Self::Outdated => "outdated",
            Self::Gone => "gone",
            Self::Invalid => "invalid",
            Self::Busy => "busy",
            Self::Server => "server_error",
        }
    }

    /// By the status of an answer whose text is not read.
    pub const fn of_code(code: u16) -> Self {
        match code {
            400 | 422 => Self::Invalid,
            401 => Self::Unauthorized,
            403 => Self::Forbidden,
            404 => Self::NotFound,
            409 => Self::Outdated,
            410 => Self::Gone,
            429 => Self::Busy,
            _ => Self::Server,
        }
    }
}

impl Failure {
    /// What it is about.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Credentials(_) => Kind::Credentials,
            Self::Unanswered(_) | Self::Timeout(_) | Self::Versionless => Kind::Unanswered,
            Self::Refused(status) if status.is_already_exists() => Kind::AlreadyExists,
            Self::Refused(status) => Kind::of_code(status.code),
        }
    }

    /// Whether the same request will be refused again until somebody changes something.
    pub fn is_final(&self) -> bool {
        matches!(self.kind(), Kind::Forbidden | Kind::Invalid | Kind::NotFound)
    }

    /// Whether it is somebody's webhook that cannot be asked: it concerns the objects that the webhook is for, and no others.
    pub fn is_of_a_webhook(&self) -> bool {
        self.kind() == Kind::Server && self.message().contains("webhook")
    }

    /// Whether it says nothing of what was asked for: every other request would fail as well.
    pub fn concerns_every_request(&self) -> bool {
        matches!(self.kind(), Kind::Unanswered | Kind::Credentials | Kind::Unauthorized | Kind::Busy)
    }

    /// The API server's words, if it refused.
    pub fn message(&self) -> &str {
        match self {
            Self::Refused(status) => &status.message,
            Self::Credentials(_) | Self::Unanswered(_) | Self::Timeout(_) | Self::Versionless => "",
        }
    }

    /// What to do about it.
    pub fn hint(&self) -> Option<&'static str> {
        match self.kind() {
            Kind::Unauthorized => Some("renew the operator's certificate or kubeconfig"),
            Kind::Forbidden => Some("apply k8s/rbac/operator.yaml; if a policy refused, its message says why"),
            Kind::NotFound => Some("apply k8s/crds, or create the namespace that is named"),
            Kind::Credentials => Some(
                "set api.kubeconfig, --kubeconfig or HATRACK_KUBECONFIG to a kubeconfig of the user society:operator",
            ),
            Kind::Unanswered => Some("see whether the API server runs and the kubeconfig names it"),
            Kind::AlreadyExists | Kind::Outdated | Kind::Gone | Kind::Invalid | Kind::Busy | Kind::Server => None,
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::Api(status) => Self::Refused(status),
            kube::Error::Service(cause) => match cause.downcast::<Self>() {
                Ok(failure) => *failure,
                Err(cause) => Self::Unanswered(cause),
            },
            other => Self::Unanswered(Box::new(other)),
        }
    }
}

impl From<watcher::Error> for Failure {
    fn from(error: watcher::Error) -> Self {
        match error {
            watcher::Error::InitialListFailed(error)
            | watcher::Error::WatchStartFailed(error)
            | watcher::Error::WatchFailed(error) => error.into(),
            watcher::Error::WatchError(status) => Self::Refused(status),
            watcher::Error::NoResourceVersion => Self::Versionless,
        }
    }
}

fn said(status: &Status) -> String {
    if status.message.is_empty() { format!("the API server answered {}", status.code) } else { status.message.clone() }
}

/// Waits for an answer for this long.
pub async fn within<T>(limit: Duration, request: impl Future<Output = kube::Result<T>>) -> Result<T, Failure> {
    match tokio::time::timeout(limit, request).await {
        Ok(answer) => answer.map_err(Failure::from),
        Err(_) => Err(Failure::Timeout(limit)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_kind() {
        for (code, reason, kind, is_final) in [
            (400, "BadRequest", Kind::Invalid, true),
            (401, "Unauthorized", Kind::Unauthorized, false),
            (403, "Forbidden", Kind::Forbidden, true),
            (404, "NotFound", Kind::NotFound, true),
            (409, "AlreadyExists", Kind::AlreadyExists, false),
            (409, "Conflict", Kind::Outdated, false),
            (410, "Expired", Kind::Gone, false),
            (422, "Invalid", Kind::Invalid, true),
            (429, "TooManyRequests", Kind::Busy, false),
            (500, "InternalError", Kind::Server, false),
        ] {
            let failure = Failure::from(kube::Error::Api(Status::failure("why", reason).with_code(code).boxed()));
            assert_eq!((failure.kind(), failure.is_final(), failure.message()), (kind, is_final, "why"), "{code}");
            assert_eq!(failure.to_string(), "why");
        }
        assert_eq!(Failure::Timeout(Duration::ZERO).kind(), Kind::Unanswered);
    }

    #[test]
    fn a_webhook_that_cannot_be_asked_is_told_from_a_broken_server() {
        for (code, message, is_of_a_webhook) in [
            (500, "Internal error occurred: failed calling webhook \"no.bindings\": connection refused", true),
            (500, "etcdserver: request timed out", false),
            (403, "admission webhook \"no.bindings\" denied the request: never", false),
            (429, "too many requests of a webhook", false),
        ] {
            let failure = Failure::from(kube::Error::Api(Status::failure(message, "Why").with_code(code).boxed()));
            assert_eq!(failure.is_of_a_webhook(), is_of_a_webhook, "{message}");
        }
    }

    #[test]
    fn what_the_connection_says_is_not_wrapped() {
        let through_kube = |cause: BoxError| Failure::from(kube::Error::Service(cause));
        let credentials = through_kube(Box::new(Failure::Credentials("no such file".into())));
        assert_eq!(credentials.kind(), Kind::Credentials);
        let text = hatrack_service::log::chain(&through_kube("connection refused".into()));
        assert_eq!(text, "the API server cannot be reached: connection refused");
    }
}
