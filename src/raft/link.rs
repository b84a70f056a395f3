//! One connection, as frames.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::limits;
use crate::wire::frame::{self, Frame};
use crate::wire::{self, Name, peer};
use crate::world::{Connection, Network};

/// The receiving half. [`FrameReader::next`] may be dropped half-way without losing a byte.
pub struct FrameReader {
    reader: Box<dyn AsyncRead + Send + Sync + Unpin>,
    buffer: BytesMut,
    max: usize,
}

impl FrameReader {
    /// Frames of at most `max` bytes out of `reader`.
    pub fn new(reader: Box<dyn AsyncRead + Send + Sync + Unpin>, max: usize) -> Self {
        Self { reader, buffer: BytesMut::with_capacity(16 << 10), max }
    }

    /// A frame that is here already.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] for a length that is out of bounds.
    pub fn buffered(&mut self) -> io::Result<Option<Frame>> {
        frame::split(&mut self.buffer, self.max).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
    }

    /// The next frame; `None` when the other end closed between frames.
    ///
    /// # Errors
    /// The connection's; [`io::ErrorKind::UnexpectedEof`] if it ends within a frame.
    pub async fn next(&mut self) -> io::Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.buffered()? {
                return Ok(Some(frame));
            }
            if self.buffer.capacity() - self.buffer.len() < 4 << 10 {
                self.buffer.reserve(64 << 10);
            }
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return if self.buffer.is_empty() { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
            }
        }
    }

    /// The next `N` bytes, outside any frame.
    ///
    /// # Errors
    /// The connection's.
    pub async fn magic<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        while self.buffer.len() < N {
            if self.reader.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let mut magic = [0; N];
        magic.copy_from_slice(&self.buffer.split_to(N));
        Ok(magic)
    }

    /// The reader, and what it brought that is not in any frame yet.
    pub fn into_parts(self) -> (Box<dyn AsyncRead + Send + Sync + Unpin>, BytesMut) {
        (self.reader, self.buffer)
    }

    /// Allows frames of another size from now on.
    pub fn set_max(&mut self, max: usize) {
        self.max = max;
    }
}

/// The sending half.
pub struct FrameWriter(pub Box<dyn AsyncWrite + Send + Sync + Unpin>);

impl FrameWriter {
    /// Sends all of `buffer` and empties it.
    ///
    /// # Errors
    /// The connection's.
    pub async fn send(&mut self, buffer: &mut BytesMut) -> io::Result<()> {
        self.0.write_all(buffer).await?;
        buffer.clear();
        self.0.flush().await
    }

    /// Sends one frame.
    ///
    /// # Errors
    /// The connection's.
    pub async fn put<H: serde::Serialize>(&mut self, kind: u8, header: &H) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        frame::put(&mut buffer, kind, header, &[]);
        self.send(&mut buffer).await
    }
}

/// A connection to another server, past its hello.
pub struct Link {
    /// The receiving half.
    pub reader: FrameReader,
    /// The sending half.
    pub writer: FrameWriter,
}

/// Why there is no [`Link`].
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The other server refused.
    #[error("{server} refuses: {refusal}")]
    Refused {
        /// Who refused.
        server: Name,
        /// Why.
        refusal: peer::PeerRefusal,
    },
    /// The other end speaks no protocol of ours.
    #[error("{0}")]
    Protocol(String),
}

impl Link {
    /// Opens a connection to `server` at `address` and says `hello`. The caller sets the deadline.
    ///
    /// # Errors
    /// [`LinkError`].
    pub async fn open(
        network: &dyn Network,
        server: &Name,
        address: &str,
        hello: &peer::Hello,
    ) -> Result<Self, LinkError> {
        let Connection { reader, writer, .. } = network.connect(address).await?;
        let mut link =
            Self { reader: FrameReader::new(reader, limits::PEER_FRAME_BYTES_MAX), writer: FrameWriter(writer) };
        let mut buffer = BytesMut::from(&wire::PEER_MAGIC[..]);
        frame::put(&mut buffer, peer::HELLO, hello, &[]);
        link.writer.send(&mut buffer).await?;
        match link.reader.next().await? {
            Some(Frame { kind: peer::HELLO_REPLY, payload }) => match take(&payload)? {
                peer::HelloReply::Welcome => Ok(link),
                peer::HelloReply::Refused(refusal) => Err(LinkError::Refused { server: server.clone(), refusal }),
            },
            Some(other) => {
                Err(LinkError::Protocol(format!("{server} answered a hello with a frame of kind {}", other.kind)))
            }
            None => Err(LinkError::Io(io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// Sends one frame and waits for the answer.
    ///
    /// # Errors
    /// The connection's; [`io::ErrorKind::ConnectionAborted`] with a text if the other server cannot serve it now.
    pub async fn ask<Q: serde::Serialize, A: serde::de::DeserializeOwned>(
        &mut self,
        kind: u8,
        question: &Q,
        answer_kind: u8,
    ) -> io::Result<A> {
        self.writer.put(kind, question).await?;
        self.answer(answer_kind).await
    }

    /// Waits for an answer of `kind`.
    ///
    /// # Errors
    /// As [`Link::ask`].
    pub async fn answer<A: serde::de::DeserializeOwned>(&mut self, kind: u8) -> io::Result<A> {
        match self.reader.next().await? {
            Some(frame) if frame.kind == kind => take(&frame.payload),
            Some(frame) if frame.kind == peer::UNAVAILABLE => {
                let text: String = take(&frame.payload)?;
                Err(io::Error::new(io::ErrorKind::ConnectionAborted, text))
            }
            Some(frame) => {
                Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of kind {} is not {kind}", frame.kind)))
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Decodes a payload that has no body.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`].
pub fn take<T: serde::de::DeserializeOwned>(payload: &[u8]) -> io::Result<T> {
    frame::take::<T>(payload).map(|(value, _)| value).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}
