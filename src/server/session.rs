//! One client's connection: its frames are checked, its commands gathered, its replies written.

mod requests;

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::sync::Notify;

use super::hub::SessionId;
use super::node::Node;
use super::{Server, backup, follow, status};
use crate::limits;
use crate::metrics::flow::Sender;
use crate::metrics::limits::Limit;
use crate::post_office::check_command;
use crate::raft::link::{FrameReader, FrameWriter, take};
use crate::wire::client::{REPLY_KIND, REQUEST_KIND, Reply, Request, SendFailure, StatusDetail};
use crate::wire::command::{self, Command};
use crate::wire::frame::Frame;
use crate::wire::sharing::{Enlistment, Target, is_pattern};
use crate::wire::{self, Name, Refusal, StreamId, frame};
use crate::world::World;

/// How long a client may be silent; clients ping when they have nothing to say.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a client has for its hello.
const HELLO: Duration = Duration::from_secs(5);
/// How long a reply may wait for a client that does not read.
const STUCK: Duration = Duration::from_secs(30);

/// Serves one client until it goes away or has to go elsewhere.
pub(super) async fn serve<W: World>(
    node: Arc<Node<W>>,
    mut reader: FrameReader,
    mut writer: FrameWriter,
) -> io::Result<()> {
    let Some(hello) = hello::<W>(&mut reader).await? else { return Ok(()) };
    let refusal = match hello {
        Hello::Other(refusal) => Some(refusal),
        Hello::Client { cluster: Some(expected), .. } if expected != node.me.cluster => {
            Some(Refusal::WrongCluster { actual: node.me.cluster, expected })
        }
        Hello::Client { agent, .. } => {
            tracing::debug!(agent, "a client");
            None
        }
    };
    if let Some(refusal) = refusal {
        return writer.put(REPLY_KIND, &Reply::Refused { nonce: None, refusal }).await;
    }
    let (id, wake) = match node.hub.open_session(node.me.cluster) {
        Ok(opened) => opened,
        Err(reason) => {
            let welcome = node.hub.lock().welcome(node.me.cluster);
            return serve_limited::<W, _>(reader, writer, welcome, reason, |detail| status::of_node(&node, detail))
                .await;
        }
    };
    let backups = backup::Desk::default();
    let session = Session { node: node.clone(), id, backups, watching: Arc::default() };
    let ended = tokio::select! {
        biased;
        ended = write_all::<W>(&node, id, &wake, writer) => ended,
        ended = session.read_all(reader) => ended,
    };
    drop(session);
    ended
}

/// Answers a client of a server that belongs to no cluster yet.
pub(super) async fn serve_without_cluster<W: World>(
    server: &Server<W>,
    mut reader: FrameReader,
    mut writer: FrameWriter,
) -> io::Result<()> {
    let Some(hello) = hello::<W>(&mut reader).await? else { return Ok(()) };
    if let Hello::Other(refusal) = hello {
        return writer.put(REPLY_KIND, &Reply::Refused { nonce: None, refusal }).await;
    }
    let servers = server.settings.servers();
    let welcome = Reply::Welcome { cluster: None, server: server.settings.name.clone(), servers };
    let status = |detail| status::of_server(server, detail);
    serve_limited::<W, _>(reader, writer, welcome, Refusal::NoLeader, status).await
}

/// Serves a client that has to go elsewhere for anything but the status: that is what says why.
async fn serve_limited<W: World, F: Future<Output = wire::client::Status>>(
    mut reader: FrameReader,
    mut writer: FrameWriter,
    welcome: Reply,
    reason: Refusal,
    status: impl Fn(StatusDetail) -> F,
) -> io::Result<()> {
    writer.put(REPLY_KIND, &welcome).await?;
    loop {
        let Ok(frame) = W::timeout(SILENCE, reader.next()).await else { return Ok(()) };
        let Some(frame) = frame? else { return Ok(()) };
        let request = (frame.kind == REQUEST_KIND).then(|| take::<Request>(&frame.payload)).transpose()?;
        let reply = match request {
            Some(Request::Status { nonce, detail }) => Reply::Status { nonce, status: Box::new(status(detail).await) },
            Some(Request::Ping(number)) => Reply::Pong(number),
            Some(Request::Hurry) => continue,
            Some(Request::Goodbye) => return Ok(()),
            _ => return writer.put(REPLY_KIND, &Reply::Move { reason }).await,
        };
        writer.put(REPLY_KIND, &reply).await?;
    }
}

