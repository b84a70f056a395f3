//! What a message of the benchmark carries: who sent it, which it is, when it was due, and bytes that do not compress.

use bytes::Bytes;

/// Bytes of what tells a message from others; a body has no fewer.
pub const HEAD_BYTES: usize = 16;
/// At so many different places of the filler a body may begin.
const OFFSETS: usize = 64 << 10;

/// A message's id: its sender, and which of that sender's messages to its recipient it is, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id {
    /// The sender's number.
    pub sender: u16,
    /// Counts the messages of this sender to this recipient.
    pub sequence: u64,
}

impl Id {
    fn packed(self) -> u64 {
        u64::from(self.sender) << 48 | self.sequence & ((1 << 48) - 1)
    }

    fn unpacked(packed: u64) -> Self {
        Self { sender: (packed >> 48) as u16, sequence: packed & ((1 << 48) - 1) }
    }
}

/// Makes bodies, and tells whether one is as it was made.
#[derive(Debug)]
pub struct Content {
    filler: Vec<u8>,
    body_bytes: usize,
}

impl Content {
    /// Bodies of so many bytes; never fewer than [`HEAD_BYTES`].
    pub fn new(body_bytes: usize) -> Self {
        let body_bytes = body_bytes.max(HEAD_BYTES);
        let mut filler = Vec::with_capacity(body_bytes + OFFSETS + 8);
        let mut x = 0x9E37_79B9_7F4A_7C15_u64;
        while filler.len() < body_bytes + OFFSETS {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            filler.extend_from_slice(&x.to_le_bytes());
        }
        Self { filler, body_bytes }
    }

    fn rest(&self, id: Id) -> &[u8] {
        let at = (id.packed().wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) as usize % OFFSETS;
        &self.filler[at..at + self.body_bytes - HEAD_BYTES]
    }

    /// The body of a message that was due at `due`, in nanoseconds of the benchmark's clock.
    pub fn body(&self, id: Id, due: u64) -> Bytes {
        let mut body = Vec::with_capacity(self.body_bytes);
        body.extend_from_slice(&id.packed().to_le_bytes());
        body.extend_from_slice(&due.to_le_bytes());
        body.extend_from_slice(self.rest(id));
        body.into()
    }

    /// Which message a body is, and when it was due; `None` if nobody here made it.
    pub fn read(&self, body: &[u8]) -> Option<(Id, u64)> {
        let (packed, rest) = body.split_first_chunk::<8>()?;
        let (due, rest) = rest.split_first_chunk::<8>()?;
        let id = Id::unpacked(u64::from_le_bytes(*packed));
        (body.len() == self.body_bytes && rest == self.rest(id)).then(|| (id, u64::from_le_bytes(*due)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_known_again_and_an_altered_one_is_not() {
        for bytes in [0, 16, 17, 256, 100_000] {
            let content = Content::new(bytes);
            let id = Id { sender: 63, sequence: 1 << 40 };
            let body = content.body(id, 77);
            assert_eq!(body.len(), bytes.max(HEAD_BYTES));
            assert_eq!(content.read(&body), Some((id, 77)));
            assert_eq!(content.read(&body[1..]), None);
            if bytes > HEAD_BYTES {
                let mut altered = body.to_vec();
                altered[bytes - 1] ^= 1;
                assert_eq!(content.read(&altered), None);
            }
        }
        assert_eq!(Content::new(256).read(b""), None);
    }
}
