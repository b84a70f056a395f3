//! Every limit in one place, with the relations between them checked at compile time.
//!
//! Two kinds: **wire limits** are constants, since both ends of a connection must agree on them before they have
//! said a word; **quotas** ([`crate::wire::Quotas`]) are part of the replicated state, since every server must
//! come to the same answer when it applies a command. What one server alone decides (how many connections, how much
//! memory) is a setting of that server ([`crate::server::Settings`]) with its default here.

use std::time::Duration;

/// Longest name of a client or a server, in bytes. Names are `A-Za-z0-9._-`.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest `host:port` that is accepted anywhere, in bytes.
pub const ADDRESS_BYTES_MAX: usize = 255;
/// Largest body of one message, in bytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Largest headers of one message, encoded, in bytes.
pub const HEADERS_BYTES_MAX: usize = 16 << 10;
/// Headers and body together, with room for their lengths.
pub const CONTENT_BYTES_MAX: usize = BODY_BYTES_MAX + HEADERS_BYTES_MAX + 16;
/// Largest command apart from its content (names, numbers, ranges), in bytes.
pub const COMMAND_HEADER_BYTES_MAX: usize = 8 << 10;
/// Largest frame on a client's connection, its length field not counted, in bytes. Checked before anything is
/// allocated.
pub const CLIENT_FRAME_BYTES_MAX: usize = CONTENT_BYTES_MAX + COMMAND_HEADER_BYTES_MAX;
/// Commands that one forwarded batch may hold. Ids of things are made of a log index and the command's place in its
/// entry, so this bounds the ordinal ([`crate::wire::Id`]).
pub const BATCH_COMMANDS_MAX: usize = 4096;
/// Bytes of commands that one forwarded batch may hold; a single larger command travels alone.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Commands that one log entry may hold, over all the batches in it.
pub const ENTRY_COMMANDS_MAX: usize = 16 << 10;
/// Bytes of one log entry: batches are added while they fit.
pub const ENTRY_BYTES_MAX: usize = 4 << 20;
/// Largest frame between servers: the entries of one append plus its header, or a snapshot's chunk.
pub const PEER_FRAME_BYTES_MAX: usize = 16 << 20;
/// Bytes of a snapshot sent in one chunk.
pub const SNAPSHOT_CHUNK_BYTES: usize = 1 << 20;
/// Bytes of records in one block of a backup, about: one large record may be more.
pub const BACKUP_CHUNK_BYTES: usize = 256 << 10;
/// Bytes of a backup in one frame.
pub const BACKUP_PART_BYTES: usize = 512 << 10;
/// Acknowledged ranges that one acknowledgement may name above its cumulative position.
pub const ACKNOWLEDGE_RANGES_MAX: usize = 128;
/// Clients that one send may name as its recipients.
pub const RECIPIENTS_MAX: usize = 64;
/// Inboxes that one message may go to: those of a channel, or all of them.
pub const FANOUT_MAX: usize = 16 << 10;
/// Inboxes that the messages of one log entry may go to, apart from those to a single client. What is beyond is to be sent
/// again.
pub const FANOUT_ENTRY_MAX: usize = 16 * FANOUT_MAX;
/// Channels that one shard may have.
pub const CHANNELS_MAX: u64 = 65_536;
/// Channels that one client may have joined, and patterns that it may have subscribed to.
pub const ENLISTMENTS_MAX: usize = 1024;
/// Messages of one sender that may wait for the time at which they are to be delivered.
pub const SCHEDULED_MAX: u32 = 16_384;
/// Acknowledged messages that an inbox may keep.
pub const KEPT_MESSAGES_MAX: u32 = 100_000;
/// Servers that may belong to one cluster, and that a client remembers.
pub const SERVERS_MAX: usize = 64;

/// Messages that may wait in one inbox, by default.
pub const INBOX_MESSAGES_DEFAULT: u64 = 1_000_000;
/// Bytes that may wait in one inbox, by default.
pub const INBOX_BYTES_DEFAULT: u64 = 1 << 30;
/// Open send streams of one client, by default.
pub const STREAMS_PER_CLIENT_DEFAULT: u32 = 1024;
/// Outcomes kept for one stream until the client confirms them, by default: the most sends that may be in flight.
pub const STREAM_WINDOW_DEFAULT: u32 = 4096;
/// Registered clients in one shard, by default.
pub const CLIENTS_DEFAULT: u64 = 10_000_000;
/// A stream that was silent for this long is closed, in milliseconds of cluster time, by default.
pub const STREAM_IDLE_MS_DEFAULT: u64 = 60 * 60 * 1000;
/// Unacknowledged deliveries that a reader may hold, at most.
pub const READER_WINDOW_MAX: u32 = 65_536;
/// Unacknowledged deliveries that a reader asks for, by default.
pub const READER_WINDOW_DEFAULT: u32 = 1024;