enum Hello {
    Client { cluster: Option<wire::ClusterId>, agent: String },
    Other(Refusal),
}

async fn hello<W: World>(reader: &mut FrameReader) -> io::Result<Option<Hello>> {
    let Ok(first) = W::timeout(HELLO, reader.next()).await else { return Ok(None) };
    let Some(frame) = first? else { return Ok(None) };
    Ok(Some(match (frame.kind, take::<Request>(&frame.payload)) {
        (REQUEST_KIND, Ok(Request::Hello { version: wire::CLIENT_VERSION, cluster, agent })) => {
            Hello::Client { cluster, agent }
        }
        (REQUEST_KIND, Ok(Request::Hello { version, .. })) => {
            Hello::Other(Refusal::Version { speaks: wire::CLIENT_VERSION, asked: version })
        }
        _ => Hello::Other(Refusal::Malformed("the first frame has to be a hello".to_owned())),
    }))
}

/// Writes what gathers in the outbox, as much as there is at once.
async fn write_all<W: World>(
    node: &Arc<Node<W>>,
    id: SessionId,
    wake: &Notify,
    mut writer: FrameWriter,
) -> io::Result<()> {
    let mut buffer = BytesMut::with_capacity(16 << 10);
    loop {
        let out = node.hub.outgoing(id, std::mem::take(&mut buffer));
        buffer = out.bytes;
        if buffer.is_empty() {
            if out.ending {
                return Ok(());
            }
            wake.notified().await;
            continue;
        }
        match W::timeout(STUCK, writer.send(&mut buffer)).await {
            Ok(sent) => sent?,
            Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the client does not read")),
        }
        if buffer.capacity() > 1 << 20 {
            buffer = BytesMut::with_capacity(16 << 10);
        }
        // There is room again, for deliveries that waited for it and for commands that were not read.
        let office = node.office.post_office.lock();
        let mut books = node.hub.lock();
        if !books.ready.is_empty() {
            let fetches = super::delivery::deliver(&office, &mut books);
            node.note_handed(&mut books);
            books.wake();
            node.fetch(fetches);
        }
        drop(books);
        drop(office);
        node.hub.room.notify_waiters();
    }
}

struct Session<W: World> {
    node: Arc<Node<W>>,
    id: SessionId,
    backups: backup::Desk,
    /// Held by each of its questions about presence that waits.
    watching: Arc<()>,
}

impl<W: World> Drop for Session<W> {
    fn drop(&mut self) {
        self.node.hub.close_session(self.id);
    }
}

/// What to do after a frame.
enum Next {
    Go,
    Later(Request),
    End(Option<Refusal>),
}

