//! `/register`, `/share` and `/check_and_move`: the words of their answers are what old clients know.

use super::answer::Answer;
use super::fields::{Fields, Place};
use crate::server::{self, Failure, Moved, Outgoing, Placed, Visit};
use crate::wire::command::encode_content;
use crate::wire::{Refusal, SendRefusal, ServerAddress};
use crate::world::World;

/// `POST /register`: registers a client, or gives it another home if it is registered.
pub(super) async fn register<W: World>(visit: &Visit<W>, fields: &Fields) -> Result<Answer, Answer> {
    let (name, home) = (fields.client()?, fields.home()?);
    let server = visit.register(&name, &home.into()).await?;
    Ok(Answer::done(format!("Client {name} registered on port {}", port(&server))))
}

/// `POST /share`: sends a message on a stream of the server's own.
pub(super) async fn share<W: World>(visit: &Visit<W>, fields: &Fields) -> Result<Answer, Answer> {
    let (sender, receiver, message) = (fields.sender()?, fields.receiver()?, fields.message()?);
    let content = encode_content(&Vec::new(), &message);
    let shared = visit.share(&sender, &Outgoing::plain(&receiver, &content)).await;
    match shared.and_then(Placed::position) {
        Ok(position) => {
            let text = String::from_utf8_lossy(&message);
            Ok(Answer::done(format!("Message from {sender} to {receiver}: {text}")).at(position))
        }
        Err(Failure::Refused(Refusal::NotRegistered)) => Err(Answer::invalid(format!("{sender} is not registered"))),
        Err(Failure::Send(SendRefusal::NoSuchClient)) => Err(Answer::invalid(format!("{receiver} is not registered"))),
        Err(other) => Err(other.into()),
    }
}

/// `POST /check_and_move`: moves a client whose home is down.
pub(super) async fn check_and_move<W: World>(visit: &Visit<W>, fields: &Fields) -> Result<Answer, Answer> {
    let name = fields.client().map_err(Answer::invalid_client)?;
    let to = fields.new_home()?;
    match visit.check_and_move(&name, &to.into()).await {
        Ok(Moved::To(server)) => Ok(Answer::done(format!("Client {name} moved to port {}", port(&server)))),
        Ok(Moved::Working) => Ok(Answer::done("Port is working")),
        Err(Failure::Refused(Refusal::NotRegistered)) => {
            Err(Answer::invalid_client(format!("{name} is not registered")))
        }
        Err(other) => Err(other.into()),
    }
}

fn port(server: &ServerAddress) -> &str {
    server.address.rsplit_once(':').map_or(&server.address, |(_, port)| port)
}

impl From<Place> for server::Place {
    fn from(place: Place) -> Self {
        match place {
            Place::Port(port) => Self::Port(port),
            Place::Server(name) => Self::Server(name),
        }
    }
}
