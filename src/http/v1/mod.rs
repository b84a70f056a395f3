//! `/v1`: everything for programs of any language, in HTTP and JSON. `docs/api.md` tells about it, and the document at
//! `/v1/openapi.json`, which is made of the code, has the details.
//!
//! * [`route`] and [`query`]: what a request asks for. Pure.
//! * [`model`] and [`report`]: the JSON; [`problem`]: errors; [`reply`]: answers.
//! * [`clients`], [`messages`], [`inbox`], [`channels`]: what is asked at once; [`events`] and [`socket`]: what goes on.
//! * [`openapi`]: the document.

mod channels;
mod clients;
mod events;
mod inbox;
mod keeping;
mod messages;
mod model;
mod openapi;
mod presence;
pub(super) mod problem;
mod query;
pub(super) mod reply;
mod report;
mod requests;
mod route;
mod socket;

use hyper::body::Incoming;
use hyper::{Request, StatusCode};
use serde::de::DeserializeOwned;

use self::problem::Problem;
use self::query::Query;
use self::reply::Reply;
use self::route::{BadRoute, Route};
use super::{Afterwards, guard, intake, pages};
use crate::metrics::limits::Limit;
use crate::server::Desk;
use crate::world::World;

/// Answers a request whose path begins with `/v1/`. What is to go on over the connection afterwards is left in `afterwards`.
pub(super) async fn answer<W: World>(desk: &Desk<W>, request: Request<Incoming>, afterwards: &Afterwards) -> Reply {
    try_answer(desk, request, afterwards).await.unwrap_or_else(Reply::from)
}

async fn try_answer<W: World>(
    desk: &Desk<W>,
    mut request: Request<Incoming>,
    afterwards: &Afterwards,
) -> Result<Reply, Problem> {
    let path = request.uri().path().to_owned();
    let behind = path.strip_prefix("/v1/").unwrap_or_default();
    let route = match Route::parse(request.method().as_str(), behind) {
        Ok(route) => route,
        Err(BadRoute::Path(problem)) => return Err(problem),
        Err(BadRoute::Method(allow)) => return Ok(Reply::method_not_allowed(allow)),
    };
    let query = Query::read(request.uri().query());
    if let Route::InboxSocket(name) = &route {
        if !hyper_tungstenite::is_upgrade_request(&request) {
            return Err(socket::upgrade_required());
        }
        let socket = socket::prepare(desk, name, &query).await?;
        let (response, upgraded) =
            hyper_tungstenite::upgrade(&mut request, Some(socket::config())).map_err(Problem::invalid)?;
        afterwards.set(socket.serve(upgraded));
        return Ok(Reply::made(response));
    }
    let (head, body) = request.into_parts();
    let takes_body = matches!(
        route,
        Route::Register
            | Route::Send
            | Route::SendBatch
            | Route::Request
            | Route::Acknowledge(_)
            | Route::Attach(_)
            | Route::OpenStream
            | Route::Put(..)
            | Route::CreateChannel
            | Route::SetInbox(_)
    );
    let (bytes, _room) = if takes_body {
        if !matches!(route, Route::Send | Route::Put(..)) {
            guard::check_content_type(&head)?;
        }
        intake::read_raw(desk, body).await?
    } else {
        Default::default()
    };
    match &route {
        Route::OpenApi => return Ok(Reply::bytes(StatusCode::OK, "application/json", openapi::document())),
        Route::Docs => return Ok(pages::docs()),
        Route::Status => return Ok(clients::status(desk).await),
        Route::Events => return events::watch(desk, &head, &query).await,
        Route::InboxEvents(name) => return events::inbox(desk, name, &head, &query).await,
        Route::PresenceEvents => return presence::watch(desk, &head, &query).await,
        _ => {}
    }
    let visit = desk.visit()?;
    let answered = match &route {
        Route::Clients => clients::list(&visit, &query).await,
        Route::Register => clients::register(&visit, &read(&bytes)?).await,
        Route::Client(name) => clients::get(&visit, name).await,
        Route::Deregister(name) => clients::deregister(&visit, name, &query).await,
        Route::Send => messages::send(&visit, &head, &query, &bytes).await,
        Route::Request => requests::request(&visit, &query, &read(&bytes)?).await,
        Route::SendBatch => messages::send_batch(&visit, &head, &read(&bytes)?).await,
        Route::Inbox(name) => inbox::get(&visit, name, &query).await,
        Route::Message(name, position) => inbox::message(&visit, name, *position).await,
        Route::Acknowledge(name) => inbox::acknowledge(&visit, name, &read(&bytes)?).await,
        Route::Attach(name) => inbox::attach(&visit, name, &read(&bytes)?).await,
        Route::Detach(name) => inbox::detach(&visit, name, &query).await,
        Route::OpenStream => messages::open_stream(&visit, &read(&bytes)?).await,
        Route::Stream(stream) => messages::get_stream(&visit, *stream).await,
        Route::CloseStream(stream) => messages::close_stream(&visit, *stream).await,
        Route::Put(stream, number) => messages::put(&visit, (*stream, *number), &head, &query, &bytes).await,
        Route::Receipts(stream) => messages::receipts(&visit, *stream, &query).await,
        Route::Channels => channels::list(&visit, &query).await,
        Route::CreateChannel => channels::create(&visit, &read(&bytes)?).await,
        Route::DeleteChannel(channel) => channels::delete(&visit, channel).await,
        Route::Members(channel) => channels::members(&visit, channel, &query).await,
        Route::Join(channel, client) => channels::join(&visit, channel, client).await,
        Route::Leave(channel, client) => channels::leave(&visit, channel, client).await,
        Route::Enlisted(client) => channels::enlisted(&visit, client).await,
        Route::Subscribe(client, pattern) => channels::subscribe(&visit, client, pattern).await,
        Route::Unsubscribe(client, pattern) => channels::unsubscribe(&visit, client, pattern).await,
        Route::InboxSettings(name) => keeping::settings(&visit, name).await,
        Route::SetInbox(name) => keeping::set(&visit, name, &read(&bytes)?).await,
        Route::History(name) => keeping::history(&visit, name, &query).await,
        Route::Presence => presence::get(&visit, &query).await,
        Route::OpenApi
        | Route::Docs
        | Route::Status
        | Route::Events
        | Route::InboxEvents(_)
        | Route::PresenceEvents
        | Route::InboxSocket(_) => Err(Problem::no_such_path()),
    };
    if answered.as_ref().is_err_and(|problem| &*problem.code == "too_large") {
        desk.metrics().hit(Limit::HttpBody);
    }
    answered
}

/// Reads a body of JSON.
fn read<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // A list would be taken for the fields in their order.
    if body.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return Err(Problem::invalid("the body is no JSON object"));
    }
    serde_json::from_slice(body).map_err(|error| Problem::invalid(format!("the body is not understood: {error}")))
}
