//! Runs that nobody has run before: their seed comes from `RESTANTE_SIM_SEED` (a number, or any text, such as a
//! commit), how many there are from `RESTANTE_SIM_RUNS`. Without them they are always the same few.

use restante_sim::check::{Checks, runs_of_the_day, seed_of_the_day};
use restante_sim::cluster::Cluster;
use restante_sim::plan::strategy::Plans;

const RUNS: u32 = 16;
const SEED: u64 = 20_260_101;

#[test]
fn fresh_seeds() {
    let (seed, runs) = (seed_of_the_day(SEED), runs_of_the_day(RUNS));
    // Far from the small numbers that everybody begins with.
    let tally = Checks::new(&Cluster).seeds(seed, runs);
    println!("seeds {seed}..{}\n{tally}", seed.wrapping_add(runs.into()));
}

/// Crossed plans, under proptest.
#[test]
fn fresh_plans() {
    let runs = runs_of_the_day(RUNS).div_ceil(4);
    Checks::new(&Cluster).random_plans(Plans::default(), seed_of_the_day(SEED), runs);
}
