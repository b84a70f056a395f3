//! A rolling restart: each server in turn is drained, stopped, started and undrained, the leader last.

use std::sync::Arc;
use std::time::Duration;

use restante::client::{Client, Error, ServerRow, Status, StatusDetail};
use restante::wire::{Refusal, ServerAddress};
use restante::world::{RealWorld, World};
use tokio::sync::mpsc::UnboundedSender;

use super::super::failure::{Exit, Failure};
use super::super::observe;
use super::super::reach;
use super::supervisor::Supervisor;

/// How often to look.
const LOOK: Duration = Duration::from_millis(100);
/// How long one server may take to answer.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a drained server's clients may take to move.
const MOVES: Duration = Duration::from_secs(10);
/// How long a server that was started may take to catch up.
const CATCHES_UP: Duration = Duration::from_secs(60);
/// One that lacks no more entries than this has caught up: the rest takes no longer than any follower's.
const CAUGHT_UP: u64 = 64;
/// How long a request of ours may take.
const REQUEST: Duration = Duration::from_secs(15);

/// Restarts the servers of this command that belong to the cluster; others that do are counted, and left alone. Says how
/// far it is.
///
/// # Errors
/// Another restart is under way, or a server does not come back: then the rest is not touched.
pub async fn restart(supervisor: &Arc<Supervisor>, progress: &UnboundedSender<String>) -> Result<(), Failure> {
    let Some(_restarting) = supervisor.begin_restart() else {
        return Err(Failure::new(Exit::Refused, "a restart is under way already"));
    };
    let tell = |text: String| {
        supervisor.voice.note(&format!("rolling restart: {text}"));
        // Whoever asked may be gone.
        drop(progress.send(text));
    };
    let addresses: Vec<String> = supervisor.servers.iter().map(super::super::children::Server::address).collect();
    let client = reach::connect(reach::settings(addresses, None, REQUEST)).await?;
    let status = client.status().await?;
    // Leadership moves once more than it must if the leader is not the last.
    let mut order: Vec<usize> = (0..supervisor.servers.len()).collect();
    order.sort_by_key(|number| status.leader.as_ref() == Some(&supervisor.servers[*number].name));
    for number in order {
        let name = &supervisor.servers[number].name;
        let Some(row) = status.servers.iter().find(|row| row.server.name == *name) else {
            tell(format!("{name} does not belong to the cluster, and is left alone"));
            continue;
        };
        let (was_drained, server) = (row.drained, &row.server);
        check_majority(&client, server, &tell).await?;
        let drained = drain(&client, server, status.servers.len() == 1, &tell).await?;
        supervisor.stop(number).await;
        tell(format!("{name} has stopped, and starts again"));
        supervisor.start(number)?;
        if RealWorld::timeout(CATCHES_UP, is_back(&client, server)).await.is_err() {
            let still =
                if drained { format!(" It is drained: `restante server undrain {name}`.") } else { String::new() };
            let text = format!("{name} has not come back within {CATCHES_UP:?}; the others were left alone.{still}");
            return Err(Failure::new(Exit::Failed, text));
        }
        if drained && !was_drained {
            client.undrain_server(name).await?;
            let serves = async {
                while !own_status(server).await.is_some_and(|own| own.serves) {
                    RealWorld::sleep(LOOK).await;
                }
            };
            // The next one's clients are to find it.
            let _ = RealWorld::timeout(MOVES, serves).await;
        }
        tell(format!("{name} is back"));
    }
    client.close().await;
    Ok(())
}

/// Makes sure that the cluster goes on without that server. One or two voters cannot; that is told.
async fn check_majority(client: &Client, server: &ServerAddress, tell: &impl Fn(String)) -> Result<(), Failure> {
    let name = &server.name;
    let mut voters = client.status().await?.servers;
    voters.retain(|row| row.voter);
    let all = voters.len();
    let others = answers(voters.iter().filter(|row| row.server.name != *name)).await.len();
    if others > all / 2 {
        return Ok(());
    }
    if all <= 2 {
        tell(format!("{all} servers are too few to go on without {name}: clients wait until it is back"));
        return Ok(());
    }
    let text = format!(
        "besides {name} only {others} of {all} servers answer, too few to go on without it: bring them back first"
    );
    Err(Failure::new(Exit::Refused, text))
}

/// Drains a server, and waits until nobody is there any more. False where it is the only one.
async fn drain(client: &Client, server: &ServerAddress, alone: bool, tell: &impl Fn(String)) -> Result<bool, Failure> {
    match client.drain_server(&server.name).await {
        Ok(()) => {}
        Err(Error::Refused(Refusal::NobodyElseServes { .. })) if alone => return Ok(false),
        Err(error) => return Err(Failure::from(error).while_doing(format_args!("cannot drain {}", server.name))),
    }
    let moved = async {
        while !own_status(server).await.is_none_or(|own| !own.serves && own.sessions == 0) {
            RealWorld::sleep(LOOK).await;
        }
    };
    // Clients that do not move are cut off when it stops, and find another one like those of a server that died.
    let _ = RealWorld::timeout(MOVES, moved).await;
    tell(format!("{} is drained", server.name));
    Ok(true)
}

/// Waits until the leader says that it votes and has everything.
async fn is_back(client: &Client, server: &ServerAddress) {
    loop {
        // The client may be on its way from one server to the next.
        let listed = client.status().await.map_or_else(|_| Vec::new(), |status| status.servers);
        let answers = answers(listed.iter()).await;
        let own = answers.iter().find(|answer| answer.server == server.name);
        let leading = answers.iter().find(|a| a.role == "leader" && a.leader.as_ref() == Some(&a.server));
        let row = leading.and_then(|a| a.servers.iter().find(|row| row.server.name == server.name));
        let caught_up = row.is_some_and(|row| row.voter && row.lag.is_some_and(|lag| lag <= CAUGHT_UP));
        if caught_up && own.is_some_and(|own| own.leader.is_some()) {
            return;
        }
        RealWorld::sleep(LOOK).await;
    }
}

/// What these servers say of themselves, as far as they answer.
async fn answers(rows: impl Iterator<Item = &ServerRow>) -> Vec<Status> {
    futures::future::join_all(rows.map(|row| own_status(&row.server))).await.into_iter().flatten().collect()
}

/// What a server says of itself, if it answers.
async fn own_status(server: &ServerAddress) -> Option<Status> {
    let status = observe::ask(&server.address, ANSWER, StatusDetail::default()).await.answer.ok()?;
    // A client that is sent away goes on at another server, whose answer is not this one's.
    (status.server == server.name).then_some(status)
}
