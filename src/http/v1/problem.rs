//! Errors as `application/problem+json` (RFC 9457), with the codes of the library's typed errors.

use std::fmt::Debug;

use hyper::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use super::query::BadQuery;
use crate::http::guard::BadHead;
use crate::http::intake::BadBody;
use crate::server::Failure;
use crate::wire::client::SendFailure;
use crate::wire::sharing::Recipients;
use crate::wire::{Name, Refusal, SendRefusal};

/// What is wrong, and what became of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Problem {
    /// Names the kind of problem: a place on the page about it.
    #[serde(rename = "type")]
    #[schema(value_type = String)]
    pub kind: Box<str>,
    /// The status, in words.
    #[schema(value_type = String)]
    pub title: &'static str,
    /// The status.
    pub status: u16,
    /// What is wrong with this request, and what to do about it.
    #[schema(value_type = String)]
    pub detail: Box<str>,
    /// The kind of problem as one word, the same as the library's error, e.g. `not_registered`.
    #[schema(value_type = String)]
    pub code: Box<str>,
    /// What became of the request.
    pub outcome: Outcome,
    /// With `gap`: the number that is expected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<u64>,
    /// With `epoch_moved`: the epoch in force.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// With `recipients`: those who stood in the way.
    #[serde(skip_serializing_if = "<[Unreachable]>::is_empty")]
    pub recipients: Box<[Unreachable]>,
}

/// One of several recipients who could not be reached, so that the message went to none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Unreachable {
    /// The recipient's name.
    pub name: String,
    /// Why: `no_such_client` or `inbox_full`.
    #[schema(value_type = String)]
    pub code: &'static str,
}

/// What became of a request that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Nothing was done. Asked again it may go well, if the reason is gone.
    NothingDone,
    /// It was refused for good: asked again under the same number or key, the answer is the same.
    Refused,
    /// It was carried out before; what came of it was confirmed and is forgotten.
    AnsweredBefore,
    /// Nobody knows whether it was carried out, or will be. With a number, a key or a nonce it is safe to ask again.
    Unknown,
}

impl Problem {
    /// A problem of that code.
    pub fn new(status: StatusCode, code: &str, detail: impl ToString) -> Self {
        Self {
            kind: format!("/v1/docs#problem-{code}").into(),
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            detail: detail.to_string().into(),
            code: code.into(),
            outcome: Outcome::NothingDone,
            expected: None,
            epoch: None,
            recipients: Box::default(),
        }
    }

    /// A request that cannot be read, or asks for what cannot be.
    pub fn invalid(detail: impl ToString) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "invalid", detail)
    }

    /// There is nothing at that path.
    pub fn no_such_path() -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_path", "there is nothing at this path; /v1/docs tells what there is")
    }

    /// What stood in the way of a send to these.
    pub fn of_send(failure: Failure, to: &Recipients) -> Self {
        let mut problem = Self::from(failure.clone());
        if let (Failure::Send(SendRefusal::Recipients(unreached)), Recipients::Clients(names)) = (&failure, to) {
            let unreachable = |(place, name): (usize, &Name)| {
                let is_in = |set: u64| set >> place & 1 == 1;
                let code = match (is_in(unreached.unknown), is_in(unreached.full)) {
                    (true, _) => "no_such_client",
                    (_, true) => "inbox_full",
                    (false, false) => return None,
                };
                Some(Unreachable { name: name.to_string(), code })
            };
            problem.recipients = names.iter().enumerate().take(64).filter_map(unreachable).collect();
        }
        problem
    }

    fn outcome(self, outcome: Outcome) -> Self {
        Self { outcome, ..self }
    }

    /// Whether the same request may go well in a moment, here or at another server.
    pub fn passes(&self) -> bool {
        matches!(self.status, 429 | 503)
    }
}

/// The name of a variant in `snake_case`: it is the name that the library has for the error, and stays in step with it.
fn code_of(error: &impl Debug) -> String {
    let text = format!("{error:?}");
    let name = text.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    let mut code = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() && !code.is_empty() {
            code.push('_');
        }
        code.push(letter.to_ascii_lowercase());
    }
    code
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::NotRegistered | Refusal::NoSuchServer | Refusal::NoSuchChannel => StatusCode::NOT_FOUND,
            Refusal::RegistrationEnded
            | Refusal::EpochMoved { .. }
            | Refusal::ReadBySession
            | Refusal::AlreadyRegistered { .. }
            | Refusal::HomeMoved { .. }
            | Refusal::ChannelExists
            | Refusal::ChannelFull { .. }
            | Refusal::Malformed(_) => StatusCode::CONFLICT,
            Refusal::TooManyClients { .. }
            | Refusal::TooManyStreams { .. }
            | Refusal::TooManyChannels { .. }
            | Refusal::TooManyEnlistments { .. } => StatusCode::TOO_MANY_REQUESTS,
            _ => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut problem = Self::new(status, &code_of(&refusal), &refusal);
        if let Refusal::EpochMoved { current } = refusal {
            problem.epoch = Some(current.0);
        }
        problem
    }
}

