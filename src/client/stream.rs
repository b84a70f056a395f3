//! Send streams and pending receipts.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::session::{Sending, Token};
use super::shared::Shared;
use super::{Client, Error, Fate, Message, NoDelivery, Receipt, Recipients, SendError};
use crate::wire::{Name, Number};
use crate::world::{Event, RealWorld, World};

/// A send stream: its messages arrive in the order sent, each once.
///
/// Dropping it closes it in the background, after its sends were answered.
///
/// ```no_run
/// # use restante::{client::{Client, Error, SendError}, wire::Name};
/// # async fn example(client: Client, alice: Name, bob: Name) -> Result<(), Error> {
/// let stream = client.open_stream(&alice).await?;
/// let mut pending = Vec::new();
/// for n in 0..1000 {
///     pending.push(stream.send(&bob, format!("number {n}")).await?);
/// }
/// for receipt in pending {
///     match receipt.await {
///         Ok(receipt) => println!("accepted at {}", receipt.position),
///         Err(SendError::Refused(why)) => println!("refused: {why}"),
///         Err(error) => println!("{error}"),
///     }
/// }
/// stream.close().await
/// # }
/// ```
pub struct SendStream<W: World = RealWorld> {
    client: Client<W>,
    name: Name,
    key: usize,
    open: bool,
}

impl<W: World> fmt::Debug for SendStream<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendStream").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<W: World> SendStream<W> {
    pub(super) fn new(client: Client<W>, name: Name, key: usize) -> Self {
        Self { client, name, key, open: true }
    }

    /// The sender.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// Hands in a message. Waits only while the window is full (see the settings' `stream_window` and
    /// `pending_bytes`): the receipt comes later, and dropping it cancels nothing. A message that is handed in is sent
    /// again, also at other servers, until it is answered.
    ///
    /// # Errors
    /// [`Error::TooLarge`]; [`Error::StreamLost`]; whatever ended the client. Nothing was sent then.
    pub async fn send(&self, to: &Name, message: impl Into<Message>) -> Result<PendingReceipt, Error> {
        let message = message.into();
        if message.expires_ms() > 0 || message.delay_ms() > 0 {
            return self.post(to, message).await;
        }
        message.check()?;
        let shared = &self.client.handle.0;
        let (token, number) = poll_fn(|context| {
            shared.ask(|state, now| {
                let token = state.receipts.next();
                match state.session.send(now, self.key, to, &message, token) {
                    Sending::Sent(number) => {
                        let added = state.receipts.add();
                        debug_assert_eq!(added, token, "nothing was added in between");
                        Poll::Ready(Ok((token, number)))
                    }
                    Sending::Full => {
                        state.wait_for_room(self.key, context.waker());
                        Poll::Pending
                    }
                    Sending::Failed(error) => Poll::Ready(Err(error)),
                }
            })
        })
        .await?;
        W::observe(|| Event {
            kind: "client_send",
            who: Some(self.name.to_string()),
            detail: format!("{number} to {to}, {} bytes", message.body().len()),
        });
        Ok(PendingReceipt { shared: Arc::clone(shared), token: Some(token), number })
    }

    /// Hands in a message to several clients, a channel, or everybody: otherwise like [`SendStream::send`].
    ///
    /// # Errors
    /// The same, and [`Error::BadRecipients`]. Nothing was sent then.
    pub async fn post(&self, to: impl Into<Recipients>, message: impl Into<Message>) -> Result<PendingReceipt, Error> {
        let (to, message) = (to.into(), message.into());
        let (token, _, number) = self.hand_in(&to, &message, false).await?;
        Ok(PendingReceipt { shared: Arc::clone(&self.client.handle.0), token: Some(token), number })
    }

    /// Hands in a message, and asks to be told when its recipients have acknowledged it.
    ///
    /// That receipt is as durable as the message. It comes to this stream as long as that is open, however often the client
    /// moves to another server meanwhile. If the stream is closed before, or its program dies, it comes into the sender's own
    /// inbox instead, as a [`super::Delivery`] with a [`super::Notice`]. The sender's inbox keeps room for it, so that a full
    /// one refuses the send.
    ///
    /// ```no_run
    /// # use restante::{client::{Error, SendStream}, wire::Name};
    /// # async fn example(stream: SendStream, bob: Name) -> Result<(), Error> {
    /// let sent = stream.post_with_receipt(&bob, "the contract").await?;
    /// println!("accepted at {}", sent.accepted.await.expect("bob is registered").position);
    /// println!("bob has it: {}", sent.delivered.await.expect("the stream is open").is_delivered());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As for [`SendStream::post`].
    pub async fn post_with_receipt(
        &self,
        to: impl Into<Recipients>,
        message: impl Into<Message>,
    ) -> Result<Tracked, Error> {
        let (to, message) = (to.into(), message.into());
        let (token, delivered, number) = self.hand_in(&to, &message, true).await?;
        let shared = &self.client.handle.0;
        Ok(Tracked {
            accepted: PendingReceipt { shared: Arc::clone(shared), token: Some(token), number },
            delivered: PendingDelivery { shared: Arc::clone(shared), token: delivered },
        })
    }

    async fn hand_in(
        &self,
        to: &Recipients,
        message: &Message,
        receipt: bool,
    ) -> Result<(Token, Option<Token>, Number), Error> {
        if let Recipients::Clients(clients) = to
            && !to.is_allowed()
        {
            return Err(Error::BadRecipients { named: clients.len() });
        }
        message.check()?;
        let handed_in = poll_fn(|context| {
            self.client.handle.0.ask(|state, now| {
                let token = state.receipts.next();
                let delivered = receipt.then(|| state.deliveries.next());
                match state.session.post(now, self.key, to, message, token, delivered) {
                    Sending::Sent(number) => {
                        state.receipts.add();
                        if receipt {
                            state.deliveries.add();
                        }
                        Poll::Ready(Ok((token, delivered, number)))
                    }
                    Sending::Full => {
                        state.wait_for_room(self.key, context.waker());
                        Poll::Pending
                    }
                    Sending::Failed(error) => Poll::Ready(Err(error)),
                }
            })
        });
        let (token, delivered, number) = handed_in.await?;
        W::observe(|| Event {
            kind: "client_send",
            who: Some(self.name.to_string()),
            detail: format!("{number} to {to:?}, {} bytes", message.body().len()),
        });
        Ok((token, delivered, number))
    }

    /// Closes the stream for ever, after all its sends were answered.
    ///
    /// # Errors
    /// No answer to the closing in time, in which case it is closed later; whatever ended the client.
    pub async fn close(mut self) -> Result<(), Error> {
        self.open = false;
        self.client
            .handle
            .0
            .request(|session, now, token| session.close_stream(now, self.key, Some(token)))
            .await
            .map(drop)
    }
}

