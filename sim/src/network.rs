//! [`Network`] over turmoil's TCP. Addresses are `name:port`, where the name is a host's.
//!
//! A connection is known by `client:port>server:port` at both ends, and every piece carries its offset in its
//! direction, so that a trace's reader can tell which write became which read.
//!
//! What turmoil's TCP does not do: it never sends a lost segment again, so a connection that was cut by a partition may
//! stay silent for good. Whoever waits on one needs a deadline, as on a real network, only more often.

use std::fmt::{self, Debug};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as TaskContext, Poll, Waker};

use bytes::BytesMut;
use parking_lot::Mutex;
use rand::RngExt;
use restante::wire::peer::{self, Hello, Purpose};
use restante::wire::{PEER_MAGIC, frame};
use restante::world::{BoxFuture, Connection, Listener, Network};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use turmoil::net::{TcpListener, TcpStream};
use xxhash_rust::xxh3::xxh3_64;

use crate::context;
use crate::random::Stream;
use crate::trace::Event;

/// The network of the run that this thread is in.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimNetwork;

impl Network for SimNetwork {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let (_, port) = split(address)?;
            // A host listens on all its addresses: turmoil gives it only one.
            let listener = TcpListener::bind(("0.0.0.0", port)).await.map_err(|e| named(e, "listen on", address))?;
            let host = here();
            let address = format!("{host}:{}", listener.local_addr()?.port());
            trace(&host, &Event::new("net.listen", &address, &[]));
            Ok(Box::new(SimListener { listener, address, host }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async move {
            let (name, port) = split(address)?;
            let host = here();
            trace(&host, &Event::new("net.connect", address, &[]));
            match TcpStream::connect((name, port)).await {
                Ok(stream) => {
                    let label = format!("{host}:{}>{address}", stream.local_addr()?.port());
                    Ok(connection(stream, "net.connected", label, host, address.to_owned()))
                }
                Err(error) => {
                    trace(&host, &Event::new("net.refused", address, &[]));
                    Err(named(error, "connect to", address))
                }
            }
        })
    }
}

struct SimListener {
    listener: TcpListener,
    address: String,
    host: Arc<str>,
}

impl Listener for SimListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            let (stream, peer) = self.listener.accept().await?;
            let peer = name_of(peer);
            let label = format!("{peer}>{}", self.address);
            Ok(connection(stream, "net.accept", label, self.host.clone(), peer))
        })
    }

    fn address(&self) -> String {
        self.address.clone()
    }
}

fn connection(stream: TcpStream, how: &str, label: String, host: Arc<str>, peer: String) -> Connection {
    trace(&host, &Event::new(how, &label, &[]));
    let wire = Arc::new(Wire {
        label: label.into(),
        host,
        peer: peer.rsplit_once(':').map_or_else(|| peer.clone(), |(name, _)| name.to_owned()),
        state: Mutex::default(),
    });
    context::with(|run| run.keep_connection(&wire));
    let (reader, writer) = stream.into_split();
    let rot = if how == "net.accept" { Rot::Hello(BytesMut::new()) } else { Rot::Never };
    Connection {
        reader: Box::new(Reader {
            half: reader,
            rot,
            end: End { wire: wire.clone(), offset: 0, close: "net.close_read" },
        }),
        writer: Box::new(Writer { half: writer, end: End { wire, offset: 0, close: "net.close_write" } }),
        peer,
    }
}

/// One host's end of a connection, which can be reset from outside.
#[derive(Debug)]
pub(crate) struct Wire {
    label: Arc<str>,
    /// Whose end it is.
    pub(crate) host: Arc<str>,
    /// Who has the other one.
    pub(crate) peer: String,
    state: Mutex<WireState>,
}

#[derive(Debug, Default)]
struct WireState {
    is_reset: bool,
    /// Of whoever waits for reading and for writing.
    waiting: [Option<Waker>; 2],
}

impl Wire {
    /// Both halves of this end fail from now on.
    pub(crate) fn reset(&self) {
        let waiting = {
            let mut state = self.state.lock();
            state.is_reset = true;
            std::mem::take(&mut state.waiting)
        };
        trace(&self.host, &Event::new("net.cut", &self.label, &[]));
        waiting.into_iter().flatten().for_each(Waker::wake);
    }

    /// Fails if it was reset. Otherwise keeps the waker of a task that is about to wait on this half.
    fn check(&self, half: usize, task: &TaskContext<'_>) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.is_reset {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        match &mut state.waiting[half] {
            Some(waker) if waker.will_wake(task.waker()) => {}
            waker => *waker = Some(task.waker().clone()),
        }
        Ok(())
    }
}

/// One direction of a connection at one of its ends.
struct End {
    wire: Arc<Wire>,
    offset: u64,
    close: &'static str,
}

