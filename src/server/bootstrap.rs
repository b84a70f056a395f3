//! Founding and joining: how a server without an incarnation gets one.
//!
//! A cluster is founded only when **every** listed server says that its disk never belonged to one. The server whose
//! name comes first writes the founding record (all names, incarnations and disks) to its own disk; the others adopt
//! it when they ask and find their own disk in it, from the founder or from anybody who adopted it before. A disk
//! that is in no founding record asks to join: the log allocates an incarnation for it, the leader takes it in as a
//! learner and lets it replace the name's old incarnation when it has caught up ([`super::membership`]).
//!
//! A server that set damaged files aside is not empty: it founds nothing, and nothing is founded without it.
//!
//! A cluster may begin with the state of a backup ([`crate::backup`]). Its servers found it as empty ones do, if that state
//! is there on every one of them. Such a directory joins nothing: what it holds would be lost for what the others have.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::node::Node;
use super::{Phase, Server, ServerError};
use crate::raft::link::{Link, LinkError};
use crate::storage::{DataDirectory, Identity, Seed};
use crate::wire::peer::{self, Bootstrap, BootstrapReply, Founding, FoundingMember, Hello, PeerRefusal, Purpose};
use crate::wire::{self, ClusterId, Name, Nonce, ServerAddress};
use crate::world::{Host, World};

/// How often the others are asked.
const ROUND: Duration = Duration::from_millis(100);
/// Servers that are started together do not find each other at once: what stands in the way is told after so many.
const PATIENT_ROUNDS: u32 = 20;
/// How long one of them may take.
const PATIENCE: Duration = Duration::from_millis(1000);
/// How often a server that joined asks whether it still counts, until it is taken in.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a join may take: it goes through the log.
const JOIN_PATIENCE: Duration = Duration::from_secs(5);

/// What a server without an incarnation says of itself.
#[derive(Debug, Clone, Default)]
pub(super) struct Standing {
    /// Its disk.
    pub disk: Nonce,
    /// It set something aside.
    pub set_aside: bool,
    /// The state that it begins with, if it was restored ([`Seed::key`]).
    pub backup: Option<u128>,
    /// What keeps it from going on, a sentence each.
    pub problems: Vec<String>,
}

/// Asks around until there is an identity for this disk. `None`: not for this one, but there may be for a new one.
pub(super) async fn find_identity<W: World>(
    server: &Server<W>,
    directory: &DataDirectory,
) -> Result<Option<Identity>, ServerError> {
    let disk = directory.disk_id();
    let me = Standing {
        disk,
        set_aside: directory.has_set_aside(),
        backup: directory.seed().map(Seed::key),
        problems: Vec::new(),
    };
    let name = &server.settings.name;
    let servers = server.settings.servers();
    let mut told: Vec<String> = Vec::new();
    let mut rounds = 0;
    *server.phase.lock() = Phase::Bootstrapping(me.clone());
    loop {
        let others = servers.iter().filter(|s| s.name != *name);
        let probe = Bootstrap::Probe { disk, servers: servers.clone() };
        let probe = &probe;
        let probes =
            others.map(|other| async move { (other, ask::<W>(&server.host, name, other, probe, PATIENCE).await) });
        let answers = futures::future::join_all(probes).await;
        let mut problems = Vec::new();
        let found = decide(name, &me, &servers, &answers, rounds, &mut problems);
        let identity = match found {
            Decision::Adopt(identity) => Some(identity),
            Decision::Found(members) => {
                let cluster = ClusterId(rand::RngExt::random(&mut W::rng()));
                let incarnation = members.iter().find(|f| f.server.name == *name).map_or(0, |f| f.incarnation);
                let founding = Founding { members, quotas: server.settings.quotas };
                W::reached("a cluster founded");
                match directory.seed() {
                    None => tracing::info!(%cluster, "every listed server is empty: founding a cluster"),
                    Some(seed) => {
                        W::reached("a cluster founded with a backup's state");
                        let Seed { backup, from, .. } = seed;
                        tracing::info!(%cluster, %from, backup = format!("{backup:032x}"), "founding a cluster with a restored state");
                    }
                }
                Some(Identity { cluster, name: name.clone(), incarnation, founding: Some(founding) })
            }
            Decision::Join(member) => {
                let join = Bootstrap::Join { disk, address: server.settings.address().to_owned() };
                match ask::<W>(&server.host, name, &member, &join, JOIN_PATIENCE).await {
                    Ok(BootstrapReply::Joined { cluster, incarnation }) => {
                        W::reached("a cluster joined with a new disk");
                        tracing::info!(%cluster, incarnation, "joining a cluster with a new disk");
                        Some(Identity { cluster, name: name.clone(), incarnation, founding: None })
                    }
                    // It was taken in, and its server removed, before it heard of it.
                    Ok(BootstrapReply::Retired) => return Ok(None),
                    Ok(BootstrapReply::Refused(why)) => {
                        problems.push(format!("{} does not take this server in: {why}", member.name));
                        None
                    }
                    Ok(other) => {
                        problems.push(format!("{} answered a join with {other:?}", member.name));
                        None
                    }
                    Err(error) => {
                        problems.push(format!("joining through {} failed: {error}", member.name));
                        None
                    }
                }
            }
            Decision::Wait => None,
        };
        if let Some(identity) = identity {
            return Ok(Some(identity));
        }
        rounds += 1;
        if rounds >= PATIENT_ROUNDS && problems != told {
            for problem in &problems {
                tracing::warn!("waiting to found or join a cluster: {problem}");
            }
            told.clone_from(&problems);
        }
        *server.phase.lock() = Phase::Bootstrapping(Standing { problems, ..me.clone() });
        W::sleep(ROUND).await;
    }
}

