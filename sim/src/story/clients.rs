//! What the clients saw, out of their journals.

use super::{Kind, Lane, Moment, find};
use crate::history::{SendKey, What, Why};
use crate::record::Record;
use crate::run::Outcome;

/// Every entry of the journals, under the ordinal of the event that it left in the trace.
pub(super) fn moments(lanes: &[Lane], outcome: &Outcome, record: &Record) -> Vec<Moment> {
    let events = (1..).zip(&record.events).filter(|(_, event)| event.kind.starts_with("client."));
    let entries = outcome.history.entries.iter().zip(events);
    let moments = entries.map(|(entry, (ordinal, _))| {
        let (kind, text, send) = told(&entry.what);
        Moment { at: entry.at, ordinal, lane: find(lanes, &entry.process.client), kind, text, send: send.cloned() }
    });
    moments.collect()
}

fn told(what: &What) -> (Kind, String, Option<&SendKey>) {
    match what {
        What::Registering { name, .. } => (Kind::Registered, format!("asks to register {name}"), None),
        What::Registered { name, registration, .. } => {
            (Kind::Registered, format!("{name} is registered (registration {registration})"), None)
        }
        What::Deregistering { name, .. } => (Kind::Registered, format!("asks to deregister {name}"), None),
        What::Deregistered { name, .. } => (Kind::Registered, format!("{name} is registered no more"), None),
        What::Invoked { send, to, .. } => (Kind::Sent, format!("sends {send} to {to}"), Some(send)),
        What::Resent { send } => (Kind::Sent, format!("sends {send} again"), Some(send)),
        What::Accepted { send, position } => {
            (Kind::Receipt, format!("has the receipt of {send}: position {position}"), Some(send))
        }
        What::Refused { send, why } => (Kind::Refused, format!("{send} is refused: {}", reason(why)), Some(send)),
        What::Unknown { send } => (Kind::Refused, format!("does not know what became of {send}"), Some(send)),
        What::Attaching { session, inbox, .. } => {
            (Kind::Attached, format!("wants to read the inbox of {inbox} (session {session})"), None)
        }
        What::Attached { session, inbox, .. } => {
            (Kind::Attached, format!("reads the inbox of {inbox} (session {session})"), None)
        }
        What::Delivered { session, inbox, position, redelivered, from, send, .. } => {
            let again = if *redelivered { ", marked as a repeat" } else { "" };
            let what = send.as_ref().map_or_else(|| format!("something of {from}"), ToString::to_string);
            let text = format!("receives {what} from position {position} of {inbox} (session {session}){again}");
            (Kind::Delivered, text, send.as_ref())
        }
        What::Created { channel } => (Kind::Client, format!("knows of channel {channel}"), None),
        What::Enlisting { change, .. } => (Kind::Client, format!("asks for {change:?}"), None),
        What::Enlisted { .. } => (Kind::Client, "has what it asked for of channels".to_owned(), None),
        What::Posted { send, to, .. } => (Kind::Sent, format!("sends {send} to {to:?}"), Some(send)),
        What::Reached { send, inboxes, full } => {
            let text = format!("has the receipt of {send}: in {inboxes} inboxes, {full} were full");
            (Kind::Receipt, text, Some(send))
        }
        What::Scheduled { send, due } => {
            (Kind::Receipt, format!("has the receipt of {send}, which comes at {due} ms"), Some(send))
        }
        What::Kept { inbox, messages, .. } => {
            (Kind::Client, format!("is shown {} messages that {inbox} has kept", messages.len()), None)
        }
        What::NotReached { send, why } => (Kind::Refused, format!("{send} reached nobody: {why:?}"), Some(send)),
        What::PostUnknown { send } => (Kind::Refused, format!("does not know what became of {send}"), Some(send)),
        What::Receipted { send, acknowledged, ended } => {
            let text = format!("is told of {send}: {acknowledged} acknowledged it, {ended} were gone");
            (Kind::Receipt, text, Some(send))
        }
        What::Acknowledged { session, inbox, from, to } => {
            let range = if *from <= 1 { format!("up to {to}") } else { format!("{from}..{to}") };
            (Kind::Acknowledged, format!("acknowledges {range} of {inbox} (session {session})"), None)
        }
        What::Confirmed { session, inbox, to } => {
            (Kind::Confirmed, format!("knows that {inbox} is acknowledged up to {to} (session {session})"), None)
        }
        What::Ended { session, inbox } => {
            (Kind::Attached, format!("no longer reads the inbox of {inbox} (session {session})"), None)
        }
        What::Asking { .. } => (Kind::Client, "asks who is there".to_owned(), None),
        What::Came { name, how, .. } => (Kind::Client, format!("is told of {name}: {how:?}"), None),
        What::Listed { clients, .. } => {
            let names: Vec<&str> = clients.iter().map(|row| row.name.as_str()).collect();
            (Kind::Client, format!("is told that these are there: {}", names.join(", ")), None)
        }
        What::Told { server, term, leads, applied, .. } => {
            let role = if *leads { "leads" } else { "does not lead" };
            (Kind::Client, format!("hears of {server} that it {role} in term {term} and has applied {applied}"), None)
        }
        What::Rested { stage } => (Kind::Client, format!("sends no more in the stage {stage:?}"), None),
        What::Ordered { what } => (Kind::Client, format!("is told: {what}"), None),
        What::CarriedOut { what, how } => (Kind::Client, format!("{what}: {how}"), None),
        What::Died => (Kind::Down, "dies".to_owned(), None),
    }
}

fn reason(why: &Why) -> String {
    match why {
        Why::NoSuchClient => "no such client".to_owned(),
        Why::InboxFull => "the inbox is full".to_owned(),
        Why::StreamClosed => "the stream is closed".to_owned(),
        Why::NotSent => "it was never sent".to_owned(),
        Why::Other(text) => text.clone(),
    }
}
