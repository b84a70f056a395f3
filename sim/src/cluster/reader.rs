//! Reads the client's inbox with one reader after another: some leave in good order, some are replaced while they read.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, pending, select};
use rand::RngExt;
use restante::client::{Client, Delivery, Error, Inbox};
use restante::wire::Position;
use restante::world::{BoxFuture, World};

use super::client::{Me, branch, chance, connect, sleep_in_faults};
use crate::history::{SendKey, What};
use crate::scenario::{ClientSeat, Stage};

pub(super) async fn run<W: World>(mut seat: ClientSeat, first: Client<W>, me: Arc<Me>) -> Result<(), String> {
    let begun = W::now();
    let changes = seat.random.random_range(0..=if me.is_stolen_from { 8 } else { 2 });
    let mut moments: Vec<u64> = (0..changes).map(|_| seat.random.random_range(0..=seat.plan.duration.0)).collect();
    moments.sort_unstable();
    let mut moments = moments.into_iter().map(|at| begun + Duration::from_millis(at));
    let mut client = first.clone();
    let mut tasks = Vec::new();
    loop {
        let reader = Reader::attach(&mut seat, &client, &me).await?;
        let replaced = reader.replaced.clone();
        let Some(moment) = moments.next() else {
            // The last one reads to the end, of one registration after another.
            match reader.boxed(None).await? {
                Left::RegistrationEnded => continue,
                Left::Done => break,
            }
        };
        if seat.random.random_bool(0.4) {
            // In good order: the next one comes when this one has gone.
            W::spawn(reader.boxed(Some(moment))).await.map_err(|error| error.to_string())??;
            continue;
        }
        tasks.push(W::spawn(reader.boxed(None)));
        W::sleep_until(moment).await;
        // The newer reader has a connection of its own in half of the cases, like another program of this client.
        client = if seat.random.random_bool(0.5) { connect::<W>(&mut seat).await? } else { first.clone() };
        replaced.store(true, Ordering::Relaxed);
        if me.is_stolen_from && seat.random.random_bool(0.3) {
            // Two programs at once want to be the reader: one of them is, and the other one learns so.
            let thief = connect::<W>(&mut seat).await?;
            let thief = Reader::attach(&mut seat, &thief, &me).await?;
            thief.replaced.store(true, Ordering::Relaxed);
            tasks.push(W::spawn(thief.boxed(None)));
        }
    }
    for task in tasks {
        task.await.map_err(|error| error.to_string())??;
    }
    Ok(())
}

/// Why a reader reads no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It left, or was replaced.
    Done,
    /// The registration has ended, so there is another inbox to read.
    RegistrationEnded,
}

/// One attachment.
struct Reader<W: World> {
    seat: ClientSeat,
    me: Arc<Me>,
    session: u64,
    inbox: Inbox<W>,
    /// So many deliveries may be unacknowledged.
    window: u32,
    /// Whether a newer reader may have attached. If not, being fenced is a fault.
    replaced: Arc<AtomicBool>,
    /// Everything up to here was acknowledged.
    acknowledged: u64,
    /// Deliveries taken since then and not acknowledged one by one.
    unacknowledged: u32,
    /// The last position that was taken.
    taken: u64,
    habits: Habits,
}

/// How a reader acknowledges.
#[derive(Debug, Clone, Copy)]
struct Habits {
    /// How likely it acknowledges everything so far after a delivery.
    all: f64,
    /// How likely it acknowledges only that delivery.
    one: f64,
    /// How likely it waits until that is durable.
    flush: f64,
    /// For how many milliseconds it works on a delivery at most.
    work: u64,
    /// It acknowledges nothing while there are faults.
    deaf: bool,
    /// It falls asleep now and then.
    sleepy: bool,
}

impl<W: World> Reader<W> {
    async fn attach(seat: &mut ClientSeat, client: &Client<W>, me: &Arc<Me>) -> Result<Self, String> {
        let random = &mut seat.random;
        let window = [1, 4, 64, 1024][random.random_range(0..4)];
        let habits = Habits {
            all: random.random_range(0.1..1.0),
            one: random.random_range(0.0..0.3),
            flush: random.random_range(0.0..0.4),
            work: random.random_range(0..5),
            deaf: chance(random, seat.plan.mix.deaf),
            sleepy: chance(random, seat.plan.mix.sleepy),
        };
        loop {
            let session = seat.journal.next_session();
            let inbox = me.name.to_string();
            seat.journal.write(&seat.process, What::Attaching { session, inbox: inbox.clone(), window });
            match client.listen(&me.name, window).await {
                Ok(reader) => {
                    let registration = reader.registration().map_or(0, |id| id.0);
                    seat.journal.write(&seat.process, What::Attached { session, inbox, registration });
                    let (seat, replaced) = (branch(seat), Arc::default());
                    return Ok(Self {
                        seat,
                        me: me.clone(),
                        session,
                        inbox: reader,
                        window,
                        replaced,
                        acknowledged: 0,
                        unacknowledged: 0,
                        taken: 0,
                        habits,
                    });
                }
                Err(error) => {
                    seat.journal.write(&seat.process, What::Ended { session, inbox });
                    me.recover(client, "attaching", error).await?;
                }
            }
        }
    }

