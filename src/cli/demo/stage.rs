//! The play: what happens, in order, and what the clients wrote down while it did.

use std::future::Future;
use std::time::Duration;

use restante::wire::Name;
use restante::world::{Instant, RealWorld, World};
use tokio::sync::mpsc;

use super::super::failure::{Exit, Failure};
use super::super::local::Servers;
use super::super::output::{grouped, span};
use super::journal::{self, Delivered, Journal, Who};
use super::narrator::Narrator;
use super::players::{self, Event, Player};
use super::report::Report;
use super::{PLAYERS, SERVERS};

/// How long the traffic is spread over, if the cluster keeps up: time enough to be killed, missed and brought back in.
const TRAFFIC: Duration = Duration::from_secs(6);
/// How long everything may stand still before it is given up.
const STILL: Duration = Duration::from_secs(10);
/// How long after the last message a repeat is looked for.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// Plays it, and reports. Whatever it leaves running is the caller's to stop.
///
/// # Errors
/// It could not be played to its end. Counts that are off are no error here.
pub async fn play(servers: &mut Servers, narrator: &mut Narrator, messages: u64) -> Result<Report, Failure> {
    narrator.line("Three servers, six clients; the leader is killed under traffic, and comes back.\n");
    for number in 0..SERVERS {
        let pid = servers.start(number)?;
        let server = &servers.all()[number];
        narrator.say(&format!("server {} starts at port {} (pid {pid})", server.name, server.port));
    }
    let (leader, term) = servers.leader().await?;
    narrator.say(&format!("{} leads, in term {term}", servers.all()[leader].name));

    let (events, told) = mpsc::unbounded_channel();
    let mut stage = Stage::new(narrator, told, messages);
    let players = stage.enter(servers, &events).await?;
    stage.greet(servers, &players).await?;
    let outage = stage.run_traffic(servers, &players).await?;
    // Nothing more is to come; a repeat that came late would come now.
    let afterwards = async {
        RealWorld::sleep(AFTERWARDS).await;
        Ok(())
    };
    stage.during(afterwards).await?;
    for player in players {
        stage.during(player.leave()).await?;
    }
    let states = stage.during(servers.equal()).await?;
    // The clients have ended: what they told before is all there is.
    while let Ok(event) = stage.told.try_recv() {
        stage.note(event)?;
    }
    let traffic = stage.traffic.0..stage.traffic.1;
    let failed = std::mem::take(&mut stage.failures);
    let counts = journal::count(&stage.journals, traffic);
    Ok(Report::new(counts, outage, servers.all(), &states, failed))
}

/// What became of the leader that was killed.
#[derive(Debug, Clone)]
pub struct Outage {
    /// Its name.
    pub killed: Name,
    /// The process id that it had.
    pub pid: u32,
    /// The next leader's name.
    pub successor: Name,
    /// From the kill until a majority agreed on the successor.
    pub leaderless: Duration,
    /// From its new start until it was in the same state as the others.
    pub caught_up: Duration,
    /// How many clients moved to another server.
    pub moved: usize,
}

struct Stage<'a> {
    narrator: &'a mut Narrator,
    told: mpsc::UnboundedReceiver<Event>,
    journals: Vec<Journal>,
    failures: Vec<String>,
    /// Where each client is attached, and whether it ever changed server.
    attached: Vec<Option<Name>>,
    moved: [bool; PLAYERS],
    messages: u64,
    /// When the traffic began and ended.
    traffic: (Duration, Duration),
    began: Instant,
}

impl<'a> Stage<'a> {
    fn new(narrator: &'a mut Narrator, told: mpsc::UnboundedReceiver<Event>, messages: u64) -> Self {
        Self {
            began: narrator.began(),
            narrator,
            told,
            journals: vec![Journal::default(); PLAYERS],
            failures: Vec::new(),
            attached: vec![None; PLAYERS],
            moved: [false; PLAYERS],
            messages,
            traffic: (Duration::ZERO, Duration::MAX),
        }
    }

    /// The clients connect and register, two at each server.
    async fn enter(
        &mut self,
        servers: &Servers,
        events: &mpsc::UnboundedSender<Event>,
    ) -> Result<Vec<Player>, Failure> {
        let addresses: Vec<String> = servers.all().iter().map(|server| server.address()).collect();
        let mut players = Vec::new();
        for who in 0..PLAYERS {
            let home = &servers.all()[who / (PLAYERS / SERVERS)];
            let player = Player::join(who, home, addresses.clone(), self.began, events.clone()).await?;
            players.push(player);
        }
        for (pair, server) in servers.all().iter().enumerate() {
            let (one, other) = (2 * pair + 1, 2 * pair + 2);
            self.narrator
                .say(&format!("clients {one} and {other} are registered at {} ({})", server.name, server.port));
        }
        Ok(players)
    }

    /// 1 → 2, 3 → 4 and 5 → 6, and across servers 2 → 3, 4 → 5 and 6 → 1: every client's first message.
    async fn greet(&mut self, servers: &Servers, players: &[Player]) -> Result<(), Failure> {
        let pairs = [(0, 1), (2, 3), (4, 5), (1, 2), (3, 4), (5, 0)];
        for (greeted, (from, to)) in pairs.into_iter().enumerate() {
            players[from].send(to).await?;
            self.until(|stage| stage.accepted() == greeted as u64 + 1 && stage.delivered() == greeted as u64 + 1)
                .await?;
            let port = |who: Who| servers.all()[who / (PLAYERS / SERVERS)].port;
            let Some(Delivered { position, .. }) = self.journals[to].deliveries.last() else {
                return Err(Failure::new(Exit::CountsOff, format!("client {} got no greeting", to + 1)));
            };
            let words = players::content(from, 1, to);
            self.narrator.say(&format!(
                "{} → {}  \"{words}\"  from {} to {}, accepted and delivered at position {position}",
                from + 1,
                to + 1,
                port(from),
                port(to)
            ));
        }
        Ok(())
    }

