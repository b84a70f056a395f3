//! The same servers and clients in a simulated world.
//!
//! A [`plan::Plan`] holds everything random about one run, as text. [`run::run`] builds the world from it: turmoil
//! carries the network ([`network`]), every server has a disk that forgets what was not synced ([`disk`]), and
//! [`world::SimWorld`] gives tasks, timers and random numbers. What runs on the hosts is a [`scenario::Scenario`].
//! The clients keep journals ([`history`]), from which the [`oracle`] judges the promises. Whatever happens is hashed
//! into the [`trace`], so that two runs of one plan can be compared.
//!
//! Reading order: `plan`, `run`, `scenario`, `cluster` (Restante itself on the hosts), `world`, `disk`, `oracle`; `toy`
//! is the smallest server and client that use every seam, for testing the harness itself.

pub mod cluster;
mod context;
pub mod disk;
pub mod history;
pub mod network;
pub mod oracle;
pub mod plan;
pub mod random;
pub mod run;
pub mod scenario;
pub mod toy;
pub mod trace;
pub mod world;
