//! The toy's client: it sends what the plan says, one after another, and reads with two readers, the second of which
//! replaces the first.

use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, RngExt};
use restante::world::{BoxFuture, Host, Network, World};

use super::{Letter, Pipe, Reply, Request, address_of};
use crate::history::{Journal, Process, SendKey, What};
use crate::plan::Plan;
use crate::random::Stream;
use crate::scenario::{ClientSeat, Stage, Stages};

const PATIENCE: Duration = Duration::from_millis(400);
const PAUSE: Duration = Duration::from_millis(30);

pub(super) fn start<W: World>(seat: ClientSeat) -> BoxFuture<'static, Result<(), String>> {
    Box::pin(run::<W>(seat))
}

/// Every name is registered, once and for all.
const REGISTRATION: u64 = 1;

async fn run<W: World>(mut seat: ClientSeat) -> Result<(), String> {
    for name in seat.plan.client_names() {
        seat.journal.write(&seat.process, What::Registered { name, question: 0, registration: REGISTRATION });
    }
    let until = seat.plan.duration.0 / 2;
    let second_at = Duration::from_millis(seat.random.random_range(0..=until));
    let mut readers = Vec::new();
    for wait in [Duration::ZERO, second_at] {
        W::sleep(wait).await;
        let reader = Reader {
            session: seat.journal.next_session(),
            inbox: seat.process.client.clone(),
            process: seat.process.clone(),
            journal: seat.journal.clone(),
            stages: seat.stages.clone(),
            desk: Desk::new(&seat.host, &seat.plan, &seat.process.client),
        };
        readers.push(W::spawn(reader.run::<W>()));
        if readers.len() == 1 {
            let sender = Sender {
                process: seat.process.clone(),
                journal: seat.journal.clone(),
                stages: seat.stages.clone(),
                random: seat.random.clone(),
                host: seat.host.clone(),
                plan: seat.plan.clone(),
            };
            readers.push(W::spawn(sender.run::<W>()));
        }
    }
    for task in readers {
        task.await.map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// A connection to the server that keeps one inbox, made anew whenever it fails.
struct Desk {
    network: Arc<dyn Network>,
    address: String,
    pipe: Option<Pipe>,
}

impl Desk {
    fn new(host: &Host, plan: &Plan, inbox: &str) -> Self {
        Self { network: host.network.clone(), address: address_of(plan, inbox), pipe: None }
    }

    /// Asks until there is an answer.
    async fn call<W: World>(&mut self, request: &Request) -> Reply {
        loop {
            match W::timeout(PATIENCE, self.try_call(request)).await {
                Ok(Ok(reply)) => return reply,
                // Nothing is known of the request by now, so it is made again, on a new connection.
                Ok(Err(_)) | Err(_) => self.pipe = None,
            }
            W::sleep(PAUSE + Duration::from_millis(W::rng().random_range(0..50))).await;
        }
    }

    async fn try_call(&mut self, request: &Request) -> std::io::Result<Reply> {
        if self.pipe.is_none() {
            self.pipe = Some(Pipe::new(self.network.connect(&self.address).await?));
        }
        let Some(pipe) = &mut self.pipe else { return Err(std::io::ErrorKind::NotConnected.into()) };
        pipe.send(request).await?;
        pipe.receive().await
    }
}

struct Sender {
    process: Process,
    journal: Journal,
    stages: Stages,
    random: Stream,
    host: Host,
    plan: Arc<Plan>,
}

impl Sender {
    async fn run<W: World>(mut self) {
        let stream = self.journal.next_stream();
        for number in 1..=u64::from(self.plan.messages) {
            let pace = self.random.random_range(self.plan.pace.start().0..=self.plan.pace.end().0);
            W::sleep(Duration::from_millis(pace)).await;
            self.send::<W>(stream, number).await;
        }
        self.journal.write(&self.process, What::Rested { stage: Stage::Heal });
        // Fresh service after the faults.
        self.stages.reached(Stage::Calm).await;
        self.send::<W>(stream, u64::from(self.plan.messages) + 1).await;
        self.journal.write(&self.process, What::Rested { stage: Stage::Calm });
    }

    async fn send<W: World>(&mut self, stream: u64, number: u64) {
        let clients = self.plan.client_names();
        let to = clients[self.random.random_range(0..clients.len())].clone();
        let bytes = self.random.random_range(self.plan.body.clone()) as usize;
        let key = SendKey { sender: self.process.client.clone(), stream, number };
        let (body, digest) = key.body(bytes);
        self.journal.write(&self.process, What::Invoked { send: key.clone(), to: to.clone(), digest });
        let letter = Letter { to: to.clone(), from: key.sender.clone(), stream, number, body };
        let reply = Desk::new(&self.host, &self.plan, &to).call::<W>(&Request::Put(letter)).await;
        let Reply::Accepted { position } = reply else { panic!("an answer to something else: {reply:?}") };
        self.journal.write(&self.process, What::Accepted { send: key, position });
    }
}

struct Reader {
    session: u64,
    inbox: String,
    process: Process,
    journal: Journal,
    stages: Stages,
    desk: Desk,
}

impl Reader {
    async fn run<W: World>(mut self) {
        let (session, inbox) = (self.session, self.inbox.clone());
        self.write(What::Attaching { session, inbox: inbox.clone(), window: u32::MAX });
        let (epoch, mut after) = self.attach::<W>().await;
        self.write(What::Attached { session, inbox: inbox.clone(), registration: REGISTRATION });
        let stages = self.stages.clone();
        let mut stop = std::pin::pin!(stages.reached(Stage::Stop));
        loop {
            let request = Request::Get { inbox: inbox.clone(), epoch, after };
            let letters = tokio::select! {
                biased;
                () = &mut stop => break,
                reply = self.desk.call::<W>(&request) => match reply {
                    Reply::Letters(letters) => letters,
                    _ => break,
                },
            };
            if letters.is_empty() {
                W::sleep(PAUSE).await;
                continue;
            }
            for (position, redelivered, letter) in letters {
                let (send, digest) = SendKey::of_body(&letter.body);
                let (from, number, inbox) = (letter.from, letter.number, inbox.clone());
                self.write(What::Delivered {
                    session,
                    inbox,
                    position,
                    redelivered,
                    from,
                    number,
                    send,
                    digest,
                    message: 0,
                    channel: None,
                    notice: None,
                    time: 0,
                });
                after = position;
            }
            // Often enough that a later reader finds some that are not acknowledged.
            if W::rng().random_bool(0.5) && !self.acknowledge::<W>(epoch, after).await {
                break;
            }
        }
        self.write(What::Ended { session, inbox });
    }

    async fn attach<W: World>(&mut self) -> (u64, u64) {
        let nonce = W::rng().next_u64();
        let mut expected = 0;
        loop {
            let request = Request::Attach { inbox: self.inbox.clone(), expected, nonce };
            match self.desk.call::<W>(&request).await {
                Reply::Attached { epoch, acknowledged } => return (epoch, acknowledged),
                Reply::Moved { current } => expected = current,
                other => panic!("an answer to something else: {other:?}"),
            }
        }
    }

    /// False if a newer reader has replaced this one.
    async fn acknowledge<W: World>(&mut self, epoch: u64, to: u64) -> bool {
        let (session, inbox) = (self.session, self.inbox.clone());
        self.write(What::Acknowledged { session, inbox: inbox.clone(), from: 1, to });
        let request = Request::Acknowledge { inbox: inbox.clone(), epoch, to };
        match self.desk.call::<W>(&request).await {
            Reply::Acknowledged => {
                self.write(What::Confirmed { session, inbox, to });
                true
            }
            _ => false,
        }
    }

    fn write(&self, what: What) {
        self.journal.write(&self.process, what);
    }
}
