//! A client without a session: speaks HTTP to whichever server it likes, and reads its inbox that way, too.
//!
//! What it puts under a number is asked again until it is answered, at one server after another. What it shares without
//! one is asked once, since a repeat may be a second message, and is unknown if no answer comes.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt};
use restante::world::{Connection, World};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::address;
use super::client::{Me, Rest, sleep_in_faults};
use crate::history::{SendKey, What, Why};
use crate::scenario::{ClientSeat, Stage};

/// How long a server has for an answer, apart from a wait that was asked for.
const PATIENCE: Duration = Duration::from_millis(1500);
/// The same of a send that is asked only once: longer than a server tries.
const ONCE: Duration = Duration::from_secs(6);
/// The pause before the next server is tried.
const PAUSE: Duration = Duration::from_millis(40);
/// Sends during the faults.
const SENDS: u32 = 40;

/// What a server answered.
pub(super) type Answer = (u64, Value);

/// One connection at a time, to one server or another.
pub(super) struct Browser {
    pub(super) seat: ClientSeat,
    line: Option<(String, Connection, Vec<u8>)>,
    /// Servers that gave no answer, or "not now", when they were asked last: whoever can choose asks another one.
    silent: BTreeSet<String>,
}

impl Browser {
    pub(super) fn new(seat: ClientSeat) -> Self {
        Self { seat, line: None, silent: BTreeSet::new() }
    }

    /// Asks until there is an answer that is not "not now".
    pub(super) async fn insist<W: World>(&mut self, method: &str, target: &str, body: &Value) -> Answer {
        loop {
            let body = Some(body).filter(|body| !body.is_null());
            match self.ask::<W>(method, target, body, PATIENCE).await {
                Some(answer) if answer.0 != 503 && answer.0 != 504 => return answer,
                _ => W::sleep(PAUSE).await,
            }
        }
    }

    /// Asks once. `None` if there was no answer: what was asked may have come about all the same.
    pub(super) async fn ask<W: World>(
        &mut self,
        method: &str,
        target: &str,
        body: Option<&Value>,
        patience: Duration,
    ) -> Option<Answer> {
        let (server, mut connection, mut buffer) = match self.line.take() {
            Some(line) => line,
            None => self.connect::<W>().await?,
        };
        let mut request = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n", address(&server));
        let text = body.map(Value::to_string).unwrap_or_default();
        request += &format!("content-length: {}\r\n\r\n{text}", text.len());
        let asking = async {
            connection.writer.write_all(request.as_bytes()).await?;
            connection.writer.flush().await?;
            answer(&mut connection, &mut buffer).await
        };
        let answered = W::timeout(patience, asking).await;
        let Ok(Ok((answer, closes))) = answered else {
            self.silent.insert(server);
            return None;
        };
        if matches!(answer.0, 503 | 504) {
            self.silent.insert(server);
        } else if !closes && self.seat.random.random_bool(0.7) {
            self.line = Some((server, connection, buffer));
        }
        Some(answer)
    }

    /// Connects unless it is connected. Nothing is sent.
    async fn is_connected<W: World>(&mut self) -> bool {
        if self.line.is_none() {
            self.line = self.connect::<W>().await;
        }
        self.line.is_some()
    }

    async fn connect<W: World>(&mut self) -> Option<(String, Connection, Vec<u8>)> {
        let mut servers = self.seat.plan.server_hosts();
        servers.retain(|server| !self.silent.contains(server));
        if servers.is_empty() {
            self.silent.clear();
            servers = self.seat.plan.server_hosts();
        }
        let server = servers[self.seat.random.random_range(0..servers.len())].clone();
        let at = address(&server);
        let connecting = self.seat.host.network.connect(&at);
        match W::timeout(PATIENCE, connecting).await {
            Ok(Ok(connection)) => Some((server, connection, Vec::new())),
            Ok(Err(_)) | Err(_) => {
                self.silent.insert(server);
                None
            }
        }
    }

    pub(super) fn write(&self, what: What) {
        self.seat.journal.write(&self.seat.process, what);
    }
}

