//! openraft's messages to the other servers.
//!
//! Appends are pipelined: requests go out as openraft makes them, and replies are matched in order. A connection that
//! owes an answer for longer than [`PROGRESS`] is dropped; after a partition it may never bring one again.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use futures::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption, RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendError, StreamAppendResult, VoteRequest, VoteResponse,
};
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse};
use parking_lot::Mutex;

use super::link::{Link, LinkError};
use super::messages::{self, AppendReply, SnapshotBegin};
use super::state_machine::SnapshotData;
use super::trouble::Trouble;
use super::types::{Member, Snapshot, TypeConfig, Vote};
use crate::limits;
use crate::wire::peer::{self, Hello, PeerRefusal, Purpose};
use crate::wire::{self, ClusterId, Incarnation, Name};
use crate::world::{Host, Instant, World};

/// How long an append may stay unanswered. The append's own time to live is a heartbeat's interval, which resets
/// connections under load; see the notes in `docs/architecture.md`.
const PROGRESS: Duration = Duration::from_secs(2);
/// How long a connection and its hello may take.
const CONNECT: Duration = Duration::from_millis(500);
/// How long one chunk of a snapshot may take.
const CHUNK: Duration = Duration::from_secs(10);
/// Who takes a snapshot in says more often that it is at it.
const SILENCE: Duration = Duration::from_secs(5);

/// Who this server is, as it says in every hello.
#[derive(Debug, Clone)]
pub struct Me {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Its name.
    pub name: Name,
    /// Its incarnation.
    pub incarnation: Incarnation,
}

impl Me {
    /// The hello to `to`.
    pub fn hello(&self, to: Incarnation, purpose: Purpose) -> Hello {
        Hello {
            version: wire::PEER_VERSION,
            purpose,
            cluster: Some(self.cluster),
            name: self.name.clone(),
            from: Some(self.incarnation),
            to: Some(to),
        }
    }
}

/// What is known about reaching the other servers, for `status`.
#[derive(Debug, Default)]
pub struct Reachability {
    servers: Mutex<BTreeMap<Incarnation, Contact>>,
    retired: Mutex<Option<PeerRefusal>>,
}

#[derive(Debug, Clone, Default)]
struct Contact {
    reached: Option<Instant>,
    problem: Option<String>,
}

impl Reachability {
    fn reached<W: World>(&self, server: Incarnation) {
        self.servers.lock().insert(server, Contact { reached: Some(W::now()), problem: None });
    }

    fn failed(&self, server: Incarnation, problem: &LinkError) {
        self.servers.lock().entry(server).or_default().problem = Some(problem.to_string());
        if let LinkError::Refused { refusal, .. } = problem
            && matches!(refusal, PeerRefusal::Retired { .. } | PeerRefusal::Removed { .. })
        {
            self.retire(refusal.clone());
        }
    }

    /// Another server said that this one's disk counts no more.
    pub fn retire(&self, refusal: PeerRefusal) {
        self.retired.lock().get_or_insert(refusal);
    }

    /// When `server` answered last, and what went wrong since.
    pub fn of(&self, server: Incarnation) -> (Option<Instant>, Option<String>) {
        self.servers.lock().get(&server).map_or((None, None), |c| (c.reached, c.problem.clone()))
    }

    /// Whether another server said that this one's disk was replaced or removed.
    pub fn retired(&self) -> Option<PeerRefusal> {
        self.retired.lock().clone()
    }
}

/// Makes [`PeerNetwork`]s for openraft.
pub struct NetworkFactory<W: World> {
    /// Who this server is.
    pub me: Me,
    /// Its network.
    pub host: Host,
    /// Where failures are noted.
    pub reachability: Arc<Reachability>,
    /// Where it is noted that a snapshot cannot be read.
    pub trouble: Trouble,
    world: std::marker::PhantomData<W>,
}

impl<W: World> NetworkFactory<W> {
    /// A factory for `me`.
    pub fn new(me: Me, host: Host, reachability: Arc<Reachability>, trouble: Trouble) -> Self {
        Self { me, host, reachability, trouble, world: std::marker::PhantomData }
    }
}

impl<W: World> RaftNetworkFactory<TypeConfig<W>> for NetworkFactory<W> {
    type Network = PeerNetwork<W>;

    async fn new_client(&mut self, target: Incarnation, node: &Member) -> PeerNetwork<W> {
        PeerNetwork {
            me: self.me.clone(),
            host: self.host.clone(),
            reachability: self.reachability.clone(),
            trouble: self.trouble.clone(),
            target,
            member: node.clone(),
            link: None,
            world: std::marker::PhantomData,
        }
    }
}

/// openraft's way to one other server, for one purpose: the heartbeats have one of their own, and so have snapshots.
pub struct PeerNetwork<W: World> {
    me: Me,
    host: Host,
    reachability: Arc<Reachability>,
    trouble: Trouble,
    target: Incarnation,
    member: Member,
    link: Option<Link>,
    world: std::marker::PhantomData<W>,
}

