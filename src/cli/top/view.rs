//! The cluster as it is shown: put together from what its servers say, with rates out of two looks. Pure.

use std::time::Duration;

use restante::world::Instant;

use super::fetch::{Answer, Counts, Status};

/// Looks that are remembered, for the line of the last minute.
const HISTORY: usize = 120;

/// See the module.
#[derive(Debug)]
pub struct View {
    pub servers: Vec<Server>,
    /// Messages accepted a second, the latest last.
    pub history: Vec<u64>,
    last: Option<Instant>,
}

/// A server.
#[derive(Debug)]
pub struct Server {
    pub address: String,
    pub name: Option<String>,
    pub answer: Answer,
    pub rates: Rates,
    before: Option<Counts>,
}

/// What is done a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Rates {
    pub accepted: f64,
    pub delivered: f64,
    pub acknowledged: f64,
    pub bytes: f64,
}

impl View {
    /// Of servers that were not asked yet.
    pub fn new(addresses: Vec<String>) -> Self {
        Self { servers: addresses.into_iter().map(Server::new).collect(), history: Vec::new(), last: None }
    }

    /// Whom to ask.
    pub fn addresses(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.address.clone()).collect()
    }

    /// How many answer.
    pub fn answering(&self) -> usize {
        self.servers.iter().filter(|server| server.answer.is_ok()).count()
    }

    /// The status that knows best: the leader's, or else the newest.
    pub fn best(&self) -> Option<&Status> {
        let answers = self.servers.iter().filter_map(|server| server.answer.as_ref().ok());
        answers
            .max_by_key(|status| (status.term, status.role == "leader", status.leader.is_some(), status.applied_index))
    }

    /// Takes what the servers said at this moment.
    pub fn take(&mut self, answers: Vec<(String, Answer)>, now: Instant) {
        let spent = self.last.replace(now).map(|last| now.saturating_duration_since(last));
        for (address, answer) in answers {
            if let Some(server) = self.servers.iter_mut().find(|server| server.address == address) {
                server.take(answer);
            }
        }
        let listed: Vec<(String, String)> = self
            .servers
            .iter()
            .filter_map(|server| server.answer.as_ref().ok())
            .flat_map(|status| status.servers.iter().map(|row| (row.name.clone(), row.address.clone())))
            .collect();
        for (name, address) in listed {
            if let Some(server) = self.servers.iter_mut().find(|server| server.address == address) {
                server.name = Some(name);
            } else if self.servers.iter().all(|server| server.name.as_deref() != Some(&name)) {
                // It was not in the list that was given.
                self.servers.push(Server { name: Some(name), ..Server::new(address) });
            }
        }
        self.servers.sort_by(|one, other| (&one.name, &one.address).cmp(&(&other.name, &other.address)));
        if spent.is_some_and(|spent| spent > Duration::ZERO) {
            self.history.push(self.total().accepted.round() as u64);
            let over = self.history.len().saturating_sub(HISTORY);
            self.history.drain(..over);
        }
    }

    /// Sums over the servers that answer.
    pub fn total(&self) -> Rates {
        let answering = self.servers.iter().filter(|server| server.answer.is_ok());
        answering.fold(Rates::default(), |sum, server| Rates {
            accepted: sum.accepted + server.rates.accepted,
            delivered: sum.delivered + server.rates.delivered,
            acknowledged: sum.acknowledged + server.rates.acknowledged,
            bytes: sum.bytes + server.rates.bytes,
        })
    }

    /// What is wrong, a sentence each.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for server in &self.servers {
            let name = server.name.as_deref().unwrap_or(&server.address);
            match &server.answer {
                Err(why) => problems.push(format!("{name} at {}: {why}", server.address)),
                Ok(status) => problems.extend(status.problems.iter().map(|problem| format!("{name} says: {problem}"))),
            }
        }
        problems
    }
}

impl Server {
    fn new(address: String) -> Self {
        let answer = Err("was not asked yet".to_owned());
        Self { address, name: None, answer, rates: Rates::default(), before: None }
    }

    fn take(&mut self, answer: Answer) {
        self.rates = Rates::default();
        if let Ok(status) = &answer {
            self.name = Some(status.server.clone());
            let now = &status.counts;
            // One that was started again counts from the beginning.
            if let Some(before) = self.before.replace(now.clone())
                && now.uptime_ms > before.uptime_ms
            {
                let seconds = (now.uptime_ms - before.uptime_ms) as f64 / 1000.0;
                let each = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
                self.rates = Rates {
                    accepted: each(now.accepted, before.accepted),
                    delivered: each(now.delivered, before.delivered),
                    acknowledged: each(now.acknowledged, before.acknowledged),
                    bytes: each(now.received_bytes + now.sent_bytes, before.received_bytes + before.sent_bytes),
                };
            }
        }
        self.answer = answer;
    }
}
