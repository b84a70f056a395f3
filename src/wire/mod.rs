//! What travels and what is kept: pure encoding and decoding, no I/O.
//!
//! * [`types`]: the vocabulary (names, ids, positions, refusals) that every other part speaks.
//! * [`frame`]: `length | kind | payload`, with sizes checked before anything is allocated.
//! * [`command`]: what changes the replicated state. A client's command frame is, byte for byte, what is put into a
//!   batch, a log entry, the peers' wire and the write-ahead log: nobody re-encodes a body.
//! * [`batch`]: commands of one home server on their way to the leader, and the log entry that several of them form.
//! * [`client`]: the other frames between a client and a server.
//! * [`sharing`]: who a message goes to besides one client, channels, and what is told of what was delivered.

pub mod batch;
pub mod client;
pub mod command;
pub mod frame;
pub mod peer;
pub mod sharing;
mod status;
pub mod types;

pub use types::*;

/// The first bytes of a client's connection, which tell the protocols on one port apart.
pub const CLIENT_MAGIC: [u8; 4] = *b"RSTC";
/// The first bytes of another server's connection.
pub const PEER_MAGIC: [u8; 4] = *b"RSTP";
/// Version of the client protocol. A server names the versions it speaks in its refusal of another one.
pub const CLIENT_VERSION: u16 = 1;
/// Version of the protocol between servers.
pub const PEER_VERSION: u16 = 1;
