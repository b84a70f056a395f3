//! Random streams: one per concern, all grown from the plan's seed.
//!
//! A concern that draws more, or a new concern, does not move the numbers that another one sees. Hence also: every
//! fault interval has a stream of its own, named by its text, so that deleting one leaves the others as they were.

use rand::SeedableRng;
use rand::rngs::Xoshiro256PlusPlus;
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The generator of all streams: small, fast, and the same on every platform.
pub type Stream = Xoshiro256PlusPlus;

/// The stream named `concern` of the run with this seed.
pub fn stream(seed: u64, concern: &str) -> Stream {
    Stream::seed_from_u64(xxh3_64_with_seed(concern.as_bytes(), seed))
}

#[cfg(test)]
mod tests {
    use rand::Rng;

    use super::*;

    #[test]
    fn streams_differ_by_seed_and_by_concern_and_repeat() {
        let first = |seed, concern| stream(seed, concern).next_u64();
        assert_eq!(first(1, "disk a"), first(1, "disk a"));
        assert_ne!(first(1, "disk a"), first(2, "disk a"));
        assert_ne!(first(1, "disk a"), first(1, "disk b"));
    }
}
