//! Sends what the plan says, through one send stream after another, with many sends on their way at once.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select};
use rand::RngExt;
use restante::client::{Client, Doubt, Error, PendingReceipt, SendError, SendStream};
use restante::limits;
use restante::wire::client::SendFailure;
use restante::wire::{Name, SendRefusal};
use restante::world::{BoxFuture, World};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::client::{Me, Rest, chance, connect, fork};
use crate::history::{Journal, Process, SendKey, What, Why};
use crate::random::Stream;
use crate::scenario::{ClientSeat, Stage};

/// A name that nobody registers.
const NOBODY: &str = "nobody";
/// The longest that somebody waits for a receipt before they lose interest, in milliseconds.
const INTEREST: u64 = 40;

pub(super) async fn run<W: World>(
    seat: ClientSeat,
    client: Client<W>,
    me: Arc<Me>,
    rest: Arc<Rest>,
    messages: u64,
) -> Result<(), String> {
    let stages = seat.stages.clone();
    let mut program = Program { seat, client, me, open: None };
    for _ in 0..messages {
        if !program.send(Stage::Faults).await? {
            break;
        }
    }
    for (healing, service) in [(Stage::Core, Stage::CoreService), (Stage::Heal, Stage::Calm)] {
        stages.reached(healing).await;
        rest.at(healing);
        stages.reached(service).await;
        // What is fresh after the faults goes through a stream that stood through them. A run without a core passes its
        // service by.
        if stages.current() == service {
            for _ in 0..1 + program.seat.random.random_range(0..3) {
                program.send(service).await?;
            }
        }
        rest.at(service);
    }
    if let Some(stream) = program.open.take() {
        stream.close(&program.me).await?;
    }
    stages.reached(Stage::Stop).await;
    if program.me.quits {
        program.client.close().await;
    }
    Ok(())
}

/// One program of a client, which sends through one stream after another.
struct Program<W: World> {
    seat: ClientSeat,
    client: Client<W>,
    me: Arc<Me>,
    open: Option<Open<W>>,
}

impl<W: World> Program<W> {
    /// Sends one message, if the run is still in `stage` by then.
    async fn send(&mut self, stage: Stage) -> Result<bool, String> {
        let mut stream = match self.open.take() {
            Some(stream) => stream,
            None => Open::new(&mut self.seat, &self.client, &self.me).await?,
        };
        let pace = self.seat.random.random_range(self.seat.plan.pace.start().0..=self.seat.plan.pace.end().0);
        W::sleep(Duration::from_millis(pace)).await;
        if self.seat.stages.current() != stage {
            self.open = Some(stream);
            return Ok(false);
        }
        stream.send(&mut self.seat, &self.me).await?;
        // Now and then another stream, as if another program of this client went on.
        if stream.lost || self.seat.random.random_bool(0.03) {
            self.leave(stream).await?;
        } else {
            self.open = Some(stream);
        }
        Ok(true)
    }

    async fn leave(&mut self, stream: Open<W>) -> Result<(), String> {
        let (abandon, quits) = (self.seat.plan.mix.abandon, self.me.quits);
        if quits && self.seat.random.random_bool(0.5) {
            // What is on its way has no outcome then, and nobody asks for it again.
            let next = connect::<W>(&mut self.seat).await?;
            let client = std::mem::replace(&mut self.client, next);
            if self.seat.random.random_bool(0.5) {
                client.close().await;
                return stream.forsake().await;
            }
            drop(client);
            return stream.forsake().await;
        }
        if chance(&mut self.seat.random, abandon) {
            return stream.forsake().await;
        }
        stream.close(&self.me).await
    }
}

/// Something whose outcome is to be written down: its permit makes room for another one.
type Sent = (SendKey, PendingReceipt, OwnedSemaphorePermit);

/// A send stream and the task that writes down how its sends end.
struct Open<W: World> {
    stream: SendStream<W>,
    id: u64,
    number: u64,
    lost: bool,
    /// So many sends may be on their way.
    room: Arc<Semaphore>,
    sent: mpsc::UnboundedSender<Sent>,
    receipts: tokio::task::JoinHandle<Result<(), String>>,
}

impl<W: World> Open<W> {
    async fn new(seat: &mut ClientSeat, client: &Client<W>, me: &Me) -> Result<Self, String> {
        let mut depth = seat.random.random_range(1..=24);
        if chance(&mut seat.random, seat.plan.mix.closed) {
            depth = 1;
        }
        let stream = loop {
            match client.open_stream(&me.name).await {
                Ok(stream) => break stream,
                Err(error) => me.recover(client, "opening a stream", error).await?,
            }
        };
        let (sent, pending) = mpsc::unbounded_channel();
        let forget = (seat.plan.mix.forget > 0).then(|| (fork(&mut seat.random), seat.plan.mix.forget));
        let writes: BoxFuture<'static, _> =
            Box::pin(write_receipts::<W>(pending, seat.journal.clone(), seat.process.clone(), forget));
        let (room, receipts) = (Arc::new(Semaphore::new(depth)), W::spawn(writes));
        Ok(Self { stream, id: seat.journal.next_stream(), number: 0, lost: false, room, sent, receipts })
    }