/// Reads one answer, and whether the server closes the connection behind it.
async fn answer(connection: &mut Connection, buffer: &mut Vec<u8>) -> io::Result<(Answer, bool)> {
    let bad = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut fill = async |buffer: &mut Vec<u8>| match connection.reader.read_buf(buffer).await {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        read => read,
    };
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        fill(buffer).await?;
    };
    let head = String::from_utf8(buffer.drain(..end).collect()).map_err(|_| bad("no text"))?.to_lowercase();
    let status = head.strip_prefix("http/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    let status = status.ok_or_else(|| bad("no status"))?;
    let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let length: usize = header("content-length").and_then(|text| text.parse().ok()).ok_or_else(|| bad("no length"))?;
    let closes = header("connection") == Some("close");
    while buffer.len() < length {
        fill(buffer).await?;
    }
    let body: Vec<u8> = buffer.drain(..length).collect();
    let mut value: Value = serde_json::from_slice(&body).map_err(|_| bad("no JSON"))?;
    if let Some(position) = header("restante-position").and_then(|text| text.parse::<u64>().ok()) {
        value["position"] = position.into();
    }
    Ok(((status, value), closes))
}

/// Sends, numbered and not.
pub(super) async fn run<W: World>(seat: ClientSeat, me: Arc<Me>, rest: Arc<Rest>) -> Result<(), String> {
    let stages = seat.stages.clone();
    let mut sender = Sender { browser: Browser::new(seat), me, stream: None };
    for _ in 0..SENDS {
        let pause = Duration::from_millis(sender.browser.seat.random.random_range(0..300));
        sleep_in_faults::<W>(&stages, pause).await;
        if stages.have_reached(Stage::Core) {
            break;
        }
        match sender.browser.seat.random.random_range(0..10) {
            0..5 => sender.put::<W>().await?,
            5..9 => sender.share::<W>().await?,
            _ => sender.moves::<W>().await?,
        }
    }
    for (healing, service) in [(Stage::Core, Stage::CoreService), (Stage::Heal, Stage::Calm)] {
        stages.reached(healing).await;
        rest.at(healing);
        stages.reached(service).await;
        if stages.current() == service {
            sender.put::<W>().await?;
        }
        rest.at(service);
    }
    Ok(())
}

struct Sender {
    browser: Browser,
    me: Arc<Me>,
    /// The stream, as the cluster and as the journal count it, and its last number that was answered.
    stream: Option<(u64, u64, u64)>,
}

impl Sender {
    /// Another message to somebody: its recipient, text and digest.
    fn message(&mut self, send: &SendKey) -> (String, String, u64) {
        let seat = &mut self.browser.seat;
        let clients = seat.plan.client_names();
        let to = clients[seat.random.random_range(0..clients.len())].clone();
        // Bodies of filler are no text: what they tell is.
        let (body, digest) = send.body(0);
        (to, String::from_utf8_lossy(&body).into_owned(), digest)
    }

    /// A numbered send, again and again until it is answered, and then perhaps again.
    async fn put<W: World>(&mut self) -> Result<(), String> {
        let (stream, name, last) = self.open::<W>().await?;
        let send = SendKey { sender: self.me.name.to_string(), stream: name, number: last + 1 };
        let (to, text, digest) = self.message(&send);
        self.browser.write(What::Invoked { send: send.clone(), to: to.clone(), digest });
        let confirmed = if self.browser.seat.random.random_bool(0.5) { last } else { 0 };
        let body = json!({ "receiver_id": to, "message": text, "confirmed": confirmed });
        let target = format!("/streams/{stream}/{}", last + 1);
        let (mut answers, wanted) = (0, 1 + self.browser.seat.random.random_range(0..=2));
        while answers < wanted {
            if answers > 0 {
                self.browser.write(What::Resent { send: send.clone() });
            }
            let (status, answer) = self.browser.insist::<W>("PUT", &target, &body).await;
            let refused = |why| What::Refused { send: send.clone(), why };
            let what = match (status, answer["reason"].as_str()) {
                (200, _) => {
                    let position = answer["position"].as_u64().unwrap_or(0);
                    What::Accepted { send: send.clone(), position }
                }
                (422, Some("no_such_client")) => refused(Why::NoSuchClient),
                (422, Some("inbox_full")) => refused(Why::InboxFull),
                (410, Some("stream_closed")) => {
                    // An earlier copy may have been carried out before the stream was closed.
                    if answers == 0 {
                        self.browser.write(What::Unknown { send });
                    }
                    self.stream = None;
                    return Ok(());
                }
                // Unconfirmed ones fill a small window: the same number goes again, with more confirmed.
                (429, Some("window_full")) if answers == 0 => {
                    self.browser.write(What::Unknown { send });
                    self.stream = None;
                    return Ok(());
                }
                _ => {
                    self.stream = None;
                    refused(Why::Other(format!("{status} {answer}")))
                }
            };
            self.browser.write(what);
            answers += 1;
        }
        if let Some(stream) = &mut self.stream {
            stream.2 = last + 1;
        }
        Ok(())
    }

