//! What an operator asks of the cluster: adding, removing and draining servers, and letting another one lead.
//!
//! Any server takes such a request. What changes the list of servers is a command in the log, and [`super::membership`]
//! makes the membership follow; what only the leader can tell or do is asked of the leader.

use std::sync::Arc;
use std::time::Duration;

use openraft_rt::watch::WatchReceiver as _;

use super::membership::CAUGHT_UP;
use super::node::Node;
use super::{moving, status};
use crate::post_office::Answer;
use crate::raft::link::Link;
use crate::wire::client::Request;
use crate::wire::command::Command;
use crate::wire::peer::{self, Purpose, Question};
use crate::wire::{Incarnation, Name, Nonce, Refusal};
use crate::world::World;

/// How long a command may take to come through the log, and how long the membership may take to follow it. Who asked
/// asks again, at another server.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long the membership may take to follow a removal by force: it may have to wait for others to come back.
const FORCED: Duration = Duration::from_millis(500);
/// How long the leader may take to answer.
const LEADER: Duration = Duration::from_secs(2);
/// How long another server may take to take leadership over.
const HAND_OVER: Duration = Duration::from_secs(1);
/// How often to look whether something has come to be.
const LOOK: Duration = Duration::from_millis(20);

/// Carries an operator's request out, or says why not. [`Refusal::NoLeader`] decides nothing.
pub(super) async fn carry_out<W: World>(node: &Arc<Node<W>>, request: Request) -> Result<(), Refusal> {
    match request {
        Request::AddServer { nonce, server } => {
            let command = Command::AddServer { nonce, server: &server.name, address: &server.address };
            propose(node, nonce, &command).await
        }
        Request::RemoveServer { nonce, server, force } => {
            if !force {
                ask_leader(node, Question::MayLeave { server: server.clone() }).await?;
            }
            propose(node, nonce, &Command::RemoveServer { nonce, server: &server }).await?;
            let patience = if force { FORCED } else { PATIENCE };
            match until::<W>(patience, || !has_removed_member(node, &server)).await {
                Err(_) if force => Ok(()),
                done => done,
            }
        }
        Request::SetDrained { nonce, server, drained } => {
            if drained {
                ask_leader(node, Question::MayDrain { server: server.clone() }).await?;
            }
            propose(node, nonce, &Command::SetDrained { nonce, server: &server, drained }).await?;
            let leads_no_more = || leader_name(node).is_some_and(|leader| leader != server);
            if drained { until::<W>(PATIENCE, leads_no_more).await } else { Ok(()) }
        }
        Request::TransferLeadership { server, .. } => {
            ask_leader(node, Question::HandOver { server: server.clone() }).await?;
            until::<W>(PATIENCE, || leader_name(node).is_some_and(|leader| leader == server)).await
        }
        _ => Err(Refusal::Malformed("no operator's request".to_owned())),
    }
}

async fn propose<W: World>(node: &Node<W>, nonce: Nonce, command: &Command<'_>) -> Result<(), Refusal> {
    match W::timeout(PATIENCE, node.hub.ask(nonce, command)).await {
        Ok(Ok(Answer::Refused(refusal))) => Err(refusal),
        Ok(Ok(_)) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Refusal::NoLeader),
    }
}

fn leader_name<W: World>(node: &Node<W>) -> Option<Name> {
    node.leader().current().and_then(|id| node.member(id)).map(|member| member.name)
}

async fn until<W: World>(patience: Duration, is_so: impl Fn() -> bool) -> Result<(), Refusal> {
    let waiting = async {
        while !is_so() {
            W::sleep(LOOK).await;
        }
    };
    W::timeout(patience, waiting).await.map_err(|_| Refusal::NoLeader)
}

/// Whether a disk of that server still belongs to the membership though it is to count no more.
fn has_removed_member<W: World>(node: &Node<W>, server: &Name) -> bool {
    let metrics = node.raft.metrics().borrow_watched().clone();
    let office = node.office.post_office.lock();
    let retired = |id: Incarnation, name: &Name| name == server && office.is_retired(id);
    [&metrics.membership_config, &metrics.committed_membership_config]
        .into_iter()
        .any(|config| config.membership().nodes().any(|(id, member)| retired(*id, &member.name)))
}

