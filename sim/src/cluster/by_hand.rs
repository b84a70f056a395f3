//! Speaks to servers without the library, as another one might: each send goes to one server after another under the
//! same number, whether there was an answer or not, so that each has to tell it from a new one.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rand::{Rng, RngExt};
use restante::limits;
use restante::raft::link::{FrameReader, FrameWriter};
use restante::wire::client::{REPLY_KIND, REQUEST_KIND, Reply, Request, SendFailure};
use restante::wire::command::{Command, encode_content};
use restante::wire::{self, Id, Number, Refusal, SendOutcome, SendRefusal, StreamId, frame};
use restante::world::World;

use super::address;
use super::client::{Me, Rest};
use crate::history::{SendKey, What, Why};
use crate::scenario::{ClientSeat, Stage};

/// How long a server has for an answer.
const PATIENCE: Duration = Duration::from_millis(1500);
/// The pause before the next server is tried.
const PAUSE: Duration = Duration::from_millis(40);
/// Sends during the faults.
const SENDS: u32 = 40;

pub(super) async fn run<W: World>(mut seat: ClientSeat, me: Arc<Me>, rest: Arc<Rest>) -> Result<(), String> {
    let stages = seat.stages.clone();
    let turn = seat.random.random_range(0..seat.plan.servers.len());
    let mut hand = Hand { seat, me, stream: None, line: None, turn };
    for _ in 0..SENDS {
        let pause = Duration::from_millis(hand.seat.random.random_range(0..300));
        super::client::sleep_in_faults::<W>(&stages, pause).await;
        if stages.have_reached(Stage::Core) {
            break;
        }
        hand.send::<W>().await;
    }
    for (healing, service) in [(Stage::Core, Stage::CoreService), (Stage::Heal, Stage::Calm)] {
        stages.reached(healing).await;
        rest.at(healing);
        stages.reached(service).await;
        if stages.current() == service {
            hand.send::<W>().await;
        }
        rest.at(service);
    }
    Ok(())
}

/// A stream that is open, and how it stands.
#[derive(Debug, Clone, Copy)]
struct Stream {
    id: StreamId,
    /// As the journal counts streams.
    name: u64,
    /// The last number that was answered.
    last: u64,
    /// The last one whose receipt was confirmed.
    confirmed: u64,
}

struct Hand {
    seat: ClientSeat,
    me: Arc<Me>,
    stream: Option<Stream>,
    line: Option<Line>,
    /// Which server is tried next, of all in turn.
    turn: usize,
}

/// A connection past its greeting.
struct Line {
    server: String,
    reader: FrameReader,
    writer: FrameWriter,
}

/// What became of a number.
enum Answer {
    Outcome(SendOutcome),
    Failed(SendFailure),
}

