//! hyper's view of a connection and of time.

use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use hyper::rt::{Read, ReadBufCursor, Write};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits;
use crate::world::World;

/// Bytes that are read at once.
const PIECE: usize = 8 << 10;
/// How hyper's own refusals of a head that it cannot read end: they have no body, which ours always have.
const NO_BODY: &[u8] = b"content-length: 0\r\n\r\n";

/// A connection as hyper sees it.
pub(super) struct Io<W> {
    /// What was read before hyper came.
    front: Bytes,
    reader: Box<dyn AsyncRead + Send + Sync + Unpin>,
    writer: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    piece: Box<[u8]>,
    /// A refusal of hyper's with a body, and of how many bytes it is made.
    refusal: Option<(Bytes, usize)>,
    /// Since when the other end takes nothing.
    stuck: Option<Pin<Box<tokio::time::Sleep>>>,
    world: PhantomData<fn() -> W>,
}

impl<W: World> Io<W> {
    pub fn new(
        front: Bytes,
        reader: Box<dyn AsyncRead + Send + Sync + Unpin>,
        writer: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    ) -> Self {
        let piece = vec![0; PIECE].into_boxed_slice();
        Self { front, reader, writer, piece, refusal: None, stuck: None, world: PhantomData }
    }

    /// Whoever does not read for too long is given up.
    fn poll_patience(&mut self, task: &mut Context<'_>) -> Poll<io::Error> {
        let stuck = self.stuck.get_or_insert_with(|| Box::pin(W::sleep(limits::HTTP_WRITE_TIMEOUT)));
        ready!(stuck.as_mut().poll(task));
        Poll::Ready(io::Error::new(io::ErrorKind::TimedOut, "the client does not read"))
    }

    fn poll_write_bytes(&mut self, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.writer).poll_write(task, bytes) {
            Poll::Pending => self.poll_patience(task).map(Err),
            ready => {
                self.stuck = None;
                ready
            }
        }
    }
}

impl<W: World> Read for Io<W> {
    fn poll_read(self: Pin<&mut Self>, task: &mut Context<'_>, mut buffer: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let room = buffer.remaining();
        if !this.front.is_empty() {
            let piece = this.front.split_to(room.min(this.front.len()));
            buffer.put_slice(&piece);
            return Poll::Ready(Ok(()));
        }
        let mut piece = ReadBuf::new(&mut this.piece[..room.min(PIECE)]);
        ready!(Pin::new(&mut this.reader).poll_read(task, &mut piece))?;
        buffer.put_slice(piece.filled());
        Poll::Ready(Ok(()))
    }
}

impl<W: World> Write for Io<W> {
    fn poll_write(self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.refusal.is_none() {
            this.refusal = with_body(bytes).map(|refusal| (refusal, bytes.len()));
        }
        let Some((mut refusal, made_of)) = this.refusal.take() else { return this.poll_write_bytes(task, bytes) };
        while refusal.has_remaining() {
            match this.poll_write_bytes(task, &refusal) {
                Poll::Ready(Ok(written)) => refusal.advance(written),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    this.refusal = Some((refusal, made_of));
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(made_of))
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.writer).poll_flush(task) {
            Poll::Pending => this.poll_patience(task).map(Err),
            ready => ready,
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().writer).poll_shutdown(task)
    }
}

/// The same bytes, if they end with a refusal of hyper's own, with a body that says what it is.
fn with_body(bytes: &[u8]) -> Option<Bytes> {
    let text = bytes.strip_suffix(NO_BODY)?;
    let begin = text.windows(10).rposition(|window| window == b"HTTP/1.1 4" || window == b"HTTP/1.0 4")?;
    let status: u16 = std::str::from_utf8(text.get(begin + 9..begin + 12)?).ok()?.parse().ok()?;
    let (message, detail) = match status {
        431 => {
            ("Request header fields too large", "the request's head is larger than it may be, or has too many headers")
        }
        414 => ("URI too long", "the request's target is longer than it may be"),
        _ => ("Invalid data", "this is no HTTP request"),
    };
    let mut body = serde_json::json!({ "message": message, "detail": detail }).to_string();
    body.push('\n');
    let rest = format!("content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    Some([text, rest.as_bytes()].concat().into())
}

/// The world's time.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Timer<W>(PhantomData<fn() -> W>);

struct Alarm(Pin<Box<tokio::time::Sleep>>);

impl Future for Alarm {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(task)
    }
}

impl hyper::rt::Sleep for Alarm {}

impl<W: World> hyper::rt::Timer for Timer<W> {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Alarm(Box::pin(W::sleep(duration))))
    }

    fn sleep_until(&self, deadline: std::time::Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Alarm(Box::pin(W::sleep_until(deadline.into()))))
    }

    fn now(&self) -> std::time::Instant {
        W::now().into_std()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_without_a_body_get_one_and_nothing_else_is_touched() {
        let refusal = b"HTTP/1.1 431 Request Header Fields Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
        let text = String::from_utf8(with_body(refusal).unwrap().to_vec()).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 431 ") && head.contains("connection: close"), "{head}");
        assert!(head.contains(&format!("content-length: {}", body.len())), "{head}");
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(body).unwrap()["message"],
            "Request header fields too large"
        );
        // Behind another answer.
        let both = [&b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"[..], refusal].concat();
        assert!(with_body(&both).unwrap().starts_with(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}HTTP/1.1 431"));
        for other in [
            "",
            "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
            "HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\n{}",
        ] {
            assert_eq!(with_body(other.as_bytes()), None, "{other}");
        }
    }
}
