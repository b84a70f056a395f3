//! Answers: a status, a JSON object, and the headers that belong to them.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::fields::BadFields;
use super::guard::BadHead;
use super::intake::BadBody;
use super::route::BadRoute;
use crate::server::Failure;
use crate::wire::client::SendFailure;
use crate::wire::{Position, Refusal, SendRefusal};

/// What old clients look for when something is wrong with what they sent.
const INVALID_DATA: &str = "Invalid data";
/// The same, of a client's name.
const INVALID_CLIENT: &str = "Invalid client_id";

/// One answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Answer {
    status: StatusCode,
    body: Map<String, Value>,
    allow: Option<&'static str>,
    again: bool,
    closing: bool,
    position: Option<Position>,
}

impl Answer {
    fn new(status: StatusCode, message: impl Into<String>) -> Self {
        let body = Map::from_iter([("message".to_owned(), Value::String(message.into()))]);
        Self { status, body, allow: None, again: false, closing: false, position: None }
    }

    /// It was carried out.
    pub fn done(message: impl Into<String>) -> Self {
        Self::new(StatusCode::OK, message)
    }

    /// It was carried out, and this came of it.
    pub fn with(fields: Value) -> Self {
        let mut answer = Self::done("");
        answer.body.clear();
        answer.and(fields)
    }

