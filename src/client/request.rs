//! Requests and replies: a message that names an inbox for its answer, and a deadline for it.
//!
//! They are ordinary messages. A [`Requester`] has an inbox of its own, so that the one of the client that asks is read by
//! whoever reads it. A request carries where its reply is to go and an id that the reply repeats; see the constants.

use std::time::Duration;

use rand::Rng;

use super::{Client, Delivery, Error, Inbox, Message, SendError, SendStream};
use crate::limits;
use crate::wire::Name;
pub use crate::wire::command::{CORRELATION_ID, DEADLINE_MS, REPLY_TO};
use crate::world::{Instant, RealWorld, World};

/// Replies that may wait in a requester's hands.
const WINDOW: u32 = 64;

/// Why there is no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// The request was not accepted: there is nobody of that name, or their inbox is full.
    #[error(transparent)]
    NotAsked(#[from] SendError),
    /// No reply came in time. The request was accepted, and is or was before the other one.
    #[error("no reply came within {after:?}; the request was accepted, and may still be answered")]
    NoReply {
        /// The deadline.
        after: Duration,
    },
    /// The client failed.
    #[error(transparent)]
    Client(#[from] Error),
}

/// Asks others in the name of a client, one question at a time.
///
/// ```no_run
/// # use std::time::Duration;
/// # use restante::{client::{Client, RequestError, Requester}, wire::Name};
/// # async fn example(client: Client, alice: Name, bob: Name) -> Result<(), RequestError> {
/// let mut requester = Requester::open(&client, &alice).await?;
/// let reply = requester.request(&bob, "what is the time?", Duration::from_secs(5)).await?;
/// println!("{:?}", reply.body);
/// requester.close().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Requester<W: World = RealWorld> {
    client: Client<W>,
    stream: SendStream<W>,
    replies: Name,
    inbox: Inbox<W>,
    asked: u64,
}

impl<W: World> Requester<W> {
    /// Gets ready to ask in the name of `from`: opens a send stream, and registers a client for the replies, whose name
    /// begins with that of `from`. [`Requester::close`] deregisters it; if the process dies before, it stays registered.
    ///
    /// # Errors
    /// [`Error::Refused`] if `from` is not registered; no answer in time.
    pub async fn open(client: &Client<W>, from: &Name) -> Result<Self, Error> {
        let stream = client.open_stream(from).await?;
        let drawn = W::rng().next_u64();
        let suffix = format!(".replies-{drawn:016x}");
        let front: String = from.chars().take(limits::NAME_BYTES_MAX - suffix.len()).collect();
        let replies = Name::new(&format!("{front}{suffix}"))?;
        client.register(&replies).await?;
        let inbox = client.listen(&replies, WINDOW).await?;
        Ok(Self { client: client.clone(), stream, replies, inbox, asked: 0 })
    }

    /// Asks, and waits for the reply until the deadline. What comes too late for an earlier question is passed over.
    ///
    /// # Errors
    /// [`RequestError::NotAsked`] at once if there is nobody of that name; [`RequestError::NoReply`];
    /// [`RequestError::Client`].
    pub async fn request(
        &mut self,
        to: &Name,
        message: impl Into<Message>,
        deadline: Duration,
    ) -> Result<Delivery, RequestError> {
        self.asked += 1;
        let id = self.asked.to_string();
        let until: Instant = W::now() + deadline;
        let message = message
            .into()
            .header(REPLY_TO, self.replies.to_string())
            .header(CORRELATION_ID, &id)
            .header(DEADLINE_MS, deadline.as_millis().to_string());
        let late = || RequestError::NoReply { after: deadline };
        let Self { stream, inbox, .. } = self;
        let asking = async {
            stream.send(to, message).await?.await?;
            loop {
                let Some(next) = inbox.next().await else { return Err(Error::Closed.into()) };
                let reply = next?;
                inbox.acknowledge(reply.position);
                if reply.header(CORRELATION_ID) == Some(&id) {
                    return Ok(reply);
                }
            }
        };
        let left = until.saturating_duration_since(W::now());
        W::timeout(left, asking).await.unwrap_or_else(|_| Err(late()))
    }

    /// Ends it: what waits for it is dropped with its registration.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn close(self) -> Result<(), Error> {
        let Self { client, stream, replies, inbox, .. } = self;
        inbox.close().await?;
        client.deregister(&replies).await?;
        stream.close().await
    }
}

impl Delivery {
    /// The value of the first header of that name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Where a reply to this message is to go; `None` if it asks for none.
    pub fn reply_to(&self) -> Option<Name> {
        self.header(REPLY_TO).and_then(|name| Name::new(name).ok())
    }

    /// `message` as the reply to this one.
    pub fn reply(&self, message: impl Into<Message>) -> Message {
        match self.header(CORRELATION_ID) {
            Some(id) => message.into().header(CORRELATION_ID, id),
            None => message.into(),
        }
    }
}
