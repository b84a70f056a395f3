//! The toy's server: one task that owns everything, one per connection.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use rand::RngExt;
use restante::wire::frame;
use restante::world::{BoxFuture, Disk, Event, File, Listener, OpenMode, World};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use xxhash_rust::xxh3::xxh3_64;

use super::{Flaw, Letter, PORT, Pipe, Reply, Request, Toy};
use crate::scenario::{Ending, ServerSeat};

#[derive(Debug, Clone, Serialize, Deserialize)]
enum Record {
    Put(Letter),
    Attach { inbox: String, nonce: u64 },
    Acknowledge { inbox: String, to: u64 },
}

#[derive(Debug, Default)]
struct Inbox {
    letters: Vec<Letter>,
    acknowledged: u64,
    epoch: u64,
    nonce: u64,
    /// Positions up to here may have been delivered to an earlier reader.
    marked: u64,
}

#[derive(Debug, Default)]
struct State {
    inboxes: BTreeMap<String, Inbox>,
    seen: BTreeMap<(String, u64, u64), u64>,
}

type Call = (Request, oneshot::Sender<Reply>);

/// Boxed here, while the world is a parameter: of a concrete one rustc cannot show that the future is `Send`
/// (<https://github.com/rust-lang/rust/issues/102211>).
pub(super) fn start<W: World>(toy: Toy, seat: ServerSeat) -> BoxFuture<'static, Result<(), Ending>> {
    Box::pin(run::<W>(toy, seat))
}

async fn run<W: World>(toy: Toy, seat: ServerSeat) -> Result<(), Ending> {
    let disk = seat.host.disk.clone().ok_or_else(|| Ending::Other("a server needs a disk".to_owned()))?;
    let opened = W::blocking(move || open(&*disk)).await;
    let Opened { file, mut state, mut end } = opened.map_err(|error| Ending::Disk(error.to_string()))?;
    let listener = seat.host.network.listen(&format!("{}:{PORT}", seat.name)).await.map_err(|e| e.to_string())?;
    let (calls, mut inbox) = mpsc::channel(256);
    W::spawn(accept::<W>(listener, calls));
    let mut answered = 0u64;
    while let Some(first) = inbox.recv().await {
        let mut batch = vec![first];
        while let Ok(next) = inbox.try_recv() {
            batch.push(next);
        }
        let mut written = BytesMut::new();
        let mut replies = Vec::new();
        for (request, reply) in batch {
            answered += 1;
            assert!(!(toy.has(Flaw::Panics) && answered.is_multiple_of(97)), "the toy panics, on purpose");
            let (record, answer) = state.answer(toy, request);
            if let Some(record) = record {
                W::observe(|| Event { kind: "apply", who: None, detail: format!("{}", xxh3_64(&encode(&record))) });
                put_record(&mut written, &record);
            }
            replies.push((reply, answer));
        }
        if toy.has(Flaw::Stops) && answered > 300 {
            std::future::pending::<()>().await;
        }
        if !written.is_empty() {
            let (file, bytes, at) = (file.clone(), written.freeze(), end);
            end += bytes.len() as u64;
            let wrote = W::blocking(move || {
                file.write_at(at, &bytes)?;
                if toy.has(Flaw::NoSync) { Ok(()) } else { file.sync() }
            });
            wrote.await.map_err(|error| Ending::Disk(error.to_string()))?;
        }
        for (reply, answer) in replies {
            // A client that has gone needs no answer.
            let _ = reply.send(answer);
        }
    }
    Err(Ending::Other("the listener has gone".to_owned()))
}

