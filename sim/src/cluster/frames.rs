//! What the frames between Restante's servers and clients say, in a few words.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use restante::raft::{EntryContent, EntryOutline, Outline, outline};
use restante::wire::batch::{Batch, decode_entry, take_batch};
use restante::wire::client::{Delivery, REPLY_KIND, REQUEST_KIND, Reply, Request};
use restante::wire::command::{self, Command, decode_content};
use restante::wire::frame::{self, Frame};
use restante::wire::peer::{self, Bootstrap, BootstrapReply, Hello, HelloReply};
use restante::wire::{
    CLIENT_MAGIC, Incarnation, Nonce, Number, PEER_MAGIC, Position, RegistrationId, SendOutcome, StreamId,
};

use crate::history::SendKey;
use crate::record::{Interpreter, Said, Sort};

/// Remembers of earlier frames what later ones refer to.
#[derive(Debug, Default)]
pub(super) struct Frames {
    incarnations: BTreeMap<Incarnation, String>,
    /// Who asked something that is answered by its nonce.
    askers: BTreeMap<Nonce, String>,
    registrations: BTreeMap<RegistrationId, String>,
    /// Which send a number of a stream is.
    sends: BTreeMap<(StreamId, Number), SendKey>,
    /// Which send a position of an inbox is.
    positions: BTreeMap<(RegistrationId, Position), SendKey>,
    /// What the answers are about that are still to come, by connection: they come in the order of the questions.
    questions: BTreeMap<String, VecDeque<(Sort, Vec<SendKey>)>>,
}

impl Interpreter for Frames {
    fn prelude(&self, first: &[u8; 4]) -> Option<usize> {
        [CLIENT_MAGIC, PEER_MAGIC].contains(first).then_some(first.len())
    }

    fn said(&mut self, connection: &str, _: bool, frame: &Frame) -> Said {
        let said = match frame.kind {
            command::KIND => {
                let mut sends = Vec::new();
                self.command(&frame.payload, &mut sends)
                    .map(|text| Said { sort: Sort::Client, text, sends })
                    .map_err(|error| error.to_string())
            }
            REQUEST_KIND => self.request(&frame.payload).map_err(|error| error.to_string()),
            REPLY_KIND => self.reply(&frame.payload).map_err(|error| error.to_string()),
            peer::FORWARD => self.forward(&frame.payload),
            _ => self.between_servers(connection, frame),
        };
        said.unwrap_or_else(|problem| Said::new(Sort::Other, format!("malformed (kind {}): {problem}", frame.kind)))
    }

    fn incarnations(&self) -> BTreeMap<u64, String> {
        self.incarnations.clone()
    }
}

impl Frames {
    fn server(&self, incarnation: Incarnation) -> String {
        self.incarnations.get(&incarnation).cloned().unwrap_or_else(|| format!("incarnation {incarnation}"))
    }

    fn owner(&self, registration: RegistrationId) -> String {
        self.registrations.get(&registration).cloned().unwrap_or_else(|| format!("registration {registration}"))
    }

    fn asks(&mut self, nonce: Nonce, name: &str) {
        self.askers.insert(nonce, name.to_owned());
    }

    fn asker(&self, nonce: Nonce) -> String {
        self.askers.get(&nonce).cloned().unwrap_or_default()
    }

