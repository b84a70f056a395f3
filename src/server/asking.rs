//! Requests and replies for clients that have no session: a message that names an inbox for its answer, and a wait for that.
//! The client library does the same for those that have one.

use std::time::Duration;

use bytes::Bytes;

use super::clients::Outgoing;
use super::desk::{Failure, Visit, draw};
use super::peek::Look;
use crate::limits;
use crate::wire::client::Delivery;
use crate::wire::command::{CORRELATION_ID, Command, DEADLINE_MS, Headers, REPLY_TO, decode_content};
use crate::wire::{Name, Position, RegistrationId};
use crate::world::World;

/// What a reply repeats: there is one request for each of these inboxes.
const ID: &str = "1";

/// The inbox of one reply; its registration ends with it, also if nobody waits any more.
struct Replies<'a, W: World> {
    visit: &'a Visit<W>,
    name: &'a Name,
    registration: RegistrationId,
}

impl<W: World> Drop for Replies<'_, W> {
    fn drop(&mut self) {
        let (name, registration) = (self.name, Some(self.registration));
        self.visit.node.hub.tell(&Command::Deregister { nonce: draw::<W>(), name, registration });
    }
}

/// A name for the inbox of one reply to that client.
pub(crate) fn reply_name<W: World>(from: &Name) -> Option<Name> {
    let suffix = format!(".replies-{:016x}", draw::<W>() as u64);
    let front: String = from.chars().take(limits::NAME_BYTES_MAX - suffix.len()).collect();
    Name::new(&format!("{front}{suffix}")).ok()
}

/// The headers of a request whose reply is to go there in that time.
pub(crate) fn request_headers(replies: &Name, deadline: Duration) -> Headers {
    let pair = |name: &str, value: String| (name.to_owned(), value);
    vec![
        pair(REPLY_TO, replies.to_string()),
        pair(CORRELATION_ID, ID.to_owned()),
        pair(DEADLINE_MS, deadline.as_millis().to_string()),
    ]
}

impl<W: World> Visit<W> {
    /// Sends a request with [`request_headers`], and waits for its reply; `None` if none came in time.
    pub async fn request(
        &self,
        from: &Name,
        replies: &Name,
        outgoing: &Outgoing,
        deadline: Duration,
    ) -> Result<Option<(Delivery, Bytes)>, Failure> {
        let until = W::now() + deadline;
        let (row, _) = self.enlist(replies, None).await?;
        let _inbox = Replies { visit: self, name: replies, registration: row.registration };
        self.share(from, outgoing).await?;
        let mut after = Position(0);
        loop {
            let wait = until.saturating_duration_since(W::now());
            let seen = self.look(replies, Look { after, wait, ..Look::default() }).await?;
            for (delivery, content) in seen.messages {
                after = delivery.position;
                let (headers, _) = decode_content(&content).unwrap_or_default();
                if headers.iter().any(|(name, value)| name == CORRELATION_ID && value == ID) {
                    return Ok(Some((delivery, content)));
                }
            }
            if wait.is_zero() {
                return Ok(None);
            }
        }
    }
}
