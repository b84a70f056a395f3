//! openraft's runtime over a [`World`].
//!
//! tokio's own `watch` wakes its waiters through one of eight notifiers that tokio picks with a random number of its
//! own, so it would make two runs of one plan differ. [`openraft_rt_sim::SimWatch`] wakes them in order; both worlds
//! use it, so that what is simulated is what runs.

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use openraft_rt::{AsyncRuntime, Instant as _, OptionalSend};
use openraft_rt_tokio::{TokioMpsc, TokioMutex, TokioOneshot};

use super::World;
use super::instant::WorldInstant;

/// openraft's runtime over the world `W`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct WorldRuntime<W>(PhantomData<W>);

/// A channel that holds the latest value, whose waiters wake in order: use it instead of `tokio::sync::watch`.
pub type Watch = openraft_rt_sim::SimWatch;
/// The sending end of a [`Watch`] channel.
pub type WatchSender<T> = openraft_rt_sim::SimWatchSender<T>;
/// The receiving end of a [`Watch`] channel.
pub type WatchReceiver<T> = openraft_rt_sim::SimWatchReceiver<T>;

/// A [`Watch`] channel.
pub fn watch<T: Send + Sync + 'static>(value: T) -> (WatchSender<T>, WatchReceiver<T>) {
    <Watch as openraft_rt::watch::Watch>::channel(value)
}

impl<W: World> AsyncRuntime for WorldRuntime<W> {
    type JoinError = tokio::task::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = tokio::task::JoinHandle<T>;
    type Sleep = tokio::time::Sleep;
    type Instant = WorldInstant<W>;
    type TimeoutError = tokio::time::error::Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = tokio::time::Timeout<T>;
    type ThreadLocalRng = W::Rng;
    type Mpsc = TokioMpsc;
    type Watch = Watch;
    type Oneshot = TokioOneshot;
    type Mutex<T: OptionalSend + 'static> = TokioMutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        W::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        W::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        W::sleep_until(deadline.0)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        W::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        W::timeout(deadline.saturating_duration_since(WorldInstant::now()), future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        join_error.is_panic()
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        W::rng()
    }

    fn new(_threads: usize) -> Self {
        Self(PhantomData)
    }

    fn block_on<F, T>(&mut self, _future: F) -> T
    where
        F: Future<Output = T>,
    {
        // openraft calls this from its own tests only; our runtimes are made by `main` or by the simulator.
        unreachable!("a world's runtime runs inside one that exists")
    }
}
