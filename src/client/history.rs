//! What an inbox does when it is full, and what it keeps of what was acknowledged.

use super::api::{Client, unexpected};
use super::session::{Answer, Change, Look};
use super::{Delivery, Error, InboxSettings};
use crate::limits;
use crate::wire::{Name, Position};
use crate::world::World;

impl<W: World> Client<W> {
    /// Sets what a client's inbox does when it is full, and how much it keeps of what was acknowledged. Settings end with the
    /// registration; setting them again changes nothing.
    ///
    /// ```no_run
    /// # use restante::{client::{Client, Error, InboxSettings, Overflow}, wire::{Name, Position}};
    /// # async fn example(client: Client, bob: Name) -> Result<(), Error> {
    /// let settings = InboxSettings { overflow: Overflow::DropOldest, keep_messages: 100, ..InboxSettings::default() };
    /// client.set_inbox(&bob, settings).await?;
    /// for message in client.history(&bob, Position(1), 10).await?.messages {
    ///     println!("{}: {:?}", message.position, message.body);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::KeepsTooMany`]; [`Error::Refused`], e.g. with [`crate::wire::Refusal::NotRegistered`]; no answer in time.
    pub async fn set_inbox(&self, name: &Name, settings: InboxSettings) -> Result<(), Error> {
        if settings.keep_messages > limits::KEPT_MESSAGES_MAX {
            return Err(Error::KeepsTooMany { asked: settings.keep_messages });
        }
        self.enlist(name, Change::SetInbox(settings)).await
    }

    /// What is set for a client's inbox, and how many acknowledged messages it keeps now.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`crate::wire::Refusal::NotRegistered`]; no answer in time.
    pub async fn inbox_settings(&self, name: &Name) -> Result<(InboxSettings, u64), Error> {
        match self.ask(|session, now, token| session.look(now, Look::Inbox(name.clone()), token)).await? {
            Answer::Inbox { settings, kept } => Ok((settings, kept)),
            other => unexpected(&other),
        }
    }

    /// Messages that a client's inbox has kept after they were acknowledged, from position `from` on, positions ascending: at
    /// most `limit` of them, and fewer if they are large. It takes nothing and disturbs no reader.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`crate::wire::Refusal::NotRegistered`]; no answer in time.
    pub async fn history(&self, name: &Name, from: Position, limit: u32) -> Result<History, Error> {
        let look = Look::History { client: name.clone(), from, limit };
        match self.ask(|session, now, token| session.look(now, look, token)).await? {
            Answer::History { messages, more } => {
                // A page that does not go on would never end.
                let last = messages.last().filter(|_| more);
                let next = last.map(|message| Position(message.position.0 + 1));
                Ok(History { messages, next })
            }
            other => unexpected(&other),
        }
    }
}

/// A page of an inbox's history: see [`Client::history`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// The messages, positions ascending.
    pub messages: Vec<Delivery>,
    /// Where the next page begins, if there is one.
    pub next: Option<Position>,
}
