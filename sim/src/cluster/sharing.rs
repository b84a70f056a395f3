//! Joins and leaves channels, subscribes to patterns of their names, sends to several, to channels and to everybody, and
//! waits for delivered receipts.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use rand::seq::IndexedRandom;
use restante::client::{
    Client, Doubt, Error, Fate, InboxSettings, Message, NoDelivery, Overflow, PendingDelivery, Recipients, SendError,
    SendStream, Tracked,
};
use restante::wire::client::SendFailure;
use restante::wire::{Name, Position, Refusal, SendRefusal};
use restante::world::{BoxFuture, Instant, World};
use tokio::task::JoinHandle;

use super::client::{Me, Rest, chance, sleep_in_faults};
use crate::history::{Change, SendKey, To, What, Without};
use crate::scenario::{ClientSeat, Stage};

const CHANNELS: [&str; 3] = ["news", "news.eu", "talk"];
const PATTERNS: [&str; 4] = ["news.*", "news.>", ">", "talk"];
/// Things done during the faults.
const DEEDS: u32 = 40;
/// A name that nobody registers.
const NOBODY: &str = "nobody";

pub(super) async fn run<W: World>(
    seat: ClientSeat,
    client: Client<W>,
    me: Arc<Me>,
    rest: Arc<Rest>,
) -> Result<(), String> {
    let stages = seat.stages.clone();
    let mut sharer = Sharer { seat, client, me, open: None, receipts: Vec::new(), last_due: W::now() };
    for channel in CHANNELS {
        sharer.create(channel).await?;
    }
    // Some would rather have the latest, and some look back.
    let (share, tenths) = (sharer.seat.plan.mix.share, sharer.seat.plan.mix.share / 10);
    if share.is_multiple_of(3) {
        let keeps = sharer.seat.random.random_range(1..300);
        sharer.change(Change::SetInbox { drops: tenths.is_multiple_of(4), keeps }).await?;
    }
    for _ in 0..DEEDS {
        let pause = Duration::from_millis(sharer.seat.random.random_range(0..300));
        sleep_in_faults::<W>(&stages, pause).await;
        if stages.have_reached(Stage::Core) {
            break;
        }
        match sharer.seat.random.random_range(0..10) {
            0..3 => sharer.enlist().await?,
            _ => sharer.post().await?,
        }
    }
    for (healing, service) in [(Stage::Core, Stage::CoreService), (Stage::Heal, Stage::Calm)] {
        stages.reached(healing).await;
        rest.at(healing);
        stages.reached(service).await;
        if stages.current() == service {
            sharer.post().await?;
        }
        if service == Stage::Calm {
            // What is for later has come by then, so that the run does not end before.
            W::sleep_until(sharer.last_due).await;
            sharer.look_back().await?;
            // Whatever was to be told of what became of a message is told by then, or comes into the inbox.
            for receipt in std::mem::take(&mut sharer.receipts) {
                receipt.await.map_err(|error| error.to_string())?;
            }
        }
        rest.at(service);
    }
    if let Some((stream, _)) = sharer.open.take() {
        drop(stream);
    }
    Ok(())
}

struct Sharer<W: World> {
    seat: ClientSeat,
    client: Client<W>,
    me: Arc<Me>,
    /// With its number as the journal counts streams, and that of its last send.
    open: Option<(SendStream<W>, (u64, u64))>,
    /// Tasks that write down delivered receipts.
    receipts: Vec<JoinHandle<()>>,
    /// What it has sent for later has come by then, unless the cluster's clock stands still.
    last_due: Instant,
}

impl<W: World> Sharer<W> {
    async fn create(&mut self, channel: &str) -> Result<(), String> {
        let name = named(channel)?;
        loop {
            match self.client.create_channel(&name).await {
                Ok(()) | Err(Error::Refused(Refusal::ChannelExists)) => {
                    self.write(What::Created { channel: channel.to_owned() });
                    return Ok(());
                }
                Err(error) => super::client::again::<W>("creating a channel", error).await?,
            }
        }
    }

    /// Joins or leaves something.
    async fn enlist(&mut self) -> Result<(), String> {
        let random = &mut self.seat.random;
        let channel = (*CHANNELS.choose(random).unwrap_or(&CHANNELS[0])).to_owned();
        let pattern = (*PATTERNS.choose(random).unwrap_or(&PATTERNS[0])).to_owned();
        let change = match random.random_range(0..10) {
            0..4 => Change::Join(channel.clone()),
            4..6 => Change::Leave(channel.clone()),
            6..8 => Change::Subscribe(pattern.clone()),
            _ => Change::Unsubscribe(pattern.clone()),
        };
        self.change(change).await
    }

