//! The same servers and clients in a simulated world.
//!
//! A [`plan::Plan`] holds everything random about one run, as text. [`run::run`] builds the world from it: turmoil
//! carries the network ([`network`]), every server has a disk that forgets what was not synced ([`disk`]), and
//! [`world::SimWorld`] gives tasks, timers and random numbers. What runs on the hosts is a [`scenario::Scenario`].
//! The clients keep journals ([`history`]), from which the [`oracle`] judges the promises. Whatever happens is hashed
//! into the [`trace`], so that two runs of one plan can be compared.
//!
//! ```
//! use restante_sim::{cluster::Cluster, plan::Plan, run::{Verdict, run}, trace::Lines};
//!
//! // Three servers, of which one loses its power for a while; deleting any line leaves a plan.
//! let plan: Plan = "seed 7\nmessages 20\nat 900ms for 1s crash a".parse().expect("a plan");
//! let outcome = run(&plan, &Cluster, Lines::Discard);
//! assert_eq!(outcome.verdict, Verdict::Passed);
//! // What is printed is a plan again, with all that was left out.
//! assert_eq!(plan.to_string().parse(), Ok(plan));
//! ```
//!
//! A run that is recorded ([`record`]) can be told and shown: its [`story`] is who was there, what each saw, who led when
//! and what the verdict points at; [`explain`] tells it as text, [`report`] draws it as one page.
//!
//! Reading order: `plan`, `run`, `scenario`, `cluster` (Restante itself on the hosts), `world`, `disk`, `oracle`; `toy`
//! is the smallest server and client that use every seam, for testing the harness itself.

pub mod check;
pub mod cluster;
mod context;
pub mod disk;
pub mod explain;
pub mod failure;
pub mod history;
pub mod network;
pub mod oracle;
pub mod plan;
pub mod random;
pub mod reach;
pub mod record;
pub mod report;
pub mod run;
pub mod scenario;
pub mod search;
mod send_key;
pub mod shrink;
pub mod story;
pub mod symptom;
pub mod teeth;
pub mod toy;
pub mod trace;
pub mod world;
