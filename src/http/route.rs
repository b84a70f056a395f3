//! What a request asks for: its method, path and query. Pure.

use std::time::Duration;

use crate::limits;
use crate::wire::{Epoch, Id, Name, Number, Position, RegistrationId, StreamId};

/// What a request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `POST /register`
    Register,
    /// `POST /share`
    Share,
    /// `POST /check_and_move`
    CheckAndMove,
    /// `GET /inbox/NAME`
    Inbox {
        /// Whose.
        name: Name,
        /// What of it.
        look: Look,
    },
    /// `POST /inbox/NAME/attach`
    Attach {
        /// Whose.
        name: Name,
    },
    /// `POST /inbox/NAME/acknowledge`
    Acknowledge {
        /// Whose.
        name: Name,
    },
    /// `POST /inbox/NAME/detach`
    Detach {
        /// Whose.
        name: Name,
    },
    /// `POST /streams`
    OpenStream,
    /// `PUT /streams/STREAM/NUMBER`
    Send {
        /// On which stream.
        stream: StreamId,
        /// Under which number.
        number: Number,
    },
    /// `DELETE /streams/STREAM`
    CloseStream {
        /// Which.
        stream: StreamId,
    },
}

/// What of an inbox is asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// Only what is behind this position.
    pub after: Position,
    /// At most so many messages; 0 for as many as may be.
    pub limit: usize,
    /// So long until there is one, and no longer than [`limits::HTTP_WAIT_MAX`].
    pub wait: Duration,
    /// As the reader of this registration and epoch.
    pub reader: Option<(RegistrationId, Epoch)>,
}

/// A request that asks for nothing there is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRoute {
    /// There is no such path.
    #[error("there is nothing at this path")]
    NoSuchPath,
    /// The path takes other methods.
    #[error("this path takes {allow}")]
    Method {
        /// Those that it takes, as in an `Allow` header.
        allow: &'static str,
    },
    /// The path names an inbox that cannot be.
    #[error("{0}")]
    Name(#[from] crate::wire::BadName),
    /// A number in the path is none.
    #[error("{text:?} in the path is no {what}")]
    Number {
        /// What it should be.
        what: &'static str,
        /// What it is, cut at 80 characters.
        text: String,
    },
    /// A part of the query is not understood.
    #[error("the query's `{name}` {why}")]
    Query {
        /// Which.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
}

const GET: &str = "GET, HEAD";
const POST: &str = "POST";

impl Route {
    /// Reads a method, a path and a query.
    ///
    /// # Errors
    /// [`BadRoute`] says what is wrong.
    pub fn parse(method: &str, path: &str, query: Option<&str>) -> Result<Self, BadRoute> {
        let path = path.strip_prefix('/').ok_or(BadRoute::NoSuchPath)?;
        let parts: Vec<&str> = path.splitn(5, '/').collect();
        let is = |wanted: &str, allow: &'static str| match method == wanted || (method, wanted) == ("HEAD", "GET") {
            true => Ok(()),
            false => Err(BadRoute::Method { allow }),
        };
        let post = || is("POST", POST);
        match parts[..] {
            ["register"] => post().map(|()| Self::Register),
            ["share"] => post().map(|()| Self::Share),
            ["check_and_move"] => post().map(|()| Self::CheckAndMove),
            ["inbox", name] => {
                is("GET", GET)?;
                Ok(Self::Inbox { name: name_of(name)?, look: Look::parse(query.unwrap_or_default())? })
            }
            ["inbox", name, "attach"] => post().and_then(|()| Ok(Self::Attach { name: name_of(name)? })),
            ["inbox", name, "acknowledge"] => post().and_then(|()| Ok(Self::Acknowledge { name: name_of(name)? })),
            ["inbox", name, "detach"] => post().and_then(|()| Ok(Self::Detach { name: name_of(name)? })),
            ["streams"] => post().map(|()| Self::OpenStream),
            ["streams", stream] => {
                is("DELETE", "DELETE")?;
                Ok(Self::CloseStream { stream: Id(number(stream, "stream")?) })
            }
            ["streams", stream, place] => {
                is("PUT", "PUT")?;
                let number_of_send = Number(number(place, "number of a send")?);
                if number_of_send == Number(0) {
                    return Err(BadRoute::Number { what: "number of a send: they count from 1", text: "0".to_owned() });
                }
                Ok(Self::Send { stream: Id(number(stream, "stream")?), number: number_of_send })
            }
            _ => Err(BadRoute::NoSuchPath),
        }
    }

    /// Whether its body is read.
    pub fn has_body(&self) -> bool {
        !matches!(self, Self::Inbox { .. } | Self::CloseStream { .. })
    }
}

