//! Restante: a cluster that keeps every message until its addressee calls for it.
//!
//! Programs register under a name at any server and send each other messages. What the cluster has accepted is synced
//! on a majority of its servers and reaches its recipient once and in order, whatever dies in between. To use it, start
//! with [`client`]; to run a server from a program of yours, with [`server::run`]. The rest of this page is the map for
//! whoever reads the code.
//!
//! # The way of a message
//!
//! ```text
//!  sender         home server          leader            followers        recipient's home   recipient
//!    │ Send(n, to, body) │                │                   │                   │              │
//!    ├──────────────────▶│ batch          │                   │                   │              │
//!    │                   ├───────────────▶│ one log entry     │                   │              │
//!    │                   │                ├──────────────────▶│ fdatasync         │              │
//!    │                   │                │◀──────────────────┤                   │              │
//!    │                   │   committed: every server applies it to its own post office            │
//!    │ Receipt(position) │                                                        │ Deliver      │
//!    │◀──────────────────┤                                                        ├─────────────▶│
//!    │                   │                │                                       │ Acknowledge  │
//!    │                   │                │◀──────────────────────────────────────┤◀─────────────┤
//! ```
//!
//! The bytes that a client sent are what goes into the batch, the log entry, the wire between servers and the log on
//! disk. Receipts and deliveries come out of each server's own copy of the state, the post office.
//!
//! # Promises
//!
//! 1. **Durable**: a send that got its receipt is synced on a majority of the servers.
//! 2. **Once**: a numbered send enters an inbox at most once, and exactly once if it was receipted.
//! 3. **In order**: messages of one send stream arrive in the order sent; an inbox is one sequence.
//! 4. **One reader**: a newer reader ends the older one, whose acknowledgements count for nothing from then on.
//! 5. **Honest**: refusals are typed and say why; a timeout means *unknown*, and sending again is safe.
//! 6. **Available**: while a majority can talk, messages go through; clients move to a live server by themselves.
//! 7. **Bounded**: everything has a limit ([`limits`]), and overload slows senders down.
//! 8. **Reproducible**: a simulation is a pure function of commit, toolchain and plan.
//!
//! `docs/promises.md` says where each ends and which tests hold it; `docs/architecture.md` tells how they are kept.
//!
//! # Reading order
//!
//! 1. [`wire`]: the vocabulary, then the commands and frames. [`wire::types`], [`wire::command`], [`wire::batch`].
//! 2. [`post_office`]: the replicated state. Pure: entries in, effects out.
//! 3. [`world`]: the seams, through which everything goes that is not a pure function.
//! 4. [`server`]: sessions, batches, deliveries, founding and joining.
//! 5. [`raft`] and [`storage`]: consensus over the log, and what is on disk.
//! 6. [`client`]: the session, a pure state machine, and the task around it.
//! 7. [`backup`]: the whole state in one file, and a new cluster out of it.
//! 8. [`metrics`]: what a server counts, and [`http`]: requests of those that have no session.
//!
//! The command line is in `src/cli`, beside this library and on top of it. The simulator is the crate `restante-sim`,
//! which runs [`server`] and [`client`] as they are, in a world of its own.
//!
//! Arrows point one way: `cli → client, http → server → raft → storage, post_office → wire`, and everything may use `world`.
//! `client`, `server` and `cli` know [`backup`], which knows what `raft` does.

pub mod backup;
pub mod client;
pub mod http;
pub mod limits;
pub mod metrics;
pub mod post_office;
pub mod raft;
pub mod server;
pub mod storage;
pub mod wire;
pub mod world;

/// Compiles the example in the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;
