//! What runs on the hosts: the runner knows only this.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Poll, Waker};

use parking_lot::Mutex;
use restante::world::{BoxFuture, Host};

use crate::history::{Journal, Process};
use crate::plan::Plan;
use crate::random::Stream;
use crate::record::{Interpreter, Sizes};

/// What runs on the hosts of a run.
pub trait Scenario {
    /// The plan that a seed grows into, as far as this scenario can bear it.
    fn plan_of(&self, seed: u64) -> Plan {
        Plan::from_seed(seed)
    }

    /// One life of a server. It goes on until the runner ends it. Ending by itself fails the run, unless its disk gave it
    /// an error and it ends for that: then it is started again, as a supervisor would.
    fn server(&self, seat: ServerSeat) -> BoxFuture<'static, Result<(), Ending>>;

    /// One life of a client. It sends what the plan says ([`crate::history::What::SentAll`]), reads what comes, and
    /// ends at [`Stage::Stop`].
    fn client(&self, seat: ClientSeat) -> BoxFuture<'static, Result<(), String>>;

    /// What an event that a server's code told of ([`restante::world::World::observe`]) claims. Claims about the same
    /// thing must be the same, whoever makes them and whenever.
    fn claim(&self, kind: &str, detail: &str) -> Option<Claim> {
        let _ = (kind, detail);
        None
    }

    /// Which server leads, as far as the servers told. Faults may ask for it by that name.
    fn leader(&self, view: &View) -> Option<String> {
        let _ = view;
        None
    }

    /// Who knows what the frames between these servers and clients say: for showing a run.
    fn interpreter(&self) -> Box<dyn Interpreter> {
        Box::new(Sizes)
    }

    /// Whether the servers are where they should be when nothing happens any more (equal digests, one leader).
    ///
    /// # Errors
    /// What is still missing.
    fn settled(&self, view: &View) -> Result<(), String> {
        let _ = view;
        Ok(())
    }
}

/// Why a server ended by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// Its disk failed it.
    Disk(String),
    /// Something else.
    Other(String),
}

impl From<String> for Ending {
    fn from(text: String) -> Self {
        Self::Other(text)
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Disk(text) | Self::Other(text)) = self;
        f.write_str(text)
    }
}

/// What a server says about something that others may speak of, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What it is about.
    pub about: String,
    /// What is said of it.
    pub is: String,
}

/// What a server is given for one life.
#[derive(Debug)]
pub struct ServerSeat {
    /// Its name, which is its host's name, too.
    pub name: String,
    /// Which of its lives, counted from 1.
    pub life: u32,
    /// Network and disk.
    pub host: Host,
    /// Raised when the server is to stop in good order.
    pub shutdown: Signal,
    /// The run's plan.
    pub plan: Arc<Plan>,
}

/// What a client is given for one life.
#[derive(Debug)]
pub struct ClientSeat {
    /// Its name and which of its lives.
    pub process: Process,
    /// The network.
    pub host: Host,
    /// The run's plan.
    pub plan: Arc<Plan>,
    /// Where it writes what it sees.
    pub journal: Journal,
    /// What its workload draws from: recipients, sizes, waits.
    pub random: Stream,
    /// Where the run stands.
    pub stages: Stages,
}

/// What can be seen of the servers from outside.
#[derive(Debug)]
pub struct View {
    /// The latest event that each host's code told of ([`restante::world::World::observe`]), by host and kind.
    pub observed: BTreeMap<(String, &'static str), String>,
    /// The run's plan.
    pub plan: Arc<Plan>,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stage {
    /// Faults may happen.
    #[default]
    Faults,
    /// They have ended: what was accepted must arrive, and fresh sends must be accepted.
    Calm,
    /// Everything has arrived: clients close what they have open and end.
    Stop,
}

/// Something that happens once.
#[derive(Debug, Clone, Default)]
pub struct Signal(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Signal {
    pub(crate) fn raise(&self) {
        let waiting = {
            let mut state = self.0.lock();
            state.0 = true;
            std::mem::take(&mut state.1)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Whether it has been raised.
    pub fn is_raised(&self) -> bool {
        self.0.lock().0
    }

    /// Waits until it is raised.
    pub async fn raised(&self) {
        poll_fn(|task| {
            let mut state = self.0.lock();
            if state.0 {
                return Poll::Ready(());
            }
            if !state.1.iter().any(|waker| waker.will_wake(task.waker())) {
                state.1.push(task.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// Tells clients where the run stands.
#[derive(Debug, Clone, Default)]
pub struct Stages {
    calm: Signal,
    stop: Signal,
}

impl Stages {
    pub(crate) fn advance(&self, stage: Stage) {
        if stage >= Stage::Calm {
            self.calm.raise();
        }
        if stage >= Stage::Stop {
            self.stop.raise();
        }
    }

    /// Whether the run has come to `stage`.
    pub fn have_reached(&self, stage: Stage) -> bool {
        match stage {
            Stage::Faults => true,
            Stage::Calm => self.calm.is_raised(),
            Stage::Stop => self.stop.is_raised(),
        }
    }

    /// Waits until the run has come to `stage`.
    pub async fn reached(&self, stage: Stage) {
        match stage {
            Stage::Faults => {}
            Stage::Calm => self.calm.raised().await,
            Stage::Stop => self.stop.raised().await,
        }
    }
}
