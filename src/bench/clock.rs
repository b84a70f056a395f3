//! The benchmark's clock.

use restante::world::{Instant, RealWorld, World};

/// Nanoseconds since the benchmark began. Copies read the same clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Default for Clock {
    fn default() -> Self {
        Self(RealWorld::now())
    }
}

impl Clock {
    /// Now.
    pub fn now(self) -> u64 {
        self.0.elapsed().as_nanos() as u64
    }
}
