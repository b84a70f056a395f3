//! What a client asks of its server, and of no log.

use std::time::Duration;

use bytes::BytesMut;

use super::Session;
use crate::limits;
use crate::metrics::tally::limit_of;
use crate::server::{operator, peek, presence, status};
use crate::wire::client::{ClientRow, Reply, Request};
use crate::wire::{Name, Nonce, Position, Refusal};
use crate::world::World;

/// How long a linearizable read may take.
const BARRIER: Duration = Duration::from_secs(4);
/// Rows listed in one answer.
const ROWS_MAX: u32 = 1000;

impl<W: World> Session<W> {
    pub(super) async fn answer(&self, request: Request) {
        let reply = match request {
            Request::Status { nonce, detail } => {
                let mut status = Box::new(status::of_node(&self.node, detail).await);
                // Who asks is not told of itself.
                status.sessions = status.sessions.saturating_sub(1);
                Reply::Status { nonce, status }
            }
            Request::Who { nonce, after, limit } => match self.who(after, limit).await {
                Some((clients, more)) => Reply::Who { nonce, clients, more },
                None => Reply::Refused { nonce: Some(nonce), refusal: Refusal::NoLeader },
            },
            Request::AddServer { nonce, .. }
            | Request::RemoveServer { nonce, .. }
            | Request::SetDrained { nonce, .. }
            | Request::TransferLeadership { nonce, .. } => match operator::carry_out(&self.node, request).await {
                Ok(()) => Reply::Done { nonce },
                Err(refusal) => Reply::Refused { nonce: Some(nonce), refusal },
            },
            Request::Channels { nonce, after, limit } => match self.barrier().await {
                Some(()) => {
                    let office = self.node.office.post_office.lock();
                    let (channels, more) = office.channels(after.as_ref(), limit.min(ROWS_MAX) as usize);
                    Reply::Channels { nonce, channels, more }
                }
                None => Reply::Refused { nonce: Some(nonce), refusal: Refusal::NoLeader },
            },
            Request::Members { nonce, channel, after, limit } => match self.barrier().await {
                Some(()) => {
                    let office = self.node.office.post_office.lock();
                    match office.members(&channel, after, limit.min(ROWS_MAX) as usize) {
                        Some((members, more)) => Reply::Members { nonce, members, more },
                        None => Reply::Refused { nonce: Some(nonce), refusal: Refusal::NoSuchChannel },
                    }
                }
                None => Reply::Refused { nonce: Some(nonce), refusal: Refusal::NoLeader },
            },
            Request::History { nonce, client, from, limit } => {
                return self.history(nonce, &client, from, limit).await;
            }
            Request::Inbox { nonce, client } => match self.barrier().await {
                Some(()) => {
                    let office = self.node.office.post_office.lock();
                    let held = office.registration(&client).zip(office.inbox_settings_of(&client));
                    match held {
                        Some((view, (settings, kept, _))) => {
                            Reply::Inbox { nonce, registration: view.registration, settings, kept }
                        }
                        None => Reply::Refused { nonce: Some(nonce), refusal: Refusal::NotRegistered },
                    }
                }
                None => Reply::Refused { nonce: Some(nonce), refusal: Refusal::NoLeader },
            },
            // These take long, and the client's other requests are not to wait for it.
            Request::Presence { nonce, since, wait_ms } => {
                let wait = Duration::from_millis(wait_ms.into());
                return presence::answer(&self.node, self.id, &self.watching, nonce, since, wait);
            }
            Request::Backup { .. } | Request::ReadBackup { .. } => {
                return self.backups.ask(&self.node, self.id, request);
            }
            Request::Hello { .. } | Request::Ping(_) | Request::Hurry | Request::Goodbye => return,
        };
        if let Reply::Refused { refusal, .. } = &reply
            && let Some(limit) = limit_of(refusal)
        {
            self.node.metrics.hit(limit);
        }
        let mut books = self.node.hub.lock();
        books.reply(self.id, &reply);
        books.wake();
    }

    /// What an inbox has kept.
    async fn history(&self, nonce: Nonce, client: &Name, from: Position, limit: u32) {
        let refused = |refusal| Reply::Refused { nonce: Some(nonce), refusal };
        let kept = match self.barrier().await {
            None => Err(Refusal::NoLeader),
            Some(()) => {
                let most = (limit.max(1) as usize).min(limits::HTTP_INBOX_MESSAGES_MAX);
                let office = self.node.office.post_office.lock();
                office.history(client, from, most, limits::HTTP_INBOX_BYTES_MAX).ok_or(Refusal::NotRegistered)
            }
        };
        let (reply, contents) = match kept {
            Err(refusal) => (refused(refusal), BytesMut::new()),
            Ok((registration, kept, more)) => match peek::contents(&self.node, kept).await {
                None => (refused(Refusal::Stopping), BytesMut::new()),
                Some(found) => {
                    let mut contents = BytesMut::new();
                    found.iter().for_each(|(_, content)| contents.extend_from_slice(content));
                    let messages = found.into_iter().map(|(message, _)| message).collect();
                    (Reply::History { nonce, registration, messages, more }, contents)
                }
            },
        };
        let mut books = self.node.hub.lock();
        books.reply_with(self.id, &reply, &contents);
        books.wake();
    }

    /// The clients, as of now: whoever was registered before the question is listed.
    async fn who(&self, after: Option<Name>, limit: u32) -> Option<(Vec<ClientRow>, bool)> {
        self.barrier().await?;
        let (mut rows, more) = {
            let office = self.node.office.post_office.lock();
            office.who(after.as_ref(), limit.min(ROWS_MAX) as usize)
        };
        let down = status::servers_down(&self.node);
        for row in &mut rows {
            row.online &= !down.contains(&row.home);
        }
        Some((rows, more))
    }

    /// Everything that anybody was told before now is applied here.
    async fn barrier(&self) -> Option<()> {
        let barrier = self.node.hub.barrier();
        W::timeout(BARRIER, barrier).await.ok()?.ok()
    }
}
