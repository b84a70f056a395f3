//! Answers of `/v1` and of the pages.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Frame;
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::problem::Problem;
use crate::http::Body;

/// One answer.
pub(in crate::http) struct Reply(Response<Body>);

impl Reply {
    /// Bytes of a type.
    pub fn bytes(status: StatusCode, content_type: &str, bytes: impl Into<Bytes>) -> Self {
        let mut response = Response::new(Full::new(bytes.into()).boxed_unsync());
        *response.status_mut() = status;
        let mut reply = Self(response).with(CACHE_CONTROL, "no-store");
        let header = HeaderValue::from_str(content_type);
        // A message's own type may be anything.
        let header = header.unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
        reply.0.headers_mut().insert(CONTENT_TYPE, header);
        reply
    }

    /// A value as JSON.
    pub fn json(status: StatusCode, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(mut text) => {
                text.push(b'\n');
                Self::bytes(status, "application/json", text)
            }
            Err(error) => Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", error).into(),
        }
    }

    /// It was done, and there is nothing to say.
    pub fn nothing() -> Self {
        let mut response = Response::new(Full::new(Bytes::new()).boxed_unsync());
        *response.status_mut() = StatusCode::NO_CONTENT;
        Self(response)
    }

    /// Events that come as they happen.
    pub fn events(events: impl futures::Stream<Item = Bytes> + Send + 'static) -> Self {
        let frames = futures::StreamExt::map(events, |bytes| Ok::<_, Infallible>(Frame::data(bytes)));
        let response = Response::new(http_body_util::StreamBody::new(frames).boxed_unsync());
        let reply = Self(response).with(CONTENT_TYPE, "text/event-stream").with(CACHE_CONTROL, "no-store");
        // So that a proxy in between does not gather them.
        reply.with(HeaderName::from_static("x-accel-buffering"), "no")
    }

    /// A response that somebody else made.
    pub fn made(response: Response<Full<Bytes>>) -> Self {
        Self(response.map(|body| body.boxed_unsync()))
    }

    /// A response that is ready.
    pub fn ready(response: Response<Body>) -> Self {
        Self(response)
    }

    /// The same, with a header.
    pub fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.0.headers_mut().insert(name, HeaderValue::from_static(value));
        self
    }

    /// The path takes other methods than the one that was used.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let detail = format!("this path takes {allow}");
        Self::from(Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail)).with(ALLOW, allow)
    }

    /// As hyper sends it.
    pub fn into_response(self) -> Response<Body> {
        self.0
    }
}

impl From<Problem> for Reply {
    fn from(problem: Problem) -> Self {
        let status = StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut text = serde_json::to_vec(&problem).unwrap_or_default();
        text.push(b'\n');
        let reply = Self::bytes(status, "application/problem+json", text);
        if problem.passes() { reply.with(RETRY_AFTER, "1") } else { reply }
    }
}
