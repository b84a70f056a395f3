//! One life of a client: it registers, sends through streams and reads its inbox.

use std::time::Duration;

use futures::future::join_all;
use rand::RngExt;
use rand::seq::{IndexedRandom, SliceRandom};
use restante::client::{Client, ClientSettings, Error};
use restante::wire::{Name, Refusal};
use restante::world::{BoxFuture, World};

use super::{address, reader, sender};
use crate::history::What;
use crate::random::Stream;
use crate::scenario::ClientSeat;

/// The pause before something that failed is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// See `start_server` for why it is boxed here.
pub(super) fn start<W: World>(seat: ClientSeat) -> BoxFuture<'static, Result<(), String>> {
    Box::pin(run::<W>(seat))
}

async fn run<W: World>(mut seat: ClientSeat) -> Result<(), String> {
    let me = Name::new(&seat.process.client).map_err(|error| error.to_string())?;
    let client = connect::<W>(&mut seat).await?;
    register(&client, &me).await?;
    seat.journal.write(&seat.process, What::Registered { name: me.to_string() });
    let parts = [
        W::spawn(boxed(sender::run::<W>(branch(&mut seat), client.clone()))),
        W::spawn(boxed(reader::run::<W>(branch(&mut seat), client.clone()))),
    ];
    let ended = join_all(parts).await;
    client.close().await;
    for result in ended {
        result.map_err(|error| error.to_string())??;
    }
    Ok(())
}

fn boxed(part: impl Future<Output = Result<(), String>> + Send + 'static) -> BoxFuture<'static, Result<(), String>> {
    Box::pin(part)
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

fn fork(random: &mut Stream) -> Stream {
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
        match Client::start(settings.clone(), seat.host.clone()).await {
            Ok(client) => return Ok(client),
            Err(Error::Unreachable { .. }) => {
                // Servers may have been replaced meanwhile: whoever runs this client tells it of others.
                settings.servers = seat.plan.server_hosts().iter().map(|server| address(server)).collect();
                W::sleep(PAUSE).await;
            }
            Err(Error::NoSuchHome { .. }) => settings.home = None,
            Err(error) => return Err(format!("connecting: {error}")),
        }
    }
}

/// Until it is so. An earlier life of this client may have done it.
async fn register<W: World>(client: &Client<W>, name: &Name) -> Result<(), String> {
    loop {
        match client.register(name).await {
            Ok(_) | Err(Error::Refused(Refusal::AlreadyRegistered { .. })) => return Ok(()),
            Err(error) => again::<W>("registering", error).await?,
        }
    }
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
