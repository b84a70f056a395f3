//! A request's body, within its limits of bytes and of time.

use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::Answer;
use super::fields::Fields;
use crate::limits;
use crate::metrics::limits::Limit;
use crate::server::Desk;
use crate::world::World;

/// How long the next piece of a body waits for others to be done with theirs.
const ROOM: Duration = Duration::from_secs(2);
/// So much of every body takes no room: small requests come through while large ones are slow. There are no more of them
/// than connections.
const SMALL: usize = 4 << 10;
/// So much more of a body that is not taken is read, so that its sender comes to read the answer.
const DRAINED: usize = 2 * limits::HTTP_BODY_BYTES_MAX;

/// Why a body was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadBody {
    /// It is larger than bodies may be.
    #[error("the body is larger than {} bytes", limits::HTTP_BODY_BYTES_MAX)]
    TooLarge,
    /// It did not arrive in time.
    #[error("the body did not arrive within {:?}", limits::HTTP_BODY_TIMEOUT)]
    Slow,
    /// Those of others take all the room there is.
    #[error("the bodies that arrive now have {} bytes, which is all that is allowed", limits::HTTP_BODIES_BYTES_MAX)]
    NoRoom,
    /// The connection failed, or the body is not encoded as its headers say.
    #[error("the body cannot be read: {0}")]
    Broken(String),
}

/// The room that a body takes, until it is answered.
pub(super) type Room = Option<OwnedSemaphorePermit>;

/// Reads the fields of a body.
pub(super) async fn read<W: World>(desk: &Desk<W>, head: &Parts, body: Incoming) -> Result<(Fields, Room), Answer> {
    let (bytes, room) = read_raw(desk, body).await?;
    let fields = match head.uri.path() {
        // Whoever wants no more than the usual may leave the body out.
        path if path.ends_with("/attach") => Fields::read_or_none(&bytes),
        _ => Fields::read(&bytes),
    };
    Ok((fields?, room))
}

/// Reads a body as it is.
pub(super) async fn read_raw<W: World>(desk: &Desk<W>, body: Incoming) -> Result<(Vec<u8>, Room), BadBody> {
    let reading = read_bytes(desk, body);
    let Ok(read) = W::timeout(limits::HTTP_BODY_TIMEOUT, reading).await else { return Err(BadBody::Slow) };
    match &read {
        Err(BadBody::NoRoom) => desk.metrics().hit(Limit::HttpBodies),
        Err(BadBody::TooLarge) => desk.metrics().hit(Limit::HttpBody),
        _ => {}
    }
    read
}

async fn read_bytes<W: World>(desk: &Desk<W>, mut body: Incoming) -> Result<(Vec<u8>, Room), BadBody> {
    let most = limits::HTTP_BODY_BYTES_MAX;
    if body.size_hint().lower() > (most + DRAINED) as u64 {
        return Err(BadBody::TooLarge);
    }
    let mut bytes = Vec::new();
    let mut room: Room = None;
    let (mut total, mut refused) = (0, false);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BadBody::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        total += data.len();
        refused |= total > most;
        if total > most + DRAINED {
            break;
        }
        if refused {
            (bytes, room) = (Vec::new(), None);
            continue;
        }
        // Only what has arrived takes room: whoever sends slowly keeps none that he does not use.
        let taken = total.saturating_sub(SMALL).min(data.len());
        let permits = W::timeout(ROOM, desk.bodies().clone().acquire_many_owned(taken as u32)).await;
        let Ok(permits) = permits else {
            refused = true;
            (bytes, room) = (Vec::new(), None);
            continue;
        };
        let permits = permits.map_err(|error| BadBody::Broken(error.to_string()))?;
        match &mut room {
            Some(room) => room.merge(permits),
            None => room = Some(permits),
        }
        bytes.extend_from_slice(&data);
    }
    match refused {
        false => Ok((bytes, room)),
        true if total > most => Err(BadBody::TooLarge),
        true => Err(BadBody::NoRoom),
    }
}
