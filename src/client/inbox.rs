//! Inboxes.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::session::Next;
use super::{Client, Delivery, Error};
use crate::wire::{Name, Position, RegistrationId};
use crate::world::{Event, RealWorld, World};

/// The reader of an inbox: deliveries in order, until a newer reader takes over.
///
/// It is also a [`futures::Stream`]. Dropping it detaches the reader in the background; what was not acknowledged is
/// delivered again to the next one, marked as a repeat if it was taken here.
///
/// ```no_run
/// # use restante::{client::{Client, Error}, wire::Name};
/// # async fn example(client: Client, bob: Name) -> Result<(), Error> {
/// let mut inbox = client.listen(&bob, 1024).await?;
/// while let Some(delivery) = inbox.next().await {
///     let delivery = delivery?;
///     // ... do what it asks for, durably ...
///     inbox.acknowledge(delivery.position);
///     if &delivery.body[..] == b"stop" {
///         break;
///     }
/// }
/// inbox.flush().await?; // the acknowledgements are durable
/// inbox.close().await
/// # }
/// ```
pub struct Inbox<W: World = RealWorld> {
    client: Client<W>,
    name: Name,
    key: usize,
    open: bool,
}

impl<W: World> fmt::Debug for Inbox<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").field("name", &self.name).finish_non_exhaustive()
    }
}

impl<W: World> Inbox<W> {
    pub(super) fn new(client: Client<W>, name: Name, key: usize) -> Self {
        Self { client, name, key, open: true }
    }

    /// Whose inbox it is.
    pub fn name(&self) -> &Name {
        &self.name
    }

    /// The registration that it belongs to: another one of the same name has another inbox.
    pub fn registration(&self) -> Option<RegistrationId> {
        self.client.handle.0.with(|state, _| state.session.registration_of(self.key))
    }

    /// The next delivery. `None` when the reader has ended; an error comes once before that and says why, e.g.
    /// [`Error::Fenced`] or [`Error::RegistrationEnded`].
    pub async fn next(&mut self) -> Option<Result<Delivery, Error>> {
        poll_fn(|context| self.poll_delivery(context)).await
    }

    fn poll_delivery(&self, context: &mut Context<'_>) -> Poll<Option<Result<Delivery, Error>>> {
        let next = self.client.handle.0.with(|state, _| {
            let next = state.session.next_delivery(self.key);
            if let Next::Nothing = next {
                state.wait_for_arrival(self.key, context.waker());
            }
            next
        });
        match next {
            Next::Delivery(delivery) => {
                W::observe(|| Event {
                    kind: "client_delivered",
                    who: Some(self.name.to_string()),
                    detail: format!(
                        "{} from {} {} {}",
                        delivery.position, delivery.from, delivery.stream, delivery.number
                    ),
                });
                Poll::Ready(Some(Ok(delivery)))
            }
            Next::Nothing => Poll::Pending,
            Next::Ended(error) => Poll::Ready(error.map(Err)),
        }
    }

    /// Acknowledges everything up to a position that was taken: it is not delivered again. Returns at once; see
    /// [`Inbox::flush`].
    pub fn acknowledge(&self, up_to: Position) {
        self.client.handle.0.ask(|state, _| state.session.acknowledge(self.key, up_to));
        self.observe_acknowledgement("up to", up_to);
    }

    /// Acknowledges one delivery that was taken, whatever came before it.
    pub fn acknowledge_one(&self, position: Position) {
        self.client.handle.0.ask(|state, _| state.session.acknowledge_one(self.key, position));
        self.observe_acknowledgement("only", position);
    }

    fn observe_acknowledgement(&self, what: &'static str, position: Position) {
        W::observe(|| Event {
            kind: "client_acknowledge",
            who: Some(self.name.to_string()),
            detail: format!("{what} {position}"),
        });
    }

    /// Waits until the acknowledgements so far are durable.
    ///
    /// # Errors
    /// No answer in time; [`Error::Fenced`] and the like if they do not count any more.
    pub async fn flush(&self) -> Result<(), Error> {
        self.client.handle.0.request(|session, now, token| session.flush(now, self.key, token)).await.map(drop)
    }

    /// Makes the acknowledgements durable and detaches the reader. What it took but did not acknowledge comes to the
    /// next reader marked as a repeat; what it never took comes unmarked.
    ///
    /// # Errors
    /// No answer in time, in which case it detaches later; whatever ended the client.
    pub async fn close(mut self) -> Result<(), Error> {
        self.open = false;
        let asking = self.client.handle.0.request(|session, _, token| session.detach(self.key, Some(token)));
        self.client.patiently(asking, "detaching").await
    }
}

impl<W: World> futures::Stream for Inbox<W> {
    type Item = Result<Delivery, Error>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_delivery(context)
    }
}

impl<W: World> Drop for Inbox<W> {
    fn drop(&mut self) {
        if self.open {
            self.client.handle.0.ask(|state, _| state.session.detach(self.key, None));
        }
    }
}
