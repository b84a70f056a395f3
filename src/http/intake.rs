//! A request's body, within its limits of bytes and of time.

use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};
use hyper::http::request::Parts;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::Answer;
use super::fields::Fields;
use crate::limits;
use crate::server::Desk;
use crate::world::World;

/// So much more of a body that is too large is read, so that its sender comes to read the answer.
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
    /// The connection failed, or the body is not encoded as its headers say.
    #[error("the body cannot be read: {0}")]
    Broken(String),
}

/// Reads the fields of a body.
pub(super) async fn read<W: World>(desk: &Desk<W>, head: &Parts, body: Incoming) -> Result<Fields, Answer> {
    let reading = read_bytes(desk, body);
    let Ok(read) = W::timeout(limits::HTTP_BODY_TIMEOUT, reading).await else { return Err(BadBody::Slow.into()) };
    let (bytes, _room) = read?;
    let fields = match head.uri.path() {
        // Whoever wants no more than the usual may leave the body out.
        path if path.ends_with("/attach") => Fields::read_or_none(&bytes),
        _ => Fields::read(&bytes),
    };
    fields.map_err(Answer::from)
}

async fn read_bytes<W: World>(
    desk: &Desk<W>,
    mut body: Incoming,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), BadBody> {
    let most = limits::HTTP_BODY_BYTES_MAX;
    if body.size_hint().lower() > (most + DRAINED) as u64 {
        return Err(BadBody::TooLarge);
    }
    let mut bytes = Vec::new();
    let mut room: Option<OwnedSemaphorePermit> = None;
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| BadBody::Broken(error.to_string()))?;
        let Ok(data) = frame.into_data() else { continue };
        total += data.len();
        if total > most + DRAINED {
            break;
        }
        if total > most {
            (bytes, room) = (Vec::new(), None);
            continue;
        }
        // Only what has arrived takes room: whoever sends slowly keeps none that he does not use.
        let permits = desk.bodies().clone().acquire_many_owned(data.len() as u32).await;
        let permits = permits.map_err(|error| BadBody::Broken(error.to_string()))?;
        match &mut room {
            Some(room) => room.merge(permits),
            None => room = Some(permits),
        }
        bytes.extend_from_slice(&data);
    }
    if total > most { Err(BadBody::TooLarge) } else { Ok((bytes, room)) }
}
