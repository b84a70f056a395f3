//! What the servers say of themselves, by HTTP.

use std::time::Duration;

use futures::future::join_all;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::Request;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper_util::rt::TokioIo;
use restante::world::{Network as _, RealNetwork, RealWorld, World};
use serde::Deserialize;

/// Largest answer that is taken, in bytes.
const ANSWER: usize = 1 << 20;

/// What of a status is shown. See `/v1/docs` for the rest.
#[derive(Debug, Clone, Deserialize)]
pub struct Status {
    pub server: String,
    pub role: String,
    pub leader: Option<String>,
    pub term: u64,
    pub applied_index: u64,
    pub clients: u64,
    pub waiting: u64,
    pub waiting_bytes: u64,
    pub sessions: u64,
    pub log_bytes: u64,
    pub disk: Option<Disk>,
    pub servers: Vec<Server>,
    pub problems: Vec<String>,
    pub counts: Counts,
}

/// See [`Status`].
#[derive(Debug, Clone, Deserialize)]
pub struct Disk {
    pub condition: String,
    pub free_bytes: Option<u64>,
    pub checkpoint_bytes: u64,
}

/// See [`Status`].
#[derive(Debug, Clone, Deserialize)]
pub struct Server {
    pub name: String,
    pub address: String,
    pub lag: Option<u64>,
    pub drained: bool,
}

/// See [`Status`].
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Counts {
    pub uptime_ms: u64,
    pub accepted: u64,
    pub delivered: u64,
    pub acknowledged: u64,
    pub received_bytes: u64,
    pub sent_bytes: u64,
}

/// What came of asking a server.
pub type Answer = Result<Status, String>;

/// Asks all of them at once.
pub async fn fetch_all(addresses: &[String], patience: Duration) -> Vec<(String, Answer)> {
    let each = addresses.iter().map(|address| async move {
        let answer = match RealWorld::timeout(patience, fetch(address)).await {
            Ok(answer) => answer,
            Err(_) => Err("does not answer".to_owned()),
        };
        (address.clone(), answer)
    });
    join_all(each).await
}

async fn fetch(address: &str) -> Answer {
    let text = |error: &dyn std::error::Error| error.to_string();
    let opened = RealNetwork.connect(address).await.map_err(|error| text(&error))?;
    let stream = tokio::io::join(opened.reader, opened.writer);
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| text(&error))?;
    let request = Request::get("/v1/status").header(HOST, address).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| text(&error))?;
    let answering = async {
        let response = sender.send_request(request).await.map_err(|error| text(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER).collect().await.map_err(|error| error.to_string())?;
        if !status.is_success() {
            return Err(format!("answers {status}"));
        }
        serde_json::from_slice(&body.to_bytes()).map_err(|error| format!("is of another version: {error}"))
    };
    // The connection does its work while the answer is waited for.
    let mut answering = std::pin::pin!(answering);
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        biased;
        answer = answering.as_mut() => answer,
        ended = connection.as_mut() => match ended {
            // What it brought is there.
            Ok(()) => answering.await,
            Err(error) => Err(error.to_string()),
        },
    }
}