impl End {
    fn moved(&mut self, kind: &str, bytes: &[u8]) {
        let fields = [("offset", self.offset), ("bytes", bytes.len() as u64), ("digest", xxh3_64(bytes))];
        trace(&self.wire.host, &Event::new(kind, &self.wire.label, &fields));
        self.offset += bytes.len() as u64;
    }

    fn event(&self, kind: &str) {
        trace(&self.wire.host, &Event::new(kind, &self.wire.label, &[("offset", self.offset)]));
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.event(self.close);
    }
}

/// Whether a bit of what is read may change on the way: of a snapshot, while the plan has it so. TCP's own checksum is too
/// weak to count on.
enum Rot {
    /// What came so far, until it says what the connection is for.
    Hello(BytesMut),
    /// A snapshot comes.
    Snapshot,
    /// It is something else, or its bit has changed.
    Never,
}

impl Rot {
    /// Changes a bit of a piece that was read, or not. Says which.
    fn spoil(&mut self, piece: &mut [u8]) -> Option<(usize, u32)> {
        match self {
            Self::Never => None,
            Self::Hello(start) => {
                start.extend_from_slice(piece);
                let mut rest = BytesMut::from(start.strip_prefix(&PEER_MAGIC[..]).unwrap_or_default());
                match frame::split(&mut rest, 1 << 16) {
                    Ok(Some(hello)) if hello.kind == peer::HELLO => {
                        let purpose = frame::take::<Hello>(&hello.payload).map(|(hello, _)| hello.purpose);
                        *self = if purpose == Ok(Purpose::Snapshot) { Self::Snapshot } else { Self::Never };
                    }
                    Ok(None) if start.len() < 1 << 10 => {}
                    _ => *self = Self::Never,
                }
                None
            }
            Self::Snapshot => {
                let draw = |random: &mut Stream| {
                    let place = (random.random_range(0..piece.len()), random.random_range(0..8));
                    random.random_bool(0.5).then_some(place)
                };
                let (at, bit) = context::with(|run| run.draw_flip(draw)).flatten().flatten()?;
                piece[at] ^= 1 << bit;
                *self = Self::Never;
                Some((at, bit))
            }
        }
    }
}

struct Reader {
    half: OwnedReadHalf,
    rot: Rot,
    end: End,
}

impl AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, task: &mut TaskContext<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Err(error) = this.end.wire.check(0, task) {
            this.end.event("net.reset");
            return Poll::Ready(Err(error));
        }
        let before = buffer.filled().len();
        let polled = Pin::new(&mut this.half).poll_read(task, buffer);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Ok(())) if buffer.filled().len() > before => {
                let spoilt = this.rot.spoil(&mut buffer.filled_mut()[before..]);
                if let Some((at, bit)) = spoilt {
                    let fields = [("offset", this.end.offset + at as u64), ("bit", u64::from(bit))];
                    trace(&this.end.wire.host, &Event::new("net.flipped", &this.end.wire.label, &fields));
                }
                this.end.moved("net.read", &buffer.filled()[before..]);
            }
            Poll::Ready(Ok(())) => this.end.event("net.end"),
            Poll::Ready(Err(_)) => this.end.event("net.reset"),
        }
        polled
    }
}

struct Writer {
    half: OwnedWriteHalf,
    end: End,
}

impl AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, task: &mut TaskContext<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if let Err(error) = this.end.wire.check(1, task) {
            this.end.event("net.broken");
            return Poll::Ready(Err(error));
        }
        let polled = Pin::new(&mut this.half).poll_write(task, bytes);
        match &polled {
            Poll::Pending => {}
            Poll::Ready(Ok(written)) => {
                let bytes = &bytes[..*written];
                context::with(|run| run.wrote(&this.end.wire.host, &this.end.wire.label, bytes));
                this.end.moved("net.write", bytes);
            }
            Poll::Ready(Err(_)) => this.end.event("net.broken"),
        }
        polled
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().half).poll_flush(task)
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.end.event("net.shutdown");
        Pin::new(&mut this.half).poll_shutdown(task)
    }
}

impl Debug for SimListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimListener").field("address", &self.address).finish_non_exhaustive()
    }
}

fn here() -> Arc<str> {
    Arc::from(&*context::expect(context::Context::current_name))
}

fn trace(host: &str, event: &Event<'_>) {
    context::with(|run| run.trace_as(host, event));
}

fn name_of(peer: SocketAddr) -> String {
    let name = turmoil::reverse_lookup(peer.ip()).unwrap_or_else(|| peer.ip().to_string());
    format!("{name}:{}", peer.port())
}

fn split(address: &str) -> io::Result<(&str, u16)> {
    let parts = address.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse().ok()?)));
    parts.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, format!("{address:?} is no host:port")))
}

fn named(error: io::Error, verb: &str, address: &str) -> io::Error {
    io::Error::new(error.kind(), format!("cannot {verb} {address}: {error}"))
}
