//! What waits for one session's socket.

use std::sync::Arc;

use bytes::BytesMut;
use tokio::sync::Notify;

use crate::wire::client::{REPLY_KIND, Reply};
use crate::wire::{Number, RegistrationId, SendOutcome, StreamId, frame};

/// Bytes that may wait for one session's socket before its deliveries stop.
pub(super) const OUTBOX_HIGH: usize = 1 << 20;
/// Bytes that may wait for one session's socket before its commands are no longer read.
pub(super) const OUTBOX_STOP: usize = 4 << 20;
/// Receipts that one frame tells.
const RECEIPTS_PER_FRAME: usize = 1024;

/// One client's connection.
pub(super) struct Session {
    /// What is to be sent.
    pub out: BytesMut,
    receipts: Option<Receipts>,
    pub wake: Arc<Notify>,
    pub streams: Vec<StreamId>,
    pub registrations: Vec<RegistrationId>,
    /// Readers that wait for `out` to drain.
    pub starved: Vec<RegistrationId>,
    /// The connection ends when `out` is sent.
    pub ending: bool,
}

struct Receipts {
    stream: StreamId,
    first: Number,
    outcomes: Vec<SendOutcome>,
}

/// What waits for a session, for its writer.
pub(super) struct Outgoing {
    pub bytes: BytesMut,
    pub ending: bool,
}

impl Session {
    pub fn new(wake: Arc<Notify>) -> Self {
        Self {
            out: BytesMut::new(),
            receipts: None,
            wake,
            streams: Vec::new(),
            registrations: Vec::new(),
            starved: Vec::new(),
            ending: false,
        }
    }

    /// The receipt of a send. Those of numbers that follow each other share a frame.
    pub fn receipt(&mut self, stream: StreamId, number: Number, outcome: SendOutcome) {
        let follows = self.receipts.as_ref().is_some_and(|r| {
            r.stream == stream
                && r.first.0 + r.outcomes.len() as u64 == number.0
                && r.outcomes.len() < RECEIPTS_PER_FRAME
        });
        if !follows {
            self.flush_receipts();
        }
        let receipts = self.receipts.get_or_insert_with(|| Receipts { stream, first: number, outcomes: Vec::new() });
        receipts.outcomes.push(outcome);
    }

    /// Appends a reply, and a body behind its header.
    pub fn put(&mut self, reply: &Reply, body: &[u8]) {
        self.flush_receipts();
        frame::put(&mut self.out, REPLY_KIND, reply, body);
    }

    pub fn flush_receipts(&mut self) {
        if let Some(Receipts { stream, first, outcomes }) = self.receipts.take() {
            frame::put(&mut self.out, REPLY_KIND, &Reply::Receipts { stream, first, outcomes }, &[]);
        }
    }

    /// Remembers a reader whose deliveries wait until what is there was sent.
    pub fn starve(&mut self, registration: RegistrationId) {
        if !self.starved.contains(&registration) {
            self.starved.push(registration);
        }
    }
}
