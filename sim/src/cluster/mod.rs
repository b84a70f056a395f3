//! The real thing: Restante's own servers and clients on the simulated hosts.
//!
//! The servers are [`restante::server::run`] and the clients use [`restante::client`], as in production; only the
//! world that they stand on is another one. What they are told (sizes, timeouts) comes from the plan.

mod asking;
mod by_hand;
mod client;
mod frames;
mod http;
mod http_reader;
mod operator;
mod reader;
mod renewal;
mod sender;
mod sharing;

use std::time::Duration;

use futures::future::{Either, select};
use restante::server::{self, ServerError, Settings};
use restante::storage::OpenError;
use restante::wire::{Name, ServerAddress};
use restante::world::{BoxFuture, World};

use crate::plan::Plan;
use crate::record::Interpreter;
use crate::scenario::{ClientSeat, Ending, OperatorSeat, Scenario, ServerSeat, View};
use crate::world::SimWorld;

const PORT: u16 = 8080;

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

    /// Whoever said last that it leads, in the highest term in which anybody did.
    fn leader(&self, view: &View) -> Option<String> {
        let leads = |((host, kind), detail): (&(String, &'static str), &String)| {
            let term = detail.strip_prefix("term=")?.strip_suffix(" role=leader")?.parse::<u64>().ok()?;
            (*kind == "role").then(|| (term, host.clone()))
        };
        view.observed.iter().filter_map(leads).max().map(|(_, host)| host)
    }

    fn operator(&self, seat: OperatorSeat) -> BoxFuture<'static, Result<(), String>> {
        operator::start::<SimWorld>(seat)
    }

    fn lists(&self, view: &View, server: &str) -> bool {
        let lists =
            |detail: &String| field(detail, "listed").is_some_and(|names| names.split(',').any(|n| n == server));
        who_knows(view).and_then(|(_, host)| view.observed.get(&(host.clone(), "servers"))).is_some_and(lists)
    }

    /// The membership is what the list of servers says, and all that vote and are healthy have applied the same entries. Together
    /// with what Raft promises: their states are equal.
    fn settled(&self, view: &View) -> Result<(), String> {
        let applied = |server: &str| view.observed.get(&(server.to_owned(), "apply"));
        let Some((_, knows)) = who_knows(view) else { return Ok(()) };
        let Some(servers) = view.observed.get(&(knows.clone(), "servers")) else {
            return Err(format!("{knows} has applied nothing"));
        };
        let names = |what: &str| -> Vec<&str> {
            field(servers, what)
                .into_iter()
                .flat_map(|names| names.split(','))
                .filter(|name| !name.is_empty())
                .collect()
        };
        let voters = names("voters");
        // A membership need not come about while some servers are still out of order.
        let all = view.healthy.len() == view.plan.server_hosts().len();
        if all && (sorted(names("listed")) != sorted(voters.clone()) || !names("learners").is_empty()) {
            return Err(format!("the membership is not what was asked for: {servers}"));
        }
        for server in voters.iter().filter(|voter| view.healthy.iter().any(|name| name == *voter)) {
            let standing =
                view.observed.get(&((*server).to_owned(), "standing")).map_or("is no member", String::as_str);
            if !standing.ends_with(" votes=true") {
                return Err(format!("{server} does not vote: {standing}"));
            }
            match applied(server) {
                None => return Err(format!("{server} has applied nothing")),
                here if here != applied(knows) => {
                    let [here, there] = [here, applied(knows)].map(|applied| applied.map_or("nothing", String::as_str));
                    return Err(format!("{server} is at {here} and {knows} at {there}"));
                }
                Some(_) => {}
            }
        }
        Ok(())
    }
}

/// Who of the healthy has applied most knows who belongs to the cluster. Up to which index, and who.
fn who_knows(view: &View) -> Option<(Option<u64>, &String)> {
    let index = |host: &String| field(view.observed.get(&(host.clone(), "apply"))?, "index")?.parse::<u64>().ok();
    view.healthy.iter().map(|host| (index(host), host)).max_by_key(|(index, _)| *index)
}

fn field<'a>(detail: &'a str, name: &str) -> Option<&'a str> {
    detail.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn sorted(mut names: Vec<&str>) -> Vec<&str> {
    names.sort_unstable();
    names
}

/// Boxed here, while the world is a parameter: of a concrete one rustc cannot show that the future is `Send`
/// (<https://github.com/rust-lang/rust/issues/102211>).
fn start_server<W: World>(seat: ServerSeat) -> BoxFuture<'static, Result<(), Ending>> {
    Box::pin(async move {
        let settings = settings(&seat.plan, &seat.name, &seat.cluster)?;
        let ServerSeat { host, shutdown, begin, retired, .. } = seat;
        let stop = shutdown.clone();
        if let Either::Right(_) = select(Box::pin(begin.raised()), Box::pin(stop.raised())).await {
            return Ok(());
        }
        let stop = shutdown.clone();
        match server::run::<W>(settings, host, async move { stop.raised().await }).await {
            Err(ServerError::Retired(_)) => {
                // Its process has ended, and its machine stands there.
                retired.raise();
                shutdown.raised().await;
                Ok(())
            }
            ended => ended.map_err(|error| match error {
                ServerError::Disk(_) | ServerError::Data(OpenError::Io(_)) => Ending::Disk(error.to_string()),
                other => Ending::Other(other.to_string()),
            }),
        }
    })
}

fn settings(plan: &Plan, name: &str, cluster: &[String]) -> Result<Settings, String> {
    let cluster: Result<Vec<_>, _> = cluster
        .iter()
        .map(|server| Name::new(server).map(|name| ServerAddress { name, address: address(server) }))
        .collect();
    let bad = |error: restante::wire::BadName| error.to_string();
    let mut settings = Settings::new(Name::new(name).map_err(bad)?, address(name), cluster.map_err(bad)?);
    settings.election_timeout = ((*plan.election.start()).into(), (*plan.election.end()).into());
    settings.heartbeat = (settings.election_timeout.0 / 3).max(Duration::from_millis(1));
    settings.segment_bytes = plan.segment;
    settings.checkpoint_log_bytes = plan.segment * 2;
    settings.log_entries_kept = plan.keep;
    settings.body_memory_bytes = plan.memory;
    settings.log_cache_bytes = plan.cache;
    settings.pending_bytes = usize::try_from(plan.mix.pending).unwrap_or(usize::MAX);
    settings.quotas.inbox_messages = plan.mix.inbox;
    settings.quotas.stream_window = u32::try_from(plan.mix.window).unwrap_or(u32::MAX);
    Ok(settings)
}

fn address(server: &str) -> String {
    format!("{server}:{PORT}")
}