    /// Everybody sends to everybody while the leader is killed and brought back.
    async fn run_traffic(&mut self, servers: &mut Servers, players: &[Player]) -> Result<Outage, Failure> {
        let greetings = self.delivered();
        let messages = self.messages;
        self.narrator.say(&format!("everybody sends to everybody: {} messages", grouped(messages)));
        self.narrator.begin_traffic(messages);
        self.traffic.0 = self.began.elapsed();
        let players_count = PLAYERS as u64;
        for (who, player) in players.iter().enumerate() {
            let others = (0..PLAYERS).filter(|other| *other != who).collect();
            let share = messages / players_count + u64::from((who as u64) < messages % players_count);
            // It ends by itself, after its last send or when the client ends.
            drop(player.traffic(others, share, TRAFFIC));
        }

        self.until(|stage| stage.delivered() >= greetings + messages / 3).await?;
        // The leader may be another one by now than at the beginning.
        let (leader, _) = self.during(servers.leader()).await?;
        let killed = servers.all()[leader].clone();
        let pid = servers.kill(leader).await?;
        let killed_at = RealWorld::now();
        let so_far = grouped(self.delivered());
        self.narrator.say(&format!(
            "killed the leader {} ({}, pid {pid}) with SIGKILL, after {so_far} messages",
            killed.name, killed.port
        ));
        let (successor, term) = self.during(servers.leader()).await?;
        let leaderless = killed_at.elapsed();
        let successor = servers.all()[successor].name.clone();
        self.narrator.say(&format!("{successor} leads, in term {term}, {} after the kill", span(leaderless)));

        self.until(|stage| stage.delivered() >= greetings + messages * 2 / 3).await?;
        let pid_now = servers.start(leader)?;
        let started_at = RealWorld::now();
        self.narrator.say(&format!("{} is started again (pid {pid_now}), with the data it had", killed.name));

        self.until(|stage| stage.settled(greetings)).await?;
        self.traffic.1 = self.began.elapsed();
        self.narrator.end_traffic();
        let time = span(self.traffic.1.saturating_sub(self.traffic.0));
        self.narrator.say(&format!("all clients are done, {time} after they began"));
        let states = self.during(servers.equal()).await?;
        let caught_up = started_at.elapsed();
        self.narrator
            .say(&format!("{} has caught up: all servers applied index {}", killed.name, states[0].applied_index));
        let moved = self.moved.iter().filter(|moved| **moved).count();
        Ok(Outage { killed: killed.name, pid, successor, leaderless, caught_up, moved })
    }

    fn accepted(&self) -> u64 {
        self.journals.iter().map(|journal| journal.receipts.len() as u64).sum()
    }

    fn delivered(&self) -> u64 {
        self.journals.iter().map(|journal| journal.deliveries.len() as u64).sum()
    }

    /// Whether every send of the traffic was made and answered, and everything accepted has arrived.
    fn settled(&self, greetings: u64) -> bool {
        let sent: u64 = self.journals.iter().map(|journal| journal.sent.len() as u64).sum();
        let failed: u64 = self.journals.iter().map(|journal| journal.failed).sum();
        sent == greetings + self.messages && self.accepted() + failed == sent && self.delivered() >= self.accepted()
    }

    /// Takes events until `condition` holds, or for so long that it never will.
    async fn until(&mut self, condition: impl Fn(&Self) -> bool) -> Result<(), Failure> {
        while !condition(self) {
            match RealWorld::timeout(STILL, self.told.recv()).await {
                Ok(Some(event)) => self.note(event)?,
                // What is missing will be seen in the counts: a loss is for the table, not for an error.
                Ok(None) | Err(_) => {
                    self.narrator.say(&format!("nothing happened for {}: going on with what there is", span(STILL)));
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Takes events while something else goes on.
    async fn during<T>(&mut self, other: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        let mut other = std::pin::pin!(other);
        loop {
            tokio::select! {
                biased;
                done = &mut other => return done,
                Some(event) = self.told.recv() => self.note(event)?,
            }
        }
    }

    /// Writes down what a client says.
    fn note(&mut self, event: Event) -> Result<(), Failure> {
        match event {
            Event::Sent(who, sent) => self.journals[who].sent.push(sent),
            Event::Receipt(who, receipt) => self.journals[who].receipts.push(receipt),
            Event::Delivered(who, delivery) => {
                self.journals[who].deliveries.push(delivery);
                if self.traffic.0 > Duration::ZERO {
                    let delivered = self.delivered().saturating_sub(PLAYERS as u64);
                    self.narrator.progress(delivered, self.messages);
                }
            }
            Event::Altered(who, what) => {
                self.journals[who].altered += 1;
                self.failures.push(format!("client {}: {what}", who + 1));
            }
            Event::Failed(who, why) => {
                self.journals[who].failed += 1;
                self.failures.push(format!("client {}: {why}", who + 1));
            }
            Event::Attached(who, Some(server)) => {
                match self.attached[who].replace(server.clone()) {
                    Some(before) if before != server => {
                        self.moved[who] = true;
                        self.narrator.say(&format!("client {} moved from {before} to {server}", who + 1));
                    }
                    _ => {}
                };
            }
            // Between two servers: where it goes is what matters.
            Event::Attached(_, None) => {}
            Event::Ended(who, failure) => return Err(failure.while_doing(format_args!("client {}", who + 1))),
        }
        Ok(())
    }
}