    /// What is wrong with a request that asks for something that cannot be.
    pub fn invalid(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID_DATA).detail(detail)
    }

    /// The same, with the words that old clients know for a client that is not there.
    pub fn invalid_client(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, INVALID_CLIENT).detail(detail)
    }

    /// Not now, and nothing was done.
    pub fn unavailable(refusal: &Refusal) -> Self {
        Self::busy(refusal)
    }

    /// Not now, and nothing was done, for a reason that no refusal says.
    fn busy(detail: impl ToString) -> Self {
        let answer = Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service unavailable");
        answer.detail(detail).outcome("nothing was done").again()
    }

    /// There is nothing of that name.
    pub fn not_found(message: &str, detail: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, message).detail(detail)
    }

    fn conflict(detail: impl ToString) -> Self {
        Self::new(StatusCode::CONFLICT, "Conflict").detail(detail)
    }

    /// More fields.
    pub fn and(mut self, fields: Value) -> Self {
        if let Value::Object(fields) = fields {
            self.body.extend(fields);
        }
        self
    }

    fn detail(self, detail: impl ToString) -> Self {
        self.and(json!({ "detail": detail.to_string() }))
    }

    fn outcome(self, outcome: &str) -> Self {
        self.and(json!({ "outcome": outcome }))
    }

    /// Says in a header where the message is: in the body old clients know every word.
    pub fn at(mut self, position: Position) -> Self {
        self.position = Some(position);
        self
    }

    /// The connection ends with it.
    pub fn closing(mut self) -> Self {
        self.closing = true;
        self
    }

    fn again(mut self) -> Self {
        self.again = true;
        self
    }

    /// As hyper sends it.
    pub fn into_response(self) -> Response<Full<Bytes>> {
        let mut text = Value::Object(self.body).to_string();
        text.push('\n');
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.again {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if let Some(position) = self.position {
            headers.insert("restante-position", HeaderValue::from(position.0));
        }
        if self.closing {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<BadRoute> for Answer {
    fn from(bad: BadRoute) -> Self {
        match &bad {
            BadRoute::NoSuchPath => Self::not_found("Not found", bad),
            BadRoute::Name(why) => Self::not_found(INVALID_CLIENT, why),
            BadRoute::Method { allow } => {
                let allow = Some(*allow);
                Self { allow, ..Self::new(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed").detail(bad) }
            }
            BadRoute::Number { .. } | BadRoute::Query { .. } => Self::invalid(bad),
        }
    }
}

impl From<BadHead> for Answer {
    fn from(bad: BadHead) -> Self {
        match bad {
            BadHead::Origin(_) | BadHead::Host(_) => Self::new(StatusCode::FORBIDDEN, "Forbidden").detail(bad),
            BadHead::ContentType(_) => {
                Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "Unsupported media type").detail(bad)
            }
        }
    }
}

impl From<BadBody> for Answer {
    fn from(bad: BadBody) -> Self {
        let (status, message) = match bad {
            BadBody::NoRoom => return Self::busy(bad).closing(),
            BadBody::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Payload too large"),
            BadBody::Slow => (StatusCode::REQUEST_TIMEOUT, "Request timeout"),
            BadBody::Broken(_) => (StatusCode::BAD_REQUEST, INVALID_DATA),
        };
        Self::new(status, message).detail(bad).closing()
    }
}

impl From<BadFields> for Answer {
    fn from(bad: BadFields) -> Self {
        match bad {
            BadFields::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large").detail(bad),
            other => Self::invalid(other),
        }
    }
}

impl From<Failure> for Answer {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) => refused(refusal),
            Failure::Send(refusal) => {
                let reason = match refusal {
                    SendRefusal::NoSuchClient => "no_such_client",
                    SendRefusal::InboxFull => "inbox_full",
                    SendRefusal::Recipients(_) => "recipients",
                    SendRefusal::NoSuchChannel => "no_such_channel",
                    SendRefusal::TooManyInboxes { .. } => "too_many_inboxes",
                    SendRefusal::NoRoomForReceipt => "no_room_for_receipt",
                    SendRefusal::TooManyScheduled { .. } => "too_many_scheduled",
                };
                let fields = json!({ "outcome": "refused", "reason": reason });
                Self::new(StatusCode::UNPROCESSABLE_ENTITY, "Refused").detail(refusal).and(fields)
            }
            Failure::Stream(failure) => stream_failed(failure),
            Failure::Unavailable(refusal) => Self::unavailable(&refusal),
            Failure::TooManyKeys => {
                let detail = "too many idempotency keys of this sender hold: number your sends on a stream of your own";
                Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many").detail(detail).again()
            }
            Failure::Busy => Self::busy("the server is busy: too much is on its way"),
            Failure::Down(server) => Self::busy(format!("server {server} is down: name another one, or ask again")),
            Failure::Beyond(last) => Self::invalid(format!("the inbox has no message yet behind position {last}")),
            Failure::Unknown => {
                let detail = "the cluster did not answer in time: whether it was carried out, or will be, is not known";
                Self::new(StatusCode::GATEWAY_TIMEOUT, "Outcome unknown").detail(detail).outcome("unknown")
            }
        }
    }
}

fn refused(refusal: Refusal) -> Answer {
    match &refusal {
        Refusal::NotRegistered => Answer::not_found(INVALID_CLIENT, "no client of that name is registered"),
        Refusal::RegistrationEnded => Answer::conflict(&refusal).and(json!({ "reason": "registration_ended" })),
        Refusal::EpochMoved { current } => {
            Answer::conflict(&refusal).and(json!({ "reason": "fenced", "epoch": current.0 }))
        }
        Refusal::ReadBySession => Answer::conflict(&refusal).and(json!({ "reason": "read_by_session" })),
        Refusal::NoSuchServer => Answer::invalid("the cluster has no such server"),
        Refusal::Malformed(_) => Answer::conflict(&refusal),
        Refusal::TooManyClients { .. } | Refusal::TooManyStreams { .. } => {
            Answer::new(StatusCode::TOO_MANY_REQUESTS, "Too many").detail(&refusal).again()
        }
        _ => Answer::unavailable(&refusal),
    }
}

fn stream_failed(failure: SendFailure) -> Answer {
    let reason = |reason: &str| json!({ "outcome": "not taken", "reason": reason });
    match &failure {
        SendFailure::Gap { expected } => {
            Answer::conflict(&failure).and(reason("gap")).and(json!({ "expected": expected.0 }))
        }
        SendFailure::OtherContent => Answer::conflict(&failure).and(reason("other_content")),
        SendFailure::AlreadyAnswered => {
            // It was carried out or refused, and the client said that it knows.
            Answer::conflict(&failure).and(json!({ "outcome": "answered before", "reason": "already_answered" }))
        }
        SendFailure::StreamClosed => {
            Answer::new(StatusCode::GONE, "Gone").detail(&failure).and(reason("stream_closed"))
        }
        SendFailure::WindowFull { .. } => {
            let answer = Answer::new(StatusCode::TOO_MANY_REQUESTS, "Too many").detail(&failure).again();
            answer.and(reason("window_full"))
        }
        SendFailure::Unavailable(refusal) => Answer::unavailable(refusal),
    }
}
