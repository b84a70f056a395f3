//! Channels, and delivered receipts, for clients that have no session.

use std::time::Duration;

use bytes::Bytes;

use super::desk::{Failure, Visit, draw};
use super::peek;
use super::presence::{self, Changed};
use crate::limits;
use crate::wire::client::{ChannelRow, Delivery, Member, SendFailure};
use crate::wire::command::Command;
use crate::wire::sharing::{Enlistment, Fate, InboxSettings};
use crate::wire::{Name, Number, Position, Refusal, RegistrationId, StreamId};
use crate::world::World;

/// How often a change is tried again that others got in the way of.
const ATTEMPTS: u32 = 8;

/// A delivered receipt: its place among all of the stream's, the number of the send, and what became of it.
pub(crate) type DeliveredReceipt = (u64, Number, Fate);

impl<W: World> Visit<W> {
    /// Makes a channel. Says whether it was new.
    pub async fn create_channel(&self, channel: &Name) -> Result<bool, Failure> {
        let nonce = draw::<W>();
        match self.ask(nonce, &Command::CreateChannel { nonce, channel }).await {
            Ok(_) => Ok(true),
            Err(Failure::Refused(Refusal::ChannelExists)) => Ok(false),
            Err(failure) => Err(failure),
        }
    }

    /// Ends a channel.
    pub async fn delete_channel(&self, channel: &Name) -> Result<(), Failure> {
        let nonce = draw::<W>();
        self.ask(nonce, &Command::DeleteChannel { nonce, channel }).await.map(drop)
    }

    /// Channels after a name, names ascending, and whether there are more.
    pub async fn channels(&self, after: Option<&Name>, limit: usize) -> Result<(Vec<ChannelRow>, bool), Failure> {
        self.barrier().await?;
        Ok(self.node.office.post_office.lock().channels(after, limit))
    }

    /// Members of a channel after a registration, ascending, and whether there are more.
    pub async fn members(
        &self,
        channel: &Name,
        after: Option<RegistrationId>,
        limit: usize,
    ) -> Result<(Vec<Member>, bool), Failure> {
        self.barrier().await?;
        let members = self.node.office.post_office.lock().members(channel, after, limit);
        members.ok_or(Failure::Refused(Refusal::NoSuchChannel))
    }

    /// What a client has joined, and the patterns that it has subscribed to.
    pub async fn enlisted(&self, name: &Name) -> Result<(Vec<Name>, Vec<String>), Failure> {
        self.barrier().await?;
        let enlisted = self.node.office.post_office.lock().enlisted(name);
        enlisted.map(|(_, channels, patterns)| (channels, patterns)).ok_or(Failure::Refused(Refusal::NotRegistered))
    }

    /// Changes what a client has joined or subscribed to. What is so already stays so.
    pub async fn change_enlistment(&self, name: &Name, change: Enlistment<'_>) -> Result<(), Failure> {
        let known = self.node.office.post_office.lock().enlisted(name);
        // This server may be behind; it is told the right number then.
        let mut expected = known.map_or(0, |(changes, ..)| changes);
        for _ in 0..ATTEMPTS {
            let nonce = draw::<W>();
            match self.ask(nonce, &Command::Enlist { nonce, name, expected, change }).await {
                Ok(_) => return Ok(()),
                Err(Failure::Refused(Refusal::EnlistmentsMoved { current })) => expected = current,
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Busy)
    }

    /// What is set for an inbox, and how many acknowledged messages it keeps.
    pub async fn inbox_settings(&self, name: &Name) -> Result<(InboxSettings, u64), Failure> {
        self.barrier().await?;
        let known = self.node.office.post_office.lock().inbox_settings_of(name);
        known.map(|(settings, kept, _)| (settings, kept)).ok_or(Failure::Refused(Refusal::NotRegistered))
    }

    /// What an inbox has kept from a position on, with its registration, and whether there is more.
    pub async fn history(
        &self,
        name: &Name,
        from: Position,
        limit: usize,
    ) -> Result<(RegistrationId, Vec<(Delivery, Bytes)>, bool), Failure> {
        self.barrier().await?;
        let most = limit.min(limits::HTTP_INBOX_MESSAGES_MAX);
        let kept = self.node.office.post_office.lock().history(name, from, most, limits::HTTP_INBOX_BYTES_MAX);
        let (registration, kept, more) = kept.ok_or(Failure::Refused(Refusal::NotRegistered))?;
        let failure = Failure::Unavailable(Refusal::Stopping);
        Ok((registration, peek::contents(&self.node, kept).await.ok_or(failure)?, more))
    }

    /// What changed of who is there behind a log index, as soon as something did.
    pub async fn presence(&self, since: Option<u64>, wait: Duration) -> Changed {
        presence::changed(&self.node, since, wait).await
    }

    /// The delivered receipts of a stream, after those up to `collected`, which are forgotten. Waits for the first one.
    pub async fn collect_receipts(
        &self,
        stream: StreamId,
        collected: u64,
        wait: Duration,
    ) -> Result<Vec<DeliveredReceipt>, Failure> {
        let until = W::now() + wait.min(limits::HTTP_WAIT_MAX);
        self.barrier().await?;
        if collected > 0 {
            // Lost, it is said with the next question.
            self.node.hub.tell(&Command::CollectReceipts { stream, up_to: collected });
        }
        let wake = self.node.hub.lock().apart.receipts.clone();
        loop {
            // Before it looks, so that nothing that comes is missed.
            let changed = wake.notified();
            let mut changed = std::pin::pin!(changed);
            changed.as_mut().enable();
            let receipts = self.node.office.post_office.lock().delivered_receipts(stream);
            let mut receipts = receipts.ok_or(Failure::Stream(SendFailure::StreamClosed))?;
            receipts.retain(|(sequence, ..)| *sequence > collected);
            let left = until.saturating_duration_since(W::now());
            if !receipts.is_empty() || left.is_zero() || self.node.hub.lock().closed_for.is_some() {
                receipts.truncate(limits::HTTP_INBOX_MESSAGES_MAX);
                return Ok(receipts);
            }
            let _ = W::timeout(left, changed).await;
        }
    }
}
