//! A cluster for tests: any number of servers over loopback that share one post office in memory. It knows the
//! protocol of numbers, epochs and nonces, keeps what it accepted for the test to look at, and misbehaves on order.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use openraft_rt::watch::{WatchReceiver as _, WatchSender as _};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;

use crate::limits;
use crate::wire::client::{ClientRow, Delivery, REPLY_KIND, REQUEST_KIND, Reply, Request, SendFailure};
use crate::wire::command::{self, Command};
use crate::wire::frame::{self, Frame};
use crate::wire::*;
use crate::world::{Connection, Network, RealNetwork, RealWorld, WatchReceiver, WatchSender, World, watch};

#[derive(Debug, Default)]
pub(super) struct Inbox {
    pub(super) id: u64,
    nonce: Nonce,
    pub(super) epoch: u64,
    reader: Option<Nonce>,
    pub(super) messages: BTreeMap<u64, (u64, u64, String, Bytes)>,
    last: u64,
    pub(super) floor: u64,
    above: std::collections::BTreeSet<u64>,
    pub(super) detached_at: Option<u64>,
}

#[derive(Debug, Default)]
struct Stream {
    name: String,
    last: u64,
    confirmed: u64,
    outcomes: BTreeMap<u64, SendOutcome>,
    closed: bool,
}

/// What the servers agree on.
#[derive(Debug, Default)]
pub(super) struct Office {
    pub(super) inboxes: BTreeMap<String, Inbox>,
    streams: BTreeMap<u64, Stream>,
    nonces: BTreeMap<Nonce, u64>,
    last_id: u64,
    /// Sends answered with "the disk is full" before they are taken.
    pub(super) full_for: usize,
    pub(super) repeats: usize,
    pub(super) confirms: usize,
    pub(super) acknowledgements: usize,
    pub(super) goodbyes: usize,
}

/// What one server is told to do.
#[derive(Debug, Default)]
pub(super) struct Orders {
    /// Says nothing any more, but keeps its connections.
    pub(super) mute: bool,
    /// Applies so many more sends, then closes the connection without a receipt.
    pub(super) cut_after: Option<usize>,
    /// Tells everybody to move.
    pub(super) moves: bool,
    pub(super) cluster: Option<ClusterId>,
}

pub(super) struct Server {
    pub(super) address: ServerAddress,
    pub(super) orders: Arc<Mutex<Orders>>,
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

pub(super) struct Cluster {
    pub(super) office: Arc<Mutex<Office>>,
    pub(super) servers: Vec<Server>,
    changed: Arc<WatchSender<u64>>,
}

pub(super) const CLUSTER: ClusterId = ClusterId(7);

impl Cluster {
    /// Servers `a`, `b`, `c`… at free ports.
    pub(super) async fn new(count: usize) -> Self {
        let office = Arc::new(Mutex::new(Office::default()));
        let changed = Arc::new(watch(0).0);
        let mut listeners = Vec::new();
        let mut addresses = Vec::new();
        for n in 0..count {
            let listener = RealNetwork.listen("127.0.0.1:0").await.unwrap();
            let name = Name::new(&char::from(b'a' + n as u8).to_string()).unwrap();
            addresses.push(ServerAddress { name, address: listener.address() });
            listeners.push(listener);
        }
        let mut servers = Vec::new();
        for (mut listener, address) in listeners.into_iter().zip(addresses.clone()) {
            let orders = Arc::new(Mutex::new(Orders::default()));
            let tasks = Arc::new(Mutex::new(Vec::new()));
            let session = Session {
                office: Arc::clone(&office),
                orders: Arc::clone(&orders),
                changed: Arc::clone(&changed),
                address: address.clone(),
                servers: addresses.clone(),
                readers: Vec::new(),
                out: BytesMut::new(),
                cut: false,
                moved: false,
            };
            let connections = Arc::clone(&tasks);
            let accepting = RealWorld::spawn(async move {
                while let Ok(connection) = listener.accept().await {
                    let session = session.clone();
                    let changes = session.changed.subscribe();
                    connections.lock().push(RealWorld::spawn(session.serve(connection, changes)));
                }
            });
            tasks.lock().push(accepting);
            servers.push(Server { address, orders, tasks });
        }
        Self { office, servers, changed }
    }

