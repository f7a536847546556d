//! Which requests get what instead of the API server's answer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::json;

/// Selects requests by method and by a part of path and query.
#[derive(Debug, Clone, Default)]
pub struct Matcher {
    method: Option<Method>,
    contains: String,
}

impl Matcher {
    /// Every request.
    pub fn any() -> Self {
        Self::default()
    }

    /// Requests whose path and query contain `part`, such as `/leases/` or `watch=true`.
    pub fn path(part: impl Into<String>) -> Self {
        Self { method: None, contains: part.into() }
    }

    /// Requests of one method whose path and query contain `part`.
    pub fn new(method: Method, part: impl Into<String>) -> Self {
        Self { method: Some(method), contains: part.into() }
    }

    /// Requests that open a watch.
    pub fn watch() -> Self {
        Self::new(Method::GET, "watch=true")
    }

    pub(super) fn matches(&self, method: &Method, target: &str) -> bool {
        self.method.as_ref().is_none_or(|wanted| wanted == method) && target.contains(&self.contains)
    }
}

/// An answer that the proxy gives by itself.
#[derive(Debug, Clone)]
pub struct Response {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(String, String)>,
    pub(super) body: Vec<u8>,
}

impl Response {
    /// An answer with this status and body, and without headers.
    pub fn new(status: StatusCode, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: body.into() }
    }

    /// A failure as the API server words it: a `Status` object with `reason` and `message`.
    pub fn failure(status: StatusCode, reason: &str, message: &str) -> Self {
        let body = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "reason": reason,
            "message": message,
            "code": status.as_u16(),
        });
        Self::new(status, body.to_string()).header("content-type", "application/json")
    }

    /// Adds a header, such as `Retry-After`.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }
}

/// What a rule does with a request.
pub(super) enum Verdict {
    /// It goes on after the first time, and its answer after the second.
    Forward(Duration, Duration),
    Answer(Response),
}

#[derive(Default)]
pub(super) struct Rules {
    answers: Mutex<Vec<(Matcher, Response, usize)>>,
    delays: Delays,
    late_answers: Delays,
}

type Delays = Mutex<Vec<(Matcher, Duration)>>;

/// The sum of all that match.
fn sum(delays: &Delays, method: &Method, target: &str) -> Duration {
    lock(delays).iter().filter(|(matcher, _)| matcher.matches(method, target)).map(|(_, delay)| *delay).sum()
}

impl Rules {
    pub(super) fn answer(&self, matcher: Matcher, response: Response, times: usize) {
        lock(&self.answers).push((matcher, response, times));
    }

    pub(super) fn delay(&self, matcher: Matcher, delay: Duration) {
        lock(&self.delays).push((matcher, delay));
    }

    pub(super) fn answer_late(&self, matcher: Matcher, delay: Duration) {
        lock(&self.late_answers).push((matcher, delay));
    }

    pub(super) fn clear(&self) {
        lock(&self.answers).clear();
        lock(&self.delays).clear();
        lock(&self.late_answers).clear();
    }

    /// The first answer with times left, else the sum of all delays that match.
    pub(super) fn judge(&self, method: &Method, target: &str) -> Verdict {
        let mut answers = lock(&self.answers);
        let rule = answers.iter_mut().find(|(matcher, _, times)| *times > 0 && matcher.matches(method, target));
        if let Some((_, response, times)) = rule {
            *times -= 1;
            return Verdict::Answer(response.clone());
        }
        Verdict::Forward(sum(&self.delays, method, target), sum(&self.late_answers, method, target))
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matcher_needs_method_and_part() {
        let target = "/apis/coordination.k8s.io/v1/namespaces/society-system/leases/gpu-1?fieldManager=a";
        let cases = [
            ("any", Matcher::any(), true),
            ("part of the path", Matcher::path("/leases/gpu-1"), true),
            ("part of the query", Matcher::path("fieldManager=a"), true),
            ("another path", Matcher::path("/clusternodes"), false),
            ("method and part", Matcher::new(Method::PUT, "leases"), true),
            ("another method", Matcher::new(Method::PATCH, "leases"), false),
            ("a watch", Matcher::watch(), false),
        ];
        for (name, matcher, expected) in cases {
            assert_eq!(matcher.matches(&Method::PUT, target), expected, "{name}");
        }
    }

    #[test]
    fn an_answer_is_given_as_often_as_asked() {
        let rules = Rules::default();
        rules.answer(Matcher::path("/a"), Response::new(StatusCode::OK, "first"), 1);
        rules.answer(Matcher::path("/a"), Response::new(StatusCode::OK, "second"), 1);
        rules.delay(Matcher::any(), Duration::from_millis(5));
        rules.delay(Matcher::path("/a"), Duration::from_millis(2));
        rules.answer_late(Matcher::path("/a"), Duration::from_millis(3));
        rules.answer_late(Matcher::path("/b"), Duration::from_millis(4));
        let verdicts: Vec<String> = (0..3)
            .map(|_| match rules.judge(&Method::GET, "/a") {
                Verdict::Answer(response) => String::from_utf8(response.body).unwrap(),
                Verdict::Forward(before, after) => format!("{before:?} {after:?}"),
            })
            .collect();
        assert_eq!(verdicts, ["first", "second", "7ms 3ms"]);
    }
}