/// What the answers of one round come to.
#[derive(Debug, PartialEq, Eq)]
enum Decision {
    /// Somebody has a founding record with this disk in it.
    Adopt(Identity),
    /// Every server is empty, and this one founds.
    Found(Vec<FoundingMember>),
    /// There is a cluster that does not know this disk: ask this member.
    Join(ServerAddress),
    /// Ask again.
    Wait,
}

fn decide(
    name: &Name,
    me: &Standing,
    servers: &[ServerAddress],
    answers: &[(&ServerAddress, io::Result<BootstrapReply>)],
    round: u32,
    problems: &mut Vec<String>,
) -> Decision {
    let disk = me.disk;
    let mut empty = vec![(name.clone(), disk)];
    let mut members = Vec::new();
    for (other, answer) in answers {
        // Those without a cluster may found one if they begin with the same state.
        let begins_with = match answer {
            Ok(BootstrapReply::Restored { backup, .. }) => Some(*backup),
            _ => None,
        };
        match answer {
            Ok(BootstrapReply::Member { cluster, founding }) => {
                let founders = founding.iter().flat_map(|founding| &founding.members);
                if let Some(me) = founders.into_iter().find(|f| f.server.name == *name && f.disk == disk) {
                    return Decision::Adopt(Identity {
                        cluster: *cluster,
                        name: name.clone(),
                        incarnation: me.incarnation,
                        founding: founding.clone(),
                    });
                }
                members.push(*other);
            }
            Ok(
                BootstrapReply::Empty { disk, servers: theirs }
                | BootstrapReply::Restored { disk, servers: theirs, .. },
            ) => {
                if theirs == servers && begins_with == me.backup {
                    empty.push((other.name.clone(), *disk));
                } else if theirs == servers {
                    problems.push(format!("{} {}", other.name, another_state(begins_with, me.backup)));
                } else {
                    problems.push(format!(
                        "{} was told of other servers ({}): give all the same --cluster",
                        other.name,
                        theirs.iter().map(|s| format!("{}={}", s.name, s.address)).collect::<Vec<_>>().join(",")
                    ));
                }
            }
            Ok(BootstrapReply::SetAside) => problems.push(format!(
                "{} set damaged data aside, so there was a cluster: it takes a majority of its members to go on",
                other.name
            )),
            Ok(BootstrapReply::Refused(why)) => problems.push(format!("{}: {why}", other.name)),
            Ok(BootstrapReply::Joined { .. } | BootstrapReply::Retired) => {
                problems.push(format!("{} answered out of turn", other.name))
            }
            Err(error) => problems.push(format!("{} at {} cannot be asked: {error}", other.name, other.address)),
        }
    }
    if let (Some(member), Some(_)) = (members.first(), me.backup) {
        problems.push(format!(
            "{} at {} belongs to a cluster already, and this server holds a restored state that one is to be founded with: \
             check the addresses; to join that cluster, start with an empty directory",
            member.name, member.address
        ));
        return Decision::Wait;
    }
    if !members.is_empty() {
        // Another one each round: one of them may be cut off from the rest.
        return Decision::Join(members[round as usize % members.len()].clone());
    }
    if me.set_aside {
        problems.push("this server set damaged data aside: it can join a cluster, but not found one".to_owned());
        return Decision::Wait;
    }
    if empty.len() == servers.len() && servers.first().is_some_and(|first| first.name == *name) {
        let disk_of = |name: &Name| empty.iter().find(|(n, _)| n == name).map_or(0, |(_, disk)| *disk);
        let founders = servers.iter().zip(1..).map(|(server, incarnation)| FoundingMember {
            server: server.clone(),
            incarnation,
            disk: disk_of(&server.name),
        });
        return Decision::Found(founders.collect());
    }
    Decision::Wait
}