    pub(super) fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.address.address.clone()).collect()
    }

    /// Ends a server: its port refuses, its connections break.
    pub(super) fn kill(&self, server: usize) {
        for task in self.servers[server].tasks.lock().drain(..) {
            task.abort();
        }
    }

    /// Makes the connections look at their orders.
    pub(super) fn stir(&self) {
        self.changed.send_if_modified(|version| {
            *version += 1;
            true
        });
    }

    pub(super) fn expire_streams(&self) {
        self.office.lock().streams.values_mut().for_each(|stream| stream.closed = true);
    }

    /// The bodies in an inbox, in order.
    pub(super) fn bodies(&self, name: &str) -> Vec<String> {
        let office = self.office.lock();
        let body = |content: &Bytes| String::from_utf8(command::decode_content(content).unwrap().1.to_vec()).unwrap();
        office.inboxes[name].messages.values().map(|message| body(&message.3)).collect()
    }
}

#[derive(Clone)]
struct Reader {
    registration: u64,
    name: String,
    epoch: u64,
    window: usize,
    /// The last position that was delivered on this connection.
    delivered: u64,
}

#[derive(Clone)]
struct Session {
    office: Arc<Mutex<Office>>,
    orders: Arc<Mutex<Orders>>,
    changed: Arc<WatchSender<u64>>,
    address: ServerAddress,
    servers: Vec<ServerAddress>,
    readers: Vec<Reader>,
    out: BytesMut,
    cut: bool,
    moved: bool,
}

impl Session {
    async fn serve(mut self, connection: Connection, mut changes: WatchReceiver<u64>) {
        let Connection { mut reader, mut writer, .. } = connection;
        let mut inbound = BytesMut::new();
        let mut magic = false;
        loop {
            tokio::select! {
                biased;
                read = reader.read_buf(&mut inbound) => match read {
                    Ok(0) | Err(_) => return,
                    Ok(_) => {}
                },
                change = changes.changed() => if change.is_err() { return },
            }
            if self.orders.lock().mute {
                continue;
            }
            if !magic && inbound.len() >= 4 {
                assert_eq!(inbound.split_to(4)[..], CLIENT_MAGIC);
                magic = true;
            }
            while magic && !self.cut {
                match frame::split(&mut inbound, limits::CLIENT_FRAME_BYTES_MAX).unwrap() {
                    Some(frame) => self.frame(&frame),
                    None => break,
                }
            }
            if magic && self.orders.lock().moves && !self.moved {
                self.moved = true;
                self.reply(&Reply::Move { reason: Refusal::Stopping });
            }
            self.deliver();
            if self.cut || writer.write_all(&self.out.split()).await.is_err() {
                return;
            }
        }
    }

    fn reply(&mut self, reply: &Reply) {
        frame::put(&mut self.out, REPLY_KIND, reply, &[]);
    }

    fn frame(&mut self, frame: &Frame) {
        match frame.kind {
            REQUEST_KIND => self.request(frame::take::<Request>(&frame.payload).unwrap().0),
            command::KIND => {
                let (command, content) = Command::decode(&frame.payload).unwrap();
                self.command(command, content);
            }
            kind => panic!("a frame of kind {kind}"),
        }
    }

    fn request(&mut self, request: Request) {
        match request {
            Request::Hello { version, cluster, .. } => {
                assert_eq!(version, CLIENT_VERSION);
                let actual = self.orders.lock().cluster.unwrap_or(CLUSTER);
                match cluster {
                    Some(expected) if expected != actual => {
                        let refusal = Refusal::WrongCluster { actual, expected };
                        self.reply(&Reply::Refused { nonce: None, refusal });
                    }
                    _ => {
                        let (server, servers) = (self.address.name.clone(), self.servers.clone());
                        self.reply(&Reply::Welcome { cluster: Some(actual), server, servers });
                    }
                }
            }
            Request::Ping(n) => self.reply(&Reply::Pong(n)),
            Request::Who { nonce, after, limit } => {
                let office = Arc::clone(&self.office);
                let office = office.lock();
                let mut rows =
                    office.inboxes.iter().filter(|(name, _)| after.as_deref().is_none_or(|a| name.as_str() > a));
                let clients = rows
                    .by_ref()
                    .take(limit.min(2) as usize)
                    .map(|(name, inbox)| ClientRow {
                        name: Name::new(name).unwrap(),
                        registration: Id(inbox.id),
                        home: self.address.name.clone(),
                        online: inbox.reader.is_some(),
                        last_seen: Time(0),
                        waiting: inbox.messages.len() as u64,
                        waiting_bytes: 0,
                        streams: 0,
                    })
                    .collect();
                let more = rows.next().is_some();
                self.reply(&Reply::Who { nonce, clients, more });
            }
            Request::Channels { nonce, .. }
            | Request::Members { nonce, .. }
            | Request::History { nonce, .. }
            | Request::Inbox { nonce, .. }
            | Request::Presence { nonce, .. }
            | Request::Status { nonce, .. } => {
                let refusal = Refusal::Malformed("this fake has no such thing".into());
                self.reply(&Reply::Refused { nonce: Some(nonce), refusal });
            }
            Request::AddServer { nonce, .. }
            | Request::RemoveServer { nonce, .. }
            | Request::TransferLeadership { nonce, .. }
            | Request::SetDrained { nonce, .. } => self.reply(&Reply::Done { nonce }),
            Request::Backup { nonce } | Request::ReadBackup { nonce, .. } => {
                let refusal = Refusal::BackupEnded { why: "this fake makes none".into() };
                self.reply(&Reply::Refused { nonce: Some(nonce), refusal });
            }
            // It answers at once anyway.
            Request::Hurry => {}
            Request::Goodbye => {
                self.office.lock().goodbyes += 1;
                self.cut = true;
            }
        }
    }

