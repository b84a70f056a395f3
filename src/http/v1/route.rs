//! What a request of `/v1` asks for, by its method and path. Pure.

use super::problem::Problem;
use super::query::{WHOLE_MAX, decoded};
use crate::wire::{Id, Name, Number, Position, StreamId};

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    OpenApi,
    Docs,
    Status,
    Events,
    Clients,
    Register,
    Client(Name),
    Deregister(Name),
    Send,
    SendBatch,
    Request,
    Inbox(Name),
    InboxEvents(Name),
    InboxSocket(Name),
    Message(Name, Position),
    Acknowledge(Name),
    Attach(Name),
    Detach(Name),
    OpenStream,
    Stream(StreamId),
    CloseStream(StreamId),
    Put(StreamId, Number),
    Receipts(StreamId),
    Channels,
    CreateChannel,
    DeleteChannel(Name),
    Members(Name),
    Join(Name, Name),
    Leave(Name, Name),
    Enlisted(Name),
    Subscribe(Name, String),
    Unsubscribe(Name, String),
    InboxSettings(Name),
    SetInbox(Name),
    History(Name),
    Presence,
    PresenceEvents,
}

/// A request that asks for nothing there is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum BadRoute {
    /// What is wrong with the path.
    Path(Problem),
    /// The path takes these methods.
    Method(&'static str),
}

impl From<Problem> for BadRoute {
    fn from(problem: Problem) -> Self {
        Self::Path(problem)
    }
}

impl Route {
    /// Reads a method, and a path behind `/v1/`.
    pub fn parse(method: &str, path: &str) -> Result<Self, BadRoute> {
        let method = if method == "HEAD" { "GET" } else { method };
        let parts: Vec<String> = path.split('/').map(|part| decoded(&part.replace('+', "%2B"))).collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let get = |route: Self| if method == "GET" { Ok(route) } else { Err(BadRoute::Method("GET, HEAD")) };
        let post = |route: Self| if method == "POST" { Ok(route) } else { Err(BadRoute::Method("POST")) };
        match parts[..] {
            ["openapi.json"] => get(Self::OpenApi),
            ["docs"] => get(Self::Docs),
            ["status"] => get(Self::Status),
            ["events"] => get(Self::Events),
            ["clients"] => match method {
                "GET" => Ok(Self::Clients),
                "POST" => Ok(Self::Register),
                _ => Err(BadRoute::Method("GET, HEAD, POST")),
            },
            ["clients", name] => match method {
                "GET" => Ok(Self::Client(client(name)?)),
                "DELETE" => Ok(Self::Deregister(client(name)?)),
                _ => Err(BadRoute::Method("GET, HEAD, DELETE")),
            },
            ["clients", name, "inbox"] => get(Self::Inbox(client(name)?)),
            ["clients", name, "inbox", "events"] => get(Self::InboxEvents(client(name)?)),
            ["clients", name, "inbox", "socket"] => get(Self::InboxSocket(client(name)?)),
            ["clients", name, "inbox", "settings"] => match method {
                "GET" => Ok(Self::InboxSettings(client(name)?)),
                "PUT" => Ok(Self::SetInbox(client(name)?)),
                _ => Err(BadRoute::Method("GET, HEAD, PUT")),
            },
            ["clients", name, "inbox", "history"] => get(Self::History(client(name)?)),
            ["presence"] => get(Self::Presence),
            ["presence", "events"] => get(Self::PresenceEvents),
            ["clients", name, "inbox", "acknowledgements"] => post(Self::Acknowledge(client(name)?)),
            ["clients", name, "inbox", "reader"] => match method {
                "POST" => Ok(Self::Attach(client(name)?)),
                "DELETE" => Ok(Self::Detach(client(name)?)),
                _ => Err(BadRoute::Method("POST, DELETE")),
            },
            ["clients", name, "messages", position] => {
                get(Self::Message(client(name)?, Position(number(position, "position")?)))
            }
            ["messages"] => post(Self::Send),
            ["messages", "batch"] => post(Self::SendBatch),
            ["requests"] => post(Self::Request),
            ["streams"] => post(Self::OpenStream),
            ["streams", stream] => {
                let stream = Id(number(stream, "stream")?);
                match method {
                    "GET" => Ok(Self::Stream(stream)),
                    "DELETE" => Ok(Self::CloseStream(stream)),
                    _ => Err(BadRoute::Method("GET, HEAD, DELETE")),
                }
            }
            ["streams", stream, "receipts"] => get(Self::Receipts(Id(number(stream, "stream")?))),
            ["channels"] => match method {
                "GET" => Ok(Self::Channels),
                "POST" => Ok(Self::CreateChannel),
                _ => Err(BadRoute::Method("GET, HEAD, POST")),
            },
            ["channels", channel] => match method {
                "DELETE" => Ok(Self::DeleteChannel(client(channel)?)),
                _ => Err(BadRoute::Method("DELETE")),
            },
            ["channels", channel, "members"] => get(Self::Members(client(channel)?)),
            ["channels", channel, "members", name] => match method {
                "PUT" => Ok(Self::Join(client(channel)?, client(name)?)),
                "DELETE" => Ok(Self::Leave(client(channel)?, client(name)?)),
                _ => Err(BadRoute::Method("PUT, DELETE")),
            },
            ["clients", name, "subscriptions"] => get(Self::Enlisted(client(name)?)),
            ["clients", name, "subscriptions", pattern] => match method {
                "PUT" => Ok(Self::Subscribe(client(name)?, pattern.to_owned())),
                "DELETE" => Ok(Self::Unsubscribe(client(name)?, pattern.to_owned())),
                _ => Err(BadRoute::Method("PUT, DELETE")),
            },
            ["streams", stream, at] => {
                let (stream, at) = (Id(number(stream, "stream")?), Number(number(at, "number of a send")?));
                match method {
                    _ if at == Number(0) => Err(Problem::invalid("sends are numbered from 1").into()),
                    "PUT" => Ok(Self::Put(stream, at)),
                    _ => Err(BadRoute::Method("PUT")),
                }
            }
            _ => Err(Problem::no_such_path().into()),
        }
    }
}

