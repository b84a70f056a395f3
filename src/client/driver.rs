//! The task that owns the connection: it carries frames between the socket and the session.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use openraft_rt::watch::WatchSender as _;
use tokio::io::{AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::session::Output;
use super::shared::{Notice, Shared};
use crate::limits;
use crate::wire::ServerAddress;
use crate::wire::frame;
use crate::world::{BoxFuture, Connection, Event, Host, WatchSender, World};

/// Room for one read. Bodies are handed out as slices of it.
const READ_BYTES: usize = 128 << 10;
/// With less room than this left, a new buffer is made rather than many small reads.
const READ_BYTES_MIN: usize = 16 << 10;
/// How long the last frames may take to leave when the client closes.
const FAREWELL: Duration = Duration::from_millis(200);

/// Where the bytes come from and go to.
struct Driver {
    shared: Arc<Shared>,
    host: Host,
    connecting: Option<BoxFuture<'static, io::Result<Connection>>>,
    connection: Option<Connection>,
    inbound: BytesMut,
    outbound: BytesMut,
    server: WatchSender<Option<ServerAddress>>,
}

/// What the driver woke for.
#[derive(Default)]
struct Progress {
    read: bool,
    wrote: bool,
    connected: Option<io::Result<Connection>>,
    lost: Option<String>,
    asked: bool,
    tick: bool,
}

/// Runs a client until it ends.
pub(super) async fn drive<W: World>(shared: Arc<Shared>, host: Host, server: WatchSender<Option<ServerAddress>>) {
    let mut driver = Driver {
        shared,
        host,
        connecting: None,
        connection: None,
        inbound: BytesMut::new(),
        outbound: BytesMut::new(),
        server,
    };
    let mut sleep = std::pin::pin!(W::sleep_until(W::now()));
    loop {
        if !driver.act::<W>() {
            return driver.farewell::<W>().await;
        }
        let next = driver.fill();
        if let Some(next) = next {
            let next = driver.shared.instant(next);
            // A timer that fires too early costs one look; setting it anew for each frame would cost more.
            if sleep.is_elapsed() || next < sleep.deadline() {
                sleep.as_mut().reset(next);
            }
        }
        let progress = driver.wait(sleep.as_mut(), next.is_some()).await;
        driver.report(progress);
    }
}

impl Driver {
    /// Carries out what the session wants; `false` if it is over.
    fn act<W: World>(&mut self) -> bool {
        loop {
            let (actions, notices) = self.shared.take_actions();
            for notice in notices {
                W::observe(|| event(notice));
            }
            if actions.is_empty() {
                return true;
            }
            for action in actions {
                match action {
                    Output::Connect { address } => {
                        let network = Arc::clone(&self.host.network);
                        self.connecting = Some(Box::pin(async move { network.connect(&address).await }));
                    }
                    Output::Disconnect => self.disconnect(),
                    Output::Attached(server) => {
                        W::observe(|| moved(server.as_ref()));
                        // Nobody may be looking.
                        let _ = self.server.send(server);
                    }
                    Output::Finish => return false,
                    _ => unreachable!("the rest is settled where it is shared"),
                }
            }
        }
    }

    fn disconnect(&mut self) {
        self.connecting = None;
        self.connection = None;
        self.inbound = BytesMut::new();
        self.outbound.clear();
    }

    /// Takes what is to be sent, once what was taken before is written; says when the session wants to be ticked.
    fn fill(&mut self) -> Option<Duration> {
        let Self { shared, outbound, connection, .. } = self;
        shared.with(|state, now| {
            if outbound.is_empty() && connection.is_some() {
                outbound.clear();
                state.session.transmit(now, outbound);
            }
            state.session.next_tick()
        })
    }

    /// Reads, writes and waits until there is something to do. Neither direction can starve the other.
    async fn wait(&mut self, mut sleep: Pin<&mut tokio::time::Sleep>, timed: bool) -> Progress {
        let Self { shared, connecting, connection, inbound, outbound, .. } = self;
        poll_fn(|context| {
            let mut progress = Progress::default();
            if let Some(future) = connecting
                && let Poll::Ready(result) = future.as_mut().poll(context)
            {
                *connecting = None;
                progress.connected = Some(result);
            }
            if let Some(Connection { reader, writer, .. }) = connection {
                while !outbound.is_empty() && progress.lost.is_none() {
                    match Pin::new(&mut *writer).poll_write(context, outbound) {
                        Poll::Ready(Ok(0)) => progress.lost = Some("the connection takes no more".to_owned()),
                        Poll::Ready(Ok(bytes)) => {
                            outbound.advance(bytes);
                            progress.wrote = outbound.is_empty();
                        }
                        Poll::Ready(Err(error)) => progress.lost = Some(error.to_string()),
                        Poll::Pending => break,
                    }
                }
                if inbound.capacity() - inbound.len() < READ_BYTES_MIN {
                    inbound.reserve(READ_BYTES);
                }
                // What is there is read even if writing failed: it may say why, and receipts may be in it.
                match std::pin::pin!(reader.read_buf(inbound)).poll(context) {
                    Poll::Ready(Ok(0)) => {
                        progress.lost.get_or_insert_with(|| "the server closed the connection".to_owned());
                    }
                    Poll::Ready(Ok(_)) => progress.read = true,
                    Poll::Ready(Err(error)) => progress.lost = Some(error.to_string()),
                    Poll::Pending => {}
                }
            }
            progress.asked = shared.poll_attention(context);
            progress.tick = timed && sleep.as_mut().poll(context).is_ready();
            let Progress { read, wrote, connected, lost, asked, tick } = &progress;
            if *read || *wrote || *asked || *tick || connected.is_some() || lost.is_some() {
                Poll::Ready(progress)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// Tells the session what happened: first what arrived, then what ended.
    fn report(&mut self, progress: Progress) {
        let Self { shared, connection, inbound, .. } = self;
        shared.with(|state, now| {
            let session = &mut state.session;
            match progress.connected {
                Some(Ok(opened)) => {
                    *connection = Some(opened);
                    session.connected(now);
                }
                Some(Err(error)) => session.disconnected(now, error.to_string()),
                None => {}
            }
            let mut lost = progress.lost;
            if progress.read {
                loop {
                    match frame::split(inbound, limits::CLIENT_FRAME_BYTES_MAX) {
                        Ok(Some(frame)) => session.received(now, &frame),
                        Ok(None) => break,
                        Err(error) => {
                            lost = Some(format!("the server broke the protocol: {error}"));
                            break;
                        }
                    }
                }
            }
            if let Some(cause) = lost {
                session.disconnected(now, cause);
                *connection = None;
            }
        });
        if self.connection.is_none() {
            self.inbound = BytesMut::new();
            self.outbound.clear();
        }
    }

    /// Sends what is left, within a bound, and closes the connection.
    async fn farewell<W: World>(&mut self) {
        let Some(Connection { mut writer, .. }) = self.connection.take() else { return };
        let outbound = &mut self.outbound;
        self.shared.with(|state, now| state.session.transmit(now, outbound));
        // The client is closed either way: what does not leave in time is what a lost connection would have cost.
        let _ = W::timeout(FAREWELL, async {
            writer.write_all_buf(outbound).await?;
            writer.shutdown().await
        })
        .await;
    }
}

fn event(notice: Notice) -> Event {
    let (kind, detail) = match notice {
        Notice::Receipt { number, accepted: Some(position) } => ("client_receipt", format!("{number} at {position}")),
        Notice::Receipt { number, accepted: None } => ("client_receipt", format!("{number} none")),
        Notice::Acknowledged { inbox, up_to } => ("client_acknowledged", format!("{inbox} up to {up_to}")),
    };
    Event { kind, who: None, detail }
}

fn moved(server: Option<&ServerAddress>) -> Event {
    let detail = server.map_or("nowhere".to_owned(), |server| server.name.to_string());
    Event { kind: "client_attached", who: None, detail }
}
