//! The hosts of a run: starting them, and taking them down in the ways that machines and processes go.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use restante::world::{BoxFuture, Disk, Host};

use super::{Runner, Verdict};
use crate::context::{HostIndex, RUNNER};
use crate::disk::Drive;
use crate::history::{Process, What};
use crate::network::SimNetwork;
use crate::plan::Fault;
use crate::random::stream;
use crate::scenario::{ClientSeat, Ending, OperatorSeat, ServerSeat, Signal};
use crate::trace::Event;
use crate::world::Scoped;

/// All hosts, servers first, in the plan's order.
#[derive(Debug, Default)]
pub(super) struct Hosts(Vec<OneHost>);

#[derive(Debug)]
pub(super) struct OneHost {
    pub(super) name: String,
    pub(super) index: HostIndex,
    /// A client has none.
    pub(super) drive: Option<Drive>,
    /// How many faults keep it down.
    pub(super) down: u32,
    /// How many faults hold its tasks.
    pub(super) paused: u32,
    /// Lives so far.
    life: Rc<Cell<u32>>,
    /// Its process is to start. Spares wait for it.
    begin: Signal,
    /// Whether its present life found that the cluster goes on without its disk.
    retired: Rc<RefCell<Signal>>,
    /// An operator wants it to leave, and once wanted so: then it may end by itself.
    pub(super) leaves: bool,
    pub(super) may_retire: bool,
    /// It belonged to the cluster before: it is told of all servers that there may be.
    rejoins: Rc<Cell<bool>>,
    /// How its code ended, if it did.
    pub(super) ended: Rc<RefCell<Option<Result<(), Ending>>>>,
    /// Tells its present life to stop in good order.
    shutdown: Rc<RefCell<Signal>>,
    /// How many faults want it stopped, and whether it is down for that.
    stops: u32,
    stopped: bool,
    /// When it starts again after its disk has failed it.
    pub(super) restart_at: Option<Duration>,
}

/// The operator's host.
pub(super) const OPERATOR: &str = "operator";

/// How a host goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The machine loses its power. If `silent`, nobody hears of it.
    PowerCut { silent: bool },
    /// The process is killed. Its machine closes its connections and keeps what it wrote.
    Killed,
}

impl Hosts {
    pub(super) fn find(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|host| host.name == name)
    }

    pub(super) fn at(&mut self, at: usize) -> &mut OneHost {
        &mut self.0[at]
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.0.iter().map(|host| host.name.clone()).collect()
    }

    pub(super) fn servers(&self) -> Vec<usize> {
        (0..self.0.len()).filter(|at| self.0[*at].drive.is_some()).collect()
    }

    /// A server that ended, or a client that failed.
    pub(super) fn ended_by_itself(&self) -> Option<String> {
        self.0.iter().find_map(|host| {
            let ended = host.ended.borrow();
            if host.shutdown.borrow().is_raised() && *ended == Some(Ok(())) {
                return None;
            }
            if host.has_retired() && !host.may_retire {
                return Some(format!("{} found that its disk counts no more, and nobody removed it", host.name));
            }
            match (ended.as_ref()?, &host.drive) {
                (Err(error), _) => Some(format!("{} ended: {error}", host.name)),
                (Ok(()), Some(_)) => Some(format!("{} ended without having been told to", host.name)),
                (Ok(()), None) => None,
            }
        })
    }

    /// Whether all servers of these run that are to.
    pub(super) fn servers_missing(&self, healthy: &[String]) -> Result<(), String> {
        let runs = |host: &OneHost| host.down == 0 && host.ended.borrow().is_none();
        let is_to_run = |host: &OneHost| healthy.contains(&host.name) && host.begin.is_raised() && !host.has_retired();
        match self.0.iter().find(|host| is_to_run(host) && !runs(host)) {
            Some(down) => Err(format!("{} is down", down.name)),
            None => Ok(()),
        }
    }

    pub(super) fn clients_missing(&self) -> Result<(), String> {
        let open = self.0.iter().filter(|host| host.drive.is_none() && host.ended.borrow().is_none());
        let names: Vec<&str> = open.map(|host| host.name.as_str()).collect();
        if names.is_empty() { Ok(()) } else { Err(format!("{} have not closed", names.join(", "))) }
    }
}