/// Largest head of an HTTP request (request line and headers), in bytes.
pub const HTTP_HEAD_BYTES_MAX: usize = 16 << 10;
/// Largest body of an HTTP request, in bytes: a message of the largest size, as text with some of it escaped, or as base64.
pub const HTTP_BODY_BYTES_MAX: usize = 2 << 20;
/// Bytes of HTTP bodies that one server holds until they are answered, over all connections.
pub const HTTP_BODIES_BYTES_MAX: usize = 64 << 20;
/// Messages in one answer about an inbox.
pub const HTTP_INBOX_MESSAGES_MAX: usize = 1000;
/// Bytes of bodies in one answer about an inbox; a larger message travels alone.
pub const HTTP_INBOX_BYTES_MAX: usize = 1 << 20;
/// Longest that a request may wait for an inbox to fill.
pub const HTTP_WAIT_MAX: Duration = Duration::from_secs(60);
/// Longest time for which a question about presence waits for something to change.
pub const PRESENCE_WAIT_MAX: Duration = Duration::from_secs(30);
/// Changes of presence that a server remembers.
pub const PRESENCE_EVENTS_MAX: usize = 8192;
/// How long the head of an HTTP request may take, and how long a connection may be idle before it.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// How long the body of an HTTP request may take.
pub const HTTP_BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long an answer may wait for a client that does not read.
pub const HTTP_WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Streams that one server keeps open for HTTP senders that have none of their own.
pub const HTTP_STREAMS_MAX: usize = 1024;
/// Feeds (server-sent events and WebSockets) that one server keeps open at a time.
pub const HTTP_FEEDS_MAX: usize = 2048;
/// Messages in one request of `/v1/messages/batch`.
pub const HTTP_BATCH_MAX: usize = 1000;
/// Longest `Idempotency-Key`, in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;
/// Idempotency keys that one server remembers the streams of, over all senders.
pub const IDEMPOTENCY_KEYS_MAX: usize = 65_536;
/// An idempotency key holds for at least so long, whatever else comes.
pub const IDEMPOTENCY_WINDOW_MIN: Duration = Duration::from_secs(5 * 60);
/// Sends on one of these that may be on their way.
pub const HTTP_STREAM_WINDOW: u64 = 256;

/// Connections one server accepts, by default.
pub const CONNECTIONS_DEFAULT: usize = 10_000;
/// Bytes of commands that one server holds for its clients and has not yet seen applied, by default.
pub const PENDING_BYTES_DEFAULT: usize = 64 << 20;
/// Bytes of bodies that one server keeps in memory, by default; beyond it they are read back from the checkpoint.
pub const BODY_MEMORY_BYTES_DEFAULT: u64 = 1 << 30;
/// Bytes of log after which the state is checkpointed and the log is cleaned, by default.
pub const CHECKPOINT_LOG_BYTES_DEFAULT: u64 = 64 << 20;
/// Log entries that stay when the log is cleaned, though the checkpoint has what came of them, by default.
pub const LOG_ENTRIES_KEPT_DEFAULT: u64 = 512;
/// Size of one log segment, in bytes, by default.
pub const SEGMENT_BYTES_DEFAULT: u64 = 16 << 20;
/// Bytes of recent log entries that one server keeps in memory for its followers, by default.
pub const LOG_CACHE_BYTES_DEFAULT: u64 = 64 << 20;
/// Free space below which a server refuses new sends, in bytes, by default.
pub const DISK_RESERVE_BYTES_DEFAULT: u64 = 256 << 20;
/// How long a disk may do nothing, although something is to be written, before it counts as hanging, by default.
pub const DISK_PATIENCE_DEFAULT: Duration = Duration::from_secs(1);
/// Backups that one server makes at a time, by default.
pub const BACKUPS_DEFAULT: usize = 2;
/// How long a backup waits for its client to ask for more.
pub const BACKUP_IDLE: Duration = Duration::from_secs(60);
/// While a backup is read, the checkpoint keeps what is in it: by so many bytes, or by its own size if that is more, the
/// checkpoint's file may grow before a backup that is too slow is ended.
pub const BACKUP_GROWTH_BYTES: u64 = 1 << 30;
/// Time within which everything on the disk is read and verified, by default.
pub const SCRUB_PERIOD_DEFAULT: Duration = Duration::from_secs(24 * 60 * 60);

const _: () = {
    assert!(CLIENT_FRAME_BYTES_MAX + 4096 < ENTRY_BYTES_MAX, "the largest send must fit an entry");
    assert!(BATCH_BYTES_MAX < ENTRY_BYTES_MAX, "a full batch must fit an entry");
    assert!(ENTRY_BYTES_MAX * 2 < PEER_FRAME_BYTES_MAX, "an append must carry at least one full entry");
    assert!(SNAPSHOT_CHUNK_BYTES * 2 < PEER_FRAME_BYTES_MAX, "a chunk must fit a frame");
    assert!(BACKUP_PART_BYTES + 64 < CLIENT_FRAME_BYTES_MAX, "a part of a backup must fit a frame");
    assert!(BATCH_COMMANDS_MAX <= ENTRY_COMMANDS_MAX && ENTRY_COMMANDS_MAX < 1 << 16, "ordinals are 16 bits");
    assert!(READER_WINDOW_DEFAULT <= READER_WINDOW_MAX);
    assert!(BODY_BYTES_MAX * 4 / 3 + 4096 < HTTP_BODY_BYTES_MAX, "the largest body fits a request as base64");
    assert!(HTTP_BODY_BYTES_MAX * 8 <= HTTP_BODIES_BYTES_MAX, "several bodies may arrive at once");
    assert!(HTTP_HEAD_BYTES_MAX >= 8192, "hyper's buffers are no smaller");
    assert!((ENTRY_BYTES_MAX as u64) * 4 <= SEGMENT_BYTES_DEFAULT, "a segment holds several entries");
    assert!(SEGMENT_BYTES_DEFAULT * 2 <= CHECKPOINT_LOG_BYTES_DEFAULT, "cleaning frees whole segments");
    assert!(RECIPIENTS_MAX <= u64::BITS as usize, "a bit each says whom a send did not reach");
    assert!(RECIPIENTS_MAX * (NAME_BYTES_MAX + 1) + 256 < COMMAND_HEADER_BYTES_MAX, "the longest list of them fits");
    assert!(FANOUT_MAX < FANOUT_ENTRY_MAX && FANOUT_MAX < 1 << 28, "an outcome has 28 bits for how many it reached");
    assert!(ACKNOWLEDGE_RANGES_MAX * 20 + 256 < COMMAND_HEADER_BYTES_MAX, "the largest acknowledgement fits");
};
