//! A moment on a world's clock, as openraft wants it: with a `now` of its own.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::time::Duration;

use super::{Instant, World};

/// A moment on the clock of the world `W`, whose `now` is [`World::now`]: leases and elections go by the same clock as
/// everything else, also where a simulated one drifts.
pub struct WorldInstant<W>(pub(crate) Instant, PhantomData<fn() -> W>);

impl<W> WorldInstant<W> {
    /// A moment of the same clock.
    pub fn new(moment: Instant) -> Self {
        Self(moment, PhantomData)
    }
}

impl<W: World> openraft_rt::Instant for WorldInstant<W> {
    fn now() -> Self {
        Self::new(W::now())
    }
}

impl<W> fmt::Debug for WorldInstant<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl<W> Clone for WorldInstant<W> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<W> Copy for WorldInstant<W> {}

impl<W> PartialEq for WorldInstant<W> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<W> Eq for WorldInstant<W> {}

impl<W> PartialOrd for WorldInstant<W> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<W> Ord for WorldInstant<W> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.cmp(&other.0)
    }
}

impl<W> Add<Duration> for WorldInstant<W> {
    type Output = Self;

    fn add(self, by: Duration) -> Self {
        Self::new(self.0 + by)
    }
}

impl<W> AddAssign<Duration> for WorldInstant<W> {
    fn add_assign(&mut self, by: Duration) {
        self.0 += by;
    }
}

impl<W> Sub<Duration> for WorldInstant<W> {
    type Output = Self;

    fn sub(self, by: Duration) -> Self {
        Self::new(self.0 - by)
    }
}

impl<W> Sub for WorldInstant<W> {
    type Output = Duration;

    fn sub(self, earlier: Self) -> Duration {
        self.0 - earlier.0
    }
}

impl<W> SubAssign<Duration> for WorldInstant<W> {
    fn sub_assign(&mut self, by: Duration) {
        self.0 -= by;
    }
}
