//! Asks who is there, watches who comes and goes, and asks servers how they stand.

use std::time::Duration;

use rand::RngExt;
use restante::client::{Client, Presence, PresenceChange, StatusDetail};
use restante::world::World;

use super::client::{again, sleep_in_faults};
use crate::history::{Came, Row, What};
use crate::scenario::{ClientSeat, Stage};

pub(super) async fn run<W: World>(mut seat: ClientSeat, client: Client<W>) -> Result<(), String> {
    let watcher = seat.journal.next_question();
    let mut presence = client.presence();
    loop {
        let pause = Duration::from_millis(seat.random.random_range(20..1500));
        sleep_in_faults::<W>(&seat.stages, pause).await;
        // A question who is there goes through the log, and nothing is to be written while the cluster heals.
        if seat.stages.have_reached(Stage::Core) {
            return Ok(());
        }
        match seat.random.random_range(0..5) {
            0 => watch(&mut seat, watcher, &mut presence).await?,
            1 | 2 => list(&seat, &client).await?,
            _ => look(&seat, &client).await?,
        }
    }
}

/// Follows who comes and goes for a while.
async fn watch<W: World>(seat: &mut ClientSeat, watcher: u64, presence: &mut Presence<W>) -> Result<(), String> {
    let until = W::now() + Duration::from_millis(seat.random.random_range(1..1500));
    // Looking at everybody goes through the log, too.
    while !seat.stages.have_reached(Stage::Core)
        && let Ok(change) = W::timeout(until.saturating_duration_since(W::now()), presence.next()).await
    {
        let (row, how) = match change {
            Ok(PresenceChange::Registered(row)) => (row, Came::Registered),
            Ok(PresenceChange::Online(row)) => (row, Came::Online),
            Ok(PresenceChange::Offline(row)) => (row, Came::Offline),
            Ok(PresenceChange::Moved { row, .. }) => (row, Came::Moved),
            Ok(PresenceChange::Deregistered(row)) => (row, Came::Deregistered),
            Err(error) => return again::<W>("watching who comes and goes", error).await,
        };
        let (name, registration) = (row.name.to_string(), row.registration.0);
        seat.journal.write(&seat.process, What::Came { watcher, name, registration, how });
    }
    Ok(())
}

/// Asks who is there.
async fn list<W: World>(seat: &ClientSeat, client: &Client<W>) -> Result<(), String> {
    let question = seat.journal.next_question();
    seat.journal.write(&seat.process, What::Asking { question });
    match client.who().await {
        Ok(rows) => {
            let row = |row: restante::wire::client::ClientRow| Row {
                name: row.name.to_string(),
                registration: row.registration.0,
                waiting: row.waiting,
            };
            let clients = rows.into_iter().map(row).collect();
            seat.journal.write(&seat.process, What::Listed { question, clients });
            Ok(())
        }
        Err(error) => again::<W>("asking who is there", error).await,
    }
}

/// Asks a server how it stands.
async fn look<W: World>(seat: &ClientSeat, client: &Client<W>) -> Result<(), String> {
    match client.status_with(StatusDetail { digest: true, disk: false }).await {
        Ok(status) => {
            // A state that changes all the time has no digest to be compared.
            let Some(digest) = status.digest else { return Ok(()) };
            let told = What::Told {
                server: status.server.to_string(),
                term: status.term,
                leads: status.role == "leader",
                applied: status.applied_index,
                digest,
            };
            seat.journal.write(&seat.process, told);
            Ok(())
        }
        Err(error) => again::<W>("asking for the status", error).await,
    }
}
