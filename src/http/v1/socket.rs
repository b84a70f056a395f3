//! An inbox over a WebSocket: messages come, acknowledgements and sends go.

use std::time::Duration;

use futures::{SinkExt as _, StreamExt as _};
use hyper::StatusCode;
use hyper_tungstenite::tungstenite::protocol::WebSocketConfig;
use hyper_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use hyper_tungstenite::tungstenite::protocol::{CloseFrame, Message as Frame};
use hyper_tungstenite::{HyperWebsocket, HyperWebsocketStream};
use openraft_rt::watch::WatchReceiver as _;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::messages::share;
use super::model::{Acknowledgement, Inbox, Message, Range, Receipt, Sending};
use super::problem::Problem;
use super::query::Query;
use crate::limits;
use crate::server::{Desk, FeedPermit, Look, Seen};
use crate::wire::{Epoch, Name, RegistrationId};
use crate::world::{WatchReceiver, World};

/// How often it is seen to it that the other end is there.
const PULSE: Duration = Duration::from_secs(15);
/// A client that said nothing for so many of these is gone: it does not even answer pings.
const PULSES: u32 = 3;

/// What a client says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Said {
    /// Acknowledge what was seen.
    Acknowledge {
        up_to: u64,
        #[serde(default)]
        ranges: Vec<Range>,
    },
    /// Send, as this client. Whatever `id` is, the answer has it, too; with a `key` it may be repeated.
    Send {
        #[serde(default)]
        id: serde_json::Value,
        key: Option<String>,
        #[serde(flatten)]
        sending: Box<Sending>,
    },
}

/// What the server says.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Says {
    Inbox(Inbox),
    Message(Message),
    Acknowledged {
        acknowledged: u64,
    },
    Sent {
        id: serde_json::Value,
        #[serde(flatten)]
        receipt: Receipt,
    },
    Problem {
        id: serde_json::Value,
        problem: Problem,
    },
}

/// How somebody reads over a WebSocket; for the document.
#[derive(Debug, ToSchema)]
#[allow(dead_code, reason = "it says what the document says")]
pub struct SocketFrames {
    /// From the server: `inbox`, `message`, `acknowledged`, `sent`, `problem`. From the client: `acknowledge`, `send`.
    r#type: String,
}