impl OneHost {
    pub(super) fn has_retired(&self) -> bool {
        self.retired.borrow().is_raised()
    }

    /// The next life joins the cluster anew.
    pub(super) fn rejoins(&mut self) {
        self.rejoins.set(true);
    }
}

impl Runner<'_> {
    /// The process of a spare starts.
    pub(super) fn begin_server(&mut self, at: usize) {
        let host = self.hosts.at(at);
        let begin = host.begin.clone();
        let entered = self.context.enter(host.index);
        begin.raise();
        drop(entered);
    }

    pub(super) fn start_all(&mut self) -> Result<(), Verdict> {
        let clients = self.plan.client_names();
        let servers = self.plan.server_hosts();
        let mut names: Vec<&String> = servers.iter().chain(&clients).collect();
        names.sort_unstable();
        names.dedup();
        let unique = names.len() == servers.len() + clients.len() && !servers.iter().any(|name| name == OPERATOR);
        if names.len() > 200 || !unique {
            return Err(Verdict::Harness("a plan has at most 200 hosts, each with a name of its own".to_owned()));
        }
        for name in servers {
            let sync = self.plan.sync.start().0..=self.plan.sync.end().0;
            let drive = Drive::new(&name, self.plan.seed, sync);
            self.start_new(name, Some(drive));
        }
        clients.into_iter().for_each(|name| self.start_new(name, None));
        if self.plan.faults.iter().any(|interval| matches!(interval.fault, Fault::Membership(_))) {
            self.start_new(OPERATOR.to_owned(), None);
        }
        Ok(())
    }

    fn start_new(&mut self, name: String, drive: Option<Drive>) {
        let host = OneHost {
            index: self.context.add_host(&name),
            name: name.clone(),
            drive: drive.clone(),
            down: 0,
            paused: 0,
            life: Rc::default(),
            begin: Signal::default(),
            retired: Rc::default(),
            leaves: self.plan.spares.contains(&name),
            may_retire: false,
            rejoins: Rc::new(Cell::new(self.plan.spares.contains(&name))),
            ended: Rc::default(),
            shutdown: Rc::default(),
            stops: 0,
            stopped: false,
            restart_at: None,
        };
        let (index, life, ended, signal) = (host.index, host.life.clone(), host.ended.clone(), host.shutdown.clone());
        let (begin, retirement, rejoins) = (host.begin.clone(), host.retired.clone(), host.rejoins.clone());
        if !self.plan.spares.contains(&name) {
            begin.raise();
        }
        let (scenario, context, orders) = (self.scenario, self.context, self.orders.clone());
        let (plan, journal, stages) = (self.plan.clone(), self.journal.clone(), self.stages.clone());
        self.sim.host(name.clone(), move || {
            life.set(life.get() + 1);
            ended.replace(None);
            context.forget_observed(index);
            let shutdown = Signal::default();
            signal.replace(shutdown.clone());
            let retired = Signal::default();
            retirement.replace(retired.clone());
            context.trace_as(&name, &Event::new("host.start", "", &[("life", u64::from(life.get()))]));
            let disk = drive.as_ref().map(|drive| Arc::new(drive.attach()) as Arc<dyn Disk>);
            let host = Host { network: Arc::new(SimNetwork), disk };
            let is_server = host.disk.is_some();
            // Whatever the scenario does right away is done as this host, like everything after.
            let entered = context.enter(index);
            let software = if is_server {
                let cluster = if rejoins.get() { plan.server_hosts() } else { plan.servers.clone() };
                scenario.server(ServerSeat {
                    name: name.clone(),
                    life: life.get(),
                    host,
                    shutdown,
                    cluster,
                    begin: begin.clone(),
                    retired,
                    plan: plan.clone(),
                })
            } else if name == OPERATOR {
                let life = scenario.operator(OperatorSeat {
                    process: Process { client: name.clone(), life: life.get() },
                    host,
                    plan: plan.clone(),
                    orders: orders.clone(),
                    journal: journal.clone(),
                    stages: stages.clone(),
                });
                Box::pin(async { life.await.map_err(Ending::Other) }) as BoxFuture<'static, Result<(), Ending>>
            } else {
                let life = scenario.client(ClientSeat {
                    process: Process { client: name.clone(), life: life.get() },
                    host,
                    plan: plan.clone(),
                    journal: journal.clone(),
                    random: stream(plan.seed, &format!("workload of {name}, life {}", life.get())),
                    stages: stages.clone(),
                });
                Box::pin(async { life.await.map_err(Ending::Other) })
            };
            drop(entered);
            let ended = ended.clone();
            Scoped::new(index, async move {
                ended.replace(Some(software.await));
                Ok(())
            })
        });
        self.hosts.0.push(host);
    }

    /// Takes a host down, if it is up.
    pub(super) fn take_down(&mut self, at: usize, end: End) {
        let host = self.hosts.at(at);
        host.down += 1;
        if host.down > 1 {
            // It is down already. Without power, it also loses what it had kept when it was only killed.
            if let (End::PowerCut { .. }, Some(drive)) = (end, &host.drive) {
                drive.power_cut();
            }
            return;
        }
        let (name, index, drive, life) = (host.name.clone(), host.index, host.drive.clone(), host.life.get());
        assert_eq!(self.context.current(), RUNNER, "faults happen between steps");
        let kind = if end == End::Killed { "host.killed" } else { "host.power_cut" };
        self.context.trace_as(&name, &Event::new(kind, "", &[("life", u64::from(life))]));
        match &drive {
            // Access ends first: what destructors still write goes nowhere.
            Some(drive) if end == End::Killed => drive.process_died(),
            Some(drive) => drive.power_cut(),
            None => self.journal.write(&Process { client: name.clone(), life }, What::Died),
        }
        if end == (End::PowerCut { silent: true }) {
            // turmoil closes a crashed host's connections, which a machine without power does not.
            self.isolate(&name);
            self.sim.crash(name);
            self.restore_links();
        } else {
            self.sim.crash(name);
        }
        self.context.revive(index);
    }

    /// One fault less keeps a host down; the last one lets it start.
    pub(super) fn bring_up(&mut self, at: usize) {
        let host = self.hosts.at(at);
        assert!(host.down > 0, "{} is not down", host.name);
        host.down -= 1;
        if host.down == 0 {
            let name = host.name.clone();
            self.sim.bounce(name);
        }
    }

    /// Tells a server to stop in good order. A client is not told: it stops at the end of the run.
    pub(super) fn tell_to_stop(&mut self, at: usize) {
        let host = self.hosts.at(at);
        host.stops += 1;
        if host.drive.is_some() {
            let signal = host.shutdown.borrow().clone();
            let entered = self.context.enter(host.index);
            signal.raise();
            drop(entered);
        }
    }

    /// Its process goes with a server that has stopped as it was told.
    pub(super) fn clear_up_after_stops(&mut self) {
        for at in self.hosts.servers() {
            let host = self.hosts.at(at);
            let ended = *host.ended.borrow() == Some(Ok(()));
            if ended && host.down == 0 && host.shutdown.borrow().is_raised() {
                if host.stops > 0 {
                    host.stopped = true;
                    self.take_down(at, End::Killed);
                } else {
                    // It took longer than it was to stay away.
                    self.take_down(at, End::Killed);
                    self.bring_up(at);
                }
            }
        }
    }

    /// A server that has stopped starts again; one that has not yet starts as soon as it has.
    pub(super) fn stopped_long_enough(&mut self, at: usize) {
        let host = self.hosts.at(at);
        host.stops -= 1;
        if host.stops == 0 && std::mem::take(&mut host.stopped) {
            self.bring_up(at);
        }
    }

    pub(super) fn pause(&mut self, at: usize) {
        let host = self.hosts.at(at);
        host.paused += 1;
        let index = host.index;
        self.context.pause(index);
    }

    pub(super) fn resume(&mut self, at: usize) {
        let host = self.hosts.at(at);
        host.paused -= 1;
        if host.paused == 0 {
            let index = host.index;
            self.context.resume(index);
        }
    }
}