    fn command(&mut self, command: Command<'_>, content: Bytes) {
        let office = Arc::clone(&self.office);
        let mut office = office.lock();
        let office = &mut *office;
        match command {
            Command::Register { nonce, name, .. } => {
                office.last_id += 1;
                let id = office.last_id;
                let inbox = office.inboxes.entry(name.to_owned()).or_insert(Inbox { id, nonce, ..Inbox::default() });
                let registration = Id(inbox.id);
                if inbox.nonce == nonce {
                    self.reply(&Reply::Registered { nonce, registration });
                } else {
                    let refusal = Refusal::AlreadyRegistered { registration };
                    self.reply(&Reply::Refused { nonce: Some(nonce), refusal });
                }
            }
            Command::Deregister { nonce, name, .. } => match office.inboxes.remove(name) {
                Some(inbox) => {
                    self.stir();
                    let _ = inbox;
                    self.reply(&Reply::Deregistered { nonce });
                }
                None => self.reply(&Reply::Refused { nonce: Some(nonce), refusal: Refusal::NotRegistered }),
            },
            Command::OpenStream { nonce, name } => {
                let Some(inbox) = office.inboxes.get(name) else {
                    return self.reply(&Reply::Refused { nonce: Some(nonce), refusal: Refusal::NotRegistered });
                };
                office.last_id += 1;
                let id = *office.nonces.entry(nonce).or_insert(office.last_id);
                office.streams.entry(id).or_insert(Stream { name: name.to_owned(), ..Stream::default() });
                let registration = Id(inbox.id);
                self.reply(&Reply::StreamOpened { nonce, stream: Id(id), registration });
            }
            Command::CloseStream { nonce, stream } => {
                if let Some(stream) = office.streams.get_mut(&stream.0) {
                    stream.closed = true;
                }
                self.reply(&Reply::StreamClosed { nonce });
            }
            Command::Send { stream, number, confirmed, to } => {
                self.send(office, stream, number, confirmed, to, content)
            }
            Command::Confirm { stream, confirmed } => {
                office.confirms += 1;
                if let Some(stream) = office.streams.get_mut(&stream.0) {
                    stream.confirmed = stream.confirmed.max(confirmed.0);
                }
            }
            Command::Attach { nonce, name, expected, window, .. } => {
                let Some(inbox) = office.inboxes.get_mut(name) else {
                    return self.reply(&Reply::Refused { nonce: Some(nonce), refusal: Refusal::NotRegistered });
                };
                if inbox.reader != Some(nonce) {
                    if inbox.epoch != expected.0 {
                        let refusal = Refusal::EpochMoved { current: Epoch(inbox.epoch) };
                        return self.reply(&Reply::Refused { nonce: Some(nonce), refusal });
                    }
                    inbox.epoch += 1;
                    inbox.reader = Some(nonce);
                    self.stir();
                }
                let (registration, epoch, acknowledged) = (Id(inbox.id), Epoch(inbox.epoch), Position(inbox.floor));
                self.readers.retain(|reader| reader.registration != inbox.id || reader.epoch != inbox.epoch);
                self.readers.push(Reader {
                    registration: inbox.id,
                    name: name.to_owned(),
                    epoch: inbox.epoch,
                    window: window as usize,
                    delivered: inbox.floor,
                });
                self.reply(&Reply::Attached { nonce, registration, epoch, acknowledged });
            }
            Command::Detach { nonce, registration, epoch, delivered } => {
                if let Some(inbox) = office.inboxes.values_mut().find(|i| i.id == registration.0 && i.epoch == epoch.0)
                {
                    inbox.reader = None;
                    inbox.detached_at = delivered.map(|position| position.0);
                }
                self.readers.retain(|reader| reader.registration != registration.0);
                self.reply(&Reply::Detached { nonce });
            }
            Command::Acknowledge { registration, epoch, up_to, ranges } => {
                office.acknowledgements += 1;
                let Some(inbox) = office.inboxes.values_mut().find(|i| i.id == registration.0 && i.epoch == epoch.0)
                else {
                    return;
                };
                inbox.floor = inbox.floor.max(up_to.0);
                inbox.above.extend(ranges.iter().flat_map(|(low, high)| low.0..=high.0));
                while inbox.above.remove(&(inbox.floor + 1)) {
                    inbox.floor += 1;
                }
                inbox.messages.retain(|position, _| *position > inbox.floor && !inbox.above.contains(position));
                let up_to = Position(inbox.floor);
                self.reply(&Reply::Acknowledged { registration, epoch, up_to });
            }
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
            | Command::Post { .. }
            | Command::CollectReceipts { .. }
            | Command::CreateChannel { .. }
            | Command::DeleteChannel { .. }
            | Command::Enlist { .. }
            | Command::SetDrained { .. } => {
                panic!("no client sends {command:?}")
            }
        }
    }

