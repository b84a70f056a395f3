//! What is not JSON: the console, whose files are part of the program, the page about the API, and what watches a server.

use hyper::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY};
use hyper::{Method, StatusCode};

use super::v1::problem::Problem;
use super::v1::reply::Reply;
use crate::metrics::page;
use crate::server::Desk;
use crate::world::World;

/// What a page may load: its own files, and answers of any server, since the servers of the cluster have addresses of their
/// own. Nothing of it is made of what somebody sent, and this is in case it were.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src http: https: ws: wss:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The files of the console: paths, types and contents.
const FILES: [(&str, &str, &str); 12] = [
    ("/", "text/html; charset=utf-8", include_str!("console/index.html")),
    // What it may serve is what stands beside it or below.
    ("/worker.js", "text/javascript; charset=utf-8", include_str!("console/worker.js")),
    ("/console/style.css", "text/css; charset=utf-8", include_str!("console/style.css")),
    ("/console/main.js", "text/javascript; charset=utf-8", include_str!("console/main.js")),
    ("/console/store.js", "text/javascript; charset=utf-8", include_str!("console/store.js")),
    ("/console/cluster.js", "text/javascript; charset=utf-8", include_str!("console/cluster.js")),
    ("/console/picture.js", "text/javascript; charset=utf-8", include_str!("console/picture.js")),
    ("/console/channels.js", "text/javascript; charset=utf-8", include_str!("console/channels.js")),
    ("/console/clients.js", "text/javascript; charset=utf-8", include_str!("console/clients.js")),
    ("/console/client.js", "text/javascript; charset=utf-8", include_str!("console/client.js")),
    ("/console/docs.js", "text/javascript; charset=utf-8", include_str!("console/docs.js")),
    ("/console/icon.svg", "image/svg+xml", include_str!("console/icon.svg")),
];

/// Whether there is something of this module at a path.
pub(super) fn is_page(path: &str) -> bool {
    path.starts_with("/health/") || path == "/metrics" || FILES.iter().any(|(known, ..)| *known == path)
}

/// Answers a request for one of these paths.
pub(super) async fn answer<W: World>(desk: &Desk<W>, method: &Method, path: &str) -> Reply {
    if !matches!(*method, Method::GET | Method::HEAD) {
        return Reply::method_not_allowed("GET, HEAD");
    }
    if let Some((_, kind, text)) = FILES.iter().find(|(known, ..)| *known == path) {
        return file(kind, text);
    }
    match path {
        "/metrics" => Reply::bytes(StatusCode::OK, page::CONTENT_TYPE, desk.exposition().await),
        // Whoever can answer this lives.
        "/health/live" => Reply::bytes(StatusCode::OK, "text/plain; charset=utf-8", "alive\n"),
        "/health/ready" => match desk.readiness() {
            Ok(()) => Reply::bytes(StatusCode::OK, "text/plain; charset=utf-8", "ready\n"),
            Err(why) => {
                let text = format!("not ready: {why}\n");
                Reply::bytes(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", text)
            }
        },
        _ => Problem::no_such_path().into(),
    }
}

/// The page about the API.
pub(super) fn docs() -> Reply {
    file("text/html; charset=utf-8", include_str!("console/docs.html"))
}

fn file(kind: &str, text: &'static str) -> Reply {
    let reply = Reply::bytes(StatusCode::OK, kind, text).with(CONTENT_SECURITY_POLICY, POLICY);
    let reply = reply.with(REFERRER_POLICY, "no-referrer").with(CACHE_CONTROL, "no-cache");
    reply.with(HeaderName::from_static("x-content-type-options"), "nosniff")
}
