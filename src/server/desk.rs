//! What a server does for clients that have no session with it: one request, one answer. [`crate::http`] speaks for it.
//!
//! A request that changes something is a command of this server's own; one that reads waits for a barrier first, so that
//! everything is in it that anybody was told before. While this server is out of touch with the leader it takes none.

use std::sync::Arc;
use std::time::Duration;

use super::clients::{Outgoing, Placed, placed};
use super::follow::SendId;
use super::hub::OwnSend;
use super::node::Node;
use super::{Phase, Server, operator};
use crate::limits;
use crate::metrics::flow::Sender;
use crate::metrics::limits::Limit;
use crate::post_office::{Answer, Reading, RegistrationView};
use crate::wire::client::SendFailure;
use crate::wire::command::Command;
use crate::wire::peer::Question;
use crate::wire::{
    Epoch, Name, Nonce, Number, Position, Refusal, RegistrationId, SendRefusal, ServerAddress, StreamId,
};
use crate::world::{Instant, World};

/// How long a request may wait for the cluster, apart from a wait that it asks for. Beyond it the outcome is unknown.
const PATIENCE: Duration = Duration::from_secs(4);
/// How often something is tried again that others got in the way of.
const ATTEMPTS: u32 = 8;

/// Where a server's clients without a session go. Cloning shares it.
pub(crate) struct Desk<W: World>(pub(super) Arc<Server<W>>);

/// Why a request was not carried out, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// It was refused, and nothing was done.
    Refused(Refusal),
    /// A numbered send was refused for good, and used its number up.
    Send(SendRefusal),
    /// A numbered send was not taken, and its number is free.
    Stream(SendFailure),
    /// Nothing was done, and it may be asked again here or elsewhere.
    Unavailable(Refusal),
    /// The server that a client is to be moved to is down as well, and nothing was done.
    Down(Name),
    /// What is to be acknowledged is not there: the inbox ends here.
    Beyond(Position),
    /// The sender has used too many idempotency keys lately, and nothing was done.
    TooManyKeys,
    /// There was no room before its time was over, and nothing was done.
    Busy,
    /// Nobody knows whether it was carried out, or will be.
    Unknown,
}

/// A server, as a client names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// By the port of its address. Of several, this server comes first, and then the order of names decides.
    Port(u16),
    /// By its name.
    Server(Name),
}

/// What became of a wish to move.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Moved {
    /// The client has another home.
    To(ServerAddress),
    /// Its home is up.
    Working,
}

/// A reader without a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Attachment {
    pub registration: RegistrationId,
    pub epoch: Epoch,
    pub acknowledged: Position,
}

/// A request under way: a stopping server waits for it, within its farewell.
pub(crate) struct Visit<W: World> {
    pub(super) node: Arc<Node<W>>,
    pub(super) server: Arc<Server<W>>,
    deadline: Instant,
}

impl<W: World> Clone for Desk<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<W: World> Desk<W> {
    /// Begins a request.
    pub fn visit(&self) -> Result<Visit<W>, Failure> {
        let phase = self.0.phase.lock().clone();
        let Phase::Running(node) = phase else { return Err(Failure::Unavailable(Refusal::NoLeader)) };
        {
            let mut books = node.hub.lock();
            if let Some(reason) = &books.closed_for {
                return Err(Failure::Unavailable(reason.clone()));
            }
            books.apart.requests += 1;
        }
        Ok(Visit { node, server: self.0.clone(), deadline: W::now() + PATIENCE })
    }

    /// Whether that is a host by which the cluster's servers are reached.
    pub fn is_host(&self, host: &str) -> bool {
        let is = |address: &str| address.rsplit_once(':').is_some_and(|(known, _)| known.eq_ignore_ascii_case(host));
        let phase = self.0.phase.lock().clone();
        let told = match phase {
            Phase::Running(node) => node.hub.lock().servers().iter().any(|server| is(&server.address)),
            _ => false,
        };
        told || is(&self.0.settings.listen) || self.0.settings.cluster.iter().any(|server| is(&server.address))
    }

    /// Bytes of request bodies that may still be taken.
    pub fn bodies(&self) -> &Arc<tokio::sync::Semaphore> {
        &self.0.bodies
    }

    /// Connections that this server accepts.
    pub fn connections(&self) -> usize {
        self.0.settings.connections
    }
}

impl<W: World> Drop for Visit<W> {
    fn drop(&mut self) {
        self.node.hub.lock().apart.requests -= 1;
    }
}