    fn command(&mut self, payload: &Bytes, sends: &mut Vec<SendKey>) -> Result<String, postcard::Error> {
        let (command, content) = Command::decode(payload)?;
        Ok(match command {
            Command::Send { stream, number, to, .. } => {
                let mut again = "";
                if let Some(send) = decode_content(&content).ok().and_then(|(_, body)| SendKey::of_body(&body).0) {
                    if self.sends.insert((stream, number), send.clone()).is_some() {
                        again = ", again";
                    }
                    sends.push(send);
                }
                format!("Send #{number} to {to} ({} B){again}", content.len())
            }
            Command::Acknowledge { registration, epoch, up_to, ranges } => {
                let ranges: Vec<String> = ranges.iter().map(|(from, to)| format!("{from}..{to}")).collect();
                let ranges = if ranges.is_empty() { String::new() } else { format!(" and {}", ranges.join(", ")) };
                sends.extend(self.positions.get(&(registration, up_to)).cloned());
                format!("Acknowledge {} up to {up_to}{ranges}, epoch {epoch}", self.owner(registration))
            }
            Command::Confirm { confirmed, .. } => format!("Confirm receipts up to {confirmed}"),
            Command::Register { nonce, name, home } => {
                self.asks(nonce, name);
                format!("Register {name} at {home}")
            }
            Command::Deregister { nonce, name, .. } => {
                self.asks(nonce, name);
                format!("Deregister {name}")
            }
            Command::OpenStream { nonce, name } => {
                self.asks(nonce, name);
                format!("Open a stream of {name}")
            }
            Command::CloseStream { stream, .. } => format!("Close stream {stream}"),
            Command::Attach { nonce, name, home, expected, resumes, window } => {
                self.asks(nonce, name);
                let how = if resumes.is_some() { "resumes" } else { "new" };
                format!("Attach to {name} at {home}, after epoch {expected}, {how}, window {window}")
            }
            Command::Detach { registration, epoch, .. } => {
                format!("Detach from {}, epoch {epoch}", self.owner(registration))
            }
            Command::Vanished { registration, epoch, home } => {
                format!("The reader of {} vanished from {home}, epoch {epoch}", self.owner(registration))
            }
            Command::Enroll { server, .. } => format!("Enroll a disk of {server}"),
            Command::AddServer { server, address, .. } => format!("Add server {server} at {address}"),
            Command::RemoveServer { server, .. } => format!("Remove server {server}"),
            Command::SetHome { name, home, .. } => format!("Make {home} the home of {name}"),
            Command::MoveClients { from, to, .. } => format!("Move clients from {from} to {}", to.join(", ")),
            Command::AttachApart { nonce, name, expected, window, .. } => {
                self.asks(nonce, name);
                format!("Attach to {name} without a session, after epoch {expected}, window {window}")
            }
            Command::AcknowledgeApart { name, epoch, up_to, .. } => {
                format!("Acknowledge {name} up to {up_to} without a session, epoch {epoch}")
            }
            Command::SetDrained { server, drained: true, .. } => format!("Drain server {server}"),
            Command::SetDrained { server, drained: false, .. } => format!("Undrain server {server}"),
            Command::Post { stream, number, to, terms, .. } => {
                if let Some(send) = decode_content(&content).ok().and_then(|(_, body)| SendKey::of_body(&body).0) {
                    self.sends.insert((stream, number), send.clone());
                    sends.push(send);
                }
                let receipt = if terms.receipt { ", with a delivered receipt" } else { "" };
                format!("Send #{number} to {to:?} ({} B){receipt}", content.len())
            }
            Command::CollectReceipts { stream, up_to } => format!("Collect receipts of {stream} behind {up_to}"),
            Command::CreateChannel { channel, .. } => format!("Create channel {channel}"),
            Command::DeleteChannel { channel, .. } => format!("Delete channel {channel}"),
            Command::Enlist { nonce, name, expected, change } => {
                self.asks(nonce, name);
                format!("{change:?} for {name}, after {expected} changes")
            }
            Command::SetQuotas(_) => "Set quotas".to_owned(),
            Command::Tick => "Tick".to_owned(),
        })
    }