    /// Asks for a change.
    async fn change(&mut self, change: Change) -> Result<(), String> {
        let question = self.seat.journal.next_question();
        let name = self.me.name.to_string();
        self.write(What::Enlisting { name: name.clone(), question, change: change.clone() });
        let answer = match &change {
            Change::Join(channel) => self.client.join(&self.me.name, &named(channel)?).await,
            Change::Leave(channel) => self.client.leave(&self.me.name, &named(channel)?).await,
            Change::SetInbox { drops, keeps } => self.client.set_inbox(&self.me.name, settings(*drops, *keeps)).await,
            Change::Subscribe(pattern) => self.client.subscribe(&self.me.name, pattern).await,
            Change::Unsubscribe(pattern) => self.client.unsubscribe(&self.me.name, pattern).await,
        };
        match answer {
            Ok(()) => self.write(What::Enlisted { name, question }),
            // Nobody knows whether, and when.
            Err(Error::TimedOut { .. } | Error::Unreachable { .. } | Error::Unknown { .. }) => {}
            Err(error) if self.me.expects(&error) => {}
            Err(error) => return Err(format!("{change:?}: {error}")),
        }
        Ok(())
    }

    /// Sends something to more than one, and perhaps asks to be told what becomes of it.
    async fn post(&mut self) -> Result<(), String> {
        let (stream, (id, last)) = match self.open.take() {
            Some(open) => open,
            None => loop {
                match self.client.open_stream(&self.me.name).await {
                    Ok(stream) => break (stream, (SendKey::SHARED + self.seat.journal.next_stream(), 0)),
                    Err(error) => self.me.recover(&self.client, "opening a stream", error).await?,
                }
            },
        };
        let (to, receipt) = (self.whom(), chance(&mut self.seat.random, 50));
        let send = SendKey { sender: self.seat.process.client.clone(), stream: id, number: last + 1 };
        let (body, digest) = send.body(self.seat.random.random_range(self.seat.plan.body.clone()) as usize);
        // Some are of use for a short while only.
        let share = if self.seat.plan.mix.share.is_multiple_of(2) { 20 } else { 0 };
        let expires = if chance(&mut self.seat.random, share) { self.seat.random.random_range(1..3000) } else { 0 };
        // Some come later, but not when the cluster is to come to rest.
        let share = if self.seat.plan.mix.share.is_multiple_of(3) && !stages_rest(&self.seat) { 25 } else { 0 };
        let delay =
            if share > 0 && chance(&mut self.seat.random, share) { self.seat.random.random_range(1..3000) } else { 0 };
        let posted = What::Posted { send: send.clone(), to: to.clone(), digest, receipt, expires, delayed: delay > 0 };
        self.write(posted);
        let recipients = recipients(&to)?;
        let message = match expires {
            0 => Message::new(body),
            expires => Message::new(body).expires_after(Duration::from_millis(expires)),
        };
        let message = if delay > 0 { message.deliver_after(Duration::from_millis(delay)) } else { message };
        let handed_in = match receipt {
            true => stream.post_with_receipt(recipients, message).await.map(|sent| {
                let Tracked { accepted, delivered } = sent;
                (accepted, Some(delivered))
            }),
            false => stream.post(recipients, message).await.map(|accepted| (accepted, None)),
        };
        let (accepted, delivered) = match handed_in {
            Ok(handed_in) => handed_in,
            Err(error) if self.me.expects(&error) => {
                // Nothing was sent then; the next one goes through another stream.
                self.write(What::NotReached { send, why: Without::NotSent });
                return Ok(());
            }
            Err(error) => return Err(format!("sending {send}: {error}")),
        };
        if accepted.number().0 != send.number {
            return Err(format!("{send} became number {}", accepted.number()));
        }
        let mut lost = false;
        match accepted.await {
            Ok(receipt) => {
                match receipt.scheduled {
                    Some(due) => {
                        self.last_due = self.last_due.max(W::now() + Duration::from_millis(delay + 500));
                        self.write(What::Scheduled { send: send.clone(), due: due.0 });
                    }
                    None => {
                        let (inboxes, full) = (receipt.inboxes, receipt.full);
                        self.write(What::Reached { send: send.clone(), inboxes, full });
                    }
                }
                if let Some(delivered) = delivered {
                    self.wait_for(send, delivered);
                }
            }
            // Nobody confirms what he has not got, so that nothing is forgotten that somebody waits for.
            Err(error @ SendError::Unknown(Doubt::Forgotten)) => {
                let why = Without::Other(error.to_string());
                self.write(What::NotReached { send, why });
            }
            Err(SendError::Unknown(_)) => {
                lost = true;
                self.write(What::PostUnknown { send });
            }
            Err(SendError::Refused(refusal)) => {
                let why = without(&to, refusal);
                self.write(What::NotReached { send, why });
            }
            Err(SendError::NotSent(_) | SendError::Failed(SendFailure::StreamClosed)) => {
                lost = true;
                self.write(What::NotReached { send, why: Without::NotSent });
            }
            Err(error @ SendError::Failed(_)) => {
                let why = Without::Other(error.to_string());
                self.write(What::NotReached { send, why });
            }
        }
        if !lost && !chance(&mut self.seat.random, 5) {
            self.open = Some((stream, (id, last + 1)));
        }
        Ok(())
    }

