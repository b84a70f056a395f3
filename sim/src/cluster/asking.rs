//! Asks who is there, and servers how they stand.

use std::time::Duration;

use rand::RngExt;
use restante::client::{Client, StatusDetail};
use restante::world::World;

use super::client::{again, sleep_in_faults};
use crate::history::{Row, What};
use crate::scenario::{ClientSeat, Stage};

pub(super) async fn run<W: World>(mut seat: ClientSeat, client: Client<W>) -> Result<(), String> {
    loop {
        let pause = Duration::from_millis(seat.random.random_range(20..1500));
        sleep_in_faults::<W>(&seat.stages, pause).await;
        // A question who is there goes through the log, and nothing is to be written while the cluster heals.
        if seat.stages.have_reached(Stage::Core) {
            return Ok(());
        }
        if seat.random.random_bool(0.5) {
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
                }
                Err(error) => again::<W>("asking who is there", error).await?,
            }
        } else {
            match client.status_with(StatusDetail { digest: true, disk: false }).await {
                Ok(status) => {
                    // A state that changes all the time has no digest to be compared.
                    let Some(digest) = status.digest else { continue };
                    let told = What::Told {
                        server: status.server.to_string(),
                        term: status.term,
                        leads: status.role == "leader",
                        applied: status.applied_index,
                        digest,
                    };
                    seat.journal.write(&seat.process, told);
                }
                Err(error) => again::<W>("asking for the status", error).await?,
            }
        }
    }
}