async fn accept<W: World>(mut listener: Box<dyn Listener>, calls: mpsc::Sender<Call>) {
    loop {
        let Ok(connection) = listener.accept().await else { continue };
        let calls = calls.clone();
        W::spawn(async move {
            let mut pipe = Pipe::new(connection);
            while let Ok(request) = pipe.receive::<Request>().await {
                let (reply, answer) = oneshot::channel();
                if calls.send((request, reply)).await.is_err() {
                    return;
                }
                let Ok(answer) = answer.await else { return };
                // A draw and a wait, so that connections overtake each other.
                W::sleep(Duration::from_millis(W::rng().random_range(0..3))).await;
                if pipe.send(&answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

impl State {
    fn answer(&mut self, toy: Toy, request: Request) -> (Option<Record>, Reply) {
        match request {
            Request::Put(letter) => {
                let key = (letter.from.clone(), letter.stream, letter.number);
                if let Some(position) = self.seen.get(&key).filter(|_| !toy.has(Flaw::NoMemory)) {
                    return (None, Reply::Accepted { position: *position });
                }
                let record = Record::Put(letter.clone());
                let position = self.inboxes.get(&letter.to).map_or(0, |inbox| inbox.letters.len() as u64) + 1;
                self.apply(record.clone());
                (Some(record), Reply::Accepted { position })
            }
            Request::Attach { inbox: name, expected, nonce } => {
                let inbox = self.inboxes.entry(name.clone()).or_default();
                if inbox.nonce != nonce && inbox.epoch != expected {
                    return (None, Reply::Moved { current: inbox.epoch });
                }
                let record = (inbox.nonce != nonce).then_some(Record::Attach { inbox: name.clone(), nonce });
                if let Some(record) = &record {
                    self.apply(record.clone());
                }
                let inbox = self.inboxes.entry(name).or_default();
                (record, Reply::Attached { epoch: inbox.epoch, acknowledged: inbox.acknowledged })
            }
            Request::Get { inbox, epoch, after } => {
                let inbox = self.inboxes.entry(inbox).or_default();
                if inbox.epoch != epoch && !toy.has(Flaw::NoFence) {
                    return (None, Reply::Fenced);
                }
                (None, Reply::Letters(inbox.letters_after(toy, after)))
            }
            Request::Acknowledge { inbox: name, epoch, to } => {
                let inbox = self.inboxes.entry(name.clone()).or_default();
                if inbox.epoch != epoch && !toy.has(Flaw::NoFence) {
                    return (None, Reply::Fenced);
                }
                let record = Record::Acknowledge { inbox: name, to };
                self.apply(record.clone());
                (Some(record), Reply::Acknowledged)
            }
        }
    }

    fn apply(&mut self, record: Record) {
        match record {
            Record::Put(letter) => {
                let inbox = self.inboxes.entry(letter.to.clone()).or_default();
                let key = (letter.from.clone(), letter.stream, letter.number);
                inbox.letters.push(letter);
                self.seen.insert(key, inbox.letters.len() as u64);
            }
            Record::Attach { inbox, nonce } => {
                let inbox = self.inboxes.entry(inbox).or_default();
                if inbox.epoch > 0 {
                    inbox.marked = inbox.letters.len() as u64;
                }
                inbox.epoch += 1;
                inbox.nonce = nonce;
            }
            Record::Acknowledge { inbox, to } => {
                let inbox = self.inboxes.entry(inbox).or_default();
                inbox.acknowledged = inbox.acknowledged.max(to);
            }
        }
    }
}

impl Inbox {
    fn letters_after(&self, toy: Toy, after: u64) -> Vec<(u64, bool, Letter)> {
        let from = after.max(self.acknowledged);
        let letters = self.letters.iter().enumerate().skip(from as usize).take(8);
        let mut letters: Vec<_> = letters
            .map(|(at, letter)| {
                let position = at as u64 + 1;
                let mut letter = letter.clone();
                if toy.has(Flaw::Garbles) && position.is_multiple_of(7) {
                    let mut body = letter.body.to_vec();
                    body.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1);
                    letter.body = Bytes::from(body);
                }
                (position, position <= self.marked && !toy.has(Flaw::NoMark), letter)
            })
            .collect();
        if toy.has(Flaw::NoOrder) {
            letters.reverse();
        }
        letters
    }
}

/// The log as it was found.
struct Opened {
    file: Arc<dyn File>,
    state: State,
    /// Where the next record goes.
    end: u64,
}

fn open(disk: &dyn Disk) -> std::io::Result<Opened> {
    let file = disk.open("log", OpenMode::Create)?;
    disk.sync_directory("")?;
    let mut bytes = vec![0; file.len()? as usize];
    file.read_at(0, &mut bytes)?;
    let mut state = State::default();
    let mut rest = &bytes[..];
    let mut end = 0;
    while let Some((record, taken)) = take_record(rest) {
        state.apply(record);
        rest = &rest[taken..];
        end += taken as u64;
    }
    // What is behind the last whole record was never answered for.
    file.set_len(end)?;
    file.sync()?;
    Ok(Opened { file, state, end })
}

fn encode(record: &Record) -> BytesMut {
    let mut bytes = BytesMut::new();
    frame::put_postcard(&mut bytes, record);
    bytes
}

fn put_record(out: &mut BytesMut, record: &Record) {
    let bytes = encode(record);
    out.put_u32_le(bytes.len() as u32);
    out.put_u64_le(xxh3_64(&bytes));
    out.put_slice(&bytes);
}

fn take_record(bytes: &[u8]) -> Option<(Record, usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (digest, rest) = rest.split_first_chunk::<8>()?;
    let payload = rest.get(..u32::from_le_bytes(*length) as usize)?;
    if payload.is_empty() || xxh3_64(payload) != u64::from_le_bytes(*digest) {
        return None;
    }
    frame::take(payload).ok().map(|(record, _)| (record, 12 + payload.len()))
}
