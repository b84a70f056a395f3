//! One life of a client: it registers, sends through streams and reads its inbox, and does whatever else the plan's mix
//! gives it to do.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, select, try_join_all};
use parking_lot::Mutex;
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use restante::client::{Client, ClientSettings, Error, Registration};
use restante::wire::{Name, Refusal};
use restante::world::{BoxFuture, World};

use super::{address, asking, by_hand, http, http_reader, reader, renewal, sender, sharing};
use crate::history::{Journal, Process, What};
use crate::random::{Stream, stream};
use crate::scenario::{ClientSeat, Stage, Stages};

/// The pause before something that failed is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// See `start_server` for why it is boxed here.
pub(super) fn start<W: World>(seat: ClientSeat) -> BoxFuture<'static, Result<(), String>> {
    Box::pin(run::<W>(seat))
}

async fn run<W: World>(mut seat: ClientSeat) -> Result<(), String> {
    let me = Arc::new(Me::new(&seat)?);
    let mix = seat.plan.mix.clone();
    let client = connect::<W>(&mut seat).await?;
    me.register(&client).await?;
    let programs = mix.programs + u64::from(me.sends_by_hand) + u64::from(me.browses) + u64::from(me.shares);
    let rest = Arc::new(Rest::new(programs, &seat));
    let mut parts = Vec::new();
    for program in 0..mix.programs {
        // The first one shares the reader's connection.
        let own = if program == 0 && !me.quits { client.clone() } else { connect::<W>(&mut seat).await? };
        let share = u64::from(seat.plan.messages) / mix.programs;
        let messages = if program == 0 { u64::from(seat.plan.messages) - share * (mix.programs - 1) } else { share };
        parts.push(boxed(sender::run::<W>(branch(&mut seat), own, me.clone(), rest.clone(), messages)));
    }
    if me.browses {
        parts.push(boxed(http_reader::run::<W>(branch(&mut seat), me.clone())));
        parts.push(boxed(http::run::<W>(branch(&mut seat), me.clone(), rest.clone())));
    } else {
        parts.push(boxed(reader::run::<W>(branch(&mut seat), client.clone(), me.clone())));
    }
    if me.shares {
        let own = if seat.random.random_bool(0.5) { client.clone() } else { connect::<W>(&mut seat).await? };
        parts.push(boxed(sharing::run::<W>(branch(&mut seat), own, me.clone(), rest.clone())));
    }
    if me.sends_by_hand {
        parts.push(boxed(by_hand::run::<W>(branch(&mut seat), me.clone(), rest)));
    }
    if me.renews {
        parts.push(boxed(renewal::run::<W>(branch(&mut seat), client.clone(), me.clone())));
    }
    if me.asks {
        parts.push(boxed(asking::run::<W>(branch(&mut seat), client.clone())));
    }
    // The first that fails ends the client, and with it the run: what the others miss for it would hide the reason.
    let ends = |part| async { W::spawn(part).await.map_err(|error| error.to_string())? };
    try_join_all(parts.into_iter().map(ends)).await?;
    client.close().await;
    Ok(())
}

