//! `restante who`.

use std::time::Duration;

use clap::Args;
use restante::client::{Client, PresenceChange};
use restante::wire::Time;
use restante::wire::client::ClientRow;
use serde::Serialize;

use super::failure::Failure;
use super::interrupt::Interrupt;
use super::output::{Output, grouped, size, span};
use super::reach::Reach;
use super::table::{Side, render};

/// Show the registered clients: where they are, and what waits for them.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante who
  restante who --watch                           what changes, until Ctrl-C
  restante who --json | jq '.clients[] | select(.waiting > 0) | .name'")]
pub struct Who {
    /// Go on with what changes: who comes online, goes, moves
    #[arg(long)]
    watch: bool,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Clients {
    clients: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    /// Too large for a number of JavaScript.
    registration: String,
    home: String,
    online: bool,
    last_seen_ms: u64,
    /// How long ago that was, by the cluster's clock.
    silent_ms: u64,
    waiting: u64,
    waiting_bytes: u64,
    streams: u32,
}

impl Who {
    /// Shows the clients.
    ///
    /// # Errors
    /// The cluster did not answer.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        let client = reach.connect(None).await?;
        if self.watch {
            return self.watch(&client).await;
        }
        let rows = client.who().await?;
        let now = client.status().await?.time;
        client.close().await;
        let clients = Clients { clients: rows.into_iter().map(|row| Row::new(row, now)).collect() };
        self.output.print(&clients, text)
    }
}

/// A change, as JSON has it.
#[derive(Serialize)]
struct Changed<'a> {
    change: &'static str,
    name: &'a str,
    home: &'a str,
    online: bool,
    last_seen_ms: u64,
}

impl Who {
    async fn watch(&self, client: &Client) -> Result<(), Failure> {
        let mut interrupt = Interrupt::new()?;
        let mut presence = client.presence();
        loop {
            let change = tokio::select! {
                biased;
                _ = interrupt.next() => return Ok(()),
                change = presence.next() => change?,
            };
            let (what, row, from) = match &change {
                PresenceChange::Registered(row) => ("registered", row, None),
                PresenceChange::Online(row) => ("online", row, None),
                PresenceChange::Offline(row) => ("offline", row, None),
                PresenceChange::Moved { row, from } => ("moved", row, Some(from)),
                PresenceChange::Deregistered(row) => ("deregistered", row, None),
            };
            let changed = Changed {
                change: what,
                name: &row.name,
                home: &row.home,
                online: row.online,
                last_seen_ms: row.last_seen.0,
            };
            self.output.print(&changed, |changed| match from {
                Some(from) => format!("{} moved from server {from} to {}", changed.name, changed.home),
                None if what == "online" => format!("{} is online at server {}", changed.name, changed.home),
                None => format!("{} is {what}", changed.name),
            })?;
        }
    }
}

impl Row {
    fn new(row: ClientRow, now: Time) -> Self {
        Self {
            name: row.name.to_string(),
            registration: row.registration.to_string(),
            home: row.home.to_string(),
            online: row.online,
            last_seen_ms: row.last_seen.0,
            silent_ms: now.0.saturating_sub(row.last_seen.0),
            waiting: row.waiting,
            waiting_bytes: row.waiting_bytes,
            streams: row.streams,
        }
    }
}

fn text(clients: &Clients) -> String {
    if clients.clients.is_empty() {
        return "no client is registered; `restante register NAME` registers one\n".to_owned();
    }
    let rows: Vec<_> = clients
        .clients
        .iter()
        .map(|row| {
            let seen = match row.online {
                true => "online".to_owned(),
                false => format!("seen {} ago", span(Duration::from_millis(row.silent_ms))),
            };
            let (waiting, bytes) = (grouped(row.waiting), size(row.waiting_bytes));
            [row.name.clone(), row.home.clone(), seen, waiting, bytes, row.streams.to_string()]
        })
        .collect();
    let heads = [
        ("CLIENT", Side::Left),
        ("HOME", Side::Left),
        ("STATE", Side::Left),
        ("WAITING", Side::Right),
        ("SIZE", Side::Right),
        ("STREAMS", Side::Right),
    ];
    render(heads, &rows)
}

#[cfg(test)]
mod tests {
    use restante::wire::{Id, Name};

    use super::*;

    #[test]
    fn a_client_is_online_or_was_seen() {
        let row = |online, last_seen| ClientRow {
            name: Name::new("alice").unwrap(),
            registration: Id(1),
            home: Name::new("a").unwrap(),
            online,
            last_seen: Time(last_seen),
            waiting: 1500,
            waiting_bytes: 2048,
            streams: 1,
        };
        let shown = |row| text(&Clients { clients: vec![Row::new(row, Time(10_000))] });
        assert!(
            shown(row(true, 0)).contains("alice   a     online    1,500  2.0 KiB        1"),
            "{}",
            shown(row(true, 0))
        );
        assert!(shown(row(false, 7_000)).contains("seen 3.00 s ago"));
        assert!(shown(row(false, 12_000)).contains("seen 0.00 s ago"), "a clock that is behind is no underflow");
        assert!(text(&Clients { clients: vec![] }).contains("no client is registered"));
    }
}
