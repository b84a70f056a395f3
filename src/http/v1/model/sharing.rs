//! Who messages go to, channels, and delivered receipts.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::problem::Problem;
use super::name;
use crate::limits;
use crate::wire::sharing::{self, Recipients, is_channel};

/// Who a message goes to: a client, several clients (all of them or none), the members of a channel, or everybody.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Destination {
    /// One client.
    Client(ClientName),
    /// Several clients: all of them get it or none. Who is named twice gets it once.
    Clients(ClientNames),
    /// Everybody who is a member of a channel, or has subscribed to a pattern that its name fits.
    Channel(ToChannel),
    /// Every registered client, the sender with them.
    Everybody(ToEverybody),
}

/// A client's name.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$", example = "bob")]
pub struct ClientName(String);

/// Names of clients.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[schema(value_type = Vec<ClientName>, min_items = 1, max_items = 64)]
pub struct ClientNames(Vec<String>);

/// Everybody who gets what is sent to a channel.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToChannel {
    /// The channel's name.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9_-]+([.][A-Za-z0-9_-]+)*$",
        example = "orders.new"
    )]
    channel: String,
}

/// Every registered client.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ToEverybody {
    /// All of what.
    all: All,
}

/// All of what a message goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum All {
    /// All clients.
    Clients,
}

impl Destination {
    /// The recipients.
    pub fn recipients(&self) -> Result<Recipients, Problem> {
        let recipients = match self {
            Self::Client(client) => Recipients::Client(name("to", &client.0)?),
            Self::Clients(clients) => {
                Recipients::Clients(clients.0.iter().map(|client| name("to", client)).collect::<Result<_, _>>()?)
            }
            Self::Channel(to) if is_channel(&to.channel) => Recipients::Channel(name("channel", &to.channel)?),
            Self::Channel(_) => return Err(Problem::invalid("`channel` is no channel's name")),
            Self::Everybody(_) => Recipients::Everybody,
        };
        if recipients.is_allowed() {
            Ok(recipients)
        } else {
            Err(Problem::invalid(format!("`to` names 1 to {} clients", limits::RECIPIENTS_MAX)))
        }
    }
}

/// A channel to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChannelMaking {
    /// Its name: parts with `.` between them.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9_-]+([.][A-Za-z0-9_-]+)*$",
        example = "orders.new"
    )]
    pub name: String,
}

/// A channel that there is now.
#[derive(Debug, Serialize, ToSchema)]
pub struct MadeChannel {
    /// Its name.
    pub name: String,
    /// Whether it was not there before.
    pub created: bool,
}

/// A channel.
#[derive(Debug, Serialize, ToSchema)]
pub struct Channel {
    /// Its name.
    pub name: String,
    /// How many have joined it. Those who subscribe to a pattern are not counted.
    pub members: u64,
}

/// Channels, names ascending.
#[derive(Debug, Serialize, ToSchema)]
pub struct Channels {
    /// Some of them.
    pub channels: Vec<Channel>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// Somebody who has joined a channel.
#[derive(Debug, Serialize, ToSchema)]
pub struct Member {
    /// The client's name.
    pub client: String,
    /// Its registration.
    pub registration: u64,
}

/// Members of a channel, registrations ascending.
#[derive(Debug, Serialize, ToSchema)]
pub struct Members {
    /// Some of them.
    pub members: Vec<Member>,
    /// Whether there are more after the last one.
    pub more: bool,
}

/// What a client gets besides what is sent to itself.
#[derive(Debug, Serialize, ToSchema)]
pub struct Enlisted {
    /// The channels that it has joined, names ascending.
    pub channels: Vec<String>,
    /// The patterns of channels' names that it has subscribed to.
    pub patterns: Vec<String>,
}

/// What became of a message at its recipients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Fate {
    /// How many acknowledged it.
    pub acknowledged: u32,
    /// How many had it expire before.
    pub expired: u32,
    /// How many had their registration end before.
    pub ended: u32,
    /// In how many inboxes it made room for a later one, since they drop their oldest.
    pub dropped: u32,
    /// Whether every copy was acknowledged.
    pub delivered: bool,
}

impl From<sharing::Fate> for Fate {
    fn from(fate: sharing::Fate) -> Self {
        let sharing::Fate { acknowledged, ended, expired, dropped } = fate;
        Self { acknowledged, expired, ended, dropped, delivered: fate.is_delivered() }
    }
}

/// A delivered receipt.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveredReceipt {
    /// Its place among all of the stream's, counted from 1.
    pub sequence: u64,
    /// The number of the send.
    pub number: u64,
    /// What became of it.
    pub fate: Fate,
}

/// Delivered receipts of a stream, in the order in which they came.
#[derive(Debug, Serialize, ToSchema)]
pub struct DeliveredReceipts {
    /// Those that are not collected yet.
    pub receipts: Vec<DeliveredReceipt>,
}

/// A delivered receipt that came as a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
pub struct Notice {
    /// The stream of the send.
    pub stream: u64,
    /// Its number.
    pub number: u64,
    /// What became of it.
    pub fate: Fate,
}

impl From<sharing::Notice> for Notice {
    fn from(notice: sharing::Notice) -> Self {
        Self { stream: notice.stream.0, number: notice.number.0, fate: notice.fate.into() }
    }
}
