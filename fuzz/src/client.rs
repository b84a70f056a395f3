//! The client's session and what it stands on, which are private to the client: a pure state machine, compiled here once
//! more so that a target can hold it in its hand.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    reason = "the session is asked for less than the client needs"
)]

#[path = "../../src/client/error.rs"]
mod error;
#[path = "../../src/client/message.rs"]
mod message;
#[path = "../../src/client/session/mod.rs"]
pub mod session;
#[path = "../../src/client/settings.rs"]
mod settings;

pub use self::error::{Doubt, Error, NoDelivery, SendError};
pub use self::message::{Delivery, Message};
pub use self::settings::ClientSettings;
pub use crate::wire::sharing::Recipients;