impl Hand {
    /// Sends the next number, until it is answered, and then perhaps again.
    async fn send<W: World>(&mut self) {
        let stream = self.open::<W>().await;
        let clients = self.seat.plan.client_names();
        let to = clients[self.seat.random.random_range(0..clients.len())].clone();
        let number = stream.last + 1;
        let send = SendKey { sender: self.seat.process.client.clone(), stream: stream.name, number };
        let (body, digest) = send.body(self.seat.random.random_range(self.seat.plan.body.clone()) as usize);
        let content = encode_content(&Vec::new(), &body);
        self.write(What::Invoked { send: send.clone(), to: to.clone(), digest });
        // The receipts before are confirmed only sometimes: until then the same number has the same answer.
        let mut confirmed = if self.seat.random.random_bool(0.5) { stream.last } else { stream.confirmed };
        let mut answers = 0;
        let wanted = 1 + self.seat.random.random_range(0..=2);
        let mut first = true;
        // Copies that found the window full, or will: each is answered once, perhaps when a later copy is asked about.
        let mut too_early = 0;
        while answers < wanted {
            if !std::mem::take(&mut first) {
                self.write(What::Resent { send: send.clone() });
            }
            too_early += u32::from(stream.last - confirmed >= self.seat.plan.mix.window);
            let answer = self.ask::<W>(stream.id, number, confirmed, &to, &content).await;
            match answer {
                // It goes to another server next, and there it may be known or not.
                None => {
                    self.line = None;
                    W::sleep(PAUSE).await;
                    continue;
                }
                Some(Answer::Outcome(SendOutcome::Accepted(position))) => {
                    self.write(What::Accepted { send: send.clone(), position: position.0 });
                }
                Some(Answer::Outcome(SendOutcome::Refused(SendRefusal::NoSuchClient))) => {
                    self.write(What::Refused { send: send.clone(), why: Why::NoSuchClient });
                }
                Some(Answer::Outcome(SendOutcome::Refused(SendRefusal::InboxFull))) => {
                    self.write(What::Refused { send: send.clone(), why: Why::InboxFull });
                }
                Some(Answer::Outcome(other)) => {
                    let why = Why::Other(format!("a plain send came to {other:?}"));
                    self.write(What::Refused { send: send.clone(), why });
                }
                Some(Answer::Failed(SendFailure::StreamClosed)) => {
                    // An earlier copy may have been carried out before the stream was closed.
                    if answers == 0 {
                        self.write(What::Unknown { send: send.clone() });
                    }
                    self.stream = None;
                    return;
                }
                Some(Answer::Failed(SendFailure::WindowFull { .. })) if too_early > 0 => {
                    too_early -= 1;
                    confirmed = stream.last;
                    continue;
                }
                Some(Answer::Failed(failure)) => {
                    let why = Why::Other(format!("{failure} (number {number}, confirmed {confirmed})"));
                    self.write(What::Refused { send, why });
                    self.stream = None;
                    return;
                }
            }
            answers += 1;
            if self.seat.random.random_bool(0.8) {
                self.line = None;
            }
        }
        self.stream = Some(Stream { last: number, confirmed, ..stream });
        self.forge::<W>(stream, number, &to, &send, too_early).await;
    }

    /// Another message under a number that is used: never taken for new, nor for the one that used it.
    async fn forge<W: World>(&mut self, stream: Stream, number: u64, to: &str, send: &SendKey, too_early: u32) {
        if !self.seat.random.random_bool(0.3) {
            return;
        }
        let content = encode_content(&Vec::new(), b"another message under a number that is used");
        let mut frame = BytesMut::new();
        Command::Send { stream: stream.id, number: Number(number), confirmed: Number(0), to }.put(&mut frame, &content);
        // An answer to the number is not one to this: an earlier copy of what used it may still have to be answered. Were
        // this taken for new, it would be delivered, and nobody sent such a body.
        let failure = self.call::<W, _>(frame, |reply| match reply {
            Reply::SendFailed { stream: of, number: n, reason } if *of == stream.id && n.0 == number => {
                Some(reason.clone())
            }
            _ => None,
        });
        match failure.await {
            None | Some(SendFailure::OtherContent | SendFailure::AlreadyAnswered | SendFailure::Unavailable(_)) => {}
            // An earlier copy's.
            Some(SendFailure::WindowFull { .. }) if too_early > 0 => {}
            Some(SendFailure::StreamClosed) => self.stream = None,
            Some(other) => {
                let why = Why::Other(format!("another message under its number was answered by {other}"));
                self.write(What::Refused { send: send.clone(), why });
            }
        }
    }

    /// The stream that is open, or another one.
    async fn open<W: World>(&mut self) -> Stream {
        if let Some(stream) = self.stream {
            return stream;
        }
        let nonce = u128::from(self.seat.random.next_u64()) << 64 | u128::from(self.seat.random.next_u64());
        loop {
            let name = self.me.name.clone();
            let mut frame = BytesMut::new();
            Command::OpenStream { nonce, name: &name }.put(&mut frame, &[]);
            let opened = self.call::<W, _>(frame, |reply| match reply {
                Reply::StreamOpened { nonce: of, stream, .. } if *of == nonce => Some(Ok(*stream)),
                Reply::Refused { nonce: Some(of), refusal } if *of == nonce => Some(Err(refusal.clone())),
                _ => None,
            });
            match opened.await {
                Some(Ok(id)) => {
                    let stream = Stream { id, name: self.seat.journal.next_stream(), last: 0, confirmed: 0 };
                    self.stream = Some(stream);
                    return stream;
                }
                // The library registers it again.
                Some(Err(Refusal::NotRegistered)) => {}
                Some(Err(_)) | None => self.line = None,
            }
            W::sleep(PAUSE).await;
        }
    }