    fn request(&mut self, payload: &Bytes) -> Result<Said, postcard::Error> {
        let (request, _) = frame::take::<Request>(payload)?;
        Ok(match request {
            Request::Hello { .. } => Said::new(Sort::Hello, "Hello"),
            Request::Ping(_) => Said::new(Sort::Heartbeat, "Ping"),
            Request::Who { .. } => Said::new(Sort::Client, "Who"),
            Request::Status { .. } => Said::new(Sort::Client, "Status"),
            Request::Hurry => Said::new(Sort::Client, "Hurry"),
            Request::Channels { .. } => Said::new(Sort::Client, "Channels"),
            Request::Members { channel, .. } => Said::new(Sort::Client, format!("Members of {channel}")),
            Request::History { client, from, .. } => {
                Said::new(Sort::Client, format!("What {client} has kept from {from} on"))
            }
            Request::Inbox { client, .. } => Said::new(Sort::Client, format!("How {client}'s inbox is set up")),
            Request::Presence { since, .. } => {
                let since = since.map_or("now".to_owned(), |since| format!("entry {since}"));
                Said::new(Sort::Client, format!("Who came and went behind {since}"))
            }
            Request::Goodbye => Said::new(Sort::Hello, "Goodbye"),
            Request::AddServer { server, .. } => {
                Said::new(Sort::Client, format!("Add server {} at {}", server.name, server.address))
            }
            Request::RemoveServer { server, force, .. } => {
                let force = if force { ", even if too few of the others are up" } else { "" };
                Said::new(Sort::Client, format!("Remove server {server}{force}"))
            }
            Request::SetDrained { server, drained, .. } => {
                let what = if drained { "Drain" } else { "Undrain" };
                Said::new(Sort::Client, format!("{what} server {server}"))
            }
            Request::TransferLeadership { server, .. } => Said::new(Sort::Client, format!("Let {server} lead")),
            Request::Backup { .. } => Said::new(Sort::Client, "Begin a backup"),
            Request::ReadBackup { offset, .. } => Said::new(Sort::Client, format!("More of the backup, from {offset}")),
        })
    }

    fn reply(&mut self, payload: &Bytes) -> Result<Said, postcard::Error> {
        let (reply, content) = frame::take::<Reply>(payload)?;
        let client = |text: String| Said::new(Sort::Client, text);
        Ok(match reply {
            Reply::Welcome { server, .. } => Said::new(Sort::Hello, format!("Welcome at {server}")),
            Reply::Pong(_) => Said::new(Sort::Heartbeat, "Pong"),
            Reply::Registered { nonce, registration } => {
                self.registrations.insert(registration, self.asker(nonce));
                client(format!("Registered {}", self.owner(registration)))
            }
            Reply::Delivered { stream, number, fate, .. } => {
                let sends = self.sends.get(&(stream, number)).cloned().into_iter().collect();
                let (acknowledged, ended) = (fate.acknowledged, fate.ended + fate.expired + fate.dropped);
                let text = format!("Send #{number} was acknowledged by {acknowledged}, {ended} were gone");
                Said { sort: Sort::Client, text, sends }
            }
            Reply::Withdrawn { registration, position, .. } => {
                client(format!("Position {position} of {} waits no more", self.owner(registration)))
            }
            Reply::Channels { channels, .. } => client(format!("{} channels", channels.len())),
            Reply::Members { members, .. } => client(format!("{} members", members.len())),
            Reply::History { messages, .. } => client(format!("{} messages are kept", messages.len())),
            Reply::Inbox { settings, kept, .. } => client(format!("{settings:?}, {kept} are kept")),
            Reply::Presence { up_to, events: Some(events), .. } => {
                client(format!("{} came or went up to entry {up_to}", events.len()))
            }
            Reply::Presence { up_to, events: None, .. } => {
                client(format!("Who came and went up to {up_to} is not known"))
            }
            Reply::Done { .. } => client("Done".to_owned()),
            Reply::BackupBegun { .. } => client("The backup has begun".to_owned()),
            Reply::BackupPart { last, .. } => {
                let last = if last { ", the last ones" } else { "" };
                client(format!("{} bytes of the backup{last}", content.len()))
            }
            Reply::Servers { servers } => {
                let names: Vec<String> = servers.iter().map(|server| server.name.to_string()).collect();
                client(format!("The servers are {}", names.join(", ")))
            }
            Reply::Deregistered { .. } => client("Deregistered".to_owned()),
            Reply::StreamOpened { nonce, stream, registration } => {
                self.registrations.insert(registration, self.asker(nonce));
                client(format!("Stream {stream} of {} is open", self.owner(registration)))
            }
            Reply::StreamClosed { .. } => client("Stream closed".to_owned()),
            Reply::Receipts { stream, first, outcomes } => self.receipts(stream, first, &outcomes),
            Reply::SendFailed { stream, number, reason } => {
                let sends = self.sends.get(&(stream, number)).cloned().into_iter().collect();
                Said { sort: Sort::Client, text: format!("Send #{number} failed: {reason}"), sends }
            }
            Reply::Attached { nonce, registration, epoch, acknowledged } => {
                self.registrations.insert(registration, self.asker(nonce));
                let owner = self.owner(registration);
                client(format!("Attached to {owner}, epoch {epoch}, acknowledged up to {acknowledged}"))
            }
            Reply::Detached { .. } => client("Detached".to_owned()),
            Reply::Deliver { registration, epoch, deliveries } => {
                self.deliver(registration, epoch.0, &deliveries, content)
            }
            Reply::Acknowledged { registration, up_to, .. } => Said {
                sort: Sort::Client,
                text: format!("Acknowledged {} up to {up_to}", self.owner(registration)),
                sends: self.positions.get(&(registration, up_to)).cloned().into_iter().collect(),
            },
            Reply::Fenced { registration, epoch, by } => {
                let by = by.map_or("the end of the registration".to_owned(), |by| format!("epoch {by}"));
                client(format!("Epoch {epoch} of {} is over: {by}", self.owner(registration)))
            }
            Reply::Refused { refusal, .. } => client(format!("Refused: {refusal}")),
            Reply::Move { reason } => client(format!("Move to another server: {reason}")),
            Reply::Who { clients, .. } => client(format!("Who: {} clients", clients.len())),
            Reply::Status { .. } => client("Status".to_owned()),
        })
    }

