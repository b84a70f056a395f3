//! The replicated state.

use bytes::Bytes;

/// One change of the checkpoint, in terms of its keys and values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The value of `key` is `head` with `content` behind it.
    Put {
        /// The key.
        key: Vec<u8>,
        /// The value's beginning.
        head: Vec<u8>,
        /// The rest of the value, shared with whoever holds it in memory. May be empty.
        content: Bytes,
    },
    /// `key` is gone.
    Remove {
        /// The key.
        key: Vec<u8>,
    },
    /// All keys from `from` up to, but not including, `to` are gone.
    RemoveRange {
        /// The first key.
        from: Vec<u8>,
        /// The key behind the last.
        to: Vec<u8>,
    },
}
