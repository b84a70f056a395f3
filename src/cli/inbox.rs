//! `restante inbox`: what an inbox does when it is full, and what it keeps; and `restante replay`.

use std::collections::VecDeque;
use std::time::Duration;

use clap::{Args, Subcommand};
use restante::client::{Client, Delivery, InboxSettings, Overflow};
use restante::limits;
use restante::wire::{Name, Position};
use serde::Serialize;

use super::failure::Failure;
use super::listen;
use super::output::{self, Output, grouped, span};
use super::reach::Reach;
use super::values;

/// Messages asked for at once.
const PAGE: u32 = 1000;

/// See and set what an inbox does when it is full, and what it keeps of what was acknowledged.
///
/// An inbox that is full refuses messages, so that senders slow down and nothing is lost. One whose owner would rather have the
/// latest can drop its oldest instead. And it can keep acknowledged messages for a while, for `restante replay`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante inbox show bob
  restante inbox set bob --keep 1000 --keep-for 24h
  restante inbox set prices --overflow drop-oldest
  restante inbox set bob --keep 0")]
pub struct Inbox {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Show what is set
    Show {
        /// The client's name
        name: Name,
        #[command(flatten)]
        output: Output,
    },
    /// Change what is given, and leave the rest as it is
    Set {
        /// The client's name
        name: Name,
        /// What becomes of a message for an inbox that is full
        #[arg(long, value_name = "WHAT", required_unless_present_any = ["keep", "keep_for"])]
        overflow: Option<WhenFull>,
        /// Keep so many acknowledged messages; 0 for none
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(..=i64::from(limits::KEPT_MESSAGES_MAX)))]
        keep: Option<u32>,
        /// Keep none longer than that after it was acknowledged, e.g. 24h; `forever` for as long as there is room
        #[arg(long, value_name = "DURATION", value_parser = keep_for)]
        keep_for: Option<Duration>,
        #[command(flatten)]
        output: Output,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum WhenFull {
    /// It is refused, and its sender told so
    Refuse,
    /// The oldest that wait make room for it
    DropOldest,
}

/// What is set, as JSON has it.
#[derive(Serialize)]
struct Settings<'a> {
    name: &'a str,
    overflow: &'static str,
    keep_messages: u32,
    keep_ms: u64,
    /// How many are kept now.
    kept: u64,
}

/// A duration, or nothing for ever.
fn keep_for(text: &str) -> Result<Duration, String> {
    if text == "forever" { Ok(Duration::ZERO) } else { values::duration(text) }
}

impl Inbox {
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
        let (Self::Show { name, output } | Self::Set { name, output, .. }) = self;
        let ask = async || {
            let asked = client.inbox_settings(name).await;
            asked.map_err(|error| Failure::from(error).while_doing(format_args!("cannot show the inbox of {name}")))
        };
        let (mut settings, mut kept) = ask().await?;
        if let Self::Set { overflow, keep, keep_for, .. } = self {
            match overflow {
                Some(WhenFull::Refuse) => settings.overflow = Overflow::Refuse,
                Some(WhenFull::DropOldest) => settings.overflow = Overflow::DropOldest,
                None => {}
            }
            settings.keep_messages = keep.unwrap_or(settings.keep_messages);
            if let Some(time) = keep_for {
                settings.keep_ms = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            }
            let set = client.set_inbox(name, settings).await;
            set.map_err(|error| Failure::from(error).while_doing(format_args!("cannot set up the inbox of {name}")))?;
            (settings, kept) = ask().await?;
        }
        let InboxSettings { overflow, keep_messages, keep_ms } = settings;
        let shown = Settings { name, overflow: overflow.name(), keep_messages, keep_ms, kept };
        output.print(&shown, text)
    }
}

fn text(settings: &Settings<'_>) -> String {
    let full = match settings.overflow {
        "refuse" => "refuses messages when it is full",
        _ => "drops its oldest messages when it is full",
    };
    let keeps = match (settings.keep_messages, settings.keep_ms) {
        (0, _) => "keeps nothing of what was acknowledged".to_owned(),
        (messages, ms) => {
            let last = match messages {
                1 => "the last acknowledged message".to_owned(),
                more => format!("the last {} acknowledged messages", grouped(more.into())),
            };
            let time = if ms > 0 { format!(", for {}", span(Duration::from_millis(ms))) } else { String::new() };
            format!("keeps {last}{time}")
        }
    };
    let now = if settings.keep_messages > 0 { format!(" ({} now)", grouped(settings.kept)) } else { String::new() };
    format!("{}'s inbox {full}, and {keeps}{now}", settings.name)
}

/// Print again what an inbox has kept after it was acknowledged.
///
/// It takes nothing, and disturbs nobody who listens. What is kept is set with `restante inbox set`.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante replay bob
  restante replay bob --last 10
  restante replay bob --from 120 --json | jq -r .body")]
pub struct Replay {
    /// The client's name
    name: Name,
    /// Begin at this position
    #[arg(long, value_name = "POSITION", default_value_t = 1)]
    from: u64,
    /// Only the last so many
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    last: Option<u32>,
    #[command(flatten)]
    output: Output,
}

impl Replay {
    /// Prints them.
    ///
    /// # Errors
    /// No such client, or the cluster did not answer.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        let client = reach.connect(None).await?;
        let done = self.print_all(&client).await;
        client.close().await;
        done
    }

    async fn print_all(&self, client: &Client) -> Result<(), Failure> {
        let mut held: VecDeque<Delivery> = VecDeque::new();
        let mut printed = false;
        let mut next = Some(Position(self.from));
        while let Some(from) = next {
            let page = client.history(&self.name, from, PAGE).await;
            let page = page.map_err(|error| {
                Failure::from(error).while_doing(format_args!("cannot replay the inbox of {}", self.name))
            })?;
            next = page.next;
            match self.last {
                Some(last) => {
                    held.extend(page.messages);
                    let surplus = held.len().saturating_sub(last as usize);
                    held.drain(..surplus);
                }
                None => {
                    printed |= !page.messages.is_empty();
                    page.messages.iter().try_for_each(|message| self.print(message))?;
                }
            }
        }
        held.iter().try_for_each(|message| self.print(message))?;
        if !printed && held.is_empty() && !self.output.json {
            let (settings, _) = client.inbox_settings(&self.name).await?;
            if settings.keep_messages == 0 {
                eprintln!("{0}'s inbox keeps nothing; `restante inbox set {0} --keep 1000` lets it do so", self.name);
            } else {
                eprintln!("{}'s inbox has kept nothing from position {} on", self.name, self.from);
            }
        }
        Ok(())
    }

    fn print(&self, message: &Delivery) -> Result<(), Failure> {
        output::print(&(listen::line(message, self.output) + "\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_one_sentence() {
        let settings = Settings { name: "bob", overflow: "refuse", keep_messages: 0, keep_ms: 5, kept: 0 };
        assert_eq!(
            text(&settings),
            "bob's inbox refuses messages when it is full, and keeps nothing of what was acknowledged"
        );
        let settings =
            Settings { overflow: "drop-oldest", keep_messages: 1000, keep_ms: 3_600_000, kept: 7, ..settings };
        assert_eq!(
            text(&settings),
            "bob's inbox drops its oldest messages when it is full, and keeps the last 1,000 acknowledged messages, for 60 min (7 now)"
        );
    }
}
