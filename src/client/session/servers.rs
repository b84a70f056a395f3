//! Which servers there are, which one is next, and how long to wait before it is tried.

use std::time::Duration;

use rand::{Rng, rngs::StdRng};

use crate::wire::{Name, ServerAddress};

/// One server that may be tried.
#[derive(Debug, Clone)]
struct Candidate {
    address: String,
    /// What it called itself, or what another server calls it.
    name: Option<Name>,
    /// From the settings: it stays, whatever the servers say.
    configured: bool,
    /// In the last list that a server told.
    told: bool,
}

/// The servers, in the order in which they are tried.
#[derive(Debug)]
pub(super) struct Servers {
    candidates: Vec<Candidate>,
    current: usize,
    /// Attempts since the client was last attached for good.
    attempts: u32,
    backoff_min: Duration,
    backoff_max: Duration,
}

/// No cluster has more servers; whoever lists more gets no more of our memory.
const LEARNED_MAX: usize = crate::limits::SERVERS_MAX;

impl Servers {
    pub(super) fn new(addresses: &[String], backoff_min: Duration, backoff_max: Duration) -> Self {
        let mut candidates: Vec<Candidate> = Vec::new();
        for address in addresses {
            if !candidates.iter().any(|c| c.address == *address) {
                candidates.push(Candidate { address: address.clone(), name: None, configured: true, told: false });
            }
        }
        Self { candidates, current: 0, attempts: 0, backoff_min, backoff_max }
    }

    pub(super) fn address(&self) -> &str {
        &self.candidates[self.current].address
    }

    /// All addresses, for a message to a person.
    pub(super) fn list(&self) -> String {
        self.candidates.iter().map(|c| c.address.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// The server at hand said its name and who the others are. Nobody is forgotten for that: a server that has only just
    /// started, or was left behind, tells an old list. What it tells counts for good once it has served for a while
    /// ([`Servers::settled`]).
    pub(super) fn learn(&mut self, name: &Name, servers: &[ServerAddress]) {
        self.candidates[self.current].name = Some(name.clone());
        self.candidates.iter_mut().for_each(|c| c.told = false);
        for server in servers.iter().take(LEARNED_MAX) {
            let known = |c: &Candidate| c.address == server.address || c.name.as_ref() == Some(&server.name);
            match self.candidates.iter_mut().find(|c| known(c)) {
                Some(known) => {
                    known.name = Some(server.name.clone());
                    known.told = true;
                    if !known.configured {
                        known.address.clone_from(&server.address);
                    }
                }
                None => self.candidates.push(Candidate {
                    address: server.address.clone(),
                    name: Some(server.name.clone()),
                    configured: false,
                    told: true,
                }),
            }
        }
        if self.candidates.iter().filter(|c| !c.configured).count() > LEARNED_MAX {
            self.forget_untold();
        }
    }

    /// Forgets whom neither the settings nor the last list names. The server at hand stays.
    fn forget_untold(&mut self) {
        let here = self.candidates[self.current].address.clone();
        self.candidates.retain(|c| c.configured || c.told || c.address == here);
        self.current = self.candidates.iter().position(|c| c.address == here).unwrap_or(0);
    }

    /// Makes the server of that name the one to try next.
    pub(super) fn choose(&mut self, name: &Name) -> bool {
        match self.candidates.iter().position(|c| c.name.as_ref() == Some(name)) {
            Some(found) => {
                self.current = found;
                true
            }
            None => false,
        }
    }

    /// The attachment held for a while: the next loss starts from the shortest pause again, and who is not in the list of
    /// that server belongs to the cluster no more.
    pub(super) fn settled(&mut self) {
        self.attempts = 0;
        self.forget_untold();
    }

    /// Goes on to the next server; returns how long to wait before it is tried. The pause doubles each time all were
    /// tried, and up to half of it is left to chance so that a server's clients do not all come at once.
    pub(super) fn advance(&mut self, rng: &mut StdRng) -> Duration {
        self.current = (self.current + 1) % self.candidates.len();
        let rounds = (self.attempts / self.candidates.len() as u32).min(16);
        self.attempts = self.attempts.saturating_add(1);
        let pause = self.backoff_min.saturating_mul(1 << rounds).min(self.backoff_max);
        let half = pause / 2;
        half + Duration::from_nanos(rng.next_u64() % (half.as_nanos() as u64 + 1))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    fn servers() -> Servers {
        let addresses = ["h:1".to_owned(), "h:2".to_owned(), "h:1".to_owned()];
        Servers::new(&addresses, Duration::from_millis(10), Duration::from_millis(500))
    }

    fn named(name: &str, address: &str) -> ServerAddress {
        ServerAddress { name: Name::new(name).unwrap(), address: address.into() }
    }

    #[test]
    fn the_pause_doubles_per_round_up_to_its_bound() {
        let (mut servers, mut rng) = (servers(), StdRng::from_seed([7; 32]));
        let pauses: Vec<Duration> = (0..40).map(|_| servers.advance(&mut rng)).collect();
        let within = |d: Duration, ms| d >= Duration::from_millis(ms) / 2 && d <= Duration::from_millis(ms);
        assert!(within(pauses[0], 10) && within(pauses[1], 10), "{pauses:?}");
        assert!(within(pauses[2], 20) && within(pauses[3], 20), "{pauses:?}");
        assert!(within(pauses[39], 500), "{pauses:?}");
        servers.settled();
        assert!(within(servers.advance(&mut rng), 10));
    }

    #[test]
    fn learned_servers_join_the_round_once_and_follow_their_addresses() {
        let (mut servers, mut rng) = (servers(), StdRng::from_seed([7; 32]));
        let a = Name::new("a").unwrap();
        servers.learn(&a, &[named("a", "10.0.0.1:1"), named("b", "h:2"), named("c", "h:3")]);
        assert_eq!(servers.list(), "h:1, h:2, h:3", "a is known by the address in the settings");
        servers.learn(&a, &[named("a", "h:1"), named("b", "h:2"), named("c", "h:4")]);
        assert_eq!(servers.list(), "h:1, h:2, h:4");
        let order: Vec<String> = (0..4)
            .map(|_| {
                servers.advance(&mut rng);
                servers.address().to_owned()
            })
            .collect();
        assert_eq!(order, ["h:2", "h:4", "h:1", "h:2"]);
        assert!(servers.choose(&Name::new("c").unwrap()) && servers.address() == "h:4");
        assert!(!servers.choose(&Name::new("d").unwrap()));
    }
    #[test]
    fn an_old_list_makes_it_forget_nobody_until_that_server_has_served_for_a_while() {
        let mut servers = servers();
        let [a, v] = ["a", "v"].map(|name| Name::new(name).unwrap());
        servers.learn(&a, &[named("a", "h:1"), named("v", "h:9")]);
        // It was removed, starts again, and tells what stands on its command line.
        servers.learn(&a, &[named("a", "h:1")]);
        assert_eq!(servers.list(), "h:1, h:2, h:9");
        assert!(servers.choose(&v));
        servers.learn(&v, &[named("v", "h:9"), named("w", "h:8")]);
        assert_eq!(servers.list(), "h:1, h:2, h:9, h:8");
        assert!(servers.choose(&Name::new("w").unwrap()));
        servers.learn(&Name::new("w").unwrap(), &[named("w", "h:8")]);
        servers.settled();
        assert_eq!((servers.list().as_str(), servers.address()), ("h:1, h:2, h:8", "h:8"));
    }
}
