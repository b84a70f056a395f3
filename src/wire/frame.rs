//! Frames: `length: u32 LE | kind: u8 | payload`, where `length` counts kind and payload.
//!
//! [`split`] takes whole frames out of a receive buffer without copying; [`put`] writes one.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// Bytes in front of a payload: the length and the kind.
pub const HEADER_BYTES: usize = 5;

/// One frame, sharing the buffer it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// What the payload is; each protocol has its own kinds.
    pub kind: u8,
    /// The payload.
    pub payload: Bytes,
}

/// A length field that no peer of ours would send.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFrame {
    /// Larger than this connection allows.
    #[error("a frame of {bytes} bytes is larger than the {max} allowed")]
    TooLarge {
        /// What the length field said.
        bytes: usize,
        /// The largest allowed.
        max: usize,
    },
    /// Not even a kind.
    #[error("a frame of no bytes")]
    Empty,
}

/// Takes the next whole frame off the front of `buffer`, or `None` if more bytes are needed. Reserves what is missing,
/// but never more than `max`.
///
/// # Errors
/// [`BadFrame`] as soon as the length field is there and out of bounds; the connection is of no use after that.
pub fn split(buffer: &mut BytesMut, max: usize) -> Result<Option<Frame>, BadFrame> {
    let Some(length) = buffer.first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*length) as usize;
    if length > max {
        return Err(BadFrame::TooLarge { bytes: length, max });
    }
    if length == 0 {
        return Err(BadFrame::Empty);
    }
    if buffer.len() < 4 + length {
        buffer.reserve(4 + length - buffer.len());
        return Ok(None);
    }
    buffer.advance(4);
    let mut payload = buffer.split_to(length).freeze();
    let kind = payload.get_u8();
    Ok(Some(Frame { kind, payload }))
}

/// Like [`split`], for bytes that are already whole (a batch, a log entry): `None` at the end.
///
/// # Errors
/// [`BadFrame::TooLarge`] if the last frame is cut off.
pub fn split_bytes(bytes: &mut Bytes) -> Result<Option<Frame>, BadFrame> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let have = bytes.len();
    let length = match bytes.first_chunk::<4>() {
        Some(length) => u32::from_le_bytes(*length) as usize,
        None => return Err(BadFrame::TooLarge { bytes: 4, max: have }),
    };
    if length == 0 {
        return Err(BadFrame::Empty);
    }
    if have < 4 + length {
        return Err(BadFrame::TooLarge { bytes: 4 + length, max: have });
    }
    bytes.advance(4);
    let mut payload = bytes.split_to(length);
    let kind = payload.get_u8();
    Ok(Some(Frame { kind, payload }))
}

/// Appends a frame whose payload is the postcard form of `header` with `body` behind it.
pub fn put<H: serde::Serialize + ?Sized>(buffer: &mut BytesMut, kind: u8, header: &H, body: &[u8]) {
    let start = buffer.len();
    buffer.put_u32_le(0);
    buffer.put_u8(kind);
    put_postcard(buffer, header);
    buffer.put_slice(body);
    let length = (buffer.len() - start - 4) as u32;
    buffer[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// Appends the postcard form of `value`.
pub fn put_postcard<T: serde::Serialize + ?Sized>(buffer: &mut BytesMut, value: &T) {
    struct Sink<'a>(&'a mut BytesMut);
    impl postcard::ser_flavors::Flavor for Sink<'_> {
        type Output = ();
        fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
            self.0.put_u8(byte);
            Ok(())
        }
        fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
            self.0.put_slice(bytes);
            Ok(())
        }
        fn finalize(self) -> postcard::Result<()> {
            Ok(())
        }
    }
    // Our own types have known lengths and the sink cannot run out: there is nothing that could fail.
    let written = postcard::serialize_with_flavor(value, Sink(buffer));
    assert!(written.is_ok(), "a type that postcard cannot encode: {written:?}");
}

/// Splits a payload into its postcard header and the raw rest.
///
/// # Errors
/// The text says what postcard did not like.
pub fn take<'a, H: serde::Deserialize<'a>>(payload: &'a [u8]) -> Result<(H, &'a [u8]), postcard::Error> {
    postcard::take_from_bytes(payload)
}
