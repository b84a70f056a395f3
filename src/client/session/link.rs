//! The connection: greeting, silence, and moving to another server.

use std::time::Duration;

use bytes::BytesMut;

use super::servers::Servers;
use super::{Error, Output, Session};
use crate::client::ClientSettings;
use crate::wire::client::{REQUEST_KIND, Request};
use crate::wire::{CLIENT_MAGIC, CLIENT_VERSION, ClusterId, Name, Refusal, ServerAddress, frame};

#[derive(Debug)]
enum Phase {
    /// No connection; the next attempt is made then.
    Waiting { at: Duration },
    /// The driver opens one.
    Connecting { deadline: Duration },
    /// It is open, Hello is sent, Welcome is awaited.
    Greeting { deadline: Duration },
    /// Attached.
    Up { since: Duration, server: ServerAddress },
    /// Nothing more happens.
    Over,
}

/// The connection's state.
#[derive(Debug)]
pub(super) struct Link {
    phase: Phase,
    pub(super) servers: Servers,
    cluster: Option<ClusterId>,
    heard: Duration,
    spoke: Duration,
    pinged: Duration,
    /// Pings since anything was heard.
    unanswered: u32,
    pings: u64,
    /// Why the last connection or attempt ended.
    pub(super) cause: String,
    /// The home was chosen once: from then on the client stays where it is.
    home_chosen: bool,
}

/// An attachment that held for so long was a good one: the next loss starts from the shortest pause again.
const SETTLED: Duration = Duration::from_secs(1);

impl Link {
    pub(super) fn new(settings: &ClientSettings) -> Self {
        Self {
            phase: Phase::Waiting { at: Duration::ZERO },
            servers: Servers::new(&settings.servers, settings.backoff_min, settings.backoff_max),
            cluster: settings.cluster,
            heard: Duration::ZERO,
            spoke: Duration::ZERO,
            pinged: Duration::ZERO,
            unanswered: 0,
            pings: 0,
            cause: "no server was tried yet".to_owned(),
            home_chosen: settings.home.is_none(),
        }
    }

    pub(super) fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up { .. })
    }

    /// Whether frames may be exchanged.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Up { .. } | Phase::Greeting { .. })
    }

    pub(super) fn server(&self) -> Option<&ServerAddress> {
        match &self.phase {
            Phase::Up { server, .. } => Some(server),
            _ => None,
        }
    }

    /// The name of the server that is attached to; replies are looked at only while there is one.
    pub(super) fn server_name(&self) -> &Name {
        &self.server().expect("requests are put and answered only while attached").name
    }

    pub(super) fn heard(&mut self, now: Duration) {
        self.heard = now;
        self.unanswered = 0;
    }

    pub(super) fn spoke(&mut self, now: Duration) {
        self.spoke = now;
    }

    pub(super) fn over(&mut self) {
        self.phase = Phase::Over;
    }

    pub(super) fn goodbye(&self, control: &mut BytesMut) {
        frame::put(control, REQUEST_KIND, &Request::Goodbye, &[]);
    }

    /// When the next ping is due: a third of the silence after the last sign of life in either direction.
    fn ping_due(&self, settings: &ClientSettings) -> Duration {
        self.heard.min(self.spoke).max(self.pinged) + settings.silence / 3
    }

    pub(super) fn next_tick(&self, settings: &ClientSettings) -> Option<Duration> {
        match self.phase {
            Phase::Waiting { at } => Some(at),
            Phase::Connecting { deadline } | Phase::Greeting { deadline } => Some(deadline),
            Phase::Up { .. } => Some(self.ping_due(settings)),
            Phase::Over => None,
        }
    }
}

impl Session {
    /// The connection that was asked for is open.
    pub(crate) fn connected(&mut self, now: Duration) {
        let Phase::Connecting { deadline } = self.link.phase else { return };
        self.link.phase = Phase::Greeting { deadline };
        self.link.heard(now);
        self.control.clear();
        self.control.extend_from_slice(&CLIENT_MAGIC);
        let hello =
            Request::Hello { version: CLIENT_VERSION, cluster: self.link.cluster, agent: self.settings.agent.clone() };
        frame::put(&mut self.control, REQUEST_KIND, &hello, &[]);
    }