    async fn ask<W: World>(
        &mut self,
        stream: Id,
        number: u64,
        confirmed: u64,
        to: &str,
        content: &[u8],
    ) -> Option<Answer> {
        let mut frame = BytesMut::new();
        Command::Send { stream, number: Number(number), confirmed: Number(confirmed), to }.put(&mut frame, content);
        let answer = self.call::<W, _>(frame, |reply| match reply {
            Reply::Receipts { stream: of, first, outcomes } if *of == stream => {
                let place = number.checked_sub(first.0)?;
                outcomes.get(usize::try_from(place).ok()?).map(|outcome| Answer::Outcome(*outcome))
            }
            Reply::SendFailed { stream: of, number: n, reason } if *of == stream && n.0 == number => {
                Some(Answer::Failed(reason.clone()))
            }
            _ => None,
        });
        // What the server could not take for now is asked again elsewhere.
        answer.await.filter(|answer| !matches!(answer, Answer::Failed(SendFailure::Unavailable(_))))
    }

    /// Sends a frame and waits for the answer to it, at some server. `None` if none came.
    async fn call<W: World, A>(&mut self, frame: BytesMut, answer: impl Fn(&Reply) -> Option<A>) -> Option<A> {
        let mut line = match self.line.take() {
            Some(line) => line,
            None => {
                // One after the other: drawn anew each time, it could be the same paused one until no time is left.
                let servers = &self.seat.plan.servers;
                let server = servers[self.turn % servers.len()].clone();
                self.turn += 1;
                let connect = Line::connect(&self.seat, server);
                W::timeout(PATIENCE, connect).await.ok()?.ok()?
            }
        };
        let answered = async {
            let mut frame = frame;
            line.writer.send(&mut frame).await?;
            loop {
                let reply = line.next().await?;
                if let Reply::Move { .. } | Reply::Refused { nonce: None, .. } = reply {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                if let Some(answer) = answer(&reply) {
                    return Ok(answer);
                }
            }
        };
        let answered: io::Result<A> = W::timeout(PATIENCE, answered).await.ok()?;
        let answered = answered.ok()?;
        self.line = Some(line);
        Some(answered)
    }

    fn write(&self, what: What) {
        self.seat.journal.write(&self.seat.process, what);
    }
}

impl Line {
    async fn connect(seat: &ClientSeat, server: String) -> io::Result<Self> {
        let connection = seat.host.network.connect(&address(&server)).await?;
        let reader = FrameReader::new(connection.reader, limits::PEER_FRAME_BYTES_MAX);
        let mut line = Self { server, reader, writer: FrameWriter(connection.writer) };
        let mut hello = BytesMut::from(&wire::CLIENT_MAGIC[..]);
        let request = Request::Hello { version: wire::CLIENT_VERSION, cluster: None, agent: "by hand".to_owned() };
        frame::put(&mut hello, REQUEST_KIND, &request, &[]);
        line.writer.send(&mut hello).await?;
        match line.next().await? {
            Reply::Welcome { cluster: Some(_), .. } => Ok(line),
            other => Err(io::Error::other(format!("{} greets with {other:?}", line.server))),
        }
    }

    async fn next(&mut self) -> io::Result<Reply> {
        let frame = self.reader.next().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
        if frame.kind != REPLY_KIND {
            return Err(io::ErrorKind::InvalidData.into());
        }
        frame::take(&frame.payload).map(|(reply, _)| reply).map_err(io::Error::other)
    }
}
