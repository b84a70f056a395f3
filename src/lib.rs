//! Restante: a cluster that keeps every message until its addressee calls for it.

pub mod client;
pub mod limits;
pub mod wire;
pub mod world;