impl<W: World> Visit<W> {
    /// Registers a name with that home; if it is registered, it has that home from now on.
    pub async fn register(&self, name: &Name, home: &Place) -> Result<ServerAddress, Failure> {
        let home = self.server(home).await?;
        for _ in 0..ATTEMPTS {
            let nonce = draw::<W>();
            match self.ask(nonce, &Command::Register { nonce, name, home: &home.name }).await {
                Ok(_) => return Ok(home),
                Err(Failure::Refused(Refusal::AlreadyRegistered { .. })) => {}
                Err(failure) => return Err(failure),
            }
            match self.set_home(name, &home.name, None).await {
                Ok(()) => return Ok(home),
                // It has ended in between.
                Err(Failure::Refused(Refusal::NotRegistered)) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Busy)
    }

    /// Moves a client to another home if the one it has is down.
    pub async fn check_and_move(&self, name: &Name, to: &Place) -> Result<Moved, Failure> {
        for _ in 0..ATTEMPTS {
            let home = self.registration(name).await?.home;
            if !self.is_down(&home).await? {
                return Ok(Moved::Working);
            }
            let to = self.server(to).await?;
            if to.name == home || self.is_down(&to.name).await? {
                return Err(Failure::Down(to.name));
            }
            match self.set_home(name, &to.name, Some(&home)).await {
                Ok(()) => return Ok(Moved::To(to)),
                // Somebody else moved it first.
                Err(Failure::Refused(Refusal::HomeMoved { .. })) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Busy)
    }

    pub(super) async fn set_home(&self, name: &Name, home: &Name, instead_of: Option<&Name>) -> Result<(), Failure> {
        let nonce = draw::<W>();
        let instead_of = instead_of.map(Name::as_str);
        self.ask(nonce, &Command::SetHome { nonce, name, home, instead_of }).await.map(drop)
    }

    async fn is_down(&self, server: &Name) -> Result<bool, Failure> {
        match operator::ask_leader(&self.node, Question::IsDown { server: server.clone() }).await {
            Ok(()) => Ok(true),
            Err(Refusal::ServerIsUp) => Ok(false),
            Err(refusal) => Err(Failure::Unavailable(refusal)),
        }
    }

    /// The server that is meant.
    pub(super) async fn server(&self, place: &Place) -> Result<ServerAddress, Failure> {
        if let Some(server) = self.find(place) {
            return Ok(server);
        }
        // It may have been added, and this server has yet to hear of it.
        self.barrier().await?;
        self.find(place).ok_or(Failure::Refused(Refusal::NoSuchServer))
    }

    fn find(&self, place: &Place) -> Option<ServerAddress> {
        let listed = {
            let office = self.node.office.post_office.lock();
            let address = |(name, listed): (&Name, &crate::post_office::Listed)| ServerAddress {
                name: name.clone(),
                address: listed.address.to_string(),
            };
            office.servers().map(address).collect::<Vec<_>>()
        };
        let is_meant = |server: &&ServerAddress| match place {
            Place::Port(port) => server.address.rsplit_once(':').is_some_and(|(_, p)| p.parse() == Ok(*port)),
            Place::Server(name) => server.name == *name,
        };
        let mut meant = listed.iter().filter(is_meant);
        let first = meant.next()?;
        Some(meant.find(|server| server.name == self.node.me.name).unwrap_or(first).clone())
    }

    /// Sends for somebody who has no stream: on one that this server has for them.
    pub async fn share(&self, sender: &Name, outgoing: &Outgoing) -> Result<Placed, Failure> {
        let window = u64::from(self.node.office.post_office.lock().quotas().stream_window);
        let window = window.min(limits::HTTP_STREAM_WINDOW);
        if self.node.metrics.flow.is_watched() {
            let bytes = outgoing.content.len();
            self.node.metrics.flow.note(Sender::Client(sender.clone()), &outgoing.describe(), bytes);
        }
        loop {
            self.room().await?;
            // Before it looks, so that nothing that makes room is missed.
            let room = self.node.hub.room.notified();
            let mut room = std::pin::pin!(room);
            room.as_mut().enable();
            let sent = self.node.hub.send_for(sender, outgoing, window, [draw::<W>(), draw::<W>()]);
            match sent {
                OwnSend::Full => {
                    self.node.metrics.hit(Limit::HttpStreams);
                    self.within(room).await.map_err(|_| Failure::Busy)?;
                }
                OwnSend::Opening(opened) => match self.within(opened).await {
                    Ok(Ok(Ok(()))) => {}
                    Ok(Ok(Err(refusal))) => return Err(Failure::Refused(refusal)),
                    // The stream was given up; there may be another one.
                    Ok(Err(_)) => {}
                    Err(_) => return Err(Failure::Busy),
                },
                OwnSend::Sent(send, told) => match self.within(told).await {
                    Ok(Ok(judged @ Ok(_))) => {
                        tracing::debug!(%send, from = %sender, to = %outgoing.describe(), outcome = ?judged, "judged");
                        return placed(judged);
                    }
                    // It was judged, once, and not taken: another stream takes it.
                    Ok(Ok(Err(
                        SendFailure::StreamClosed | SendFailure::Gap { .. } | SendFailure::WindowFull { .. },
                    ))) => W::reached("a stream of the server's own opened again"),
                    Ok(Ok(Err(_)) | Err(_)) | Err(_) => return Err(Failure::Unknown),
                },
            }
            if W::now() >= self.deadline {
                return Err(Failure::Busy);
            }
        }
    }

    /// Opens a stream for somebody, and says which number comes next. The same nonce is the same stream, as long as it is
    /// open.
    pub async fn open_stream(&self, name: &Name, nonce: Nonce) -> Result<(StreamId, RegistrationId, Number), Failure> {
        let Answer::StreamOpened { stream, registration } =
            self.ask(nonce, &Command::OpenStream { nonce, name }).await?
        else {
            return Err(Failure::Unknown);
        };
        let known = self.node.office.post_office.lock().stream_owner(stream);
        Ok((stream, registration, Number(known.map_or(0, |known| known.last.0) + 1)))
    }

    /// Closes a stream for ever.
    pub async fn close_stream(&self, stream: StreamId) -> Result<(), Failure> {
        let nonce = draw::<W>();
        self.ask(nonce, &Command::CloseStream { nonce, stream }).await.map(drop)
    }

    /// A numbered send. Asked again it has the same outcome, whatever came of it the first time.
    pub async fn send(
        &self,
        (stream, number, confirmed): (StreamId, Number, Number),
        outgoing: &Outgoing,
    ) -> Result<Placed, Failure> {
        self.room().await?;
        if self.node.metrics.flow.is_watched() {
            self.node.metrics.flow.note(Sender::Stream(stream), &outgoing.describe(), outgoing.content.len());
        }
        let send = outgoing.command(stream, number, confirmed);
        let told = self.node.hub.send_apart(&send, &outgoing.content);
        let Some(told) = told else {
            return Err(Failure::Refused(Refusal::Malformed("a session sends on this stream".to_owned())));
        };
        match self.within(told).await {
            Ok(Ok(judged)) => {
                let send = SendId(stream, number);
                tracing::debug!(%send, to = %outgoing.describe(), outcome = ?judged, "judged");
                placed(judged)
            }
            Ok(Err(_)) | Err(_) => Err(Failure::Unknown),
        }
    }

    /// Becomes the reader of an inbox, in place of whoever is. With an epoch, only if that is the one in force. Without one
    /// it is looked up, once: asked again after somebody else came, a copy that is late would fence whoever that was.
    pub async fn attach(
        &self,
        name: &Name,
        nonce: Nonce,
        registration: Option<RegistrationId>,
        epoch: Option<Epoch>,
        window: u32,
    ) -> Result<Attachment, Failure> {
        let expected = match epoch {
            Some(epoch) => epoch,
            None => self.registration(name).await?.epoch,
        };
        let command = Command::AttachApart { nonce, name, registration, expected, window };
        match self.ask(nonce, &command).await? {
            Answer::Attached { registration, epoch, acknowledged } => {
                Ok(Attachment { registration, epoch, acknowledged })
            }
            _ => Err(Failure::Unknown),
        }
    }

    /// Who has a name now.
    pub(super) async fn registration(&self, name: &Name) -> Result<RegistrationView, Failure> {
        self.barrier().await?;
        self.node.office.post_office.lock().registration(name).ok_or(Failure::Refused(Refusal::NotRegistered))
    }

    /// Stops reading. `delivered` is how far its process got.
    pub async fn detach(
        &self,
        name: &Name,
        registration: RegistrationId,
        epoch: Epoch,
        delivered: Option<Position>,
    ) -> Result<(), Failure> {
        if self.registration(name).await?.registration != registration {
            return Err(Failure::Refused(Refusal::RegistrationEnded));
        }
        let nonce = draw::<W>();
        self.ask(nonce, &Command::Detach { nonce, registration, epoch, delivered }).await.map(drop)
    }

    /// Acknowledges, and says what is acknowledged by then.
    pub async fn acknowledge(
        &self,
        name: &Name,
        (registration, epoch): (RegistrationId, Epoch),
        up_to: Position,
        ranges: Vec<(Position, Position)>,
    ) -> Result<Position, Failure> {
        let last = ranges.last().map_or(up_to, |(_, to)| *to);
        if self.end(registration).is_none_or(|end| end < last) {
            // This server may be behind.
            self.barrier().await?;
            if let Some(end) = self.end(registration).filter(|end| *end < last) {
                return Err(Failure::Beyond(end));
            }
        }
        let nonce = draw::<W>();
        let command = Command::AcknowledgeApart { nonce, name, registration, epoch, up_to, ranges };
        // The one who reads is counted where it attached.
        let before = self.node.office.post_office.lock().reader(registration);
        match self.ask(nonce, &command).await? {
            Answer::Acknowledged { up_to, .. } => {
                if let Some(before) = before.filter(|before| before.reading == Reading::Nobody) {
                    self.node.metrics.acknowledged.inc_by(up_to.0.saturating_sub(before.acknowledged.0));
                }
                Ok(up_to)
            }
            _ => Err(Failure::Unknown),
        }
    }

    /// The last position of an inbox, as this server knows it.
    fn end(&self, registration: RegistrationId) -> Option<Position> {
        self.node.office.post_office.lock().reader(registration).map(|reader| reader.end)
    }

    /// Everything that anybody was told before now is applied here.
    pub(super) async fn barrier(&self) -> Result<(), Failure> {
        loop {
            self.room().await?;
            match self.within(self.node.hub.barrier()).await {
                Ok(Ok(())) => return Ok(()),
                // Clients are sent elsewhere from now on, or the state was replaced by a snapshot.
                Ok(Err(_)) => {
                    if let Some(reason) = self.node.hub.lock().closed_for.clone() {
                        return Err(Failure::Unavailable(reason));
                    }
                }
                Err(_) => return Err(Failure::Unavailable(Refusal::NoLeader)),
            }
        }
    }

    /// Proposes a command until it is answered. Asked again, its nonce tells it from another one.
    pub(super) async fn ask(&self, nonce: Nonce, command: &Command<'_>) -> Result<Answer, Failure> {
        self.room().await?;
        let mut again = false;
        loop {
            match self.within(self.node.hub.ask(nonce, command)).await {
                // The first copy may have been carried out, and others came in between.
                Ok(Ok(Answer::Refused(refusal))) if again && !matches!(refusal, Refusal::AlreadyRegistered { .. }) => {
                    return Err(Failure::Unknown);
                }
                Ok(Ok(Answer::Refused(refusal))) => return Err(Failure::Refused(refusal)),
                Ok(Ok(answer)) => return Ok(answer),
                // The state was replaced by a snapshot, and what came of it was not told.
                Ok(Err(_)) if W::now() < self.deadline => again = true,
                Ok(Err(_)) | Err(_) => return Err(Failure::Unknown),
            }
        }
    }

    /// Waits until commands are taken.
    pub(super) async fn room(&self) -> Result<(), Failure> {
        if self.node.log.disk_full() {
            W::reached("a full disk refused a request by HTTP");
            self.node.metrics.hit(Limit::Disk);
            return Err(Failure::Unavailable(Refusal::DiskFull));
        }
        if !self.node.hub.has_room_apart() {
            self.node.metrics.hit(Limit::Pending);
        }
        let waiting = async {
            while !self.node.hub.has_room_apart() {
                let room = self.node.hub.room.notified();
                if self.node.hub.has_room_apart() {
                    break;
                }
                room.await;
            }
        };
        self.within(waiting).await.map_err(|_| Failure::Busy)
    }

    pub(super) async fn within<F: Future>(&self, future: F) -> Result<F::Output, tokio::time::error::Elapsed> {
        W::timeout(self.deadline.saturating_duration_since(W::now()), future).await
    }
}

pub(super) fn draw<W: World>() -> Nonce {
    rand::RngExt::random(&mut W::rng())
}
