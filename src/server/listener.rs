//! The port: accepts connections, tells the protocols apart by their first bytes, and checks other servers' hellos.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::desk::Desk;
use super::{Phase, Server, bootstrap, operator, session};
use crate::http;
use crate::limits;
use crate::metrics::limits::Limit;
use crate::raft::link::{FrameReader, FrameWriter, Link};
use crate::raft::{Gates, serve_raft, serve_snapshot};
use crate::wire::client::{REPLY_KIND, Reply};
use crate::wire::peer::{self, Bootstrap, BootstrapReply, Hello, HelloReply, PeerRefusal, Purpose, Question};
use crate::wire::{self, Refusal, batch, frame};
use crate::world::{Connection, Listener, World};

/// How long a connection may take to say what it is.
const HELLO: Duration = Duration::from_secs(5);
/// A connection from another server that brought nothing for so long is dropped: it may hang half-open. It is opened
/// again when it is needed.
const IDLE: Duration = Duration::from_secs(60);
/// How long to wait after the system refused a connection (no file descriptors left, say).
const PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections for ever.
pub(super) async fn accept<W: World>(server: Arc<Server<W>>, mut port: Box<dyn Listener>) {
    loop {
        match port.accept().await {
            Ok(connection) => {
                let count = server.connections.fetch_add(1, Ordering::Relaxed);
                let server = server.clone();
                W::spawn(async move {
                    let peer = connection.peer.clone();
                    let mut closed = server.closed.clone();
                    let over = count >= server.settings.connections;
                    if over {
                        server.metrics.hit(Limit::Connections);
                    }
                    tokio::select! {
                        biased;
                        // A change, or the end of the server: either ends the connection.
                        _ = openraft_rt::watch::WatchReceiver::changed(&mut closed) => {}
                        ended = serve(&server, connection, over) => if let Err(error) = ended {
                            tracing::debug!(%peer, %error, "connection ended");
                        }
                    }
                    server.connections.fetch_sub(1, Ordering::Relaxed);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                W::sleep(PAUSE).await;
            }
        }
    }
}

async fn serve<W: World>(server: &Arc<Server<W>>, connection: Connection, over: bool) -> io::Result<()> {
    let mut reader = FrameReader::new(connection.reader, limits::CLIENT_FRAME_BYTES_MAX);
    let mut writer = FrameWriter(connection.writer);
    let Ok(magic) = W::timeout(HELLO, reader.magic::<4>()).await else { return Ok(()) };
    match magic? {
        wire::CLIENT_MAGIC if over => {
            let refusal = Refusal::TooManyConnections { limit: server.settings.connections as u64 };
            writer.put(REPLY_KIND, &Reply::Refused { nonce: None, refusal }).await
        }
        wire::CLIENT_MAGIC => {
            let phase = server.phase.lock().clone();
            match phase {
                Phase::Running(node) => session::serve(node, reader, writer).await,
                _ => session::serve_without_cluster(server, reader, writer).await,
            }
        }
        // Other servers are few and are let in beyond the limit: it must not cost the cluster its quorum.
        wire::PEER_MAGIC => {
            reader.set_max(limits::PEER_FRAME_BYTES_MAX);
            serve_peer(server, Link { reader, writer }).await
        }
        // A client without a session. What it sent is HTTP from its first byte on.
        first if http::is_http(&first) => {
            let (reader, rest) = reader.into_parts();
            let front = [&first[..], &rest].concat();
            let connection = Connection { reader, writer: writer.0, peer: connection.peer };
            let _visitor = Visitor::new(server.clone());
            http::serve(Desk(server.clone()), front.into(), connection, over, server.leaving.clone()).await
        }
        other => {
            let text =
                format!("neither a client, a server of Restante, nor HTTP: the connection began with {other:02x?}");
            tracing::debug!(peer = connection.peer, "{text}");
            Ok(())
        }
    }
}

/// A connection that speaks HTTP.
struct Visitor<W: World>(Arc<Server<W>>);

impl<W: World> Visitor<W> {
    fn new(server: Arc<Server<W>>) -> Self {
        server.visitors.fetch_add(1, Ordering::Relaxed);
        Self(server)
    }
}

impl<W: World> Drop for Visitor<W> {
    fn drop(&mut self) {
        self.0.visitors.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Of a server that stops, connections that speak HTTP end when they have their last answer.
pub(super) async fn until_no_visitors<W: World>(server: &Server<W>) {
    while server.visitors.load(Ordering::Relaxed) > 0 {
        W::sleep(Duration::from_millis(10)).await;
    }
}

async fn serve_peer<W: World>(server: &Arc<Server<W>>, mut link: Link) -> io::Result<()> {
    let Ok(hello) = W::timeout(HELLO, link.answer::<Hello>(peer::HELLO)).await else { return Ok(()) };
    let hello = hello?;
    if hello.version != wire::PEER_VERSION {
        let refusal = PeerRefusal::Version { speaks: wire::PEER_VERSION };
        return link.writer.put(peer::HELLO_REPLY, &HelloReply::Refused(refusal)).await;
    }
    if hello.purpose == Purpose::Bootstrap {
        link.writer.put(peer::HELLO_REPLY, &HelloReply::Welcome).await?;
        let Ok(question) = W::timeout(HELLO, link.answer::<Bootstrap>(peer::BOOTSTRAP)).await else { return Ok(()) };
        let question = question?;
        let answer: BootstrapReply = bootstrap::answer(server, &hello.name, question).await;
        return link.writer.put(peer::BOOTSTRAP_REPLY, &answer).await;
    }
    let phase = server.phase.lock().clone();
    let node = match phase {
        Phase::Running(node) => node,
        _ => return link.writer.put(peer::HELLO_REPLY, &HelloReply::Refused(PeerRefusal::NotReady)).await,
    };
    if let Some(refusal) = node.refusal_of(&hello) {
        tracing::warn!(from = %hello.name, incarnation = hello.from, %refusal, "refused another server");
        return link.writer.put(peer::HELLO_REPLY, &HelloReply::Refused(refusal)).await;
    }
    link.writer.put(peer::HELLO_REPLY, &HelloReply::Welcome).await?;
    match hello.purpose {
        Purpose::Raft => {
            let gates = Gates {
                has_room: {
                    let node = node.clone();
                    move |bytes: usize, committed: bool| node.takes_entries(bytes as u64, committed)
                },
                is_member: {
                    let node = node.clone();
                    move || node.refusal_of(&hello).is_none()
                },
            };
            serve_raft::<W>(node.raft.clone(), link, node.heard.clone(), gates).await
        }
        Purpose::Snapshot => {
            serve_snapshot::<W>(node.raft.clone(), node.office.clone(), link, node.heard.clone()).await
        }
        Purpose::Forward => serve_forward(&node, link).await,
        Purpose::Question => {
            let Ok(question) = W::timeout(HELLO, link.answer::<Question>(peer::QUESTION)).await else { return Ok(()) };
            let answer: peer::QuestionAnswer = operator::answer_as_leader(&node, &question?).await;
            link.writer.put(peer::ANSWER, &answer).await
        }
        Purpose::Bootstrap => Ok(()),
    }
}

/// Takes another home server's batches to the proposer, as long as this server leads.
async fn serve_forward<W: World>(node: &Arc<super::node::Node<W>>, mut link: Link) -> io::Result<()> {
    let mut lost = node.proposer.lost();
    loop {
        let refuse = tokio::select! {
            biased;
            _ = openraft_rt::watch::WatchReceiver::changed(&mut lost) => Some("entries were lost with the leadership"),
            () = W::sleep(IDLE) => return Ok(()),
            frame = link.reader.next() => {
                let Some(frame) = frame? else { return Ok(()) };
                if frame.kind != peer::FORWARD {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of kind {}", frame.kind)));
                }
                let mut bytes: Bytes = frame.payload;
                let batch = batch::take_batch(&mut bytes).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))?;
                if !node.takes(batch.frames.len() as u64) {
                    Some("its disk takes nothing now")
                } else if node.raft.is_leader() {
                    node.proposer.propose(batch).await;
                    None
                } else {
                    Some("it does not lead")
                }
            }
        };
        if let Some(why) = refuse {
            let mut buffer = BytesMut::new();
            frame::put(&mut buffer, peer::FORWARD_REFUSED, &why, &[]);
            return link.writer.send(&mut buffer).await;
        }
    }
}