/// Asks whoever leads.
pub(super) async fn ask_leader<W: World>(node: &Arc<Node<W>>, question: Question) -> Result<(), Refusal> {
    let leader = node.leader().current().ok_or(Refusal::NoLeader)?;
    if leader == node.me.incarnation {
        return answer_as_leader(node, &question).await;
    }
    let member = node.member(leader).ok_or(Refusal::NoLeader)?;
    let hello = node.me.hello(leader, Purpose::Question);
    let asking = async {
        let mut link = Link::open(&*node.host.network, &member.name, &member.address, &hello).await.ok()?;
        link.ask::<_, peer::QuestionAnswer>(peer::QUESTION, &question, peer::ANSWER).await.ok()
    };
    W::timeout(LEADER, asking).await.ok().flatten().unwrap_or(Err(Refusal::NoLeader))
}

/// Answers as the leader.
pub(super) async fn answer_as_leader<W: World>(node: &Node<W>, question: &Question) -> Result<(), Refusal> {
    if !node.raft.is_leader() {
        return Err(Refusal::NoLeader);
    }
    match question {
        Question::MayLeave { server } => may_leave(node, server),
        Question::HandOver { server } => hand_over(node, server).await,
        Question::IsDown { server } => moving::is_down(node, server).await,
        Question::MayDrain { server } => may_drain(node, server),
    }
}

/// Whether enough of the others are up for the cluster to go on without this server.
fn may_leave<W: World>(node: &Node<W>, server: &Name) -> Result<(), Refusal> {
    {
        let office = node.office.post_office.lock();
        // Whatever there is to say about it, the command's answer says.
        if office.server(server).is_none() || office.servers().count() == 1 {
            return Ok(());
        }
    }
    let metrics = node.raft.metrics().borrow_watched().clone();
    let membership = metrics.membership_config.membership();
    let (mut voters, mut reachable) = (0, 0);
    // Every disk that has a vote counts, be it one that was lost and is not replaced yet.
    for id in membership.voter_ids().filter(|id| membership.get_node(id).is_some_and(|m| m.name != *server)) {
        voters += 1;
        reachable += u64::from(id == node.me.incarnation || status::is_reached(node, id));
    }
    if reachable > voters / 2 { Ok(()) } else { Err(Refusal::WouldLoseQuorum { voters, reachable }) }
}

/// Whether another server could lead and serve at once in the place of this one.
fn may_drain<W: World>(node: &Node<W>, server: &Name) -> Result<(), Refusal> {
    let (others, drained) = {
        let office = node.office.post_office.lock();
        if office.is_drained(server) {
            return Ok(());
        }
        office.server(server).ok_or(Refusal::NoSuchServer)?;
        let others = office.servers().filter(|(name, _)| *name != server);
        others.fold((0, 0), |(all, drained), (_, other)| (all + 1, drained + u64::from(other.drained)))
    };
    let ready = node.ready_besides(server) as u64;
    if ready > 0 { Ok(()) } else { Err(Refusal::NobodyElseServes { others, drained, ready }) }
}

async fn hand_over<W: World>(node: &Node<W>, server: &Name) -> Result<(), Refusal> {
    if *server == node.me.name {
        return Ok(());
    }
    let rows = status::servers_of(node);
    let row = rows.iter().find(|row| row.server.name == *server).ok_or(Refusal::NoSuchServer)?;
    if row.drained {
        return Err(Refusal::DrainedCannotLead);
    }
    let target = row.incarnation.filter(|_| row.voter && row.reachable).ok_or(Refusal::CannotLead)?;
    if row.lag.is_none_or(|lag| lag > CAUGHT_UP) {
        return Err(Refusal::CannotLead);
    }
    tracing::info!(to = %server, "an operator asked for another leader: handing leadership over");
    let handing_over = async {
        while node.raft.is_leader() {
            if node.raft.trigger().transfer_leader(target).await.is_err() {
                return;
            }
            // Asked again until it is so: the one asked may have fallen behind.
            W::sleep(node.settings.heartbeat).await;
        }
    };
    W::timeout(HAND_OVER, handing_over).await.map_err(|_| Refusal::CannotLead)
}