impl From<SendRefusal> for Problem {
    fn from(refusal: SendRefusal) -> Self {
        let status = match refusal {
            SendRefusal::NoSuchClient | SendRefusal::NoSuchChannel => StatusCode::NOT_FOUND,
            _ => StatusCode::CONFLICT,
        };
        Self::new(status, &code_of(&refusal), refusal).outcome(Outcome::Refused)
    }
}

impl From<SendFailure> for Problem {
    fn from(failure: SendFailure) -> Self {
        let (status, outcome) = match &failure {
            SendFailure::Unavailable(refusal) => return refusal.clone().into(),
            SendFailure::StreamClosed => (StatusCode::GONE, Outcome::NothingDone),
            SendFailure::WindowFull { .. } => (StatusCode::TOO_MANY_REQUESTS, Outcome::NothingDone),
            SendFailure::AlreadyAnswered => (StatusCode::CONFLICT, Outcome::AnsweredBefore),
            _ => (StatusCode::CONFLICT, Outcome::NothingDone),
        };
        let mut problem = Self::new(status, &code_of(&failure), &failure).outcome(outcome);
        if let SendFailure::Gap { expected } = failure {
            problem.expected = Some(expected.0);
        }
        problem
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Refused(refusal) | Failure::Unavailable(refusal) => refusal.into(),
            Failure::Send(refusal) => refusal.into(),
            Failure::Stream(failure) => failure.into(),
            Failure::Down(server) => {
                let detail = format!("server {server} is down: name another one, or ask again");
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "server_down", detail)
            }
            Failure::Beyond(last) => {
                let detail = format!("the inbox has no message yet behind position {last}");
                Self::new(StatusCode::CONFLICT, "beyond_the_end", detail)
            }
            Failure::Busy => {
                let detail = "too much is on its way through this server: ask again in a moment, here or elsewhere";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail)
            }
            Failure::TooManyKeys => {
                let detail = "too many idempotency keys of this sender hold: ask again later, or number your sends on a \
                              stream (POST /v1/streams), which is exact for ever and has no such limit";
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_keys", detail)
            }
            Failure::Unknown => {
                let detail = "the cluster did not answer in time: whether it was carried out, or will be, is not known";
                Self::new(StatusCode::GATEWAY_TIMEOUT, "unknown", detail).outcome(Outcome::Unknown)
            }
        }
    }
}

impl From<BadHead> for Problem {
    fn from(bad: BadHead) -> Self {
        match &bad {
            BadHead::Origin(_) => Self::new(StatusCode::FORBIDDEN, "foreign_origin", bad),
            BadHead::Host(_) => Self::new(StatusCode::FORBIDDEN, "foreign_host", bad),
            BadHead::ContentType(_) => Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", bad),
        }
    }
}

impl From<BadBody> for Problem {
    fn from(bad: BadBody) -> Self {
        match &bad {
            BadBody::TooLarge => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", bad),
            BadBody::Slow => Self::new(StatusCode::REQUEST_TIMEOUT, "slow_body", bad),
            BadBody::NoRoom => Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", bad),
            BadBody::Broken(_) => Self::invalid(bad),
        }
    }
}

impl From<BadQuery> for Problem {
    fn from(bad: BadQuery) -> Self {
        Self::invalid(bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{Epoch, Number};

    #[test]
    fn codes_are_the_librarys_names_and_statuses_fit_them() {
        let of = |problem: Problem| (problem.status, problem.code.to_string(), problem.outcome);
        for (problem, status, code, outcome) in [
            (Problem::from(Refusal::NotRegistered), 404, "not_registered", Outcome::NothingDone),
            (Refusal::EpochMoved { current: Epoch(7) }.into(), 409, "epoch_moved", Outcome::NothingDone),
            (Refusal::TooManyStreams { quota: 1 }.into(), 429, "too_many_streams", Outcome::NothingDone),
            (Refusal::NoLeader.into(), 503, "no_leader", Outcome::NothingDone),
            (Refusal::DiskFull.into(), 503, "disk_full", Outcome::NothingDone),
            (Failure::Send(SendRefusal::NoSuchClient).into(), 404, "no_such_client", Outcome::Refused),
            (Failure::Send(SendRefusal::InboxFull).into(), 409, "inbox_full", Outcome::Refused),
            (SendFailure::OtherContent.into(), 409, "other_content", Outcome::NothingDone),
            (SendFailure::AlreadyAnswered.into(), 409, "already_answered", Outcome::AnsweredBefore),
            (SendFailure::StreamClosed.into(), 410, "stream_closed", Outcome::NothingDone),
            (SendFailure::Unavailable(Refusal::DiskFull).into(), 503, "disk_full", Outcome::NothingDone),
            (Failure::Unknown.into(), 504, "unknown", Outcome::Unknown),
        ] {
            assert_eq!(of(problem), (status, code.to_owned(), outcome));
        }
        assert_eq!(Problem::from(SendFailure::Gap { expected: Number(3) }).expected, Some(3));
        assert_eq!(Problem::from(Refusal::EpochMoved { current: Epoch(7) }).epoch, Some(7));
    }
}
