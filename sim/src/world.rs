//! The simulated [`World`]: tasks, timers, randomness and blocking work of the hosts of one run.
//!
//! Every task carries the host that it belongs to, inherited from the task that started it, so that a draw or an
//! observed event is known as that host's; and it passes the host's gate, so that a host can stand still.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use futures::future::{Either, select};
use rand::TryRng;
use restante::world::{Event as Observed, Instant, World};
use xxhash_rust::xxh3::xxh3_64;

pub use crate::context::Panicked;
use crate::context::{self, Context, Cost, HostIndex};
use crate::trace::Event;

/// The world of the run that this thread is in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct SimWorld;

/// Random numbers from the current host's stream. It holds nothing itself, so it may go wherever it likes.
#[derive(Debug, Clone, Copy, Default)]
pub struct SimRng;

impl TryRng for SimRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        // The upper half: this generator's lowest bits are its weakest.
        self.try_next_u64().map(|value| (value >> 32) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        context::expect(|run| {
            let value = run.draw(rand::Rng::next_u64);
            run.trace(&Event::new("draw", "", &[("digest", value)]));
            Ok(value)
        })
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        context::expect(|run| {
            run.draw(|stream| rand::Rng::fill_bytes(stream, bytes));
            run.trace(&Event::new("draw", "", &[("bytes", bytes.len() as u64), ("digest", xxh3_64(bytes))]));
            Ok(())
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "this is the seam that the others go through")]
impl World for SimWorld {
    type Rng = SimRng;

    fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        // Not `tokio::spawn`: a runtime drops its tasks in an order that hangs on a process-wide task id, and the
        // order of destructors is the order of the FINs that a crash sends.
        tokio::task::spawn_local(Scoped::here(future))
    }

    async fn blocking<T, F>(work: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        wait(context::expect(|run| run.draw_work_delay())).await;
        let (value, cost) = context::expect(|run| run.run_blocking(work));
        if context::expect(|run| run.is_dead(run.current())) {
            // The machine stopped in the middle of this work: nobody learns how it went.
            std::future::pending::<()>().await;
        }
        if !cost.all.is_zero() {
            wait_for_disk(cost).await;
        }
        value
    }

    fn rng() -> SimRng {
        SimRng
    }

    fn now() -> Instant {
        let now = Instant::now();
        let (ahead, _) = context::expect(Context::clock_drift);
        if ahead == 0.0 {
            return now;
        }
        // A run is far shorter than the time since the machine's clock began, and a drift at most half of it.
        let shifted = if ahead < 0.0 {
            now.checked_sub(Duration::from_secs_f64(-ahead))
        } else {
            now.checked_add(Duration::from_secs_f64(ahead))
        };
        shifted.unwrap_or(now)
    }

    fn sleep(duration: Duration) -> tokio::time::Sleep {
        tokio::time::sleep(passes_in(duration))
    }

    fn sleep_until(deadline: Instant) -> tokio::time::Sleep {
        Self::sleep(deadline.saturating_duration_since(Self::now()))
    }

    fn timeout<F: Future>(duration: Duration, future: F) -> tokio::time::Timeout<F> {
        tokio::time::timeout(passes_in(duration), future)
    }

    fn unix_millis() -> u64 {
        context::expect(|run| run.unix_millis())
    }

    fn wants_entry(index: u64) -> bool {
        context::with(|run| run.wants_entry(index)).unwrap_or(false)
    }

    fn observe(event: impl FnOnce() -> Observed) {
        context::with(|run| {
            let Observed { kind, who, detail } = event();
            // Whole entries and all that came of them: they are judged, and not worth a line of the trace each.
            if matches!(kind, "entry" | "founded") {
                return run.tell_runner(kind, detail.into());
            }
            run.trace(&Event { kind, subject: who.as_deref().unwrap_or(""), fields: &[], text: &detail });
            run.keep_observed(kind, detail);
        });
    }
}

/// How long a duration on the current host's clock is on the simulation's.
fn passes_in(duration: Duration) -> Duration {
    let (_, rate) = context::expect(Context::clock_drift);
    // Most clocks are right, and dividing by one would round for nothing.
    if rate == 1.0 { duration } else { Duration::try_from_secs_f64(duration.as_secs_f64() / rate).unwrap_or(duration) }
}

/// tokio's timers count whole milliseconds, so no time at all is a turn of the other tasks.
#[expect(clippy::disallowed_methods, reason = "this is the seam that the others go through")]
async fn wait(duration: Duration) {
    if duration.is_zero() {
        tokio::task::yield_now().await;
    } else {
        tokio::time::sleep(duration).await;
    }
}

/// Waits for what disk operations took. They were drawn before they took their time: if the disk is slow no more when that
/// is not over, it is not for those that are left.
async fn wait_for_disk(cost: Cost) {
    if cost.slowed.is_zero() || cost.stood_still {
        return wait(cost.all).await;
    }
    let (begun, faster) = context::expect(|run| (run.elapsed(), run.disk_is_faster()));
    let (over, faster) = (Box::pin(wait(cost.all)), Box::pin(faster.raised()));
    if let Either::Right(_) = select(over, faster).await {
        let left = (begun + cost.all).saturating_sub(context::expect(Context::elapsed));
        wait(left.mul_f64(1.0 - cost.slowed.div_duration_f64(cost.all))).await;
    }
}

/// A future that runs as a host: see the module.
pub(crate) struct Scoped<F> {
    host: HostIndex,
    /// The closing of the gate at which this task left its waker.
    left: u64,
    /// `None` only while it is dropped.
    future: Option<Pin<Box<F>>>,
}

impl<F> Scoped<F> {
    pub(crate) fn new(host: HostIndex, future: F) -> Self {
        Self { host, left: 0, future: Some(Box::pin(future)) }
    }

    fn here(future: F) -> Self {
        Self::new(context::expect(|run| run.current()), future)
    }
}

impl<F: Future> Future for Scoped<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, task: &mut TaskContext<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        context::expect(|run| {
            if run.must_wait(this.host, &mut this.left, task.waker()) {
                return Poll::Pending;
            }
            let _entered = run.enter(this.host);
            let Some(future) = &mut this.future else { unreachable!("polled after its destructor") };
            // A panic stays with whoever joins the task, and mostly nobody does: it is kept for the runner.
            catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(task))).unwrap_or_else(|panic| {
                run.record_panic(this.host, message_of(&*panic));
                resume_unwind(panic)
            })
        })
    }
}

impl<F> Drop for Scoped<F> {
    fn drop(&mut self) {
        let future = self.future.take();
        let host = self.host;
        context::with(|run| {
            let _entered = run.enter(host);
            drop(future);
        });
    }
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "a panic without a text".to_owned())
}
