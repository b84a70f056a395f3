//! The operator: carries out what the plan wants of the cluster's membership, through the client library, asking again
//! until it is so or its time is over.

use std::time::Duration;

use futures::future::{Either, select};
use restante::client::{Client, ClientSettings, Error};
use restante::wire::{Name, Refusal};
use restante::world::{BoxFuture, World};

use super::address;
use crate::history::What;
use crate::scenario::{OperatorSeat, Order, Stage, Wish};

/// The pause before something is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// See `start_server` for why it is boxed here.
pub(super) fn start<W: World>(seat: OperatorSeat) -> BoxFuture<'static, Result<(), String>> {
    Box::pin(run::<W>(seat))
}

async fn run<W: World>(seat: OperatorSeat) -> Result<(), String> {
    let begun = W::now();
    let mut under_way = Vec::new();
    loop {
        let next = select(Box::pin(seat.orders.next()), Box::pin(seat.stages.reached(Stage::Stop))).await;
        let Either::Left((order, _)) = next else { break };
        // One does not wait for the other: operators do not talk to each other either.
        let until = begun + order.until;
        let one: BoxFuture<'static, _> = Box::pin(carry_out::<W>(seat.clone(), order, until));
        under_way.push(W::spawn(one));
    }
    for order in under_way {
        order.await.map_err(|error| error.to_string())??;
    }
    Ok(())
}

async fn carry_out<W: World>(seat: OperatorSeat, order: Order, until: restante::world::Instant) -> Result<(), String> {
    seat.journal.write(&seat.process, What::Ordered { what: order.wish.to_string() });
    let how = match select(Box::pin(insist::<W>(&seat, &order.wish)), Box::pin(W::sleep_until(until))).await {
        Either::Left((how, _)) => how?,
        Either::Right(_) => "given up".to_owned(),
    };
    seat.journal.write(&seat.process, What::CarriedOut { what: order.wish.to_string(), how });
    Ok(())
}

/// Asks until there is an answer that will not change by itself.
async fn insist<W: World>(seat: &OperatorSeat, wish: &Wish) -> Result<String, String> {
    let settings = ClientSettings::new(seat.plan.server_hosts().iter().map(|server| address(server)));
    let name = Name::new(wish.server()).map_err(|error| error.to_string())?;
    let client = loop {
        match Client::<W>::start(settings.clone(), seat.host.clone()).await {
            Ok(client) => break client,
            Err(Error::Unreachable { .. }) => W::sleep(PAUSE).await,
            Err(error) => return Err(format!("the operator cannot connect: {error}")),
        }
    };
    loop {
        let asked = match wish {
            Wish::Add(_) => client.add_server(&name, address(&name)).await,
            Wish::Remove(_) => client.remove_server(&name).await,
            Wish::Transfer(_) => client.transfer_leadership(&name).await,
            Wish::Drain(_) => client.drain_server(&name).await,
            Wish::Undrain(_) => client.undrain_server(&name).await,
        };
        match asked {
            Ok(()) => {
                client.close().await;
                return Ok("done".to_owned());
            }
            // The rest may be up in a moment, or somebody else be added.
            Err(
                Error::TimedOut { .. }
                | Error::Unreachable { .. }
                | Error::Refused(
                    Refusal::WouldLoseQuorum { .. }
                    | Refusal::LastServer
                    | Refusal::CannotLead
                    | Refusal::NoSuchServer
                    | Refusal::NobodyElseServes { .. }
                    | Refusal::DrainedCannotLead
                    | Refusal::NoLeader,
                ),
            ) => W::sleep(PAUSE).await,
            Err(error) => return Err(format!("{wish}: {error}")),
        }
    }
}
