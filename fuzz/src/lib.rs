//! What the fuzz targets do: one function each, from bytes to nothing. A panic is a finding.
//!
//! The functions are here, and not in `fuzz_targets/`, so that ordinary tests run them over the corpus, too
//! (`tests/corpus.rs`).
//!
//! Some parts are the product's own files, or those of its tests, compiled once more because they are private there: the
//! client's session (`client`), the disk and the world that storage is tested on (`testing`), and the naive model of the
//! post office (in `targets/model.rs`).

// The tests in those files belong where the files belong.
#![cfg(not(test))]

mod client;
mod targets;
#[path = "../../src/storage/testing.rs"]
#[allow(dead_code, missing_docs, unreachable_pub, reason = "other tests use more of it")]
mod testing;

// By these names the files above know their own crate.
use restante::{limits, wire, world};

pub use self::targets::*;
