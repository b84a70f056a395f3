//! Ends the client's registration now and then, while others send to it, and registers again.

use std::time::Duration;

use rand::RngExt;
use restante::client::{Client, Error};
use restante::wire::Refusal;
use restante::world::World;

use super::client::{Me, sleep_in_faults};
use crate::history::What;
use crate::scenario::{ClientSeat, Stage};
use std::sync::Arc;

pub(super) async fn run<W: World>(mut seat: ClientSeat, client: Client<W>, me: Arc<Me>) -> Result<(), String> {
    loop {
        let pause = Duration::from_millis(seat.random.random_range(100..4000));
        sleep_in_faults::<W>(&seat.stages, pause).await;
        if seat.stages.have_reached(Stage::Core) {
            return Ok(());
        }
        let Some(registration) = me.registration() else { return Ok(()) };
        let name = me.name.to_string();
        // By its name alone, it ends whichever registration holds it: mostly it is told which one.
        let exactly = seat.random.random_bool(0.85);
        let asked = exactly.then_some(registration.id.0);
        me.write(What::Deregistering { name: name.clone(), registration: asked });
        let answer = match exactly {
            true => client.deregister_exactly(&registration).await,
            false => client.deregister(&me.name).await,
        };
        match answer {
            Ok(()) | Err(Error::Refused(Refusal::NotRegistered | Refusal::RegistrationEnded)) => {
                me.write(What::Deregistered { name, registration: asked });
            }
            // Nobody knows whether and when.
            Err(Error::TimedOut { .. } | Error::Unreachable { .. } | Error::Unknown { .. }) => {}
            Err(error) => return Err(format!("deregistering: {error}")),
        }
        if seat.random.random_bool(0.5) {
            sleep_in_faults::<W>(&seat.stages, Duration::from_millis(seat.random.random_range(0..500))).await;
        }
        me.register(&client).await?;
    }
}
