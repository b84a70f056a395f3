//! A server that only answers: the ceiling of whoever makes the load.
//!
//! It speaks the clients' protocol, gives each send its receipt and its recipient the message, and keeps, syncs,
//! replicates and compares nothing. What `restante bench` reaches against it is what the clients, the protocol and the
//! loopback allow.
//!
//! ```sh
//! cargo run --release --features answerer --bin answerer -- 127.0.0.1:9900 &
//! restante bench --servers 127.0.0.1:9900 w1
//! ```

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use restante::limits;
use restante::wire::client::{ClientRow, Delivery, REPLY_KIND, REQUEST_KIND, Reply, Request};
use restante::wire::command::{self, Command};
use restante::wire::frame::{self, Frame};
use restante::wire::{
    ClusterId, Epoch, Id, Name, Number, Position, Refusal, SendOutcome, SendRefusal, ServerAddress, StreamId, Time,
};
use restante::world::{Network as _, RealNetwork};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::Notify;
use tokio::task::LocalSet;

/// Deliveries in one frame, at most.
const DELIVERIES_MAX: usize = 1024;

/// One thread, as a server on a small machine has.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(address) = std::env::args().skip(1).find(|argument| !argument.starts_with('-')) else {
        eprintln!("say where to listen, e.g. 127.0.0.1:9900");
        return ExitCode::FAILURE;
    };
    LocalSet::new().run_until(serve(address)).await
}