    /// Looks at what its inbox has kept.
    async fn look_back(&mut self) -> Result<(), String> {
        let Some(registration) = self.me.registration() else { return Ok(()) };
        let mut messages = Vec::new();
        let mut next = Some(Position(1));
        while let Some(from) = next {
            match self.client.history(&self.me.name, from, 50).await {
                Ok(page) => {
                    next = page.next;
                    messages.extend(page.messages.iter().map(|message| {
                        let (send, digest) = SendKey::of_body(&message.body);
                        (message.position.0, send, digest)
                    }));
                }
                // What it would say is of another registration, or nothing.
                Err(error) if self.me.expects(&error) => return Ok(()),
                Err(error) => super::client::again::<W>("looking back", error).await?,
            }
        }
        // Whoever renews its registration cannot tell whose this was.
        if !self.me.renews {
            let (inbox, registration) = (self.me.name.to_string(), registration.id.0);
            self.write(What::Kept { inbox, registration, messages });
        }
        Ok(())
    }

    fn wait_for(&mut self, send: SendKey, delivered: PendingDelivery) {
        let (journal, process) = (self.seat.journal.clone(), self.seat.process.clone());
        let waits: BoxFuture<'static, ()> = Box::pin(async move {
            match delivered.await {
                Ok(fate) => {
                    let (acknowledged, ended) = told(fate);
                    journal.write(&process, What::Receipted { send, acknowledged, ended });
                }
                Err(NoDelivery::StreamClosed | NoDelivery::Ended(_) | NoDelivery::NotAccepted(_)) => {}
            }
        });
        self.receipts.push(W::spawn(waits));
    }

    fn whom(&mut self) -> To {
        let clients = self.seat.plan.client_names();
        let random = &mut self.seat.random;
        match random.random_range(0..10) {
            0..4 => {
                let some = |n: usize| match n {
                    0 => NOBODY.to_owned(),
                    n => clients[n % clients.len()].clone(),
                };
                let first = 1 + random.random_range(0..clients.len());
                let second = if random.random_bool(0.1) { 0 } else { first + random.random_range(0..2usize) };
                To::Clients(vec![some(first), some(second)])
            }
            4 => To::Everybody,
            _ => To::Channel((*CHANNELS.choose(random).unwrap_or(&CHANNELS[0])).to_owned()),
        }
    }

    fn write(&self, what: What) {
        self.seat.journal.write(&self.seat.process, what);
    }
}

fn named(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(|error| error.to_string())
}

fn recipients(to: &To) -> Result<Recipients, String> {
    Ok(match to {
        To::Clients(names) => Recipients::Clients(names.iter().map(|name| named(name)).collect::<Result<_, _>>()?),
        To::Channel(channel) => Recipients::Channel(named(channel)?),
        To::Everybody => Recipients::Everybody,
    })
}

fn settings(drops: bool, keeps: u32) -> InboxSettings {
    let overflow = if drops { Overflow::DropOldest } else { Overflow::Refuse };
    InboxSettings { overflow, keep_messages: keeps, keep_ms: 0 }
}

/// Whether the faults are over.
fn stages_rest(seat: &ClientSeat) -> bool {
    seat.stages.have_reached(Stage::Core)
}

/// How many acknowledged it, and how many never will.
pub(super) fn told(fate: Fate) -> (u32, u32) {
    (fate.acknowledged, fate.ended + fate.expired + fate.dropped)
}

fn without(to: &To, refusal: SendRefusal) -> Without {
    match (refusal, to) {
        (SendRefusal::Recipients(unreached), To::Clients(names)) => {
            let named = |bits: u64| {
                let named = names.iter().enumerate().filter(|(place, _)| bits >> place & 1 == 1);
                named.map(|(_, name)| name.clone()).collect()
            };
            Without::Recipients { unknown: named(unreached.unknown), full: named(unreached.full) }
        }
        (SendRefusal::NoSuchChannel, _) => Without::NoSuchChannel,
        (SendRefusal::NoRoomForReceipt, _) => Without::NoRoomForReceipt,
        (other, _) => Without::Other(other.to_string()),
    }
}
