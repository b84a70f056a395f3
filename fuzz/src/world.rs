//! A world in which nothing is left to chance: tasks on one thread, blocking work inline, the same numbers each time.

use std::cell::Cell;
use std::convert::Infallible;
use std::future::Future;

use restante::world::World;

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct FuzzWorld;

thread_local! {
    static DRAWN: Cell<u64> = const { Cell::new(0) };
}

impl FuzzWorld {
    /// Begins the numbers anew.
    pub fn reset() {
        DRAWN.set(0);
    }
}

/// Counts and mixes (splitmix64).
#[derive(Debug, Clone, Copy, Default)]
pub struct FuzzRng;

impl rand::TryRng for FuzzRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.try_next_u64().map(|n| n as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        DRAWN.set(DRAWN.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let mut z = DRAWN.get();
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Ok(z ^ (z >> 31))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        for byte in bytes {
            *byte = self.try_next_u64()? as u8;
        }
        Ok(())
    }
}

impl World for FuzzWorld {
    type Rng = FuzzRng;

    #[expect(clippy::disallowed_methods, reason = "this is a world")]
    fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(future)
    }

    async fn blocking<T, F>(work: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        work()
    }

    fn rng() -> FuzzRng {
        FuzzRng
    }

    fn unix_millis() -> u64 {
        1_700_000_000_000
    }
}