/// Why the two cannot found a cluster together.
fn another_state(theirs: Option<u128>, mine: Option<u128>) -> String {
    match (theirs, mine) {
        (Some(theirs), Some(mine)) => format!(
            "holds the state of another backup ({theirs:032x}; here it is {mine:032x}): restore the same file for all servers, with \
             the same version"
        ),
        (Some(_), None) => {
            "holds a restored state, and this server none: restore the same backup for this server, too".to_owned()
        }
        (None, _) => {
            "is empty, and this server holds a restored state: restore the same backup for all servers".to_owned()
        }
    }
}

/// Asks another server a question, in the name of `me`.
pub(super) async fn ask<W: World>(
    host: &Host,
    me: &Name,
    other: &ServerAddress,
    question: &Bootstrap,
    patience: Duration,
) -> io::Result<BootstrapReply> {
    let hello = Hello {
        version: wire::PEER_VERSION,
        purpose: Purpose::Bootstrap,
        cluster: None,
        name: me.clone(),
        from: None,
        to: None,
    };
    let asking = async {
        let mut link = Link::open(&*host.network, &other.name, &other.address, &hello).await?;
        Ok::<_, LinkError>(link.ask(peer::BOOTSTRAP, question, peer::BOOTSTRAP_REPLY).await?)
    };
    match W::timeout(patience, asking).await {
        Ok(Ok(reply)) => Ok(reply),
        Ok(Err(LinkError::Io(error))) => Err(error),
        Ok(Err(other)) => Err(io::Error::other(other)),
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")),
    }
}

/// A server that joined and was removed before the leader took it in is a member of nothing: nobody talks to it, and it
/// knows nobody to talk to. So it asks those that it was told of whether its disk still counts.
pub(super) async fn ask_until_taken_in<W: World>(server: Arc<Server<W>>, node: Arc<Node<W>>, disk: Nonce) {
    // A founder is a member from the first; and its disk was never enrolled, so that it must not ask to be.
    while node.founding.is_none() && node.member(node.me.incarnation).is_none() {
        W::sleep(AGAIN).await;
        for other in server.settings.servers().iter().filter(|other| other.name != node.me.name) {
            let join = Bootstrap::Join { disk, address: server.settings.address().to_owned() };
            if matches!(
                ask::<W>(&server.host, &server.settings.name, other, &join, PATIENCE).await,
                Ok(BootstrapReply::Retired)
            ) {
                node.reachability.retire(PeerRefusal::Removed { incarnation: node.me.incarnation });
                return;
            }
        }
    }
}