    fn receipts(&self, stream: StreamId, first: Number, outcomes: &[SendOutcome]) -> Said {
        let numbers = (first.0..).map(Number);
        let sends = numbers.clone().zip(outcomes).filter_map(|(n, _)| self.sends.get(&(stream, n)).cloned()).collect();
        let told: Vec<String> = numbers
            .zip(outcomes)
            .map(|(number, outcome)| match outcome {
                SendOutcome::Accepted(position) => format!("{number} at {position}"),
                SendOutcome::Refused(why) => format!("{number}: {why}"),
                SendOutcome::Reached { inboxes, full } => format!("{number} in {inboxes} inboxes, {full} were full"),
                SendOutcome::Scheduled(time) => format!("{number} to come at {time}"),
            })
            .collect();
        let text = format!("Receipt {}", shortened(&told));
        Said { sort: Sort::Client, text, sends }
    }

    fn deliver(&mut self, inbox: RegistrationId, epoch: u64, deliveries: &[Delivery], content: &[u8]) -> Said {
        let (mut rest, mut sends, mut told) = (content, Vec::new(), Vec::new());
        for delivery in deliveries {
            let (content, after) = rest.split_at(rest.len().min(delivery.content_bytes as usize));
            rest = after;
            let body = decode_content(&Bytes::copy_from_slice(content)).map(|(_, body)| body);
            if let Some(send) = body.ok().and_then(|body| SendKey::of_body(&body).0) {
                self.positions.insert((inbox, delivery.position), send.clone());
                sends.push(send);
            }
            let again = if delivery.redelivered { " again" } else { "" };
            told.push(format!("{} from {}{again}", delivery.position, delivery.from));
        }
        let text = format!("Deliver to {}, epoch {epoch}: {}", self.owner(inbox), shortened(&told));
        Said { sort: Sort::Client, text, sends }
    }

    fn forward(&mut self, payload: &Bytes) -> Result<Said, String> {
        let batch = take_batch(&mut payload.clone()).map_err(|error| error.to_string())?;
        let mut sends = Vec::new();
        let told = self.batch(&batch, &mut sends);
        let from = self.server(batch.header.origin.incarnation);
        let text = format!("Batch {} of {from}: {}", batch.header.sequence, shortened(&told));
        Ok(Said { sort: Sort::Batch, text, sends })
    }