    fn send(&mut self, office: &mut Office, id: StreamId, number: Number, confirmed: Number, to: &str, content: Bytes) {
        let fail = |reason| Reply::SendFailed { stream: id, number, reason };
        let Some(stream) = office.streams.get_mut(&id.0).filter(|stream| !stream.closed) else {
            return self.reply(&fail(SendFailure::StreamClosed));
        };
        if office.full_for > 0 {
            office.full_for -= 1;
            return self.reply(&fail(SendFailure::Unavailable(Refusal::DiskFull)));
        }
        stream.confirmed = stream.confirmed.max(confirmed.0);
        if number.0 > stream.last + 1 {
            return self.reply(&fail(SendFailure::Gap { expected: Number(stream.last + 1) }));
        }
        if number.0 <= stream.last {
            office.repeats += 1;
            let outcome = stream.outcomes[&number.0];
            return self.reply(&Reply::Receipts { stream: id, first: number, outcomes: vec![outcome] });
        }
        assert!(number.0 - stream.confirmed <= u64::from(limits::STREAM_WINDOW_DEFAULT), "the window is kept");
        let outcome = match office.inboxes.get_mut(to) {
            Some(inbox) => {
                inbox.last += 1;
                inbox.messages.insert(inbox.last, (id.0, number.0, stream.name.clone(), content));
                SendOutcome::Accepted(Position(inbox.last))
            }
            None => SendOutcome::Refused(SendRefusal::NoSuchClient),
        };
        stream.last = number.0;
        stream.outcomes.insert(number.0, outcome);
        self.stir();
        let mut orders = self.orders.lock();
        if let Some(left) = &mut orders.cut_after {
            if *left == 0 {
                orders.cut_after = None;
                self.cut = true;
                return;
            }
            *left -= 1;
        }
        drop(orders);
        self.reply(&Reply::Receipts { stream: id, first: number, outcomes: vec![outcome] });
    }

    fn stir(&self) {
        self.changed.send_if_modified(|version| {
            *version += 1;
            true
        });
    }

    /// Fences readers whose epoch is over, and delivers to the others within their window.
    fn deliver(&mut self) {
        let office = Arc::clone(&self.office);
        let office = office.lock();
        for mut reader in std::mem::take(&mut self.readers) {
            let (registration, epoch) = (Id(reader.registration), Epoch(reader.epoch));
            let inbox = office.inboxes.get(&reader.name).filter(|inbox| inbox.id == reader.registration);
            let Some(inbox) = inbox.filter(|inbox| inbox.epoch == reader.epoch) else {
                let by = inbox.map(|inbox| Epoch(inbox.epoch));
                self.reply(&Reply::Fenced { registration, epoch, by });
                continue;
            };
            let (mut deliveries, mut contents) = (Vec::new(), Vec::new());
            for (&position, (stream, number, from, content)) in inbox.messages.iter().take(reader.window) {
                if position > reader.delivered {
                    reader.delivered = position;
                    contents.extend_from_slice(content);
                    deliveries.push(Delivery {
                        channel: None,
                        notice: None,
                        position: Position(position),
                        message: Id(position),
                        from: Name::new(from).unwrap(),
                        stream: Id(*stream),
                        number: Number(*number),
                        time: Time(0),
                        redelivered: false,
                        content_bytes: content.len() as u32,
                    });
                }
            }
            if !deliveries.is_empty() {
                frame::put(&mut self.out, REPLY_KIND, &Reply::Deliver { registration, epoch, deliveries }, &contents);
            }
            self.readers.push(reader);
        }
    }
}