fn boxed(part: impl Future<Output = Result<(), String>> + Send + 'static) -> BoxFuture<'static, Result<(), String>> {
    Box::pin(part)
}

/// Who a client is, over all its lives: what one of them asked for may come to be in the next one.
#[derive(Debug)]
pub(super) struct Me {
    pub(super) name: Name,
    process: Process,
    journal: Journal,
    /// Its registration may end under it, since it asks for that itself.
    pub(super) renews: bool,
    /// Its programs close with sends on their way, and come back.
    pub(super) quits: bool,
    /// Others attach to its inbox more often.
    pub(super) is_stolen_from: bool,
    pub(super) sends_by_hand: bool,
    /// It reads by HTTP, and sends by it, too.
    pub(super) browses: bool,
    asks: bool,
    /// It has channels, sends to many, and asks what becomes of it.
    shares: bool,
    registration: Mutex<Option<Registration>>,
}

impl Me {
    fn new(seat: &ClientSeat) -> Result<Self, String> {
        let mix = &seat.plan.mix;
        let mut random = stream(seat.plan.seed, &format!("habits of {}", seat.process.client));
        let mut is = |share| random.random_range(0..100) < share;
        Ok(Self {
            name: Name::new(&seat.process.client).map_err(|error| error.to_string())?,
            process: seat.process.clone(),
            journal: seat.journal.clone(),
            renews: is(mix.renew),
            quits: is(mix.quit),
            is_stolen_from: is(mix.steal),
            sends_by_hand: is(mix.by_hand),
            asks: is(mix.ask),
            browses: is(mix.http),
            shares: is(mix.share),
            registration: Mutex::default(),
        })
    }

    /// Its registration, as far as this life knows.
    pub(super) fn registration(&self) -> Option<Registration> {
        self.registration.lock().clone()
    }

    /// Registers until it is so. An earlier life of this client may have done it.
    pub(super) async fn register<W: World>(&self, client: &Client<W>) -> Result<(), String> {
        let (name, question) = (self.name.to_string(), self.journal.next_question());
        loop {
            self.write(What::Registering { name: name.clone(), question });
            let registration = match client.register(&self.name).await {
                Ok(registration) => registration,
                Err(Error::Refused(Refusal::AlreadyRegistered { registration: id })) => {
                    Registration { name: self.name.clone(), id, home: self.name.clone() }
                }
                Err(error) => {
                    again::<W>("registering", error).await?;
                    continue;
                }
            };
            self.write(What::Registered { name, question, registration: registration.id.0 });
            *self.registration.lock() = Some(registration);
            return Ok(());
        }
    }

    /// Whether that error only says that the registration has ended, which this client may have asked for.
    pub(super) fn expects(&self, error: &Error) -> bool {
        let ended = matches!(
            error,
            Error::RegistrationEnded { .. }
                | Error::StreamLost { .. }
                | Error::Refused(Refusal::NotRegistered | Refusal::RegistrationEnded)
        );
        ended && self.renews
    }

    /// After an error: waits a little and registers again if that may help; any other error is returned.
    pub(super) async fn recover<W: World>(&self, client: &Client<W>, what: &str, error: Error) -> Result<(), String> {
        if !self.expects(&error) {
            return again::<W>(what, error).await;
        }
        W::sleep(PAUSE).await;
        self.register(client).await
    }

    pub(super) fn write(&self, what: What) {
        self.journal.write(&self.process, what);
    }
}

/// Tells when all programs of a client that send have nothing more to send in a stage.
#[derive(Debug)]
pub(super) struct Rest {
    programs: u64,
    rested: Mutex<BTreeMap<Stage, u64>>,
    process: Process,
    journal: Journal,
}

impl Rest {
    fn new(programs: u64, seat: &ClientSeat) -> Self {
        let (process, journal) = (seat.process.clone(), seat.journal.clone());
        Self { programs, rested: Mutex::default(), process, journal }
    }

    /// One more program has nothing more to send in `stage`.
    pub(super) fn at(&self, stage: Stage) {
        let rested = {
            let mut all = self.rested.lock();
            let rested = all.entry(stage).or_default();
            *rested += 1;
            *rested
        };
        if rested == self.programs {
            self.journal.write(&self.process, What::Rested { stage });
        }
    }
}

/// Whether it happens this time: so many times of a hundred. Nothing is drawn for what never happens, so that a mix that
/// leaves it out draws as if it did not exist.
pub(super) fn chance(random: &mut Stream, share: u64) -> bool {
    share > 0 && random.random_range(0..100) < share
}

/// Waits so long, or until the faults are over.
pub(super) async fn sleep_in_faults<W: World>(stages: &Stages, duration: Duration) {
    let sleep = W::sleep(duration);
    if let Either::Right(_) = select(std::pin::pin!(sleep), std::pin::pin!(stages.reached(Stage::Core))).await {}
}

/// The same seat with random numbers of its own, so that parts that run at once do not move each other's draws.
pub(super) fn branch(seat: &mut ClientSeat) -> ClientSeat {
    ClientSeat {
        process: seat.process.clone(),
        host: seat.host.clone(),
        plan: seat.plan.clone(),
        journal: seat.journal.clone(),
        random: fork(&mut seat.random),
        stages: seat.stages.clone(),
    }
}

pub(super) fn fork(random: &mut Stream) -> Stream {
    rand::SeedableRng::from_rng(random)
}

/// A client that knows some of the servers and may prefer one.
pub(super) async fn connect<W: World>(seat: &mut ClientSeat) -> Result<Client<W>, String> {
    let mut servers = seat.plan.servers.clone();
    servers.shuffle(&mut seat.random);
    servers.truncate(seat.random.random_range(1..=servers.len()));
    let mut settings = ClientSettings::new(servers.iter().map(|server| address(server)));
    if seat.random.random_bool(0.7) {
        let home = seat.plan.servers.choose(&mut seat.random);
        settings.home = home.map(|home| Name::new(home)).transpose().map_err(|error| error.to_string())?;
    }
    loop {
        // What it knows may be servers that were all replaced meanwhile. It looks for them until whoever runs this client
        // tells it of others: when it gives up, and when the faults are over.
        let over = seat.stages.have_reached(Stage::Core);
        if over {
            settings.servers = all_servers(seat);
        }
        let told = async {
            if over {
                std::future::pending::<()>().await;
            }
            seat.stages.reached(Stage::Core).await;
        };
        let starting = Client::start(settings.clone(), seat.host.clone());
        let started = match select(std::pin::pin!(starting), std::pin::pin!(told)).await {
            Either::Left((started, _)) => started,
            Either::Right(_) => continue,
        };
        match started {
            Ok(client) => return Ok(client),
            Err(Error::Unreachable { .. }) => {
                settings.servers = all_servers(seat);
                W::sleep(PAUSE).await;
            }
            Err(Error::NoSuchHome { .. }) => settings.home = None,
            Err(error) => return Err(format!("connecting: {error}")),
        }
    }
}

/// Every server that there may ever be.
fn all_servers(seat: &ClientSeat) -> Vec<String> {
    seat.plan.server_hosts().iter().map(|server| address(server)).collect()
}

/// Waits a little after an error that says to ask again; any other is returned.
pub(super) async fn again<W: World>(what: &str, error: Error) -> Result<(), String> {
    match error {
        Error::TimedOut { .. } | Error::Unreachable { .. } | Error::Unknown { .. } => {
            W::sleep(PAUSE).await;
            Ok(())
        }
        other => Err(format!("{what}: {other}")),
    }
}