    fn batch(&mut self, batch: &Batch, sends: &mut Vec<SendKey>) -> Vec<String> {
        let mut frames = batch.frames.clone();
        let mut told = Vec::new();
        while let Ok(Some(frame)) = frame::split_bytes(&mut frames) {
            let text = self.command(&frame.payload, sends);
            told.push(text.unwrap_or_else(|error| format!("malformed: {error}")).replace(", again", ""));
        }
        told
    }

    fn between_servers(&mut self, connection: &str, frame: &Frame) -> Result<Said, String> {
        if let Some(outline) = outline(frame)? {
            return Ok(self.raft(connection, outline));
        }
        let text = |sort| {
            let text = frame::take::<String>(&frame.payload).map_or_else(|_| String::new(), |(text, _)| text);
            Said::new(sort, format!("Not now: {text}"))
        };
        let bad = |error: postcard::Error| error.to_string();
        Ok(match frame.kind {
            peer::HELLO => {
                let (hello, _) = frame::take::<Hello>(&frame.payload).map_err(bad)?;
                if let Some(incarnation) = hello.from {
                    self.incarnations.insert(incarnation, hello.name.to_string());
                }
                let purpose = format!("{:?}", hello.purpose).to_lowercase();
                Said::new(Sort::Hello, format!("Hello from {}, for {purpose}", hello.name))
            }
            peer::HELLO_REPLY => match frame::take::<HelloReply>(&frame.payload).map_err(bad)?.0 {
                HelloReply::Welcome => Said::new(Sort::Hello, "Welcome"),
                HelloReply::Refused(refusal) => Said::new(Sort::Hello, format!("Refused: {refusal}")),
            },
            peer::BOOTSTRAP => match frame::take::<Bootstrap>(&frame.payload).map_err(bad)?.0 {
                Bootstrap::Probe { .. } => Said::new(Sort::Hello, "What are you?"),
                Bootstrap::Join { .. } => Said::new(Sort::Hello, "Take my new disk in"),
            },
            peer::BOOTSTRAP_REPLY => {
                let reply = frame::take::<BootstrapReply>(&frame.payload).map_err(bad)?.0;
                Said::new(Sort::Hello, founding(&reply))
            }
            peer::SNAPSHOT_CHUNK => {
                Said::new(Sort::Snapshot, format!("Part of a snapshot ({} B)", frame.payload.len()))
            }
            peer::SNAPSHOT_END => Said::new(Sort::Snapshot, "End of the snapshot"),
            peer::SNAPSHOT_GOES_ON => Said::new(Sort::Snapshot, "The snapshot is still being taken in"),
            peer::SNAPSHOT_REPLY => Said::new(Sort::Snapshot, "Snapshot installed"),
            peer::TRANSFER_REPLY => Said::new(Sort::Vote, "Transfer answered"),
            peer::FORWARD_REFUSED => text(Sort::Batch),
            peer::UNAVAILABLE => text(Sort::Other),
            kind => Said::new(Sort::Other, format!("a frame of kind {kind} ({} B)", frame.payload.len())),
        })
    }

