//! `restante channel`: channels, who is in them, and patterns of their names.

use clap::{Args, Subcommand};
use restante::client::Client;
use restante::wire::Name;
use restante::wire::sharing::{is_channel, is_pattern};
use serde::Serialize;

use super::failure::Failure;
use super::output::{Output, grouped};
use super::reach::Reach;
use super::table::{Side, render};

/// Create, join and leave channels; see who is in them; subscribe to patterns of their names.
///
/// What is sent to a channel comes into the inbox of everybody who has joined it, once, and in the same order to all of them,
/// also to those who are offline. Joining and leaving take effect between two messages, the same two for everybody.
///
/// A channel's name may have parts with . between them. A pattern is like such a name, with * for any one part, and > at its
/// end for one or more. Who has joined and subscribed gets a message once.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante channel create orders.new.eu
  restante channel join alice orders.new.eu
  restante channel subscribe bob 'orders.*.eu'
  restante channel subscribe carol 'orders.>'
  restante send --from dave --channel orders.new.eu '3 chairs'
  restante channel list
  restante channel members orders.new.eu --json | jq -r '.members[].name'")]
pub struct Channel {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a channel
    Create {
        /// Its name
        #[arg(value_parser = channel)]
        channel: Name,
        #[command(flatten)]
        output: Output,
    },
    /// End a channel; what was sent to it stays where it is
    Delete {
        /// Its name
        #[arg(value_parser = channel)]
        channel: Name,
        #[command(flatten)]
        output: Output,
    },
    /// Let a client join a channel
    Join {
        /// The client's name
        name: Name,
        /// The channel's name
        #[arg(value_parser = channel)]
        channel: Name,
        #[command(flatten)]
        output: Output,
    },
    /// Let a client leave a channel
    Leave {
        /// The client's name
        name: Name,
        /// The channel's name
        #[arg(value_parser = channel)]
        channel: Name,
        #[command(flatten)]
        output: Output,
    },
    /// Let a client get what is sent to any channel whose name fits a pattern
    Subscribe {
        /// The client's name
        name: Name,
        /// The pattern, e.g. 'orders.*.eu' or 'orders.>'
        #[arg(value_parser = pattern)]
        pattern: String,
        #[command(flatten)]
        output: Output,
    },
    /// End what subscribe began
    Unsubscribe {
        /// The client's name
        name: Name,
        /// The pattern, as it was given
        #[arg(value_parser = pattern)]
        pattern: String,
        #[command(flatten)]
        output: Output,
    },
    /// List the channels and how many have joined each
    List {
        #[command(flatten)]
        output: Output,
    },
    /// List who has joined a channel
    Members {
        /// The channel's name
        #[arg(value_parser = channel)]
        channel: Name,
        #[command(flatten)]
        output: Output,
    },
}

/// What was done, as JSON has it.
#[derive(Serialize)]
struct Done<'a> {
    done: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pattern: Option<&'a str>,
}

#[derive(Serialize)]
struct Channels {
    channels: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    members: u64,
}

#[derive(Serialize)]
struct Members {
    members: Vec<Member>,
}

#[derive(Serialize)]
struct Member {
    name: String,
    /// Too large for a number of JavaScript.
    registration: String,
}

impl Channel {
    /// Does it.
    ///
    /// # Errors
    /// The cluster refused it, or did not answer.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        let client = reach.connect(None).await?;
        let done = self.command.carry_out(&client).await;
        client.close().await;
        done
    }
}

