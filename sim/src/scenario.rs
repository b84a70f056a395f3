//! What runs on the hosts: the runner knows only this.

use std::collections::{BTreeMap, VecDeque};
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

    /// One life of a client. It sends what the plan says, reads what comes, tells when it has nothing more to send in a
    /// stage ([`crate::history::What::Rested`]), and ends at [`Stage::Stop`].
    fn client(&self, seat: ClientSeat) -> BoxFuture<'static, Result<(), String>>;

    /// The operator: carries out what the plan orders, and ends at [`Stage::Stop`]. There is one if a plan changes the
    /// membership.
    fn operator(&self, seat: OperatorSeat) -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async move {
            seat.stages.reached(Stage::Stop).await;
            Ok(())
        })
    }

    /// Whether the servers agree through Raft, so that a majority of them serves whatever the others do: only then is
    /// there a core, a bound on how long clients may wait, and something to judge by Raft's rules.
    fn serves_with_a_majority(&self) -> bool {
        true
    }

    /// Who knows what the frames between these servers and clients say: for showing a run.
    fn interpreter(&self) -> Box<dyn Interpreter> {
        Box::new(Sizes)
    }

    /// Which server leads, as far as the servers told. Faults may ask for it by that name.
    fn leader(&self, view: &View) -> Option<String> {
        let _ = view;
        None
    }

    /// Whether a server is to belong to the cluster, as whoever knows most about it says.
    fn lists(&self, view: &View, server: &str) -> bool {
        let _ = (view, server);
        false
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
    /// The servers that it is told of, itself among them.
    pub cluster: Vec<String>,
    /// Raised when its process is to start. A spare waits for that.
    pub begin: Signal,
    /// To be raised when the cluster goes on without this server's disk, so that its process has ended.
    pub retired: Signal,
    /// The run's plan.
    pub plan: Arc<Plan>,
}

/// What the operator is given.
#[derive(Debug, Clone)]
pub struct OperatorSeat {
    /// Under which name it writes.
    pub process: Process,
    /// The network.
    pub host: Host,
    /// The run's plan.
    pub plan: Arc<Plan>,
    /// What it is told to do.
    pub orders: Orders,
    /// Where it writes what it sees.
    pub journal: Journal,
    /// Where the run stands.
    pub stages: Stages,
}

/// Something that the operator is to bring about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// What.
    pub wish: Wish,
    /// When to give up, from the beginning of the run.
    pub until: std::time::Duration,
}

/// What an operator may want.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// That the server belongs to the cluster.
    Add(String),
    /// That it does not.
    Remove(String),
    /// That it leads.
    Transfer(String),
    /// That it serves nobody and does not lead.
    Drain(String),
    /// That it serves again.
    Undrain(String),
}

impl Wish {
    /// Which server it is about.
    pub fn server(&self) -> &str {
        match self {
            Self::Add(server)
            | Self::Remove(server)
            | Self::Transfer(server)
            | Self::Drain(server)
            | Self::Undrain(server) => server,
        }
    }
}

impl std::fmt::Display for Wish {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = match self {
            Self::Add(_) => "add",
            Self::Remove(_) => "remove",
            Self::Transfer(_) => "transfer",
            Self::Drain(_) => "drain",
            Self::Undrain(_) => "undrain",
        };
        write!(f, "{word} {}", self.server())
    }
}

/// Orders on their way to the operator.
#[derive(Debug, Clone, Default)]
pub struct Orders(Arc<Mutex<(VecDeque<Order>, Option<Waker>)>>);

impl Orders {
    pub(crate) fn give(&self, order: Order) {
        let waker = {
            let mut orders = self.0.lock();
            orders.0.push_back(order);
            orders.1.take()
        };
        waker.into_iter().for_each(Waker::wake);
    }

    /// The next one.
    pub async fn next(&self) -> Order {
        poll_fn(|task| {
            let mut orders = self.0.lock();
            match orders.0.pop_front() {
                Some(order) => Poll::Ready(order),
                None => {
                    orders.1 = Some(task.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
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
    /// The servers that are to be where they should be.
    pub healthy: Vec<String>,
}

/// Where a run stands. A run whose plan has no core goes from the faults to healing at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Stage {
    /// Faults may happen.
    #[default]
    Faults,
    /// Those of the plan's core have ended, the others last on. Nobody sends: what was accepted must arrive, and the
    /// core's servers must become equal.
    Core,
    /// The same, and fresh sends must be accepted and arrive.
    CoreService,
    /// All faults have ended. Nobody sends: what was accepted must arrive, and all servers must become equal.
    Heal,
    /// The same, and fresh sends must be accepted and arrive.
    Calm,
    /// Everything has arrived: clients close what they have open and end.
    Stop,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 6] = [Self::Faults, Self::Core, Self::CoreService, Self::Heal, Self::Calm, Self::Stop];

    /// Whether fresh sends are due in it.
    pub fn is_service(self) -> bool {
        matches!(self, Self::CoreService | Self::Calm)
    }
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
pub struct Stages([Signal; Stage::ALL.len()]);

impl Stages {
    pub(crate) fn advance(&self, stage: Stage) {
        for (signal, at) in self.0.iter().zip(Stage::ALL) {
            if at <= stage && !signal.is_raised() {
                signal.raise();
            }
        }
    }

    /// Where the run stands.
    pub fn current(&self) -> Stage {
        let come = |stage: &Stage| self.have_reached(*stage);
        Stage::ALL.into_iter().rev().find(come).unwrap_or_default()
    }

    /// Whether the run has come to `stage`.
    pub fn have_reached(&self, stage: Stage) -> bool {
        stage == Stage::Faults || self.0[stage as usize].is_raised()
    }

    /// Waits until the run has come to `stage`.
    pub async fn reached(&self, stage: Stage) {
        if stage != Stage::Faults {
            self.0[stage as usize].raised().await;
        }
    }
}