impl<W: World> Drop for SendStream<W> {
    fn drop(&mut self) {
        if self.open {
            self.client.handle.0.ask(|state, now| state.session.close_stream(now, self.key, None));
        }
    }
}

/// A receipt that is to come. Dropping it does not cancel the send.
#[must_use = "the receipt says whether the message was accepted"]
pub struct PendingReceipt {
    shared: Arc<Shared>,
    /// `None` once it has come.
    token: Option<Token>,
    number: Number,
}

impl PendingReceipt {
    /// The number that the send had in its stream when it was handed in.
    pub fn number(&self) -> Number {
        self.number
    }
}

impl fmt::Debug for PendingReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingReceipt").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Future for PendingReceipt {
    type Output = Result<Receipt, SendError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(token) = self.token else { return Poll::Pending };
        let polled = self.shared.with(|state, _| state.receipts.poll(token, context));
        if polled.is_ready() {
            self.token = None;
        }
        polled
    }
}

impl Drop for PendingReceipt {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            self.shared.with(|state, _| drop(state.receipts.abandon(token)));
        }
    }
}

/// A send that is on its way, and whose recipients are waited for.
#[derive(Debug)]
pub struct Tracked {
    /// Whether it was accepted.
    pub accepted: PendingReceipt,
    /// What became of it, once it waits in no inbox any more. Dropping it does not cancel the receipt.
    pub delivered: PendingDelivery,
}

/// A delivered receipt that is to come.
#[must_use = "the receipt says what became of the message"]
pub struct PendingDelivery {
    shared: Arc<Shared>,
    /// `None` once it has come.
    token: Option<Token>,
}

impl fmt::Debug for PendingDelivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PendingDelivery").finish_non_exhaustive()
    }
}

impl Future for PendingDelivery {
    type Output = Result<Fate, NoDelivery>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(token) = self.token else { return Poll::Pending };
        let polled = self.shared.with(|state, _| state.deliveries.poll(token, context));
        if polled.is_ready() {
            self.token = None;
        }
        polled
    }
}

impl Drop for PendingDelivery {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            self.shared.with(|state, _| drop(state.deliveries.abandon(token)));
        }
    }
}