fn client(part: &str) -> Result<Name, Problem> {
    Name::new(part).map_err(|why| Problem { status: 404, title: "Not Found", ..Problem::invalid(why) })
}

fn number(part: &str, what: &str) -> Result<u64, Problem> {
    let digits = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let number = part.parse().ok().filter(|number| digits && *number <= WHOLE_MAX);
    number.ok_or_else(|| Problem::invalid(format!("{:?} is no {what}", part.chars().take(80).collect::<String>())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_has_its_methods() {
        let name = |text: &str| Name::new(text).unwrap();
        for (method, path, route) in [
            ("GET", "status", Route::Status),
            ("HEAD", "clients", Route::Clients),
            ("POST", "clients", Route::Register),
            ("DELETE", "clients/a%2Eb", Route::Deregister(name("a.b"))),
            ("GET", "clients/bob/inbox/events", Route::InboxEvents(name("bob"))),
            ("GET", "clients/bob/messages/7", Route::Message(name("bob"), Position(7))),
            ("PUT", "streams/7/1", Route::Put(Id(7), Number(1))),
            ("GET", "streams/7/receipts", Route::Receipts(Id(7))),
            ("PUT", "channels/orders.new/members/bob", Route::Join(name("orders.new"), name("bob"))),
            ("DELETE", "clients/bob/subscriptions/orders.%3E", Route::Unsubscribe(name("bob"), "orders.>".to_owned())),
        ] {
            assert_eq!(Route::parse(method, path), Ok(route), "{method} {path}");
        }
        assert_eq!(Route::parse("PATCH", "clients"), Err(BadRoute::Method("GET, HEAD, POST")));
        assert_eq!(Route::parse("GET", "streams/7/1"), Err(BadRoute::Method("PUT")));
        for (method, path, status) in [
            ("PUT", "nothing", 404),
            ("GET", "clients/no name", 404),
            ("PUT", "clients/bob/x", 404),
            ("PUT", "streams/+7/1", 400),
            ("PUT", "streams/7/0", 400),
            ("PUT", "status/", 404),
        ] {
            let Err(BadRoute::Path(problem)) = Route::parse(method, path) else { panic!("{path} is a path") };
            assert_eq!(problem.status, status, "{path}");
        }
    }
}
