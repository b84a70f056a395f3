//! Restante: a cluster that keeps every message until its addressee calls for it.

pub mod limits;
pub mod post_office;
pub mod storage;
pub mod wire;
pub mod world;
