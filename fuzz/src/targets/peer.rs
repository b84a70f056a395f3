//! Another server's connection. Raft's own messages are read by `restante::raft` alone, through their outline.

use bytes::{Bytes, BytesMut};
use restante::limits;
use restante::raft::{CheckpointMeta, Membership, Vote, outline};
use restante::wire::batch::{decode_entry, encode_entry, take_batch};
use restante::wire::frame;
use restante::wire::peer::{self, Bootstrap, BootstrapReply, Hello, HelloReply, Question, QuestionAnswer};

use super::wire::comes_back;

/// Takes `data` for what arrives on a connection, and for a log entry.
pub fn peer(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(frame)) = frame::split(&mut buffer, limits::PEER_FRAME_BYTES_MAX) {
        let _ = outline(&frame);
        match frame.kind {
            peer::HELLO => comes_back::<Hello>(&frame.payload),
            peer::HELLO_REPLY => comes_back::<HelloReply>(&frame.payload),
            peer::BOOTSTRAP => comes_back::<Bootstrap>(&frame.payload),
            peer::BOOTSTRAP_REPLY => comes_back::<BootstrapReply>(&frame.payload),
            peer::QUESTION => comes_back::<Question>(&frame.payload),
            peer::ANSWER => comes_back::<QuestionAnswer>(&frame.payload),
            peer::FORWARD => batch(frame.payload),
            peer::VOTE | peer::PRE_VOTE | peer::VOTE_REPLY => comes_back::<Vote>(&frame.payload),
            peer::APPEND => comes_back::<Membership>(&frame.payload),
            peer::SNAPSHOT_BEGIN => comes_back::<CheckpointMeta>(&frame.payload),
            _ => {}
        }
    }
    entry(&Bytes::copy_from_slice(data));
}

fn batch(mut payload: Bytes) {
    let Ok(batch) = take_batch(&mut payload) else { return };
    assert_eq!(batch.frames.len(), batch.header.bytes as usize);
}

fn entry(bytes: &Bytes) {
    let Ok((header, batches)) = decode_entry(bytes) else { return };
    let again = encode_entry(header.time, &batches);
    assert_eq!(decode_entry(&again).expect("what was encoded decodes"), (header, batches));
}
