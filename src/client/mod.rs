//! The client: everything a program needs to exchange messages over a cluster.
//!
//! * [`Client`]: connects, registers, asks; its connection moves by itself to a live server
//! * [`SendStream`]: sends in order; thousands may wait for their [`Receipt`]s
//! * [`Inbox`]: deliveries in order, acknowledged explicitly
//! * [`Presence`]: who is there, and what changes of it
//! * [`Requester`]: questions that are answered within a deadline, or not
//! * [`Backup`]: the whole post office in one file
//!
//! Inside: [`session`] is a pure state machine that knows what to send next and what a reply means; [`driver`] is the
//! task that carries its frames; [`shared`] is what the two and the handles share.
//!
//! What a lost connection leaves unanswered is sent again at the next server. That doubles nothing, since every send
//! has a number and every other request a nonce.

mod api;
mod backup;
mod channels;
mod driver;
mod error;
#[cfg(test)]
mod fake;
mod history;
mod inbox;
mod message;
mod presence;
mod request;
mod session;
mod settings;
mod shared;
mod stream;
#[cfg(test)]
mod tests;

pub use self::api::Client;
pub use self::backup::{Backup, BackupError};
pub use self::error::{Doubt, Error, NoDelivery, SendError};
pub use self::history::History;
pub use self::inbox::Inbox;
pub use self::message::{Delivery, Message, Receipt, Registration};
pub use self::presence::{Change as PresenceChange, Presence};
pub use self::request::{CORRELATION_ID, DEADLINE_MS, REPLY_TO, RequestError, Requester};
pub use self::settings::ClientSettings;
pub use self::stream::{PendingDelivery, PendingReceipt, SendStream, Tracked};
pub use crate::wire::client::{
    ChannelRow, ClientRow, DiskCondition, DiskStatus, Member, ServerRow, SetAside, Status, StatusDetail,
};
pub use crate::wire::sharing::Recipients;
pub use crate::wire::sharing::{Fate, InboxSettings, Notice, Overflow};
