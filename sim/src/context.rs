//! The state of the run that this thread is in.
//!
//! [`restante::world::World`] is made of static functions, so what they stand on must be found without an argument:
//! it hangs on the thread. The runner installs it and takes it away at the end, so runs in one process do not
//! disturb each other, whether one after another or on several threads.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Duration;

use rand::RngExt;

use crate::network::Wire;
use crate::random::{Stream, stream};
use crate::scenario::Signal;
use crate::trace::{Event, Trace};

/// A host's place in [`Context`]; [`RUNNER`] is the runner itself.
pub(crate) type HostIndex = usize;

/// Who acts between the steps: faults, starts, checks.
pub(crate) const RUNNER: HostIndex = 0;

/// A task's panic. tokio keeps it for whoever joins the task, and mostly nobody does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Panicked {
    /// The host whose task it was.
    pub host: String,
    /// The panic's message.
    pub message: String,
}

#[derive(Debug)]
struct HostState {
    name: Rc<str>,
    /// What the host's own code draws.
    draws: Stream,
    /// How long its blocking work waits.
    delays: Stream,
    gate: Gate,
    clock: Clock,
    /// A bit of each snapshot that it receives changes on the way, and what says which one.
    flips: Option<Stream>,
    /// Raised, and replaced, when its disk is less slow than it was.
    disk_is_faster: Signal,
}

/// How long the disk operations of a piece of blocking work took.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    /// All of it.
    pub(crate) all: Duration,
    /// So much of it since syncs are slow for now.
    pub(crate) slowed: Duration,
    /// A sync stood still until a moment that is fixed.
    pub(crate) stood_still: bool,
}

/// How a host's clocks differ from the simulation's.
#[derive(Debug, Clone, Copy)]
struct Clock {
    /// The wall clock's difference.
    ahead_ms: i64,
    /// How fast the host's time passes.
    rate: f64,
    /// When that was set, and how much the host's time had gained until then, in seconds.
    since: Duration,
    gained: f64,
}

impl Clock {
    const RIGHT: Self = Self { ahead_ms: 0, rate: 1.0, since: Duration::ZERO, gained: 0.0 };

    /// How much the host's time has gained at `now`, in seconds.
    fn gained_at(&self, now: Duration) -> f64 {
        self.gained + now.saturating_sub(self.since).as_secs_f64() * (self.rate - 1.0)
    }
}

/// Holds a host's tasks: turmoil itself cannot pause a host.
#[derive(Debug, Default)]
struct Gate {
    /// The process stands still and will go on.
    paused: bool,
    /// The machine lost its power in the middle of this step; the runner clears up after it.
    dead: bool,
    /// Counts closings, so that a task leaves its waker once for each.
    closing: u64,
    waiting: Vec<Waker>,
}

impl Gate {
    fn is_closed(&self) -> bool {
        self.paused || self.dead
    }
}