impl Command {
    async fn carry_out(&self, client: &Client) -> Result<(), Failure> {
        let (done, output, text) = match self {
            Self::Create { channel, output } => {
                let what = format!("cannot create channel {channel}");
                client.create_channel(channel).await.map_err(|e| Failure::from(e).while_doing(what))?;
                (Done::new("created", None, Some(channel), None), output, format!("created channel {channel}"))
            }
            Self::Delete { channel, output } => {
                let what = format!("cannot delete channel {channel}");
                client.delete_channel(channel).await.map_err(|e| Failure::from(e).while_doing(what))?;
                (Done::new("deleted", None, Some(channel), None), output, format!("deleted channel {channel}"))
            }
            Self::Join { name, channel, output } => {
                let what = format!("{name} cannot join {channel}");
                client.join(name, channel).await.map_err(|e| Failure::from(e).while_doing(what))?;
                (Done::new("joined", Some(name), Some(channel), None), output, format!("{name} is in {channel}"))
            }
            Self::Leave { name, channel, output } => {
                let what = format!("{name} cannot leave {channel}");
                client.leave(name, channel).await.map_err(|e| Failure::from(e).while_doing(what))?;
                (Done::new("left", Some(name), Some(channel), None), output, format!("{name} is not in {channel}"))
            }
            Self::Subscribe { name, pattern, output } => {
                let what = format!("{name} cannot subscribe to {pattern}");
                client.subscribe(name, pattern).await.map_err(|e| Failure::from(e).while_doing(what))?;
                (Done::new("subscribed", Some(name), None, Some(pattern)), output, format!("{name} gets {pattern}"))
            }
            Self::Unsubscribe { name, pattern, output } => {
                let what = format!("{name} cannot unsubscribe from {pattern}");
                client.unsubscribe(name, pattern).await.map_err(|e| Failure::from(e).while_doing(what))?;
                let text = format!("{name} does not get {pattern}");
                (Done::new("unsubscribed", Some(name), None, Some(pattern)), output, text)
            }
            Self::List { output } => {
                let rows = client.channels().await?;
                let rows = rows.into_iter().map(|row| Row { name: row.name.to_string(), members: row.members });
                return output.print(&Channels { channels: rows.collect() }, channels);
            }
            Self::Members { channel, output } => {
                let what = format!("cannot list the members of {channel}");
                let rows = client.members(channel).await.map_err(|e| Failure::from(e).while_doing(what))?;
                let row = |row: restante::client::Member| Member {
                    name: row.name.to_string(),
                    registration: row.registration.to_string(),
                };
                let members = Members { members: rows.into_iter().map(row).collect() };
                return output.print(&members, |members| text_of(members, channel));
            }
        };
        output.print(&done, |_| text)
    }
}

impl<'a> Done<'a> {
    fn new(done: &'static str, name: Option<&'a str>, channel: Option<&'a str>, pattern: Option<&'a str>) -> Self {
        Self { done, name, channel, pattern }
    }
}

fn channels(channels: &Channels) -> String {
    if channels.channels.is_empty() {
        return "there is no channel; `restante channel create NAME` makes one\n".to_owned();
    }
    let rows: Vec<_> = channels.channels.iter().map(|row| [row.name.clone(), grouped(row.members)]).collect();
    render([("CHANNEL", Side::Left), ("MEMBERS", Side::Right)], &rows)
}

fn text_of(members: &Members, channel: &Name) -> String {
    if members.members.is_empty() {
        return format!("nobody has joined {channel}\n");
    }
    members.members.iter().map(|member| format!("{}\n", member.name)).collect()
}

/// The name of a channel.
///
/// # Errors
/// What is wrong with it.
pub fn channel(text: &str) -> Result<Name, String> {
    let good = is_channel(text).then(|| Name::new(text).ok()).flatten();
    good.ok_or_else(|| "use 1 to 64 of A-Z a-z 0-9 _ - with . between parts, e.g. orders.new.eu".to_owned())
}

fn pattern(text: &str) -> Result<String, String> {
    if is_pattern(text) {
        Ok(text.to_owned())
    } else {
        Err("use parts with . between them, * for any one part, > at the end for the rest, e.g. 'orders.*.eu'"
            .to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_patterns_are_told_apart() {
        assert!(channel("orders.new").is_ok() && channel("orders.*").is_err() && channel("orders.").is_err());
        assert!(pattern("orders.*").is_ok() && pattern("orders.>").is_ok() && pattern("or>").is_err());
    }

    #[test]
    fn what_is_listed_reads_well_and_so_does_nothing() {
        let rows = vec![Row { name: "orders.new".into(), members: 10_000 }];
        assert_eq!(channels(&Channels { channels: rows }), "CHANNEL     MEMBERS\norders.new   10,000\n");
        assert!(channels(&Channels { channels: vec![] }).contains("there is no channel"));
        let orders = Name::new("orders").expect("a name");
        assert_eq!(text_of(&Members { members: vec![] }, &orders), "nobody has joined orders\n");
    }
}