    /// The connection is gone, or could not be opened.
    pub(crate) fn disconnected(&mut self, now: Duration, cause: impl Into<String>) {
        if !matches!(self.link.phase, Phase::Over | Phase::Waiting { .. }) {
            self.next_server(now, cause.into());
        }
    }

    /// This connection is of no use any more: on to the next server.
    pub(super) fn drop_link(&mut self, now: Duration, cause: String) {
        if !matches!(self.link.phase, Phase::Over | Phase::Waiting { .. }) {
            self.outputs.push_back(Output::Disconnect);
            self.next_server(now, cause);
        }
    }

    fn next_server(&mut self, now: Duration, cause: String) {
        self.link.cause = format!("{}: {cause}", self.link.servers.address());
        if let Phase::Up { since, .. } = self.link.phase {
            if now.saturating_sub(since) >= SETTLED {
                self.link.servers.settled();
            }
            self.outputs.push_back(Output::Attached(None));
        }
        let at = now + self.link.servers.advance(&mut self.rng);
        self.link.phase = Phase::Waiting { at };
        self.forget_link();
    }

    /// The server said its name, its cluster and who the others are.
    pub(super) fn welcome(
        &mut self,
        now: Duration,
        cluster: Option<ClusterId>,
        server: Name,
        servers: &[ServerAddress],
    ) -> Result<(), &'static str> {
        let Phase::Greeting { .. } = self.link.phase else { return Err("it said Welcome twice") };
        let address = self.link.servers.address().to_owned();
        // A server that belongs to no cluster yet names none.
        if let Some(cluster) = cluster {
            let expected = *self.link.cluster.get_or_insert(cluster);
            if expected != cluster {
                self.outputs.push_back(Output::Disconnect);
                self.end(Error::WrongCluster { address, actual: cluster, expected });
                return Ok(());
            }
        }
        self.link.servers.learn(&server, servers);
        if let Some(home) = self.settings.home.clone().filter(|_| !self.link.home_chosen) {
            self.link.home_chosen = true;
            if home != server {
                self.outputs.push_back(Output::Disconnect);
                if self.link.servers.choose(&home) {
                    self.link.phase = Phase::Waiting { at: now };
                    self.control.clear();
                } else {
                    let names = servers.iter().map(|s| s.name.as_str()).collect::<Vec<_>>().join(", ");
                    self.end(Error::NoSuchHome { home, servers: names });
                }
                return Ok(());
            }
        }
        let server = ServerAddress { name: server, address };
        self.outputs.push_back(Output::Attached(Some(server.clone())));
        self.link.phase = Phase::Up { since: now, server };
        self.link.spoke = now;
        self.link.pinged = now;
        self.resend_all();
        Ok(())
    }

    pub(super) fn connection_refused(&mut self, now: Duration, refusal: Refusal) {
        match refusal {
            Refusal::WrongCluster { actual, expected } => {
                let address = self.link.servers.address().to_owned();
                self.outputs.push_back(Output::Disconnect);
                self.end(Error::WrongCluster { address, actual, expected });
            }
            refusal => self.drop_link(now, refusal.to_string()),
        }
    }

    pub(super) fn tick_link(&mut self, now: Duration) {
        match self.link.phase {
            Phase::Waiting { at } if at <= now => {
                self.link.phase = Phase::Connecting { deadline: now + self.settings.connect_timeout };
                self.outputs.push_back(Output::Connect { address: self.link.servers.address().to_owned() });
            }
            Phase::Connecting { deadline } if deadline <= now => {
                self.drop_link(now, format!("no connection within {:?}", self.settings.connect_timeout));
            }
            Phase::Greeting { deadline } if deadline <= now => {
                self.drop_link(now, format!("it said nothing within {:?}", self.settings.connect_timeout));
            }
            Phase::Up { .. } if self.link.ping_due(&self.settings) <= now => {
                // A process that was itself held up finds old times here; two pings, with time to answer each, tell
                // that from a server that is silent.
                let silent = now.saturating_sub(self.link.heard) >= self.settings.silence;
                if silent && self.link.unanswered >= 2 {
                    return self.drop_link(now, format!("it was silent for {:?}", self.settings.silence));
                }
                self.link.pings += 1;
                self.link.unanswered += 1;
                self.link.pinged = now;
                frame::put(&mut self.control, REQUEST_KIND, &Request::Ping(self.link.pings), &[]);
            }
            _ => {}
        }
    }
}
