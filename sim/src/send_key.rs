//! What names a send in the journals and in its body.

use std::fmt;

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_64;

/// A send as its sender counts it: it is written into the body, so that whoever receives it knows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SendKey {
    /// Who sent it.
    pub sender: String,
    /// Which of the sender's send streams, over all its lives.
    pub stream: u64,
    /// The number in the stream, counted from 1.
    pub number: u64,
}

impl fmt::Display for SendKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.sender, self.stream, self.number)
    }
}

impl SendKey {
    /// From here on count streams of a single send that has no number of its sender's: whoever sends it without a stream
    /// does not know under which number it goes.
    pub const UNNUMBERED: u64 = 1_000_000_000;

    /// From here on count streams of sends to more than one client: see [`crate::history::What::Posted`].
    pub const SHARED: u64 = 2_000_000_000;

    /// Whether its sender gave it its number.
    pub fn is_numbered(&self) -> bool {
        self.stream < Self::UNNUMBERED || self.is_shared()
    }

    /// Whether it goes to more than one client.
    pub fn is_shared(&self) -> bool {
        self.stream >= Self::SHARED
    }

    /// A body that tells this send, about `bytes` long, and its digest.
    pub fn body(&self, bytes: usize) -> (Bytes, u64) {
        let mut body = format!("{} {} {} ", self.sender, self.stream, self.number).into_bytes();
        let mut filler = xxh3_64(&body);
        while body.len() < bytes {
            body.push(filler as u8);
            filler = filler.rotate_left(13).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(1);
        }
        let digest = xxh3_64(&body);
        (body.into(), digest)
    }

    /// Which send a body tells, and its digest. `None` if no client of ours made such a body.
    pub fn of_body(body: &[u8]) -> (Option<Self>, u64) {
        let mut words = body.splitn(4, |byte| *byte == b' ').map(|word| std::str::from_utf8(word).ok());
        let key = || {
            let sender = words.next()??.to_owned();
            let stream = words.next()??.parse().ok()?;
            let number = words.next()??.parse().ok()?;
            Some(Self { sender, stream, number })
        };
        let mut key = key;
        (key(), xxh3_64(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_tells_its_send_at_any_size() {
        let key = SendKey { sender: "client1".into(), stream: 3, number: 70 };
        for bytes in [0, 13, 14, 15, 300] {
            let (body, digest) = key.body(bytes);
            assert_eq!(SendKey::of_body(&body), (Some(key.clone()), digest));
            assert!(body.len() >= bytes);
        }
        assert_eq!(SendKey::of_body(b"client1 3").0, None);
        assert_eq!(SendKey::of_body(b"").0, None);
        assert_eq!(SendKey::of_body(&[0xff, b' ', b'1', b' ', b'1', b' ']).0, None);
    }
}