impl Look {
    fn parse(query: &str) -> Result<Self, BadRoute> {
        let mut look = Self::default();
        let (mut registration, mut epoch) = (None, None);
        for part in query.split('&').filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            let bad = |why| BadRoute::Query { name: name.chars().take(80).collect(), why };
            let whole = || value.parse::<u64>().map_err(|_| bad("is no whole number"));
            match name {
                "after" => look.after = Position(whole()?),
                "limit" => match usize::try_from(whole()?).unwrap_or(usize::MAX) {
                    0 => return Err(bad("counts from 1")),
                    limit => look.limit = limit,
                },
                "wait" => {
                    let seconds = value.parse::<f64>().ok().filter(|s| s.is_finite() && *s >= 0.0);
                    let seconds = seconds.ok_or_else(|| bad("is no number of seconds"))?;
                    let most = limits::HTTP_WAIT_MAX;
                    look.wait = Duration::from_secs_f64(seconds.min(most.as_secs_f64()));
                }
                "registration" => registration = Some(Id(whole()?)),
                "epoch" => epoch = Some(Epoch(whole()?)),
                // Something to keep caches away, perhaps.
                _ => {}
            }
        }
        look.reader = match (registration, epoch) {
            (Some(registration), Some(epoch)) => Some((registration, epoch)),
            (None, None) => None,
            (None, Some(_)) => {
                return Err(BadRoute::Query { name: "epoch".to_owned(), why: "counts only with a registration" });
            }
            (Some(_), None) => {
                return Err(BadRoute::Query { name: "registration".to_owned(), why: "goes with an epoch" });
            }
        };
        Ok(look)
    }
}

fn name_of(part: &str) -> Result<Name, BadRoute> {
    Ok(Name::new(&percent_decoded(part))?)
}

/// Some clients encode more than they have to. What does not decode is left as it is, and then is no name.
fn percent_decoded(part: &str) -> String {
    let mut decoded = Vec::with_capacity(part.len());
    let mut bytes = part.as_bytes();
    while let Some((&byte, rest)) = bytes.split_first() {
        let hex = rest.get(..2).filter(|hex| byte == b'%' && hex.iter().all(u8::is_ascii_hexdigit));
        let value = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        decoded.push(value.unwrap_or(byte));
        bytes = if value.is_some() { &rest[2..] } else { rest };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn number(part: &str, what: &'static str) -> Result<u64, BadRoute> {
    part.parse().map_err(|_| BadRoute::Number { what, text: part.chars().take(80).collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    #[test]
    fn each_path_has_its_methods() {
        let parse = |method, path| Route::parse(method, path, None);
        assert_eq!(parse("POST", "/register"), Ok(Route::Register));
        assert_eq!(parse("POST", "/share"), Ok(Route::Share));
        assert_eq!(parse("POST", "/check_and_move"), Ok(Route::CheckAndMove));
        let bob = Route::Inbox { name: name("bob"), look: Look::default() };
        assert_eq!(parse("GET", "/inbox/bob"), Ok(bob.clone()));
        assert_eq!(parse("HEAD", "/inbox/b%6fb"), Ok(bob));
        assert_eq!(parse("POST", "/inbox/bob/attach"), Ok(Route::Attach { name: name("bob") }));
        assert_eq!(parse("POST", "/inbox/bob/acknowledge"), Ok(Route::Acknowledge { name: name("bob") }));
        assert_eq!(parse("POST", "/inbox/bob/detach"), Ok(Route::Detach { name: name("bob") }));
        assert_eq!(parse("POST", "/streams"), Ok(Route::OpenStream));
        assert_eq!(parse("PUT", "/streams/7/1"), Ok(Route::Send { stream: Id(7), number: Number(1) }));
        assert_eq!(parse("DELETE", "/streams/7"), Ok(Route::CloseStream { stream: Id(7) }));
        for (path, allow) in [
            ("/register", "POST"),
            ("/inbox/bob", "GET, HEAD"),
            ("/inbox/bob/attach", "POST"),
            ("/streams/7/1", "PUT"),
            ("/streams/7", "DELETE"),
        ] {
            assert_eq!(parse("PATCH", path), Err(BadRoute::Method { allow }), "{path}");
        }
        for path in ["", "/", "/x", "/register/", "/inbox", "/inbox/bob/x", "/streams/7/1/2", "*"] {
            assert_eq!(parse("GET", path), Err(BadRoute::NoSuchPath), "{path}");
        }
        assert!(matches!(parse("GET", "/inbox/not%20a%20name"), Err(BadRoute::Name(_))));
        assert!(matches!(parse("GET", "/inbox/%ff"), Err(BadRoute::Name(_))));
        assert!(matches!(parse("PUT", "/streams/7/0"), Err(BadRoute::Number { .. })));
        assert!(matches!(parse("PUT", "/streams/x/1"), Err(BadRoute::Number { .. })));
    }

    #[test]
    fn a_query_says_what_of_an_inbox_is_wanted() {
        let look = |query: &str| match Route::parse("GET", "/inbox/bob", Some(query)) {
            Ok(Route::Inbox { look, .. }) => Ok(look),
            Ok(other) => panic!("{other:?}"),
            Err(bad) => Err(bad),
        };
        let all =
            Look { after: Position(3), limit: 2, wait: Duration::from_millis(1500), reader: Some((Id(5), Epoch(1))) };
        assert_eq!(look("after=3&limit=2&wait=1.5&registration=5&epoch=1&_=9"), Ok(all));
        assert_eq!(look("wait=1e300").map(|look| look.wait), Ok(limits::HTTP_WAIT_MAX));
        assert_eq!(look("&&"), Ok(Look::default()));
        for bad in
            ["after=x", "after=-1", "wait=-1", "wait=NaN", "limit=", "limit=0", "epoch=1", "registration=1", "after"]
        {
            assert!(matches!(look(bad), Err(BadRoute::Query { .. })), "{bad}");
        }
    }
}