    /// Reads until it is replaced, or until it leaves: at that moment, or when the run ends.
    fn boxed(self, leaves: Option<restante::world::Instant>) -> BoxFuture<'static, Result<Left, String>> {
        Box::pin(self.read(leaves))
    }

    async fn read(mut self, leaves: Option<restante::world::Instant>) -> Result<Left, String> {
        let stages = self.seat.stages.clone();
        let leaving = async {
            match leaves {
                Some(moment) => W::sleep_until(moment).await,
                None => pending().await,
            }
        };
        let leaving = select(Box::pin(leaving), Box::pin(stages.reached(Stage::Stop)));
        let mut leaving = std::pin::pin!(leaving);
        // When the faults are over, what was kept back is acknowledged even if nothing more comes.
        let mut over = std::pin::pin!(stages.reached(Stage::Core).fuse());
        loop {
            let next = {
                let wakes = select(over.as_mut(), Box::pin(self.inbox.next()));
                match select(leaving.as_mut(), wakes).await {
                    Either::Left(_) => break,
                    Either::Right((Either::Left(_), _)) => None,
                    Either::Right((Either::Right((next, _)), _)) => Some(next),
                }
            };
            match next {
                None => {}
                Some(Some(Ok(delivery))) => self.take(delivery),
                Some(Some(Err(error))) => {
                    self.ended();
                    return self.expected(error);
                }
                Some(None) => {
                    self.ended();
                    return Err("an inbox ended without an error".to_owned());
                }
            }
            self.acknowledge().await?;
        }
        // A reader with a small window gets the rest only if what it has was acknowledged; the next one gets it anyway.
        let session = self.session;
        let write = {
            let (journal, process, inbox) = (self.seat.journal.clone(), self.seat.process.clone(), self.name());
            move || journal.write(&process, What::Ended { session, inbox })
        };
        let closed = self.inbox.close().await;
        write();
        match closed {
            Ok(()) | Err(Error::TimedOut { .. } | Error::Unreachable { .. } | Error::Fenced { .. }) => Ok(Left::Done),
            Err(error) if self.me.expects(&error) => Ok(Left::Done),
            Err(error) => Err(format!("closing an inbox: {error}")),
        }
    }

    fn take(&mut self, delivery: Delivery) {
        let (send, digest) = SendKey::of_body(&delivery.body);
        self.taken = delivery.position.0;
        self.unacknowledged += 1;
        self.write(What::Delivered {
            session: self.session,
            inbox: self.name(),
            position: delivery.position.0,
            redelivered: delivery.redelivered,
            from: delivery.from.to_string(),
            number: delivery.number.0,
            send,
            digest,
            message: delivery.message.0,
            channel: delivery.channel.map(|channel| channel.to_string()),
            notice: delivery.notice.map(|notice| super::sharing::told(notice.fate)),
            time: delivery.time.0,
        });
    }

    async fn acknowledge(&mut self) -> Result<(), String> {
        if self.taken == 0 {
            return Ok(());
        }
        let Habits { all, one, flush, work, deaf, sleepy } = self.habits;
        let work = self.seat.random.random_range(0..=work);
        if work > 0 {
            W::sleep(Duration::from_millis(work)).await;
        }
        if sleepy && self.seat.random.random_bool(0.05) {
            let (from, to) = self.seat.plan.mix.sleep.clone().into_inner();
            let sleep = Duration::from_millis(self.seat.random.random_range(from.0..=to.0));
            sleep_in_faults::<W>(&self.seat.stages, sleep).await;
        }
        let (session, to) = (self.session, self.taken);
        // After the faults nothing may be held back by a window that is full.
        let calm = self.seat.stages.have_reached(Stage::Core);
        if deaf && !calm {
            return Ok(());
        }
        if calm || self.full() || self.seat.random.random_bool(all) {
            self.write(What::Acknowledged { session, inbox: self.name(), from: 1, to });
            self.inbox.acknowledge(Position(to));
            (self.acknowledged, self.unacknowledged) = (to, 0);
        } else if self.seat.random.random_bool(one) {
            self.write(What::Acknowledged { session, inbox: self.name(), from: to, to });
            self.inbox.acknowledge_one(Position(to));
            self.unacknowledged -= 1;
        }
        if self.acknowledged > 0 && self.seat.random.random_bool(flush) {
            let to = self.acknowledged;
            match self.inbox.flush().await {
                Ok(()) => self.write(What::Confirmed { session, inbox: self.name(), to }),
                Err(Error::TimedOut { .. } | Error::Unreachable { .. }) => {}
                // The next delivery tells of it, too.
                Err(Error::Fenced { .. } | Error::Closed) if self.replaced.load(Ordering::Relaxed) => {}
                Err(Error::Closed) if self.me.renews => {}
                Err(error) if self.me.expects(&error) => {}
                Err(error) => return Err(format!("waiting for acknowledgements: {error}")),
            }
        }
        Ok(())
    }

    /// Whether nothing more may come before an acknowledgement.
    fn full(&self) -> bool {
        self.unacknowledged >= self.window
    }

    fn expected(&self, error: Error) -> Result<Left, String> {
        match error {
            Error::Fenced { .. } if self.replaced.load(Ordering::Relaxed) => Ok(Left::Done),
            error if self.me.expects(&error) => Ok(Left::RegistrationEnded),
            error => Err(format!("attachment {} ended: {error}", self.session)),
        }
    }

    fn ended(&self) {
        self.write(What::Ended { session: self.session, inbox: self.name() });
    }

    fn name(&self) -> String {
        self.inbox.name().to_string()
    }

    fn write(&self, what: What) {
        self.seat.journal.write(&self.seat.process, what);
    }
}