impl<W: World> Session<W> {
    async fn read_all(&self, mut reader: FrameReader) -> io::Result<()> {
        loop {
            let frame = match W::timeout(SILENCE, reader.next()).await {
                Ok(Ok(Some(frame))) => frame,
                Ok(Ok(None)) => return Ok(()),
                Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                    return self.refuse(Refusal::Malformed(error.to_string())).await;
                }
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the client is silent")),
            };
            // All frames that came at once are taken under one lock, and forwarded together.
            let mut next = self.take_frames(frame, &mut reader)?;
            self.node.hub.forward.notify_one();
            if let Next::Later(request) = next {
                self.answer(request).await;
                next = Next::Go;
            }
            match next {
                Next::Go | Next::Later(_) => {}
                Next::End(None) => return Ok(()),
                Next::End(Some(refusal)) => return self.refuse(refusal).await,
            }
            if !self.node.hub.has_room(self.id) {
                self.node.metrics.hit(Limit::Pending);
            }
            while !self.node.hub.has_room(self.id) {
                let room = self.node.hub.room.notified();
                if self.node.hub.has_room(self.id) {
                    break;
                }
                room.await;
            }
        }
    }

    fn take_frames(&self, first: Frame, reader: &mut FrameReader) -> io::Result<Next> {
        let disk_full = self.node.log.disk_full();
        let mut books = self.node.hub.lock();
        let mut frame = Some(first);
        let mut next = Next::Go;
        let mut taken = false;
        while let Some(Frame { kind, payload }) = frame {
            next = match kind {
                command::KIND => match check(&payload) {
                    Ok(Command::Send { stream, number, .. } | Command::Post { stream, number, .. }) if disk_full => {
                        W::reached("a full disk refused a send");
                        self.node.metrics.hit(Limit::Disk);
                        let reason = SendFailure::Unavailable(Refusal::DiskFull);
                        books.reply(self.id, &Reply::SendFailed { stream, number, reason });
                        Next::Go
                    }
                    Ok(command) => {
                        if let Command::Send { stream, .. }
                        | Command::Post { stream, .. }
                        | Command::CollectReceipts { stream, .. } = command
                        {
                            books.route_stream(stream, self.id);
                        }
                        follow::taken(&command);
                        // One of those that came at once is enough to see that something passes.
                        if !taken
                            && self.node.metrics.flow.is_watched()
                            && let Some((stream, to)) = passes(&command)
                        {
                            self.node.metrics.flow.note(Sender::Stream(stream), to, payload.len());
                        }
                        if let Command::Detach { registration, epoch, .. } = command {
                            // It wants nothing more from now on.
                            books.forget_reader(registration, epoch);
                        }
                        if let Some(nonce) = command.nonce() {
                            books.route_nonce(nonce, self.id);
                        }
                        match command {
                            // Most often nobody waits for it.
                            Command::Acknowledge { registration, up_to, ref ranges, .. }
                                if books
                                    .readers
                                    .get_mut(&registration)
                                    .is_some_and(|reader| !reader.is_waited_for(up_to, !ranges.is_empty())) =>
                            {
                                books.batches.push_frame_to_ride(&payload, W::now());
                            }
                            _ => books.batches.push_frame(&payload),
                        }
                        taken = true;
                        Next::Go
                    }
                    Err(refusal) => Next::End(Some(refusal)),
                },
                REQUEST_KIND => match take::<Request>(&payload) {
                    Ok(Request::Ping(number)) => {
                        books.reply(self.id, &Reply::Pong(number));
                        Next::Go
                    }
                    Ok(Request::Hurry) => {
                        books.batches.hurry();
                        Next::Go
                    }
                    Ok(Request::Goodbye) => Next::End(None),
                    Ok(Request::Hello { .. }) => Next::End(Some(Refusal::Malformed("a second hello".to_owned()))),
                    Ok(request) => Next::Later(request),
                    Err(error) => Next::End(Some(Refusal::Malformed(error.to_string()))),
                },
                other => Next::End(Some(Refusal::Malformed(format!("a frame of unknown kind {other}")))),
            };
            if !matches!(next, Next::Go) || books.batches.bytes() > self.node.settings.pending_bytes {
                break;
            }
            frame = match reader.buffered() {
                Ok(frame) => frame,
                Err(error) => {
                    next = Next::End(Some(Refusal::Malformed(error.to_string())));
                    break;
                }
            };
        }
        if taken {
            self.node.metrics.batch_begun(books.batches.next_sequence(), W::now());
        }
        books.wake();
        Ok(next)
    }

    /// Says why, and ends the connection once that is sent.
    async fn refuse(&self, refusal: Refusal) -> io::Result<()> {
        tracing::debug!(%refusal, "refused a client");
        if matches!(refusal, Refusal::Malformed(_)) {
            self.node.metrics.hit(Limit::Frames);
        }
        {
            let mut books = self.node.hub.lock();
            books.reply(self.id, &Reply::Refused { nonce: None, refusal });
            if let Some(session) = books.session(self.id) {
                session.ending = true;
            }
            books.wake();
        }
        // The writer ends the session when it has sent that.
        std::future::pending().await
    }
}

/// A message on its way: its stream, and the name that it goes to.
fn passes<'a>(command: &Command<'a>) -> Option<(StreamId, &'a str)> {
    match command {
        Command::Send { stream, to, .. }
        | Command::Post { stream, to: Target::Client(to) | Target::Channel(to), .. } => Some((*stream, to)),
        Command::Post { stream, to: Target::Clients(names), .. } => Some((*stream, names.first()?)),
        _ => None,
    }
}

