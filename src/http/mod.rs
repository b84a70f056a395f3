//! The HTTP face: clients that have no session, with one request and one answer at a time.
//!
//! It is on the same port as everything else. hyper reads and writes HTTP/1.1; tasks, time and sockets come from the
//! world. What a request means for the cluster is in [`crate::server`]'s desk; here it is read and answered.
//!
//! * [`route`] and [`fields`]: what a request asks for, and the JSON in its body. Pure.
//! * `legacy`: `/register`, `/share` and `/check_and_move`, as the three servers before this project had them.
//! * `inbox` and `streams`: reading an inbox, and the exact way to send.
//! * `guard` and `intake`: what browsers must not do, and a body within its limits.
//! * [`v1`]: the same and more for programs of any language, in JSON, with a document that describes it.
//! * `pages`: the console and what watches a server: `/metrics`, `/health`.
//! * `answer` and `io`: answers, and hyper's view of a connection.
//!
//! `docs/http.md` is the contract of the routes without `/v1`, `docs/api.md` that of the others.

mod answer;
pub mod fields;
mod guard;
mod inbox;
mod intake;
mod io;
mod legacy;
mod pages;
mod request_id;
pub mod route;
mod streams;
mod v1;

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::header::HeaderValue;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use openraft_rt::watch::WatchReceiver as _;
use parking_lot::Mutex;
use tracing::Instrument as _;

use self::answer::Answer;
use self::route::Route;
use self::v1::problem::Problem;
use self::v1::reply::Reply;
use crate::limits;
use crate::server::Desk;
use crate::wire::Refusal;
use crate::world::{BoxFuture, Connection, WatchReceiver, World};

/// Bytes that hyper buffers of a connection.
const BUFFER: usize = 4 * limits::HTTP_HEAD_BYTES_MAX;
/// Headers that a request may have.
const HEADERS: usize = 64;

/// The body of an answer: whole, or as it comes.
type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What goes on over a connection once its last request is answered: a WebSocket. It is run by the task of the connection, so
/// that it counts as one as long as it lives.
#[derive(Clone, Default)]
struct Afterwards(Arc<Mutex<Option<BoxFuture<'static, ()>>>>);

impl Afterwards {
    fn set(&self, what: impl Future<Output = ()> + Send + 'static) {
        *self.0.lock() = Some(Box::pin(what));
    }

    async fn run(self) {
        let what = self.0.lock().take();
        if let Some(what) = what {
            what.await;
        }
    }
}

/// Whether a connection that begins like this may be HTTP: a method, or the empty lines that some put before one.
pub(crate) fn is_http(first: &[u8]) -> bool {
    first.iter().all(|byte| byte.is_ascii_graphic() || matches!(byte, b' ' | b'\r' | b'\n'))
}

/// Serves a connection of which `front` was read already. With `over`, the server has too many: it only says so.
///
/// # Errors
/// The connection's.
pub(crate) async fn serve<W: World>(
    desk: Desk<W>,
    front: Bytes,
    connection: Connection,
    over: bool,
    mut leaving: WatchReceiver<bool>,
) -> std::io::Result<()> {
    let io = io::Io::<W>::new(front, connection.reader, connection.writer);
    let answering = desk.clone();
    let afterwards = Afterwards::default();
    let leaves = afterwards.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        let (desk, afterwards) = (answering.clone(), leaves.clone());
        async move {
            let id = request_id::given(request.headers()).unwrap_or_else(|| desk.next_request());
            let span = tracing::debug_span!("request", id, method = %request.method(), path = request.uri().path());
            let answering = async {
                let response = respond(&desk, request, over, &afterwards).await;
                tracing::debug!(status = response.status().as_u16(), "answered");
                response
            };
            let mut response = answering.instrument(span).await;
            if let Ok(id) = HeaderValue::from_str(&id) {
                response.headers_mut().insert(request_id::HEADER, id);
            }
            desk.metrics().answered(response.status().as_u16());
            Ok::<_, Infallible>(response)
        }
    });
    let head = if over { limits::HTTP_HEAD_TIMEOUT / 10 } else { limits::HTTP_HEAD_TIMEOUT };
    let serving = http1::Builder::new()
        .timer(io::Timer::<W>::default())
        .header_read_timeout(head)
        .max_header_size(limits::HTTP_HEAD_BYTES_MAX)
        .max_headers(HEADERS)
        .max_buf_size(BUFFER)
        // It would come from the system's clock.
        .auto_date_header(false)
        .serve_connection(io, service)
        .with_upgrades();
    let mut serving = std::pin::pin!(serving);
    tokio::select! {
        biased;
        ended = serving.as_mut() => {
            ended.map_err(std::io::Error::other)?;
            afterwards.run().await;
            return Ok(());
        }
        _ = leaving.changed() => {}
    }
    // What is under way is finished, and nothing new is begun.
    serving.as_mut().graceful_shutdown();
    serving.await.map_err(std::io::Error::other)?;
    afterwards.run().await;
    Ok(())
}

