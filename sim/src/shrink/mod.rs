//! Makes a plan that fails as small as it can be while it still fails.
//!
//! What "fails" means is up to whoever asks: for a simulation, that the same promise is broken ([`crate::symptom`]).
//! [`Shrinker`] proposes one smaller plan after another and is told which of them still failed; [`shrink`] drives it
//! on several threads, and proptest drives it through [`crate::plan::strategy`]. Both go the same way, whatever the
//! number of threads.
//!
//! What is tried, over and over until nothing helps any more ([`passes`]): dropping faults (all, then halves, then
//! quarters, down to one by one), fewer servers, fewer clients, fewer and smaller messages, defaults for the settings,
//! shorter and rounder intervals, a shorter run.

mod passes;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use self::passes::PASSES;
use crate::plan::Plan;
use crate::search::{Watch, in_order};

/// Proposes smaller plans, and goes on from those that still fail.
#[derive(Debug, Clone)]
pub struct Shrinker {
    best: Plan,
    /// What was proposed last.
    proposed: Option<Plan>,
    at: Place,
    /// Texts of all plans that were proposed: none is proposed twice.
    seen: BTreeSet<String>,
    /// Whether anything helped since the first pass began.
    helped: bool,
}

/// Where a shrinker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Dropping so many faults at once, from this one on.
    Drop { chunk: usize, from: usize },
    /// In one of [`PASSES`], at one of the things that it looks at, with so many of its proposals made.
    Pass { pass: usize, thing: usize, made: usize },
    /// Nothing is left to try.
    Done,
}

impl Shrinker {
    /// Begins with a plan that fails.
    pub fn new(plan: Plan) -> Self {
        let seen = BTreeSet::from([plan.to_string()]);
        let at = Place::Drop { chunk: plan.faults.len(), from: 0 };
        Self { best: plan, proposed: None, at, seen, helped: false }
    }

    /// The smallest plan so far that failed.
    pub fn best(&self) -> &Plan {
        &self.best
    }

    /// The next plan to try; none if nothing smaller is left. Asking on says that the one before did not fail.
    pub fn propose(&mut self) -> Option<&Plan> {
        self.proposed = None;
        while self.at != Place::Done {
            if let Some(plan) = self.at_place()
                && plan != self.best
                && self.seen.insert(plan.to_string())
            {
                self.proposed = Some(plan);
                break;
            }
        }
        self.proposed.as_ref()
    }

    /// Says that what was proposed last failed, too.
    pub fn still_fails(&mut self) {
        let Some(plan) = self.proposed.take() else { return };
        self.best = plan;
        self.helped = true;
        match &mut self.at {
            // What comes after what was dropped stands in its place now.
            Place::Drop { chunk, from } => *from = from.saturating_sub(*chunk),
            Place::Pass { made, .. } => *made = 0,
            Place::Done => {}
        }
    }

    /// What there is to propose at this place, which is left for the next one.
    fn at_place(&mut self) -> Option<Plan> {
        match self.at {
            Place::Drop { chunk: 0, .. } => {
                self.at = Place::Pass { pass: 0, thing: 0, made: 0 };
                None
            }
            Place::Drop { chunk, from } if from >= self.best.faults.len() => {
                // Never more at once than there are, or the halves would be of what is gone.
                self.at = Place::Drop { chunk: (chunk / 2).min(self.best.faults.len()), from: 0 };
                None
            }
            Place::Drop { chunk, from } => {
                self.at = Place::Drop { chunk, from: from + chunk };
                let mut plan = self.best.clone();
                plan.faults.drain(from..(from + chunk).min(plan.faults.len()));
                Some(plan)
            }
            Place::Pass { pass, thing, made } => {
                let Some(proposals) = PASSES.get(pass) else {
                    let again = Place::Drop { chunk: self.best.faults.len(), from: 0 };
                    self.at = if std::mem::take(&mut self.helped) { again } else { Place::Done };
                    return None;
                };
                match proposals(&self.best, thing) {
                    None => self.at = Place::Pass { pass: pass + 1, thing: 0, made: 0 },
                    Some(plans) if made >= plans.len() => {
                        self.at = Place::Pass { pass, thing: thing + 1, made: 0 };
                    }
                    Some(mut plans) => {
                        self.at = Place::Pass { pass, thing, made: made + 1 };
                        return Some(plans.swap_remove(made));
                    }
                }
                None
            }
            Place::Done => None,
        }
    }
}

/// How large a plan is, for a person.
pub fn size(plan: &Plan) -> String {
    let (faults, servers) = (plan.faults.len(), plan.servers.len());
    format!("{faults} faults, {servers} servers, {} clients with {} messages each", plan.clients, plan.messages)
}

/// How far a shrinking has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shrunk {
    /// The smallest plan that was found to fail.
    pub plan: Plan,
    /// How many plans were tried.
    pub tried: u64,
    /// Whether nothing smaller is left to try; if not, it was told to end.
    pub finished: bool,
}

/// Makes a plan that fails smaller, on `jobs` threads. `watch` sees every step and may end it.
///
/// Plans are tried ahead on the other threads, as if none of those before them failed; if one does, they were tried in
/// vain and do not count.
pub fn shrink(
    plan: &Plan,
    jobs: usize,
    fails: impl Fn(&Plan) -> bool + Sync,
    mut watch: impl FnMut(&Shrunk) -> ControlFlow<()>,
) -> Shrunk {
    let mut shrinker = Shrinker::new(plan.clone());
    let mut shrunk = Shrunk { plan: plan.clone(), tried: 0, finished: false };
    while watch(&shrunk).is_continue() {
        // Each with the shrinker as it is when this one has been proposed.
        let mut ahead = Vec::new();
        let mut next = shrinker.clone();
        while ahead.len() < jobs.max(1)
            && let Some(plan) = next.propose().cloned()
        {
            ahead.push((plan, next.clone()));
        }
        if ahead.is_empty() {
            shrunk.finished = true;
            break;
        }
        let mut first = First { tried: 0, failed: None };
        in_order(ahead.iter().map(|(plan, _)| plan), jobs, |plan| fails(plan), &mut first);
        shrunk.tried += first.tried as u64;
        // The last one that was looked at tells where to go on.
        shrinker = ahead.swap_remove(first.tried - 1).1;
        if first.failed.is_some() {
            shrinker.still_fails();
            shrunk.plan = shrinker.best().clone();
        }
    }
    shrunk
}

/// Ends with the first that fails.
struct First {
    tried: usize,
    failed: Option<usize>,
}

impl Watch<&Plan, bool> for First {
    fn ended(&mut self, _: &Plan, fails: bool) -> ControlFlow<()> {
        self.tried += 1;
        if fails {
            self.failed = Some(self.tried);
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}