    async fn send(&mut self, seat: &mut ClientSeat, me: &Me) -> Result<(), String> {
        let room = self.room.clone().acquire_owned().await.map_err(|error| error.to_string())?;
        let to = recipient(seat);
        let name = Name::new(&to).map_err(|error| error.to_string())?;
        let bytes = size(seat);
        let send = SendKey { sender: seat.process.client.clone(), stream: self.id, number: self.number + 1 };
        let (body, digest) = send.body(bytes);
        seat.journal.write(&seat.process, What::Invoked { send: send.clone(), to, digest });
        match self.stream.send(&name, body).await {
            Ok(pending) if pending.number().0 == send.number => {
                self.number += 1;
                // The other end ends only with an error, which closing the stream tells.
                let _ = self.sent.send((send, pending, room));
                Ok(())
            }
            Ok(pending) => Err(format!("{send} became number {}", pending.number())),
            Err(error) if me.expects(&error) => {
                // Nothing was sent then.
                seat.journal.write(&seat.process, What::Refused { send, why: Why::NotSent });
                self.lost = true;
                Ok(())
            }
            Err(error) => Err(format!("sending {send}: {error}")),
        }
    }

    /// Closes it once all its sends have their outcomes.
    async fn close(self, me: &Me) -> Result<(), String> {
        drop(self.sent);
        self.receipts.await.map_err(|error| error.to_string())??;
        match self.stream.close().await {
            // If nothing is heard of it, the stream is closed later.
            Ok(()) | Err(Error::TimedOut { .. } | Error::Unreachable { .. }) => Ok(()),
            Err(error) if me.expects(&error) => Ok(()),
            Err(error) => Err(format!("closing a stream: {error}")),
        }
    }

    /// Drops it with its sends on their way: their outcomes still come.
    async fn forsake(self) -> Result<(), String> {
        drop(self.stream);
        drop(self.sent);
        self.receipts.await.map_err(|error| error.to_string())?
    }
}

fn recipient(seat: &mut ClientSeat) -> String {
    let clients = seat.plan.client_names();
    if chance(&mut seat.random, seat.plan.mix.hot) {
        return clients[0].clone();
    }
    match seat.random.random_range(0..100) {
        0..3 => NOBODY.to_owned(),
        _ => clients[seat.random.random_range(0..clients.len())].clone(),
    }
}

fn size(seat: &mut ClientSeat) -> usize {
    let large = seat.plan.mix.large;
    if large > 0 && seat.random.random_range(0..1000) < large {
        return limits::BODY_BYTES_MAX - [0, 1, 1000][seat.random.random_range(0..3)];
    }
    seat.random.random_range(seat.plan.body.clone()) as usize
}

/// Receipts come in the order of the sends. Dropping the permit makes room for another one.
async fn write_receipts<W: World>(
    mut pending: mpsc::UnboundedReceiver<Sent>,
    journal: Journal,
    process: Process,
    mut forget: Option<(Stream, u64)>,
) -> Result<(), String> {
    while let Some((send, receipt, _room)) = pending.recv().await {
        let mut receipt = receipt;
        if let Some((random, share)) = &mut forget
            && chance(random, *share)
        {
            // Whoever waits for it loses interest, which cancels nothing.
            let interest = W::sleep(Duration::from_millis(random.random_range(0..INTEREST)));
            match select(receipt, std::pin::pin!(interest)).await {
                Either::Left((outcome, _)) => {
                    write_outcome(&journal, &process, send, outcome)?;
                    continue;
                }
                Either::Right(((), dropped)) => {
                    drop(dropped);
                    journal.write(&process, What::Unknown { send });
                    continue;
                }
            }
        }
        let outcome = (&mut receipt).await;
        write_outcome(&journal, &process, send, outcome)?;
    }
    Ok(())
}

fn write_outcome(
    journal: &Journal,
    process: &Process,
    send: SendKey,
    outcome: Result<restante::client::Receipt, SendError>,
) -> Result<(), String> {
    let what = match outcome {
        Ok(receipt) if receipt.number.0 != send.number => {
            return Err(format!("{send} got the receipt of number {}", receipt.number));
        }
        Ok(receipt) => What::Accepted { send, position: receipt.position.0 },
        Err(error) => match error {
            // Nobody confirms what he has not got, so that nothing is forgotten that somebody waits for.
            error @ SendError::Unknown(Doubt::Forgotten) => What::Refused { send, why: Why::Other(error.to_string()) },
            SendError::Unknown(_) => What::Unknown { send },
            SendError::Refused(SendRefusal::NoSuchClient) => What::Refused { send, why: Why::NoSuchClient },
            SendError::Refused(SendRefusal::InboxFull) => What::Refused { send, why: Why::InboxFull },
            error @ SendError::Refused(_) => What::Refused { send, why: Why::Other(error.to_string()) },
            SendError::NotSent(_) => What::Refused { send, why: Why::NotSent },
            SendError::Failed(SendFailure::StreamClosed) => What::Refused { send, why: Why::StreamClosed },
            error @ SendError::Failed(_) => What::Refused { send, why: Why::Other(error.to_string()) },
        },
    };
    journal.write(process, what);
    Ok(())
}