/// Answers another server's question.
pub(super) async fn answer<W: World>(server: &Server<W>, asker: &Name, question: Bootstrap) -> BootstrapReply {
    let phase = server.phase.lock().clone();
    match (phase, question) {
        (Phase::Starting, _) => BootstrapReply::Refused("it is still starting".to_owned()),
        (Phase::Bootstrapping(Standing { set_aside: true, .. }), Bootstrap::Probe { .. }) => BootstrapReply::SetAside,
        (Phase::Bootstrapping(standing), Bootstrap::Probe { .. }) => {
            let (disk, servers) = (standing.disk, server.settings.servers());
            match standing.backup {
                Some(backup) => BootstrapReply::Restored { disk, servers, backup },
                None => BootstrapReply::Empty { disk, servers },
            }
        }
        (Phase::Bootstrapping(_), Bootstrap::Join { .. }) => {
            BootstrapReply::Refused("it belongs to no cluster yet".to_owned())
        }
        (Phase::Running(node), Bootstrap::Probe { .. }) => {
            BootstrapReply::Member { cluster: node.me.cluster, founding: node.founding.clone() }
        }
        (Phase::Running(node), Bootstrap::Join { disk, address }) => node.enroll(asker, disk, &address).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers() -> Vec<ServerAddress> {
        ["a", "b", "c"]
            .iter()
            .map(|n| ServerAddress { name: Name::new(n).unwrap(), address: format!("{n}:1") })
            .collect()
    }

    fn empty(disk: Nonce) -> io::Result<BootstrapReply> {
        Ok(BootstrapReply::Empty { disk, servers: servers() })
    }

    fn decision(name: &str, set_aside: bool, answers: Vec<io::Result<BootstrapReply>>) -> (Decision, Vec<String>) {
        decision_with(name, set_aside, None, answers)
    }

    fn decision_with(
        name: &str,
        set_aside: bool,
        backup: Option<u128>,
        answers: Vec<io::Result<BootstrapReply>>,
    ) -> (Decision, Vec<String>) {
        let (servers, name) = (servers(), Name::new(name).unwrap());
        let others: Vec<_> = servers.iter().filter(|s| s.name != name).collect();
        let answers: Vec<_> = others.into_iter().zip(answers).collect();
        let mut problems = Vec::new();
        let me = Standing { disk: 7, set_aside, backup, problems: Vec::new() };
        let decision = decide(&name, &me, &servers, &answers, 0, &mut problems);
        (decision, problems)
    }

    fn restored(disk: Nonce, backup: u128) -> io::Result<BootstrapReply> {
        Ok(BootstrapReply::Restored { disk, servers: servers(), backup })
    }

    #[test]
    fn a_restored_state_is_founded_with_only_if_all_have_it_and_joins_nothing() {
        let decide = |backup, answers| decision_with("a", false, backup, answers);
        let (found, _) = decide(Some(5), vec![restored(8, 5), restored(9, 5)]);
        let Decision::Found(founders) = found else { panic!("{found:?}") };
        assert_eq!(founders.iter().map(|f| (f.incarnation, f.disk)).collect::<Vec<_>>(), [(1, 7), (2, 8), (3, 9)]);
        for (mine, answers, problem) in [
            (Some(5), vec![restored(8, 5), empty(9)], "c is empty"),
            (Some(5), vec![restored(8, 6), restored(9, 5)], "b holds the state of another backup"),
            (None, vec![empty(8), restored(9, 5)], "c holds a restored state, and this server none"),
        ] {
            let (found, problems) = decide(mine, answers);
            assert_eq!(found, Decision::Wait);
            assert!(problems[0].contains(problem), "{problems:?}");
        }
        let member = |disk| {
            let founder = FoundingMember { server: servers()[0].clone(), incarnation: 1, disk };
            let founding = Founding { members: vec![founder], quotas: wire::Quotas::default() };
            Ok(BootstrapReply::Member { cluster: ClusterId(1), founding: Some(founding) })
        };
        assert!(matches!(decide(Some(5), vec![restored(8, 5), member(7)]).0, Decision::Adopt(_)));
        let (found, problems) = decide(Some(5), vec![restored(8, 5), member(6)]);
        assert_eq!(found, Decision::Wait, "another cluster is none of its business");
        assert!(problems[0].contains("belongs to a cluster already"), "{problems:?}");
    }

    #[test]
    fn founds_only_when_every_server_is_empty_and_only_the_first() {
        let (found, _) = decision("a", false, vec![empty(8), empty(9)]);
        let Decision::Found(founders) = found else { panic!("{found:?}") };
        assert_eq!(founders.iter().map(|f| (f.incarnation, f.disk)).collect::<Vec<_>>(), [(1, 7), (2, 8), (3, 9)]);
        assert_eq!(decision("b", false, vec![empty(8), empty(9)]).0, Decision::Wait);
        let silent = || Err(io::Error::from(io::ErrorKind::ConnectionRefused));
        assert_eq!(decision("a", false, vec![empty(8), silent()]).0, Decision::Wait);
        assert_eq!(decision("a", false, vec![empty(8), Ok(BootstrapReply::SetAside)]).0, Decision::Wait);
        assert_eq!(decision("a", true, vec![empty(8), empty(9)]).0, Decision::Wait);
    }

    #[test]
    fn refuses_to_found_with_servers_that_were_told_otherwise() {
        let other = Ok(BootstrapReply::Empty { disk: 9, servers: servers()[..2].to_vec() });
        let (found, problems) = decision("a", false, vec![empty(8), other]);
        assert_eq!(found, Decision::Wait);
        assert!(problems[0].contains("--cluster"), "{problems:?}");
    }

    #[test]
    fn adopts_a_record_with_its_own_disk_and_joins_otherwise() {
        let record = |disk| {
            let server = servers()[0].clone();
            Ok(BootstrapReply::Member {
                cluster: ClusterId(1),
                founding: Some(Founding {
                    members: vec![FoundingMember { server, incarnation: 1, disk }],
                    quotas: wire::Quotas::default(),
                }),
            })
        };
        assert!(matches!(decision("a", false, vec![empty(8), record(7)]).0, Decision::Adopt(i) if i.incarnation == 1));
        assert!(matches!(decision("a", false, vec![empty(8), record(6)]).0, Decision::Join(s) if &*s.name == "c"));
        assert!(matches!(decision("a", true, vec![record(6), empty(9)]).0, Decision::Join(s) if &*s.name == "b"));
    }
}
