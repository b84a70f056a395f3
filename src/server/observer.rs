//! What happens to this server and its cluster, noticed by comparing with the look before, and told in sentences.

use std::collections::BTreeMap;

use openraft_rt::watch::WatchReceiver as _;

use super::node::Node;
use super::status;
use crate::wire::client::ServerRow;
use crate::wire::{Incarnation, Name, Refusal};
use crate::world::World;

/// So many looks come for one at the list of servers, which takes longer.
const LOOKS: u32 = 25;

/// See the module. It remembers the last look.
#[derive(Debug, Default)]
pub(super) struct Observer {
    looks: u32,
    started: bool,
    led: Option<(Incarnation, u64)>,
    leaderless: bool,
    closed_for: Option<Option<Refusal>>,
    hangs: bool,
    full: bool,
    damaged: bool,
    servers: Option<BTreeMap<Name, Seen>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    incarnation: Option<Incarnation>,
    voter: bool,
    drained: bool,
    /// Only the leader knows.
    reachable: Option<bool>,
}

impl Observer {
    /// Looks, and tells what is new.
    pub fn look<W: World>(&mut self, node: &Node<W>) {
        let tell = |kind, serious, text: String| node.metrics.chronicle.note(W::unix_millis(), kind, serious, text);
        if !self.started {
            self.started = true;
            let place = node.disk.describe();
            tell("start", false, format!("{} runs as incarnation {}", node.me.name, node.me.incarnation));
            if node.set_aside {
                tell("damage", true, format!("damaged data of this server was set aside in {place}/quarantine"));
            }
        }
        self.look_at_leader(node, &tell);
        self.look_at_service(node, &tell);
        self.look_at_disk(node, &tell);
        if self.looks.is_multiple_of(LOOKS) {
            self.look_at_servers(node, &tell);
        }
        self.looks = self.looks.wrapping_add(1);
    }

    fn look_at_leader<W: World>(&mut self, node: &Node<W>, tell: &impl Fn(&'static str, bool, String)) {
        let (leader, term) = {
            let metrics = node.raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.current_leader, metrics.current_term)
        };
        match leader {
            Some(leader) if self.led != Some((leader, term)) => {
                let name = node.member(leader).map_or_else(|| format!("incarnation {leader}"), |m| m.name.to_string());
                node.metrics.elections.inc();
                if leader == node.me.incarnation {
                    node.metrics.elections_won.inc();
                }
                self.led = Some((leader, term));
                tell("election", false, format!("{name} leads, in term {term}"));
            }
            Some(_) => {}
            None if !self.leaderless && self.led.is_some() => {
                tell("election", true, format!("no leader since term {term}: an election is under way"));
            }
            None => {}
        }
        self.leaderless = leader.is_none();
    }

    fn look_at_service<W: World>(&mut self, node: &Node<W>, tell: &impl Fn(&'static str, bool, String)) {
        let closed_for = node.hub.lock().closed_for.clone();
        if self.closed_for.as_ref() == Some(&closed_for) {
            return;
        }
        let name = &node.me.name;
        match &closed_for {
            None => tell("service", false, format!("{name} serves clients")),
            // So every server begins.
            Some(Refusal::NoLeader) if self.closed_for.is_none() => {}
            Some(Refusal::NoLeader) => {
                tell("service", true, format!("{name} is out of touch with a leader: its clients are sent elsewhere"));
            }
            Some(Refusal::Drained) => tell("service", false, format!("{name} is drained: its clients go elsewhere")),
            Some(reason) => tell("service", false, format!("{name} serves nobody: {reason}")),
        }
        self.closed_for = Some(closed_for);
    }

    fn look_at_disk<W: World>(&mut self, node: &Node<W>, tell: &impl Fn(&'static str, bool, String)) {
        let name = &node.me.name;
        let changed = |before: &mut bool, now: bool| std::mem::replace(before, now) != now;
        let hangs = node.health.hangs();
        if changed(&mut self.hangs, hangs) {
            let what = if hangs { "hangs: it leads no more and serves nobody" } else { "answers again" };
            tell("disk", hangs, format!("the disk of {name} {what}"));
        }
        let full = node.log.disk_full();
        if changed(&mut self.full, full) {
            let what = if full { "is full: sends are refused" } else { "has room again" };
            tell("disk", full, format!("the disk of {name} {what}"));
        }
        let damage = node.health.damage();
        if changed(&mut self.damaged, damage.is_some())
            && let Some(reason) = damage
        {
            tell("damage", true, format!("the disk of {name} is damaged: {reason}"));
        }
    }

    fn look_at_servers<W: World>(&mut self, node: &Node<W>, tell: &impl Fn(&'static str, bool, String)) {
        let leads = node.raft.is_leader();
        let seen = |row: &ServerRow| Seen {
            incarnation: row.incarnation,
            voter: row.voter,
            drained: row.drained,
            reachable: leads.then_some(row.reachable),
        };
        let now: BTreeMap<Name, Seen> =
            status::servers_of(node).iter().map(|row| (row.server.name.clone(), seen(row))).collect();
        let Some(before) = self.servers.replace(now.clone()) else { return };
        for (name, is) in &now {
            let Some(was) = before.get(name) else {
                tell("servers", false, format!("{name} was added to the cluster"));
                continue;
            };
            if was.incarnation != is.incarnation && is.incarnation.is_some() {
                let with = if was.incarnation.is_some() { "with another disk" } else { "for the first time" };
                tell("servers", false, format!("{name} was taken in {with}"));
            }
            if !was.voter && is.voter {
                tell("servers", false, format!("{name} has everything, and a vote"));
            }
            if was.drained != is.drained {
                let what = if is.drained { "was drained" } else { "is not drained any more" };
                tell("servers", false, format!("{name} {what}"));
            }
            match (was.reachable, is.reachable) {
                (Some(true), Some(false)) => tell("servers", true, format!("{name} does not answer")),
                (Some(false), Some(true)) => tell("servers", false, format!("{name} answers again")),
                _ => {}
            }
        }
        for name in before.keys().filter(|name| !now.contains_key(*name)) {
            tell("servers", false, format!("{name} was removed from the cluster"));
        }
    }
}
