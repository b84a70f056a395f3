//! Limits, and how often each was hit.

use prometheus_client::metrics::counter::Counter;

/// A limit that a server may meet. Each has a default in [`crate::limits`] or a quota, and a typed error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// Connections: one was refused.
    Connections,
    /// Commands that are held for clients: nothing more was read from one of them until there was room.
    Pending,
    /// What waits for a client that does not read: its deliveries stopped until it did.
    Outbox,
    /// Messages or bytes in an inbox: a send was refused.
    Inbox,
    /// Unconfirmed sends of a stream: a send was not taken.
    StreamWindow,
    /// Open streams of a client: one was not opened.
    Streams,
    /// Registered clients: one was refused.
    Clients,
    /// Servers of the cluster: one was not added.
    Servers,
    /// Backups at a time: one was refused.
    Backups,
    /// Free space on the disk: a send was refused.
    Disk,
    /// Bytes of HTTP bodies that are held: a body was refused.
    HttpBodies,
    /// Bytes of one HTTP body, or of the message in it.
    HttpBody,
    /// Streams that are kept for HTTP senders, or sends of theirs on their way: one had to wait.
    HttpStreams,
    /// Idempotency keys of one sender: a keyed send was refused.
    Keys,
    /// Feeds (server-sent events, WebSockets) that are open: one was refused.
    Feeds,
    /// A frame or a message larger than allowed, or malformed: its connection was ended.
    Frames,
    /// Inboxes that one message, or one log entry, goes to: a send was refused, or had to wait.
    Fanout,
    /// Channels: one was not created.
    Channels,
    /// Channels and patterns of one client: it could not join or subscribe.
    Enlistments,
    /// Messages of one sender that wait for their time: a send was refused.
    Scheduled,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 20] = [
        Self::Connections,
        Self::Pending,
        Self::Outbox,
        Self::Inbox,
        Self::StreamWindow,
        Self::Streams,
        Self::Clients,
        Self::Servers,
        Self::Backups,
        Self::Disk,
        Self::HttpBodies,
        Self::HttpBody,
        Self::HttpStreams,
        Self::Keys,
        Self::Feeds,
        Self::Frames,
        Self::Fanout,
        Self::Channels,
        Self::Enlistments,
        Self::Scheduled,
    ];

    /// Its name, as in `limit="…"`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Pending => "pending_bytes",
            Self::Outbox => "outbox_bytes",
            Self::Inbox => "inbox",
            Self::StreamWindow => "stream_window",
            Self::Streams => "streams_per_client",
            Self::Clients => "clients",
            Self::Servers => "servers",
            Self::Backups => "backups",
            Self::Disk => "disk_reserve",
            Self::HttpBodies => "http_bodies_bytes",
            Self::HttpBody => "http_body_bytes",
            Self::HttpStreams => "http_streams",
            Self::Keys => "idempotency_keys",
            Self::Feeds => "feeds",
            Self::Frames => "frames",
            Self::Fanout => "fanout",
            Self::Channels => "channels",
            Self::Enlistments => "enlistments",
            Self::Scheduled => "scheduled",
        }
    }
}

/// How often each limit was hit.
#[derive(Debug, Default)]
pub struct Limits([Counter; Limit::ALL.len()]);

impl Limits {
    /// A limit was hit.
    pub fn hit(&self, limit: Limit) {
        self.0[limit as usize].inc();
    }

    /// A limit was hit so often.
    pub fn hit_by(&self, limit: Limit, times: u64) {
        self.0[limit as usize].inc_by(times);
    }

    /// How often it was hit.
    pub fn hits(&self, limit: Limit) -> u64 {
        self.0[limit as usize].get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_limit_has_a_counter_and_a_name_of_its_own() {
        for (place, limit) in Limit::ALL.into_iter().enumerate() {
            assert_eq!(limit as usize, place);
            assert!(Limit::ALL[..place].iter().all(|other| other.name() != limit.name()));
        }
    }
}
