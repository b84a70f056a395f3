//! Plans for proptest: random ones, which shrink the way that [`crate::shrink`] does.
//!
//! Whether a smaller plan fails as the first one did is up to the test, which sees the verdict: see [`crate::check`].

use proptest::strategy::{NewTree, Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use rand::{Rng, RngExt};

use super::{Fault, Plan};
use crate::random::stream;
use crate::shrink::Shrinker;

/// Settings that any plan may have from any other. The rest depends on each other.
const FREE: [&str; 12] = [
    "clients", "messages", "body", "pace", "memory", "segment", "cache", "keep", "election", "latency", "work", "sync",
];

/// Random plans: what seeds grow into, and two of them crossed.
#[derive(Debug, Clone, Copy)]
pub struct Plans {
    /// What a seed grows into.
    pub of: fn(u64) -> Plan,
}

impl Default for Plans {
    fn default() -> Self {
        Self { of: Plan::from_seed }
    }
}

impl Strategy for Plans {
    type Tree = PlanTree;
    type Value = Plan;

    fn new_tree(&self, runner: &mut TestRunner) -> NewTree<Self> {
        let (seed, other) = (runner.rng().next_u64(), runner.rng().next_u64());
        // The lowest bit of the other one says whether there is one.
        let plan = (self.of)(seed);
        let plan = if other & 1 == 0 { plan } else { crossed(&plan, &(self.of)(other)) };
        Ok(PlanTree { current: plan.clone(), shrinker: Shrinker::new(plan), proposed: false })
    }
}

/// The first plan with some settings and some faults of the second. It has only faults that any plan can bear any
/// number of: hosts that go down and come back, links and clocks.
fn crossed(one: &Plan, other: &Plan) -> Plan {
    let mut random = stream(one.seed, "plan: crossing");
    let theirs = other.to_string();
    let mut text = String::new();
    for line in one.to_string().lines() {
        let word = line.split(' ').next().unwrap_or_default();
        let is_there = |line: &&str| line.split(' ').next() == Some(word);
        let line = match theirs.lines().find(is_there) {
            Some(theirs) if FREE.contains(&word) && random.random_bool(0.5) => theirs,
            _ => line,
        };
        text.push_str(line);
        text.push('\n');
    }
    // Both are plans, so a line of either is a line of one.
    let mut plan = text.parse().unwrap_or_else(|_| one.clone());
    for interval in &other.faults {
        let bearable = matches!(interval.fault, Fault::Host(_) | Fault::Network(_) | Fault::Clock(_));
        if bearable && interval.at < plan.duration && random.random_bool(0.5) {
            plan.faults.push(interval.clone());
        }
    }
    plan.faults.sort_by_key(|interval| interval.at);
    plan
}

/// A plan and the smaller ones that are left to try.
#[derive(Debug, Clone)]
pub struct PlanTree {
    shrinker: Shrinker,
    current: Plan,
    /// Whether `current` is a proposal whose end is not known.
    proposed: bool,
}

impl PlanTree {
    /// To the next proposal, or back to the smallest plan that failed.
    fn advance(&mut self) -> bool {
        self.proposed = match self.shrinker.propose() {
            Some(plan) => {
                self.current = plan.clone();
                true
            }
            None => {
                self.current = self.shrinker.best().clone();
                false
            }
        };
        self.proposed
    }
}

impl ValueTree for PlanTree {
    type Value = Plan;

    fn current(&self) -> Plan {
        self.current.clone()
    }

    /// The current plan failed.
    fn simplify(&mut self) -> bool {
        if self.proposed {
            self.shrinker.still_fails();
        }
        self.advance()
    }

    /// The current plan passed.
    fn complicate(&mut self) -> bool {
        self.proposed && self.advance()
    }
}

#[cfg(test)]
mod tests {
    use proptest::test_runner::{Config, TestError, TestRng};

    use super::*;

    #[test]
    fn plans_differ_and_have_no_more_than_a_plan_can_bear() {
        let mut runner = TestRunner::deterministic();
        let mut crossed = 0;
        for _ in 0..200 {
            let plan = Plans::default().new_tree(&mut runner).unwrap().current();
            let grown = Plan::from_seed(plan.seed);
            crossed += u32::from(plan != grown);
            let disks = |plan: &Plan| plan.faults.iter().filter(|i| matches!(i.fault, Fault::Disk(_))).count();
            assert_eq!((disks(&plan), &plan.servers), (disks(&grown), &grown.servers));
            assert_eq!(plan.to_string().parse::<Plan>(), Ok(plan));
        }
        assert!((50..150).contains(&crossed), "{crossed}");
    }

    #[test]
    fn proptest_ends_with_a_small_plan_that_fails() {
        let config = Config { failure_persistence: None, max_shrink_iters: u32::MAX, ..Config::default() };
        let rng = TestRng::deterministic_rng(config.rng_algorithm);
        let mut runner = TestRunner::new_with_rng(config, rng);
        let fails = |plan: &Plan| plan.messages > 30 && plan.faults.iter().any(|i| i.fault.kind() == "pause");
        let result = runner.run(&Plans::default(), |plan| {
            proptest::prop_assert!(!fails(&plan), "{plan}");
            Ok(())
        });
        let Err(TestError::Fail(_, plan)) = result else { panic!("{result:?}") };
        assert!(fails(&plan));
        assert_eq!(plan.faults.len(), 1, "{plan}");
    }
}