async fn respond<W: World>(
    desk: &Desk<W>,
    request: Request<Incoming>,
    over: bool,
    afterwards: &Afterwards,
) -> Response<Body> {
    let is_legacy = !request.uri().path().starts_with("/v1/") && !pages::is_page(request.uri().path());
    if !over && !is_legacy {
        return respond_openly(desk, request, afterwards).await;
    }
    let answer = if over {
        let limit = desk.connections() as u64;
        Answer::unavailable(&Refusal::TooManyConnections { limit }).closing()
    } else {
        answer(desk, request).await.unwrap_or_else(|answer| answer)
    };
    answer.into_response().map(|body| body.boxed_unsync())
}

/// Answers what the pages of the cluster's other servers may ask, too.
async fn respond_openly<W: World>(
    desk: &Desk<W>,
    request: Request<Incoming>,
    afterwards: &Afterwards,
) -> Response<Body> {
    let (head, body) = request.into_parts();
    let origin = guard::check_origin_of_cluster(&head, |host| desk.is_host(host), |server| desk.is_server(server));
    let origin = match origin {
        Ok(origin) => origin,
        Err(bad) => return Reply::from(Problem::from(bad)).into_response(),
    };
    let is_preflight = guard::is_preflight(&head);
    let request = Request::from_parts(head, body);
    let mut response = if is_preflight {
        let mut response = Reply::nothing().into_response();
        guard::allow_requests(&mut response);
        response
    } else if pages::is_page(request.uri().path()) {
        pages::answer(desk, request.method(), request.uri().path()).await.into_response()
    } else {
        v1::answer(desk, request, afterwards).await.into_response()
    };
    if let Some(origin) = origin {
        guard::allow(&mut response, origin);
    }
    response
}

/// The answer; an error is one, too.
async fn answer<W: World>(desk: &Desk<W>, request: Request<Incoming>) -> Result<Answer, Answer> {
    let (head, body) = request.into_parts();
    guard::check_origin(&head, |host| desk.is_host(host))?;
    let route = Route::parse(head.method.as_str(), head.uri.path(), head.uri.query())?;
    let (fields, _room) = if route.has_body() {
        guard::check_content_type(&head)?;
        intake::read(desk, &head, body).await?
    } else {
        (fields::Fields::default(), None)
    };
    let visit = desk.visit()?;
    match route {
        Route::Register => legacy::register(&visit, &fields).await,
        Route::Share => legacy::share(&visit, &fields).await,
        Route::CheckAndMove => legacy::check_and_move(&visit, &fields).await,
        Route::Inbox { name, look } => inbox::look(&visit, &name, &look).await,
        Route::Attach { name } => inbox::attach(&visit, &name, &fields).await,
        Route::Acknowledge { name } => inbox::acknowledge(&visit, &name, &fields).await,
        Route::Detach { name } => inbox::detach(&visit, &name, &fields).await,
        Route::OpenStream => streams::open(&visit, &fields).await,
        Route::Send { stream, number } => streams::send(&visit, stream, number, &fields).await,
        Route::CloseStream { stream } => streams::close(&visit, stream).await,
    }
}
