//! The real thing: Restante's own servers and clients on the simulated hosts.
//!
//! The servers are [`restante::server::run`] and the clients use [`restante::client`], as in production; only the
//! world that they stand on is another one. What they are told (sizes, timeouts) comes from the plan.

mod client;
mod frames;
mod reader;
mod sender;

use std::time::Duration;

use restante::server::{self, ServerError, Settings};
use restante::storage::OpenError;
use restante::wire::{Name, ServerAddress};
use restante::world::{BoxFuture, World};

use crate::plan::Plan;
use crate::record::Interpreter;
use crate::scenario::{Claim, ClientSeat, Ending, Scenario, ServerSeat, View};
use crate::world::SimWorld;

const PORT: u16 = 8080;
/// A segment holds at least four of the largest entries. The sizes that make a server clean its log and read bodies
/// back are reached through `memory` instead, long before a log of this size is full.
const SEGMENT_BYTES: u64 = 16 << 20;

/// Servers and clients of Restante.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cluster;

impl Scenario for Cluster {
    fn server(&self, seat: ServerSeat) -> BoxFuture<'static, Result<(), Ending>> {
        start_server::<SimWorld>(seat)
    }

    fn client(&self, seat: ClientSeat) -> BoxFuture<'static, Result<(), String>> {
        client::start::<SimWorld>(seat)
    }

    fn interpreter(&self) -> Box<dyn Interpreter> {
        Box::new(frames::Frames::default())
    }

    /// Servers agree about every entry that they applied and about the state that came of it, and no two of them lead
    /// in one term.
    fn claim(&self, kind: &str, detail: &str) -> Option<Claim> {
        match kind {
            // index=… term=… digest=…
            "apply" => {
                let (index, rest) = detail.split_once(' ')?;
                Some(Claim { about: format!("the state at {index}"), is: rest.to_owned() })
            }
            // term=… for=… committed=…: a committed vote is a leader's.
            "vote" => {
                let (term, rest) = detail.split_once(' ')?;
                let leader = rest.strip_suffix(" committed=true")?;
                Some(Claim { about: format!("the leader of {term}"), is: leader.to_owned() })
            }
            _ => None,
        }
    }

    /// Whoever said last that it leads, in the highest term in which anybody did.
    fn leader(&self, view: &View) -> Option<String> {
        let leads = |((host, kind), detail): (&(String, &'static str), &String)| {
            let term = detail.strip_prefix("term=")?.strip_suffix(" role=leader")?.parse::<u64>().ok()?;
            (*kind == "role").then(|| (term, host.clone()))
        };
        view.observed.iter().filter_map(leads).max().map(|(_, host)| host)
    }

    /// All servers have applied the same entries (together with the claims: their states are equal), and each of them
    /// votes, whatever its disk went through.
    fn settled(&self, view: &View) -> Result<(), String> {
        let applied = |server: &String| view.observed.get(&(server.clone(), "apply"));
        let first = view.plan.servers.first().and_then(applied);
        for server in &view.plan.servers {
            let standing = view.observed.get(&(server.clone(), "standing")).map_or("is no member", String::as_str);
            if !standing.ends_with(" votes=true") {
                return Err(format!("{server} does not vote: {standing}"));
            }
            match applied(server) {
                None => return Err(format!("{server} has applied nothing")),
                here if here != first => {
                    let [here, there] = [here, first].map(|applied| applied.map_or("nothing", String::as_str));
                    return Err(format!("{server} is at {here} and {} at {there}", view.plan.servers[0]));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// Boxed here, while the world is a parameter: of a concrete one rustc cannot show that the future is `Send`
/// (<https://github.com/rust-lang/rust/issues/102211>).
fn start_server<W: World>(seat: ServerSeat) -> BoxFuture<'static, Result<(), Ending>> {
    Box::pin(async move {
        let settings = settings(&seat.plan, &seat.name)?;
        let ServerSeat { host, shutdown, .. } = seat;
        let serving = server::run::<W>(settings, host, async move { shutdown.raised().await });
        serving.await.map_err(|error| match error {
            ServerError::Disk(_) | ServerError::Data(OpenError::Io(_)) => Ending::Disk(error.to_string()),
            other => Ending::Other(other.to_string()),
        })
    })
}

fn settings(plan: &Plan, name: &str) -> Result<Settings, String> {
    let cluster: Result<Vec<_>, _> = plan
        .servers
        .iter()
        .map(|server| Name::new(server).map(|name| ServerAddress { name, address: address(server) }))
        .collect();
    let bad = |error: restante::wire::BadName| error.to_string();
    let mut settings = Settings::new(Name::new(name).map_err(bad)?, address(name), cluster.map_err(bad)?);
    settings.election_timeout = ((*plan.election.start()).into(), (*plan.election.end()).into());
    settings.heartbeat = (settings.election_timeout.0 / 3).max(Duration::from_millis(1));
    settings.segment_bytes = SEGMENT_BYTES;
    settings.checkpoint_log_bytes = SEGMENT_BYTES * 2;
    settings.body_memory_bytes = plan.memory;
    settings.log_cache_bytes = plan.cache;
    Ok(settings)
}

fn address(server: &str) -> String {
    format!("{server}:{PORT}")
}