    /// A send without a number, once.
    async fn share<W: World>(&mut self) -> Result<(), String> {
        if !self.browser.is_connected::<W>().await {
            return Ok(());
        }
        let sender = self.me.name.to_string();
        let stream = SendKey::UNNUMBERED + self.browser.seat.journal.next_stream();
        let send = SendKey { sender: sender.clone(), stream, number: 1 };
        let (to, text, digest) = self.message(&send);
        self.browser.write(What::Invoked { send: send.clone(), to: to.clone(), digest });
        let body = json!({ "sender_id": sender, "receiver_id": to, "message": text });
        let answer = self.browser.ask::<W>("POST", "/share", Some(&body), ONCE).await;
        let refused = |why| What::Refused { send: send.clone(), why };
        let what = match &answer {
            None | Some((504, _)) => What::Unknown { send },
            Some((200, answer)) if answer["message"] == format!("Message from {sender} to {to}: {text}") => {
                What::Accepted { send, position: answer["position"].as_u64().unwrap_or(0) }
            }
            Some((503 | 429, _)) => refused(Why::NotSent),
            Some((422, _)) => refused(Why::InboxFull),
            Some((400, answer)) if answer["detail"] == format!("{to} is not registered") => refused(Why::NoSuchClient),
            Some((400, answer)) if self.me.renews && answer["message"] == "Invalid data" => refused(Why::NotSent),
            Some((status, answer)) => refused(Why::Other(format!("{status} {answer}"))),
        };
        self.browser.write(what);
        Ok(())
    }

    /// Asks to be moved, or registers again at another server, as old clients do.
    async fn moves<W: World>(&mut self) -> Result<(), String> {
        let seat = &mut self.browser.seat;
        let servers = seat.plan.servers.clone();
        let server = &servers[seat.random.random_range(0..servers.len())];
        let body = json!({ "client_id": self.me.name.as_str(), "server": server });
        // A registration that ends by its client's own wish must not begin again by this one.
        let again = !self.me.renews && seat.random.random_bool(0.5);
        let target = if again { "/register" } else { "/check_and_move" };
        let answer = self.browser.ask::<W>("POST", target, Some(&body), PATIENCE).await;
        match &answer {
            None | Some((200 | 503 | 504, _)) => Ok(()),
            // That server may be down or gone as well.
            Some((400, answer)) if answer["message"] == "Invalid data" => Ok(()),
            Some((400, answer)) if self.me.renews && answer["message"] == "Invalid client_id" => Ok(()),
            Some((status, answer)) => Err(format!("{target} was answered by {status} {answer}")),
        }
    }

    /// The stream that is open, or another one.
    async fn open<W: World>(&mut self) -> Result<(u64, u64, u64), String> {
        if let Some(stream) = self.stream {
            return Ok(stream);
        }
        let body = json!({ "client_id": self.me.name.as_str(), "nonce": nonce(&mut self.browser.seat) });
        loop {
            let (status, answer) = self.browser.insist::<W>("POST", "/streams", &body).await;
            match (status, answer["stream"].as_u64()) {
                (200, Some(id)) => {
                    let stream = (id, self.browser.seat.journal.next_stream(), 0);
                    self.stream = Some(stream);
                    return Ok(stream);
                }
                // The library registers it again.
                (404, _) if self.me.renews => W::sleep(PAUSE).await,
                (429, _) => W::sleep(PAUSE).await,
                _ => return Err(format!("a stream was asked for, and the answer is {status} {answer}")),
            }
        }
    }
}

/// Text that is as good as unique.
pub(super) fn nonce(seat: &mut ClientSeat) -> String {
    format!("{:016x}{:016x}", seat.random.next_u64(), seat.random.next_u64())
}