    fn raft(&mut self, connection: &str, outline: Outline) -> Said {
        let mut answered = || {
            let questions = self.questions.get_mut(connection);
            questions.and_then(VecDeque::pop_front).unwrap_or((Sort::Append, Vec::new()))
        };
        match outline {
            Outline::Append { term, committed, entries, .. } => {
                let mut sends = Vec::new();
                let (sort, text) = match &entries[..] {
                    [] => (Sort::Heartbeat, format!("Heartbeat term {term}, committed {}", index(committed))),
                    [first, .., last] => {
                        let range = format!("entries {}..{}", first.index, last.index);
                        (Sort::Append, self.append(term, &range, committed, &entries, &mut sends))
                    }
                    [one] => {
                        let range = format!("entry {}", one.index);
                        (Sort::Append, self.append(term, &range, committed, &entries, &mut sends))
                    }
                };
                self.questions.entry(connection.to_owned()).or_default().push_back((sort, sends.clone()));
                Said { sort, text, sends }
            }
            Outline::Appended(up_to) => {
                let (sort, sends) = answered();
                Said { sort, text: format!("Durable up to {}", index(up_to)), sends }
            }
            Outline::Conflict(at) => Said::new(answered().0, format!("My log differs at {at}")),
            Outline::HigherVote { term } => Said::new(answered().0, format!("I know of term {term}")),
            Outline::Vote { pre, term, candidate, last } => {
                let last = last.map_or("empty".to_owned(), |(term, index)| format!("at {index} of term {term}"));
                let candidate = self.server(candidate);
                let question = if pre { "Would you vote" } else { "Vote" };
                Said::new(Sort::Vote, format!("{question} for {candidate} in term {term}? Its log is {last}"))
            }
            Outline::Voted { granted, term } => {
                Said::new(Sort::Vote, format!("{}, term {term}", if granted { "Yes" } else { "No" }))
            }
            Outline::Transfer { to } => Said::new(Sort::Vote, format!("Lead, {}", self.server(to))),
            Outline::Snapshot { up_to } => {
                Said::new(Sort::Snapshot, format!("A snapshot of everything up to {}", index(up_to)))
            }
        }
    }

    fn append(
        &mut self,
        term: u64,
        range: &str,
        committed: Option<u64>,
        entries: &[EntryOutline],
        sends: &mut Vec<SendKey>,
    ) -> String {
        let mut told = Vec::new();
        for entry in entries {
            match &entry.holds {
                EntryContent::Blank => told.push("blank".to_owned()),
                EntryContent::Membership { voters, learners } => {
                    for (name, incarnation) in voters.iter().chain(learners) {
                        self.incarnations.insert(*incarnation, name.clone());
                    }
                    told.push(members(voters, learners));
                }
                EntryContent::Batches(bytes) => {
                    let batches = decode_entry(bytes).map(|(_, batches)| batches).unwrap_or_default();
                    told.extend(batches.iter().flat_map(|batch| self.batch(batch, sends)));
                }
            }
        }
        format!("Append term {term} {range}, committed {}: {}", index(committed), shortened(&told))
    }
}

fn members(voters: &[(String, Incarnation)], learners: &[(String, Incarnation)]) -> String {
    let names = |members: &[(String, Incarnation)]| {
        let mut names: Vec<String> =
            members.iter().map(|(name, incarnation)| format!("{name} ({incarnation})")).collect();
        names.sort();
        names.dedup();
        names.join(" ")
    };
    let learners = if learners.is_empty() { String::new() } else { format!(", learners {}", names(learners)) };
    format!("Members: voters {}{learners}", names(voters))
}

fn index(index: Option<u64>) -> String {
    index.map_or("nothing".to_owned(), |index| index.to_string())
}

fn founding(reply: &BootstrapReply) -> String {
    match reply {
        BootstrapReply::Empty { .. } => "My disk is empty".to_owned(),
        BootstrapReply::Restored { .. } => "My disk has a restored state".to_owned(),
        BootstrapReply::SetAside => "An older disk of mine was set aside".to_owned(),
        BootstrapReply::Member { founding, .. } => match founding {
            Some(founding) => format!("I belong to a cluster of {} founders", founding.members.len()),
            None => "I belong to a cluster".to_owned(),
        },
        BootstrapReply::Joined { incarnation, .. } => format!("You are taken in as incarnation {incarnation}"),
        BootstrapReply::Retired => "Your disk belongs to the cluster no more".to_owned(),
        BootstrapReply::Refused(why) => format!("Refused: {why}"),
    }
}

/// The first few, and how many more.
fn shortened(told: &[String]) -> String {
    const SHOWN: usize = 4;
    match told.get(SHOWN..) {
        None | Some([]) => told.join("; "),
        Some(rest) => format!("{}; and {} more", told[..SHOWN].join("; "), rest.len()),
    }
}
