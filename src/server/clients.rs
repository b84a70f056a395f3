//! What `/v1` asks of a server beyond [`super::desk`]: who is registered, sends by key, sends of many messages at once; and
//! what all sends of clients without a session have in common.

use bytes::Bytes;
use xxhash_rust::xxh3::xxh3_128;

use super::desk::{Failure, Place, Visit, draw};
use super::hub::SendResult;
use super::keys::Admission;
use super::status;
use crate::limits;
use crate::metrics::limits::Limit;
use crate::post_office::{Answer, Reading, StreamView};
use crate::wire::client::{ClientRow, SendFailure};
use crate::wire::command::Command;
use crate::wire::sharing::{Recipients, Terms};
use crate::wire::{Name, Nonce, Number, Position, Refusal, RegistrationId, SendOutcome, StreamId, Time};
use crate::world::World;

/// A message that is to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Outgoing {
    /// Who it goes to.
    pub to: Recipients,
    /// On which terms.
    pub terms: Terms,
    /// Headers and body.
    pub content: Bytes,
}

/// Where a message is that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Placed {
    /// At that position of the one inbox that it was for.
    At(Position),
    /// In so many inboxes; so many did without, for they are full.
    In { inboxes: u32, full: u32 },
    /// Nowhere yet: it comes at that time.
    Later(Time),
}

/// What became of each of several sends.
pub(crate) type Outcomes = Vec<Result<Placed, Failure>>;

impl Outgoing {
    /// To one client, without terms of its own.
    pub fn plain(to: &Name, content: &Bytes) -> Self {
        Self { to: Recipients::Client(to.clone()), terms: Terms::default(), content: content.clone() }
    }

    /// The command that sends it.
    pub fn command(&self, stream: StreamId, number: Number, confirmed: Number) -> Command<'_> {
        match &self.to {
            Recipients::Client(to) if self.terms == Terms::default() => Command::Send { stream, number, confirmed, to },
            to => Command::Post { stream, number, confirmed, to: to.target(), terms: self.terms },
        }
    }

    /// Who it goes to, for those who watch what passes.
    pub fn describe(&self) -> String {
        match &self.to {
            Recipients::Client(name) => name.to_string(),
            Recipients::Clients(names) => format!("{} clients", names.len()),
            Recipients::Channel(name) => format!("channel {name}"),
            Recipients::Everybody => "everybody".to_owned(),
        }
    }
}

impl Placed {
    /// The position in the one inbox that it was for.
    pub fn position(self) -> Result<Position, Failure> {
        match self {
            Self::At(position) => Ok(position),
            // A send to one client has a position.
            Self::In { .. } | Self::Later(_) => Err(Failure::Unknown),
        }
    }
}

/// What a judged send came to.
pub(super) fn placed(result: SendResult) -> Result<Placed, Failure> {
    match result {
        Ok(SendOutcome::Accepted(position)) => Ok(Placed::At(position)),
        Ok(SendOutcome::Reached { inboxes, full }) => Ok(Placed::In { inboxes, full }),
        Ok(SendOutcome::Scheduled(time)) => Ok(Placed::Later(time)),
        Ok(SendOutcome::Refused(refusal)) => Err(Failure::Send(refusal)),
        Err(failure) => Err(Failure::Stream(failure)),
    }
}

impl<W: World> Visit<W> {
    /// Registers a name, and says whether it was new. One that is registered keeps its home unless another one is named.
    pub async fn enlist(&self, name: &Name, home: Option<&Name>) -> Result<(ClientRow, bool), Failure> {
        let at = match home {
            Some(home) => self.server(&Place::Server(home.clone())).await?.name,
            None => self.node.me.name.clone(),
        };
        let nonce = draw::<W>();
        let created = match self.ask(nonce, &Command::Register { nonce, name, home: &at }).await {
            Ok(_) => true,
            Err(Failure::Refused(Refusal::AlreadyRegistered { .. })) => false,
            Err(failure) => return Err(failure),
        };
        if !created && home.is_some() {
            self.set_home(name, &at, None).await?;
        }
        Ok((self.client(name).await?, created))
    }

    /// Ends a registration: its streams close, and what waits in its inbox is dropped.
    pub async fn strike(&self, name: &Name, registration: Option<RegistrationId>) -> Result<(), Failure> {
        // One that has ended is ended; but whoever names it is to know that another one is in force.
        if let Some(meant) = registration
            && self.registration(name).await?.registration != meant
        {
            return Err(Failure::Refused(Refusal::RegistrationEnded));
        }
        let nonce = draw::<W>();
        self.ask(nonce, &Command::Deregister { nonce, name, registration }).await.map(drop)
    }