impl<W: World> PeerNetwork<W> {
    /// The open connection, or a new one. It is taken out: whoever is done with it in good order puts it back.
    async fn take_link(&mut self, purpose: Purpose) -> Result<Link, LinkError> {
        if let Some(link) = self.link.take() {
            return Ok(link);
        }
        let hello = self.me.hello(self.target, purpose);
        let opening = Link::open(&*self.host.network, &self.member.name, &self.member.address, &hello);
        let opened = match W::timeout(CONNECT, opening).await {
            Ok(opened) => opened,
            Err(_) => Err(LinkError::Io(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("{} at {} does not answer", self.member.name, self.member.address),
            ))),
        };
        if let Err(error) = &opened {
            self.reachability.failed(self.target, error);
        }
        opened
    }

    /// One question and its answer, within `patience`.
    async fn ask<Q: serde::Serialize + Sync, A: serde::de::DeserializeOwned>(
        &mut self,
        kind: u8,
        question: &Q,
        answer_kind: u8,
        patience: Duration,
    ) -> Result<A, RPCError<TypeConfig<W>>> {
        let mut link = self.take_link(Purpose::Raft).await.map_err(|e| unreachable_peer(&e))?;
        match W::timeout(patience, link.ask(kind, question, answer_kind)).await {
            Ok(Ok(answer)) => {
                self.reachability.reached::<W>(self.target);
                self.link = Some(link);
                Ok(answer)
            }
            Ok(Err(error)) => Err(network(&error)),
            Err(error) => Err(network(&error)),
        }
    }
}

fn network<W: World>(error: &(impl std::error::Error + 'static)) -> RPCError<TypeConfig<W>> {
    RPCError::Network(NetworkError::new(error))
}

fn unreachable_peer<W: World>(error: &LinkError) -> RPCError<TypeConfig<W>> {
    RPCError::Unreachable(Unreachable::new(error))
}

impl<W: World> NetBackoff<TypeConfig<W>> for PeerNetwork<W> {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl<W: World> NetVote<TypeConfig<W>> for PeerNetwork<W> {
    async fn vote(
        &mut self,
        rpc: VoteRequest<TypeConfig<W>>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<W>>, RPCError<TypeConfig<W>>> {
        self.ask(peer::VOTE, &rpc, peer::VOTE_REPLY, option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<TypeConfig<W>>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig<W>>, RPCError<TypeConfig<W>>> {
        self.ask(peer::PRE_VOTE, &rpc, peer::VOTE_REPLY, option.hard_ttl()).await
    }
}

impl<W: World> NetTransferLeader<TypeConfig<W>> for PeerNetwork<W> {
    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<TypeConfig<W>>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig<W>>, RPCError<TypeConfig<W>>> {
        self.ask(peer::TRANSFER, &req, peer::TRANSFER_REPLY, option.hard_ttl()).await
    }
}

type Reply<W> = Result<StreamAppendResult<TypeConfig<W>>, RPCError<TypeConfig<W>>>;

impl<W: World> NetStreamAppend<TypeConfig<W>> for PeerNetwork<W> {
    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> futures::future::BoxFuture<'s, Result<futures::stream::BoxStream<'s, Reply<W>>, RPCError<TypeConfig<W>>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig<W>>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            // openraft's back-off is in its requests: the first one comes after it. Connecting before it is there would
            // call a server that is down again at once, and again.
            let mut input = input.fuse();
            let Some(first) = input.next().await else {
                let none: futures::stream::BoxStream<'s, Reply<W>> = Box::pin(futures::stream::empty());
                return Ok(none);
            };
            let link = self.take_link(Purpose::Raft).await.map_err(|e| unreachable_peer(&e))?;
            let mut append = Append { network: self, link, input, owed: VecDeque::new(), out: BytesMut::new() };
            append.send(&first).await?;
            let replies = futures::stream::unfold(Some(append), |append| async move {
                let mut append = append?;
                match append.next().await {
                    Some(Ok(Ok(reply))) => Some((Ok(Ok(reply)), Some(append))),
                    // openraft starts anew after either; what was sent meanwhile is of no use.
                    Some(last) => Some((last, None)),
                    None => {
                        let Append { network, link, .. } = append;
                        network.link = Some(link);
                        None
                    }
                }
            });
            let replies: futures::stream::BoxStream<'s, Reply<W>> = Box::pin(replies);
            Ok(replies)
        })
    }
}

/// One pipelined run of appends.
struct Append<'s, W: World, S> {
    network: &'s mut PeerNetwork<W>,
    link: Link,
    input: futures::stream::Fuse<S>,
    /// When each request that has no answer yet was sent.
    owed: VecDeque<Instant>,
    out: BytesMut,
}

impl<W, S> Append<'_, W, S>
where
    W: World,
    S: Stream<Item = AppendEntriesRequest<TypeConfig<W>>> + Unpin,
{
    /// The next reply; sends what comes in meanwhile. `None` when everything is sent and answered.
    async fn next(&mut self) -> Option<Reply<W>> {
        loop {
            let done = self.input.is_done();
            let Some(&oldest) = self.owed.front() else {
                if done {
                    return None;
                }
                let request = self.input.next().await?;
                if let Err(error) = self.send(&request).await {
                    return Some(Err(error));
                }
                continue;
            };
            tokio::select! {
                biased;
                reply = self.link.reader.next() => return Some(self.reply(reply)),
                // `None` ends the input: the next turn sees that it is done.
                Some(request) = self.input.next(), if !done => if let Err(error) = self.send(&request).await {
                    return Some(Err(error));
                },
                () = W::sleep_until(oldest + PROGRESS) => {
                    let problem = io::Error::new(io::ErrorKind::TimedOut, "an append was not answered");
                    return Some(Err(network(&problem)));
                }
            }
        }
    }

    async fn send(&mut self, request: &AppendEntriesRequest<TypeConfig<W>>) -> Result<(), RPCError<TypeConfig<W>>> {
        messages::put_append(&mut self.out, request);
        match W::timeout(PROGRESS, self.link.writer.send(&mut self.out)).await {
            Ok(Ok(())) => {
                self.owed.push_back(W::now());
                Ok(())
            }
            Ok(Err(error)) => Err(network(&error)),
            Err(error) => Err(network(&error)),
        }
    }

    fn reply(&mut self, frame: io::Result<Option<wire::frame::Frame>>) -> Reply<W> {
        let frame = frame.map_err(|e| network(&e))?;
        let Some(frame) = frame else {
            return Err(network(&io::Error::from(io::ErrorKind::UnexpectedEof)));
        };
        if frame.kind != peer::APPEND_REPLY {
            let text: String = super::link::take(&frame.payload).unwrap_or_else(|_| "an unexpected frame".to_owned());
            return Err(network(&io::Error::new(io::ErrorKind::ConnectionAborted, text)));
        }
        let reply: AppendReply = super::link::take(&frame.payload).map_err(|e| network(&e))?;
        self.owed.pop_front();
        self.network.reachability.reached::<W>(self.network.target);
        Ok(match reply {
            AppendReply::Appended(id) => Ok(id),
            AppendReply::Conflict(id) => Err(StreamAppendError::Conflict(id)),
            AppendReply::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote)),
        })
    }
}