/// Checks a command that came from a client: what is put into the log has to be good for ever. What applying checks
/// is checked here by the same function; the rest is what a well-behaved client never sends.
fn check(payload: &Bytes) -> Result<Command<'_>, Refusal> {
    let malformed = |what: String| Refusal::Malformed(what);
    let (command, content) = check_command(command::KIND, payload).map_err(|e| malformed(e.to_string()))?;
    let name = |name: &str| Name::new(name).map(|_| ()).map_err(|e| malformed(e.to_string()));
    match &command {
        Command::Send { to, .. } => {
            name(to)?;
            check_content(content)?;
        }
        Command::Post { to, .. } => {
            match to {
                Target::Client(client) | Target::Channel(client) => name(client)?,
                Target::Clients(clients) => clients.iter().try_for_each(|client| name(client))?,
                Target::Everybody => {}
            }
            check_content(content)?;
        }
        Command::CreateChannel { channel, .. } | Command::DeleteChannel { channel, .. } => name(channel)?,
        Command::Enlist { name: client, change, .. } => {
            name(client)?;
            match change {
                Enlistment::Join(channel) | Enlistment::Leave(channel) => name(channel)?,
                Enlistment::Subscribe(pattern) | Enlistment::Unsubscribe(pattern) if is_pattern(pattern) => {}
                Enlistment::SetInbox(_) => {}
                Enlistment::Subscribe(pattern) | Enlistment::Unsubscribe(pattern) => {
                    return Err(malformed(format!("{pattern:?} is no pattern of channels' names")));
                }
            }
        }
        Command::Register { name: client, home, .. } | Command::Attach { name: client, home, .. } => {
            name(client)?;
            name(home)?;
        }
        Command::Deregister { name: client, .. } | Command::OpenStream { name: client, .. } => name(client)?,
        Command::Acknowledge { .. }
        | Command::Confirm { .. }
        | Command::CloseStream { .. }
        | Command::CollectReceipts { .. }
        | Command::Detach { .. } => {}
        Command::Enroll { .. }
        | Command::SetQuotas(_)
        | Command::Tick
        | Command::Vanished { .. }
        | Command::AddServer { .. }
        | Command::RemoveServer { .. }
        | Command::SetHome { .. }
        | Command::MoveClients { .. }
        | Command::AttachApart { .. }
        | Command::AcknowledgeApart { .. }
        | Command::SetDrained { .. } => {
            return Err(malformed("a command that is not a client's".to_owned()));
        }
    }
    Ok(command)
}

fn check_content(content: &[u8]) -> Result<(), Refusal> {
    // Only as much as headers may take is decoded: a few bytes of them become many in memory.
    let front = &content[..content.len().min(limits::HEADERS_BYTES_MAX)];
    let (_, behind) = frame::take::<command::Headers>(front).map_err(|e| {
        Refusal::Malformed(format!("the headers do not decode ({e}), or have more than {} bytes", front.len()))
    })?;
    let body = content.len() - (front.len() - behind.len());
    if body > limits::BODY_BYTES_MAX {
        return Err(Refusal::Malformed(format!("a body of {body} bytes, {} are allowed", limits::BODY_BYTES_MAX)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::wire::{Id, Number};

    fn refusal_of(headers: &command::Headers, body: usize) -> Option<String> {
        let content = command::encode_content(headers, &vec![0; body]);
        refusal_of_content(&content)
    }

    fn refusal_of_content(content: &[u8]) -> Option<String> {
        let mut frame = BytesMut::new();
        let send = Command::Send { stream: Id(1), number: Number(1), confirmed: Number(0), to: "bob" };
        send.put(&mut frame, content);
        let payload = frame.freeze().slice(frame::HEADER_BYTES..);
        check(&payload).err().map(|refusal| refusal.to_string())
    }

    #[test]
    fn bodies_and_headers_have_their_limits_and_no_byte_less() {
        let headers = |bytes: usize| vec![(String::new(), "v".repeat(bytes - 4))];
        assert_eq!(command::encode_content(&headers(limits::HEADERS_BYTES_MAX), b"").len(), limits::HEADERS_BYTES_MAX);
        let (body, most) = (limits::BODY_BYTES_MAX, limits::HEADERS_BYTES_MAX);
        assert_eq!(refusal_of(&Vec::new(), body), None);
        assert_eq!(refusal_of(&headers(most), 0), None);
        assert_eq!(refusal_of(&headers(most), body), None);
        assert!(refusal_of(&Vec::new(), body + 1).is_some_and(|why| why.contains("a body of")));
        assert!(refusal_of(&headers(most + 1), 10).is_some_and(|why| why.contains("the headers")));
        assert!(refusal_of_content(b"").is_some(), "no headers are a byte that says so");
    }
}