    /// Sends for somebody who has no stream, and wants to be told what becomes of it: on a stream of its own, which is closed as
    /// soon as it is answered, so that the receipt comes into the sender's inbox. Names the stream.
    pub async fn share_with_receipt(&self, sender: &Name, outgoing: &Outgoing) -> Result<(StreamId, Placed), Failure> {
        let (stream, ..) = self.open_stream(sender, draw::<W>()).await?;
        let sent = self.send((stream, Number(1), Number(0)), outgoing).await;
        if let Err(error) = self.close_stream(stream).await {
            tracing::debug!(%stream, ?error, "a stream was left to expire");
        }
        sent.map(|placed| (stream, placed))
    }

    /// A client.
    pub async fn client(&self, name: &Name) -> Result<ClientRow, Failure> {
        let view = self.registration(name).await?;
        let reading = self.node.office.post_office.lock().reader(view.registration).map(|reader| reader.reading);
        let online = reading == Some(Reading::Session) && !status::servers_down(&self.node).contains(&view.home);
        Ok(ClientRow {
            name: view.name,
            registration: view.registration,
            home: view.home,
            online,
            last_seen: view.last_seen,
            waiting: view.waiting,
            waiting_bytes: view.waiting_bytes,
            streams: 0,
        })
    }

    /// Clients after a name, names ascending, and whether there are more. `local` asks for this server's copy as it is,
    /// which costs nothing and may be a moment behind.
    pub async fn clients(
        &self,
        after: Option<&Name>,
        limit: usize,
        local: bool,
    ) -> Result<(Vec<ClientRow>, bool), Failure> {
        if !local {
            self.barrier().await?;
        }
        let (mut rows, more) = self.node.office.post_office.lock().who(after, limit);
        let down = status::servers_down(&self.node);
        for row in &mut rows {
            row.online &= !down.contains(&row.home);
        }
        Ok((rows, more))
    }

    /// An open stream.
    pub async fn stream(&self, stream: StreamId) -> Result<StreamView, Failure> {
        self.barrier().await?;
        let known = self.node.office.post_office.lock().stream_owner(stream);
        known.ok_or(Failure::Stream(SendFailure::StreamClosed))
    }

    /// Sends in the order given, all on one stream, and tells what became of each. With a key, sending the same again has
    /// the same outcomes.
    pub async fn send_all(&self, sender: &Name, key: Option<&str>, sends: &[Outgoing]) -> Result<Outcomes, Failure> {
        let nonce = match key {
            Some(key) => xxh3_128(format!("key {sender} {key}").as_bytes()),
            None => draw::<W>(),
        };
        if key.is_some() {
            self.admit_key(sender, nonce).await?;
        }
        let opened = self.open_stream(sender, nonce).await;
        if key.is_some() {
            let mut keys = self.server.keys.lock();
            match &opened {
                Ok((stream, ..)) => keys.opened(sender, nonce, *stream),
                Err(_) => keys.failed(sender, nonce),
            }
        }
        let (stream, ..) = opened?;
        let mut told = Vec::with_capacity(sends.len());
        for (place, outgoing) in sends.iter().enumerate() {
            self.room().await?;
            let number = Number(place as u64 + 1);
            let send = outgoing.command(stream, number, Number(0));
            told.push(self.node.hub.send_apart(&send, &outgoing.content).ok_or(Failure::Unknown)?);
        }
        let mut outcomes = Vec::with_capacity(told.len());
        for told in told {
            outcomes.push(match self.within(told).await {
                Ok(Ok(judged)) => placed(judged),
                Ok(Err(_)) | Err(_) => Err(Failure::Unknown),
            });
        }
        if key.is_none() {
            // Nobody else knows of it. Should this be lost, it is closed when it was silent for long.
            self.node.hub.tell(&Command::CloseStream { nonce: draw::<W>(), stream });
        }
        Ok(outcomes)
    }

    async fn admit_key(&self, sender: &Name, nonce: Nonce) -> Result<(), Failure> {
        let (quota, idle, servers) = {
            let office = self.node.office.post_office.lock();
            let quotas = office.quotas();
            (quotas.streams_per_client as usize, quotas.stream_idle_ms, office.servers().count().max(1))
        };
        let most = quota / 2 / servers;
        let idle = std::time::Duration::from_millis(idle);
        let admission = self.server.keys.lock().admit(sender, nonce, most, idle, W::now());
        let Admission::Yes { close } = admission else {
            self.node.metrics.hit(Limit::Keys);
            return Err(Failure::TooManyKeys);
        };
        for stream in close {
            let nonce = draw::<W>();
            match self.ask(nonce, &Command::CloseStream { nonce, stream }).await {
                Ok(Answer::StreamClosed) | Err(Failure::Refused(_)) => {}
                Ok(_) | Err(_) => return Err(Failure::Unavailable(Refusal::NoLeader)),
            }
        }
        Ok(())
    }
}

const _: () = assert!(limits::HTTP_BATCH_MAX <= limits::STREAM_WINDOW_DEFAULT as usize, "a batch is one stream's");