impl<W: World> NetSnapshot<TypeConfig<W>> for PeerNetwork<W> {
    type SnapshotData = SnapshotData<W>;

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot<W>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig<W>>, StreamingError<TypeConfig<W>>> {
        self.link = None;
        let mut link = self.take_link(Purpose::Snapshot).await.map_err(|e| unreachable_peer(&e))?;
        let sending = send_snapshot::<W>(&mut link, vote, snapshot, self.trouble.clone());
        futures::pin_mut!(sending, cancel);
        match futures::future::select(sending, cancel).await {
            futures::future::Either::Left((sent, _)) => {
                let vote = sent.map_err(|e| network(&e))?;
                self.reachability.reached::<W>(self.target);
                Ok(SnapshotResponse::new(vote))
            }
            futures::future::Either::Right((closed, _)) => Err(closed.into()),
        }
    }
}

async fn send_snapshot<W: World>(
    link: &mut Link,
    vote: Vote,
    snapshot: Snapshot<W>,
    trouble: Trouble,
) -> io::Result<Vote> {
    let SnapshotData::Reader(reader) = snapshot.snapshot else {
        return Err(io::Error::other("a snapshot that was received is not for sending"));
    };
    link.writer.put(peer::SNAPSHOT_BEGIN, &SnapshotBegin::new(vote, snapshot.meta)).await?;
    W::reached("a snapshot sent");
    let mut after: Option<Vec<u8>> = None;
    loop {
        let (source, from) = (reader.clone(), after.take());
        let chunk = W::blocking(move || source.chunk(from.as_deref(), limits::SNAPSHOT_CHUNK_BYTES)).await;
        // What cannot be read today cannot be tomorrow: without being told, this server would try for ever.
        let chunk = trouble.note(chunk.map_err(io::Error::from))?;
        let mut buffer = BytesMut::with_capacity(chunk.bytes.len() + 16);
        wire::frame::put(&mut buffer, peer::SNAPSHOT_CHUNK, &(), &chunk.bytes);
        W::timeout(CHUNK, link.writer.send(&mut buffer)).await??;
        if chunk.end {
            break;
        }
        after = chunk.last_key;
    }
    link.writer.put(peer::SNAPSHOT_END, &()).await?;
    // The other end installs it now: as long as that takes, within reason. It says that it is at it, so that an answer
    // that was lost is told from one that is yet to come: until it has one, this server sends that one nothing else.
    let answer = async {
        loop {
            let frame = W::timeout(SILENCE, link.reader.next()).await??;
            match frame.ok_or(io::ErrorKind::UnexpectedEof)? {
                frame if frame.kind == peer::SNAPSHOT_GOES_ON => {}
                frame if frame.kind == peer::SNAPSHOT_REPLY => return super::link::take(&frame.payload),
                frame => {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, format!("a frame of kind {}", frame.kind)));
                }
            }
        }
    };
    W::timeout(Duration::from_secs(120), answer).await?
}