/// An inbox over a WebSocket. JSON frames, each with a `type`.
///
/// The server says `inbox` when something about it is new, `message` for each message that waits or comes, `acknowledged`,
/// `sent` (with the `id` that the client gave) and `problem`. The client says `{"type": "acknowledge", "up_to": 7}` and
/// `{"type": "send", "id": 1, "to": "bob", "text": "hello"}`, the latter with a `key` to be safe to repeat. With `attach` the
/// connection becomes the inbox's reader, which ends another one, and ends itself when another one attaches.
#[utoipa::path(
    get, path = "/v1/clients/{name}/inbox/socket", tag = "inbox", operation_id = "openSocket",
    params(
        ("name" = String, Path, description = "The client's name.", pattern = "^[A-Za-z0-9._-]{1,64}$", min_length = 1, max_length = 64),
        ("after" = Option<u64>, Query, description = "Only what is behind this position.", minimum = 0),
        ("attach" = Option<bool>, Query, description = "Become the inbox's reader."),
        ("window" = Option<u32>, Query, description = "As the reader: unacknowledged messages that are shown at most; 1024 if it is not given.", minimum = 1, maximum = 65536),
    ),
    responses(
        (status = 101, description = "A WebSocket.", body = SocketFrames),
        (status = 400, description = "The query is not understood.", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not_registered`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`read_by_session`, `epoch_moved`", body = Problem, content_type = "application/problem+json"),
        (status = 426, description = "`upgrade_required`: this path is a WebSocket's.", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "Not now: `Retry-After` says when to ask again.", body = Problem, content_type = "application/problem+json"),
        (status = 504, description = "Nobody knows whether it attached.", body = Problem, content_type = "application/problem+json"),
    ),
)]
pub(super) async fn prepare<W: World>(desk: &Desk<W>, name: &Name, query: &Query) -> Result<Socket<W>, Problem> {
    let permit = desk.open_feed().ok_or_else(super::events::too_many_feeds)?;
    let window = query.count("window", limits::READER_WINDOW_MAX as usize)?;
    let mut look = Look { after: query.after()?, ..Look::default() };
    let visit = desk.visit()?;
    let epoch = if query.flag("attach")? {
        let window = window.map_or(limits::READER_WINDOW_DEFAULT, |window| window as u32);
        let nonce = rand::RngExt::random(&mut W::rng());
        let attached = visit.attach(name, nonce, None, None, window).await?;
        look.reader = Some((attached.registration, attached.epoch));
        look.reader
    } else {
        None
    };
    let seen = visit.look(name, look).await?;
    let reader = epoch.unwrap_or((seen.registration, seen.epoch));
    let leaving = desk.leaving();
    Ok(Socket { desk: desk.clone(), name: name.clone(), look, reader, first: Some(seen), leaving, _permit: permit })
}

/// How connections of WebSockets are limited.
pub(super) fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(limits::HTTP_BODY_BYTES_MAX))
        .max_frame_size(Some(limits::HTTP_BODY_BYTES_MAX))
}

/// A path of a WebSocket was asked for without one.
pub(super) fn upgrade_required() -> Problem {
    Problem::new(StatusCode::UPGRADE_REQUIRED, "upgrade_required", "this path is a WebSocket's: connect with one")
}

/// One client's connection.
pub(super) struct Socket<W: World> {
    desk: Desk<W>,
    name: Name,
    look: Look,
    /// Under which registration and epoch it acknowledges.
    reader: (RegistrationId, Epoch),
    first: Option<Seen>,
    leaving: WatchReceiver<bool>,
    _permit: FeedPermit,
}

impl<W: World> Socket<W> {
    /// Serves it to its end.
    pub async fn serve(mut self, upgraded: HyperWebsocket) {
        let Ok(mut socket) = upgraded.await else { return };
        if let Err(error) = self.talk(&mut socket).await {
            tracing::debug!(client = %self.name, %error, "a WebSocket ended");
        }
    }

    async fn talk(&mut self, socket: &mut HyperWebsocketStream) -> Result<(), hyper_tungstenite::tungstenite::Error> {
        if let Some(seen) = self.first.take() {
            self.tell(socket, &seen, true).await?;
        }
        let (desk, name) = (self.desk.clone(), self.name.clone());
        let mut silent = 0;
        loop {
            let looking = look_again(&desk, &name, Look { wait: PULSE, ..self.look });
            let mut looking = std::pin::pin!(looking);
            // What it says is heard while it waits for messages.
            let seen = loop {
                tokio::select! {
                    biased;
                    _ = self.leaving.changed() => return close(socket, CloseCode::Away, "the server stops").await,
                    frame = socket.next() => {
                        silent = 0;
                        match frame.transpose()? {
                            None | Some(Frame::Close(_)) => return Ok(()),
                            Some(Frame::Text(text)) => {
                                let answer = answer(&desk, &name, self.reader, text.as_str()).await;
                                say(socket, &answer).await?;
                            }
                            Some(Frame::Binary(_)) => return close(socket, CloseCode::Unsupported, "say it as text").await,
                            // tungstenite answers pings by itself.
                            Some(_) => {}
                        }
                    }
                    seen = looking.as_mut() => break seen,
                }
            };
            match seen {
                Ok(seen) if seen.messages.is_empty() => {
                    silent += 1;
                    if silent > PULSES {
                        return close(socket, CloseCode::Away, "you do not answer").await;
                    }
                    socket.send(Frame::Ping(bytes::Bytes::new())).await?;
                }
                Ok(seen) => self.tell(socket, &seen, false).await?,
                Err(problem) => {
                    let text = problem.code.clone();
                    say(socket, &Says::Problem { id: serde_json::Value::Null, problem }).await?;
                    return close(socket, CloseCode::Again, &text).await;
                }
            }
        }
    }

    async fn tell(
        &mut self,
        socket: &mut HyperWebsocketStream,
        seen: &Seen,
        first: bool,
    ) -> Result<(), hyper_tungstenite::tungstenite::Error> {
        // Without being the reader it acknowledges under whatever epoch it saw last.
        if self.look.reader.is_none() {
            self.reader = (seen.registration, seen.epoch);
        }
        if first {
            let mut inbox = Inbox::new(&self.name, seen, self.look.after, self.look.reader.is_some());
            inbox.messages.clear();
            say(socket, &Says::Inbox(inbox)).await?;
        }
        for (delivery, content) in &seen.messages {
            self.look.after = self.look.after.max(delivery.position);
            say(socket, &Says::Message(Message::new(delivery, content))).await?;
        }
        Ok(())
    }
}

async fn look_again<W: World>(desk: &Desk<W>, name: &Name, look: Look) -> Result<Seen, Problem> {
    Ok(desk.visit()?.look(name, look).await?)
}

async fn answer<W: World>(desk: &Desk<W>, name: &Name, reader: (RegistrationId, Epoch), text: &str) -> Says {
    let problem = |id, problem| Says::Problem { id, problem };
    let said = match serde_json::from_str::<Said>(text) {
        Ok(said) => said,
        Err(error) => return problem(serde_json::Value::Null, Problem::invalid(error)),
    };
    match said {
        Said::Acknowledge { up_to, ranges } => {
            let (registration, epoch) = (reader.0.0, reader.1.0);
            let body = Acknowledgement { registration, epoch, up_to, ranges };
            match acknowledge(desk, name, &body).await {
                Ok(acknowledged) => Says::Acknowledged { acknowledged },
                Err(bad) => problem(serde_json::Value::Null, bad),
            }
        }
        Said::Send { id, key, sending } => match send(desk, name, key.as_deref(), &sending).await {
            Ok(receipt) => Says::Sent { id, receipt },
            Err(bad) => problem(id, bad),
        },
    }
}

async fn acknowledge<W: World>(desk: &Desk<W>, name: &Name, body: &Acknowledgement) -> Result<u64, Problem> {
    Ok(super::inbox::take(&desk.visit()?, name, body).await?.0)
}

async fn send<W: World>(desk: &Desk<W>, name: &Name, key: Option<&str>, sending: &Sending) -> Result<Receipt, Problem> {
    sending.without_sender()?;
    share(&desk.visit()?, name, key, &sending.outgoing()?).await
}

async fn say(socket: &mut HyperWebsocketStream, says: &Says) -> Result<(), hyper_tungstenite::tungstenite::Error> {
    let text = serde_json::to_string(says).unwrap_or_default();
    socket.send(Frame::Text(text.into())).await
}

async fn close(
    socket: &mut HyperWebsocketStream,
    code: CloseCode,
    reason: &str,
) -> Result<(), hyper_tungstenite::tungstenite::Error> {
    socket.send(Frame::Close(Some(CloseFrame { code, reason: reason.into() }))).await
}
