//! A set of positions, kept as ranges.

use std::collections::BTreeMap;

/// A set of positions as ranges apart from each other, both ends included.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds `low..=high`, joining what touches.
    pub(super) fn insert(&mut self, mut low: u64, mut high: u64) {
        while let Some((&start, &end)) = self.0.range(..=high.saturating_add(1)).next_back() {
            if end.saturating_add(1) < low {
                break;
            }
            low = low.min(start);
            high = high.max(end);
            self.0.remove(&start);
        }
        self.0.insert(low, high);
    }

    /// Removes everything up to `position`.
    pub(super) fn remove_up_to(&mut self, position: u64) {
        while let Some((&start, &end)) = self.0.first_key_value() {
            if start > position {
                break;
            }
            self.0.remove(&start);
            if end > position {
                self.0.insert(position + 1, end);
            }
        }
    }

    /// Removes the lowest range if it starts at `start`, and says where it ended.
    pub(super) fn take_at(&mut self, start: u64) -> Option<u64> {
        self.0.remove(&start)
    }

    /// Removes and returns the lowest `count` ranges.
    pub(super) fn take(&mut self, count: usize) -> Vec<(u64, u64)> {
        let mut taken = Vec::with_capacity(count.min(self.0.len()));
        while taken.len() < count {
            let Some(range) = self.0.pop_first() else { break };
            taken.push(range);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn they_are_the_set(steps in prop::collection::vec((any::<bool>(), 1u64..60, 0u64..6), 0..60)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (add, low, length) in steps {
                if add {
                    ranges.insert(low, low + length);
                    set.extend(low..=low + length);
                } else {
                    ranges.remove_up_to(low);
                    set = set.split_off(&(low + 1));
                }
                let kept: Vec<(u64, u64)> = ranges.0.iter().map(|(&a, &b)| (a, b)).collect();
                prop_assert!(kept.windows(2).all(|w| w[0].1 + 1 < w[1].0), "apart: {kept:?}");
                let members: BTreeSet<u64> = kept.iter().flat_map(|&(a, b)| a..=b).collect();
                prop_assert_eq!(&members, &set);
            }
        }
    }
}