#[derive(Debug)]
pub(crate) struct Context {
    seed: u64,
    epoch_ms: u64,
    /// How long blocking work waits for its thread, in milliseconds.
    work_ms: RangeInclusive<u64>,
    trace: RefCell<Option<Trace>>,
    hosts: RefCell<Vec<HostState>>,
    current: Cell<HostIndex>,
    /// The time while the runner acts. Destructors that a crash runs are outside of every runtime, where tokio's clock
    /// would be the real one.
    between_steps: Cell<Option<Duration>>,
    last_time: Cell<Duration>,
    in_blocking: Cell<bool>,
    cost: Cell<Cost>,
    outside_blocking: Cell<u64>,
    panics: RefCell<Vec<Panicked>>,
    /// The ends of connections that are open, oldest first.
    wires: RefCell<Vec<Weak<Wire>>>,
    /// The latest observed event of each host and kind.
    observed: RefCell<BTreeMap<(HostIndex, &'static str), Rc<str>>>,
    /// The last log entry of which a server has been asked to tell what came of it.
    told_entry: Cell<u64>,
    /// The observed events that the runner has not looked at yet.
    news: RefCell<Vec<News>>,
}

/// An observed event: host, kind and detail.
pub(crate) type News = (Rc<str>, &'static str, Rc<str>);

thread_local! {
    static CONTEXT: RefCell<Option<Rc<Context>>> = const { RefCell::new(None) };
}

/// Takes the context off the thread when the run is over, however it ends.
#[derive(Debug)]
pub(crate) struct Installed(pub(crate) Rc<Context>);

impl Drop for Installed {
    fn drop(&mut self) {
        CONTEXT.with(|slot| slot.borrow_mut().take());
    }
}

/// Calls `f` with this thread's context, if it is in a run.
pub(crate) fn with<R>(f: impl FnOnce(&Context) -> R) -> Option<R> {
    // `f` may come back here: it is borrowed more than once then, and changes only before and after a run.
    CONTEXT.try_with(|slot| slot.borrow().as_deref().map(f)).ok().flatten()
}

/// Like [`with`], for what makes no sense outside of a run.
pub(crate) fn expect<R>(f: impl FnOnce(&Context) -> R) -> R {
    match with(f) {
        Some(value) => value,
        None => panic!("the simulated world was used outside of a run: start it through restante_sim::run"),
    }
}

impl Context {
    pub(crate) fn install(seed: u64, epoch_ms: u64, work_ms: RangeInclusive<u64>, trace: Trace) -> Installed {
        let context = Rc::new(Self {
            seed,
            epoch_ms,
            work_ms,
            trace: RefCell::new(Some(trace)),
            hosts: RefCell::default(),
            current: Cell::new(RUNNER),
            between_steps: Cell::new(Some(Duration::ZERO)),
            last_time: Cell::default(),
            in_blocking: Cell::default(),
            cost: Cell::default(),
            outside_blocking: Cell::default(),
            panics: RefCell::default(),
            wires: RefCell::default(),
            observed: RefCell::default(),
            told_entry: Cell::new(0),
            news: RefCell::default(),
        });
        let runner = context.add_host("-");
        assert_eq!(runner, RUNNER);
        CONTEXT.with(|slot| {
            let before = slot.borrow_mut().replace(context.clone());
            assert!(before.is_none(), "a run was started inside another one");
        });
        Installed(context)
    }

    pub(crate) fn add_host(&self, name: &str) -> HostIndex {
        let mut hosts = self.hosts.borrow_mut();
        hosts.push(HostState {
            name: name.into(),
            draws: stream(self.seed, &format!("draws of {name}")),
            delays: stream(self.seed, &format!("delays of {name}")),
            gate: Gate::default(),
            clock: Clock::RIGHT,
            flips: None,
            disk_is_faster: Signal::default(),
        });
        hosts.len() - 1
    }

    /// Makes `host` the current one until the guard is dropped.
    pub(crate) fn enter(&self, host: HostIndex) -> Entered<'_> {
        Entered { context: self, before: self.current.replace(host) }
    }

    pub(crate) fn current(&self) -> HostIndex {
        self.current.get()
    }

    pub(crate) fn current_name(&self) -> Rc<str> {
        self.hosts.borrow()[self.current.get()].name.clone()
    }

    /// `Some` while the runner acts, `None` while turmoil steps.
    pub(crate) fn set_between_steps(&self, at: Option<Duration>) {
        self.between_steps.set(at);
    }

    pub(crate) fn elapsed(&self) -> Duration {
        let now = self.between_steps.get().or_else(turmoil::sim_elapsed).unwrap_or(self.last_time.get());
        self.last_time.set(now);
        now
    }

    /// The current host's wall clock.
    pub(crate) fn unix_millis(&self) -> u64 {
        let now = self.elapsed();
        let clock = self.hosts.borrow()[self.current.get()].clock;
        let wrong = clock.ahead_ms.saturating_add((clock.gained_at(now) * 1000.0) as i64);
        (self.epoch_ms + now.as_millis() as u64).saturating_add_signed(wrong)
    }

    /// By how many seconds the current host's time is ahead of the simulation's, and how fast it passes.
    pub(crate) fn clock_drift(&self) -> (f64, f64) {
        let clock = self.hosts.borrow()[self.current.get()].clock;
        // Most clocks are right, and everybody asks for the time.
        let gained = if clock.rate == 1.0 { clock.gained } else { clock.gained_at(self.elapsed()) };
        (gained, clock.rate)
    }

    /// From now on a host's wall clock is so much ahead, and its time passes at this rate.
    pub(crate) fn set_clock(&self, host: HostIndex, ahead_ms: i64, rate: f64) {
        let since = self.elapsed();
        let clock = &mut self.hosts.borrow_mut()[host].clock;
        *clock = Clock { ahead_ms, rate, since, gained: clock.gained_at(since) };
    }

    /// From now on a bit of each snapshot that `host` receives changes on the way, or none.
    pub(crate) fn flip_snapshots(&self, host: HostIndex, on: bool) {
        let host = &mut self.hosts.borrow_mut()[host];
        if on != host.flips.is_some() {
            host.flips = on.then(|| stream(self.seed, &format!("flips of {}", host.name)));
        }
    }

    /// Draws which bit of a snapshot that the current host receives changes, if one does.
    pub(crate) fn draw_flip<R>(&self, f: impl FnOnce(&mut Stream) -> R) -> Option<R> {
        self.hosts.borrow_mut()[self.current.get()].flips.as_mut().map(f)
    }

    /// Keeps one end of a connection, so that it can be reset.
    pub(crate) fn keep_connection(&self, wire: &Arc<Wire>) {
        let mut wires = self.wires.borrow_mut();
        if wires.len() >= 64 && wires.len().is_power_of_two() {
            wires.retain(|wire| wire.strong_count() > 0);
        }
        wires.push(Arc::downgrade(wire));
    }

    /// Resets the ends that `host` has of connections with `peer`.
    pub(crate) fn reset_connections(&self, host: &str, peer: &str) {
        let wires: Vec<_> = self.wires.borrow().iter().filter_map(Weak::upgrade).collect();
        for wire in wires.into_iter().filter(|wire| *wire.host == *host && wire.peer == *peer) {
            wire.reset();
        }
    }

    /// Adds an event of the current host to the trace.
    pub(crate) fn trace(&self, event: &Event<'_>) {
        self.trace_as(&self.current_name(), event);
    }

    pub(crate) fn trace_as(&self, host: &str, event: &Event<'_>) {
        let at = self.elapsed();
        if let Some(trace) = self.trace.borrow_mut().as_mut() {
            trace.add(at, host, event);
        }
    }

    /// Shows the recorder what is about to be written to a connection, if there is a recorder.
    pub(crate) fn wrote(&self, host: &str, connection: &str, bytes: &[u8]) {
        if let Some(recorder) = self.trace.borrow().as_ref().and_then(Trace::recorder) {
            recorder.write(self.elapsed(), host, connection, bytes);
        }
    }

    /// Records a line that the current host's code logged.
    pub(crate) fn log(&self, level: &'static str, line: String) {
        if let Some(recorder) = self.trace.borrow().as_ref().and_then(Trace::recorder) {
            recorder.log(self.elapsed(), &self.current_name(), level, line);
        }
    }

    /// Ends the trace; what happens after that (destructors) leaves none.
    pub(crate) fn take_trace(&self) -> Option<Trace> {
        self.trace.borrow_mut().take()
    }

    /// Draws from the current host's stream.
    pub(crate) fn draw<R>(&self, f: impl FnOnce(&mut Stream) -> R) -> R {
        f(&mut self.hosts.borrow_mut()[self.current.get()].draws)
    }

    /// How long the current host's blocking work waits for its thread.
    pub(crate) fn draw_work_delay(&self) -> Duration {
        let delays = &mut self.hosts.borrow_mut()[self.current.get()].delays;
        Duration::from_millis(delays.random_range(self.work_ms.clone()))
    }

    /// Runs blocking work inline; also returns how long its disk operations took.
    pub(crate) fn run_blocking<T>(&self, work: impl FnOnce() -> T) -> (T, Cost) {
        let outer = (self.in_blocking.replace(true), self.cost.take());
        let value = work();
        self.in_blocking.set(outer.0);
        (value, self.cost.replace(outer.1))
    }

    /// A disk operation took so long.
    pub(crate) fn add_cost(&self, cost: Cost) {
        let Cost { all, slowed, stood_still } = self.cost.get();
        let stood_still = stood_still || cost.stood_still;
        self.cost.set(Cost { all: all + cost.all, slowed: slowed + cost.slowed, stood_still });
    }

    /// Raised when the current host's disk is less slow than it is now.
    pub(crate) fn disk_is_faster(&self) -> Signal {
        self.hosts.borrow()[self.current.get()].disk_is_faster.clone()
    }

    /// A host's disk is less slow from now on.
    pub(crate) fn disk_became_faster(&self, host: HostIndex) {
        let signal = std::mem::take(&mut self.hosts.borrow_mut()[host].disk_is_faster);
        let _entered = self.enter(host);
        signal.raise();
    }

    /// When the present disk operation begins: those before it in the same blocking work have taken their time already,
    /// which the work waits for when it is done.
    pub(crate) fn disk_time(&self) -> Duration {
        self.elapsed() + self.cost.get().all
    }

    /// Tells that a disk operation runs. Outside of `World::blocking` it would hold up a thread of the real runtime.
    pub(crate) fn count_disk_operation(&self) {
        if !self.in_blocking.get() {
            self.outside_blocking.set(self.outside_blocking.get() + 1);
        }
    }

    pub(crate) fn operations_outside_blocking(&self) -> u64 {
        self.outside_blocking.get()
    }

    /// Whether a task of `host` must wait. If so, its waker is kept, once for each closing (`left` remembers which).
    pub(crate) fn must_wait(&self, host: HostIndex, left: &mut u64, waker: &Waker) -> bool {
        let gate = &mut self.hosts.borrow_mut()[host].gate;
        if !gate.is_closed() {
            return false;
        }
        if *left != gate.closing {
            *left = gate.closing;
            gate.waiting.push(waker.clone());
        }
        true
    }

    pub(crate) fn pause(&self, host: HostIndex) {
        let gate = &mut self.hosts.borrow_mut()[host].gate;
        if !gate.is_closed() {
            gate.closing += 1;
        }
        gate.paused = true;
    }

    /// Lets a paused host's tasks go on, in the order in which they were held.
    pub(crate) fn resume(&self, host: HostIndex) {
        let waiting = {
            let gate = &mut self.hosts.borrow_mut()[host].gate;
            gate.paused = false;
            if gate.is_closed() { Vec::new() } else { std::mem::take(&mut gate.waiting) }
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The host's machine stops in the middle of a step: none of its tasks runs any more.
    pub(crate) fn kill(&self, host: &str) {
        let mut hosts = self.hosts.borrow_mut();
        if let Some(host) = hosts.iter_mut().find(|h| *h.name == *host) {
            if !host.gate.is_closed() {
                host.gate.closing += 1;
            }
            host.gate.dead = true;
        }
    }

    pub(crate) fn is_dead(&self, host: HostIndex) -> bool {
        self.hosts.borrow()[host].gate.dead
    }

    /// The host starts again (or its dead tasks are about to go away): an open gate, nobody waiting at it. A pause
    /// that is still on holds the new tasks, too.
    pub(crate) fn revive(&self, host: HostIndex) {
        // A waker may be the last thing that holds a task, whose destructor comes back here: the borrow ends first.
        let _waiting = {
            let gate = &mut self.hosts.borrow_mut()[host].gate;
            gate.dead = false;
            gate.closing += 1;
            std::mem::take(&mut gate.waiting)
        };
    }

    pub(crate) fn record_panic(&self, host: HostIndex, message: String) {
        let host = self.hosts.borrow()[host].name.to_string();
        self.trace_as(&host, &Event { kind: "panic", subject: "", fields: &[], text: &message });
        self.panics.borrow_mut().push(Panicked { host, message });
    }

    /// Keeps an event that the current host's code told of.
    pub(crate) fn keep_observed(&self, kind: &'static str, detail: String) {
        let detail: Rc<str> = detail.into();
        self.tell_runner(kind, detail.clone());
        self.observed.borrow_mut().insert((self.current.get(), kind), detail);
    }

    /// Whether nobody has told of this entry yet.
    pub(crate) fn wants_entry(&self, index: u64) -> bool {
        let wanted = index > self.told_entry.get();
        if wanted {
            self.told_entry.set(index);
        }
        wanted
    }

    /// Passes on to the runner an event that the current host's code told of.
    pub(crate) fn tell_runner(&self, kind: &'static str, detail: Rc<str>) {
        self.news.borrow_mut().push((self.current_name(), kind, detail));
    }

    /// Forgets what a host's code told of in an earlier life, apart from what it did to its state: that lasts.
    pub(crate) fn forget_observed(&self, host: HostIndex) {
        let is_of_a_life = |kind: &str| matches!(kind, "standing" | "role");
        self.observed.borrow_mut().retain(|(of, kind), _| *of != host || !is_of_a_life(kind));
    }

    /// What a host's code told last of this kind.
    pub(crate) fn last_observed(&self, host: HostIndex, kind: &'static str) -> Option<Rc<str>> {
        self.observed.borrow().get(&(host, kind)).cloned()
    }

    /// What was observed since the last call.
    pub(crate) fn take_news(&self) -> Vec<News> {
        self.news.take()
    }

    pub(crate) fn observed(&self) -> BTreeMap<(String, &'static str), String> {
        let (hosts, observed) = (self.hosts.borrow(), self.observed.borrow());
        let named = |((host, kind), detail): (&(HostIndex, &'static str), &Rc<str>)| {
            ((hosts[*host].name.to_string(), *kind), detail.to_string())
        };
        observed.iter().map(named).collect()
    }

    pub(crate) fn panics(&self) -> Vec<Panicked> {
        self.panics.borrow().clone()
    }
}

/// Puts the host before back.
pub(crate) struct Entered<'a> {
    context: &'a Context,
    before: HostIndex,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.context.current.set(self.before);
    }
}