async fn serve(address: String) -> ExitCode {
    let mut listener = match RealNetwork.listen(&address).await {
        Ok(listener) => listener,
        Err(error) => {
            eprintln!("cannot listen at {address}: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("answers at {}", listener.address());
    let office = Rc::new(RefCell::new(Office::default()));
    loop {
        let mut connection = match listener.accept().await {
            Ok(connection) => connection,
            Err(error) => {
                eprintln!("cannot accept: {error}");
                return ExitCode::FAILURE;
            }
        };
        let mut session = Session {
            office: Rc::clone(&office),
            address: address.clone(),
            out: BytesMut::new(),
            receipts: None,
            mail: Rc::default(),
        };
        tokio::task::spawn_local(async move {
            let mut inbound = BytesMut::with_capacity(64 << 10);
            let mut greeted = false;
            loop {
                let mail = Rc::clone(&session.mail);
                tokio::select! {
                    biased;
                    read = connection.reader.read_buf(&mut inbound) => match read {
                        Ok(0) | Err(_) => return,
                        Ok(_) => {}
                    },
                    () = mail.stirred.notified() => {}
                }
                if !greeted && inbound.len() >= 4 {
                    let _magic = inbound.split_to(4);
                    greeted = true;
                }
                while greeted && let Ok(Some(frame)) = frame::split(&mut inbound, limits::CLIENT_FRAME_BYTES_MAX) {
                    if session.frame(&frame).is_none() {
                        return;
                    }
                }
                session.tell_receipts();
                session.deliver();
                if connection.writer.write_all(&session.out.split()).await.is_err() {
                    return;
                }
            }
        });
    }
}

#[derive(Default)]
struct Office {
    inboxes: BTreeMap<String, Inbox>,
    /// The senders' names.
    streams: BTreeMap<u64, Name>,
    last_id: u64,
}

struct Inbox {
    id: u64,
    epoch: u64,
    last: u64,
    reader: Option<Rc<Mail>>,
}

/// What waits for the connection of a reader.
#[derive(Default)]
struct Mail {
    waiting: RefCell<Vec<(Id, Epoch, Delivery, Bytes)>>,
    stirred: Notify,
}

struct Session {
    office: Rc<RefCell<Office>>,
    address: String,
    out: BytesMut,
    /// Receipts that are told together.
    receipts: Option<(StreamId, Number, Vec<SendOutcome>)>,
    mail: Rc<Mail>,
}

impl Session {
    fn reply(&mut self, reply: &Reply) {
        frame::put(&mut self.out, REPLY_KIND, reply, &[]);
    }

    fn refuse(&mut self, nonce: restante::wire::Nonce, refusal: Refusal) {
        self.reply(&Reply::Refused { nonce: Some(nonce), refusal });
    }

    /// `None`: the connection ends.
    fn frame(&mut self, frame: &Frame) -> Option<()> {
        match frame.kind {
            REQUEST_KIND => self.request(frame::take::<Request>(&frame.payload).ok()?.0),
            command::KIND => {
                let (command, content) = Command::decode(&frame.payload).ok()?;
                self.command(&command, content)
            }
            _ => None,
        }
    }

    fn request(&mut self, request: Request) -> Option<()> {
        match request {
            Request::Hello { .. } => {
                let server = Name::new("answerer").ok()?;
                let servers = vec![ServerAddress { name: server.clone(), address: self.address.clone() }];
                self.reply(&Reply::Welcome { cluster: Some(ClusterId(1)), server, servers });
            }
            Request::Ping(n) => self.reply(&Reply::Pong(n)),
            Request::Who { nonce, after, limit } => {
                let office = Rc::clone(&self.office);
                let office = office.borrow();
                let mut rows =
                    office.inboxes.iter().filter(|(name, _)| after.as_deref().is_none_or(|a| name.as_str() > a));
                let row = |(name, inbox): (&String, &Inbox)| {
                    Some(ClientRow {
                        name: Name::new(name).ok()?,
                        registration: Id(inbox.id),
                        home: Name::new("answerer").ok()?,
                        online: inbox.reader.is_some(),
                        last_seen: Time(0),
                        waiting: 0,
                        waiting_bytes: 0,
                        streams: 0,
                    })
                };
                let clients = rows.by_ref().take(limit as usize).filter_map(row).collect();
                let more = rows.next().is_some();
                self.reply(&Reply::Who { nonce, clients, more });
            }
            Request::Hurry => {}
            Request::Goodbye => return None,
            _ => return None,
        }
        Some(())
    }

    fn command(&mut self, command: &Command<'_>, content: Bytes) -> Option<()> {
        let office = Rc::clone(&self.office);
        let office = &mut *office.borrow_mut();
        match command {
            Command::Register { nonce, name, .. } => {
                office.last_id += 1;
                let id = office.last_id;
                office.inboxes.insert((*name).to_owned(), Inbox { id, epoch: 0, last: 0, reader: None });
                self.reply(&Reply::Registered { nonce: *nonce, registration: Id(id) });
            }
            Command::Deregister { nonce, name, .. } => {
                office.inboxes.remove(*name);
                self.reply(&Reply::Deregistered { nonce: *nonce });
            }
            Command::OpenStream { nonce, name } => {
                let Some(inbox) = office.inboxes.get(*name) else {
                    self.refuse(*nonce, Refusal::NotRegistered);
                    return Some(());
                };
                office.last_id += 1;
                office.streams.insert(office.last_id, Name::new(name).ok()?);
                let (stream, registration) = (Id(office.last_id), Id(inbox.id));
                self.reply(&Reply::StreamOpened { nonce: *nonce, stream, registration });
            }
            Command::CloseStream { nonce, stream } => {
                office.streams.remove(&stream.0);
                self.reply(&Reply::StreamClosed { nonce: *nonce });
            }
            Command::Send { stream, number, to, .. } => self.send(office, *stream, *number, to, content)?,
            Command::Attach { nonce, name, .. } => {
                let Some(inbox) = office.inboxes.get_mut(*name) else {
                    self.refuse(*nonce, Refusal::NotRegistered);
                    return Some(());
                };
                inbox.epoch += 1;
                inbox.reader = Some(Rc::clone(&self.mail));
                let (registration, epoch) = (Id(inbox.id), Epoch(inbox.epoch));
                let acknowledged = Position(inbox.last);
                self.reply(&Reply::Attached { nonce: *nonce, registration, epoch, acknowledged });
            }
            Command::Detach { nonce, registration, .. } => {
                if let Some(inbox) = office.inboxes.values_mut().find(|inbox| inbox.id == registration.0) {
                    inbox.reader = None;
                }
                self.reply(&Reply::Detached { nonce: *nonce });
            }
            Command::Acknowledge { registration, epoch, up_to, .. } => {
                self.reply(&Reply::Acknowledged { registration: *registration, epoch: *epoch, up_to: *up_to });
            }
            Command::Confirm { .. } => {}
            _ => return None,
        }
        Some(())
    }

    fn send(&mut self, office: &mut Office, stream: StreamId, number: Number, to: &str, content: Bytes) -> Option<()> {
        let outcome = match office.inboxes.get_mut(to) {
            Some(inbox) => {
                inbox.last += 1;
                let position = Position(inbox.last);
                if let Some(reader) = &inbox.reader {
                    let delivery = Delivery {
                        position,
                        message: Id(number.0),
                        from: office.streams.get(&stream.0)?.clone(),
                        stream,
                        number,
                        time: Time(0),
                        redelivered: false,
                        content_bytes: content.len() as u32,
                        channel: None,
                        notice: None,
                    };
                    reader.waiting.borrow_mut().push((Id(inbox.id), Epoch(inbox.epoch), delivery, content));
                    reader.stirred.notify_one();
                }
                SendOutcome::Accepted(position)
            }
            None => SendOutcome::Refused(SendRefusal::NoSuchClient),
        };
        match &mut self.receipts {
            Some((of, first, outcomes)) if *of == stream && first.0 + outcomes.len() as u64 == number.0 => {
                outcomes.push(outcome);
            }
            _ => {
                self.tell_receipts();
                self.receipts = Some((stream, number, vec![outcome]));
            }
        }
        Some(())
    }

    fn tell_receipts(&mut self) {
        if let Some((stream, first, outcomes)) = self.receipts.take() {
            self.reply(&Reply::Receipts { stream, first, outcomes });
        }
    }

    /// One frame for what came for one inbox in a row.
    fn deliver(&mut self) {
        let waiting = self.mail.waiting.take();
        for run in waiting.chunk_by(|one, other| one.0 == other.0 && one.1 == other.1) {
            for part in run.chunks(DELIVERIES_MAX) {
                let deliveries = part.iter().map(|(_, _, delivery, _)| delivery.clone()).collect();
                let contents: Vec<u8> = part.iter().flat_map(|(_, _, _, content)| content.iter().copied()).collect();
                let reply = Reply::Deliver { registration: part[0].0, epoch: part[0].1, deliveries };
                frame::put(&mut self.out, REPLY_KIND, &reply, &contents);
            }
        }
    }
}
