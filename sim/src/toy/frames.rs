//! What the toy's frames say.

use std::collections::{BTreeMap, VecDeque};

use restante::wire::frame::{self, Frame};

use super::{Reply, Request};
use crate::history::SendKey;
use crate::record::{Interpreter, Said, Sort};

/// Remembers what was asked: replies come in the order of the requests.
#[derive(Debug, Default)]
pub(super) struct Frames(BTreeMap<String, VecDeque<Vec<SendKey>>>);

impl Interpreter for Frames {
    fn prelude(&self, _: &[u8; 4]) -> Option<usize> {
        Some(0)
    }

    fn said(&mut self, connection: &str, opener: bool, frame: &Frame) -> Said {
        let asked = self.0.entry(connection.to_owned()).or_default();
        if opener {
            let Ok((request, _)) = frame::take::<Request>(&frame.payload) else { return malformed() };
            let (text, sends) = match request {
                Request::Put(letter) => {
                    let text = format!("Put #{} for {} ({} B)", letter.number, letter.to, letter.body.len());
                    (text, SendKey::of_body(&letter.body).0.into_iter().collect())
                }
                Request::Attach { inbox, expected, .. } => (format!("Attach to {inbox}, after {expected}"), Vec::new()),
                Request::Get { inbox, after, .. } => (format!("Get from {inbox} after {after}"), Vec::new()),
                Request::Acknowledge { inbox, to, .. } => (format!("Acknowledge {inbox} up to {to}"), Vec::new()),
            };
            asked.push_back(sends.clone());
            return Said { sort: Sort::Client, text, sends };
        }
        let mut sends = asked.pop_front().unwrap_or_default();
        let Ok((reply, _)) = frame::take::<Reply>(&frame.payload) else { return malformed() };
        let text = match reply {
            Reply::Accepted { position } => format!("Accepted at {position}"),
            Reply::Attached { epoch, acknowledged } => {
                format!("Attached, epoch {epoch}, acknowledged up to {acknowledged}")
            }
            Reply::Moved { current } => format!("The epoch is {current}"),
            Reply::Letters(letters) => {
                sends.extend(letters.iter().filter_map(|(_, _, letter)| SendKey::of_body(&letter.body).0));
                let positions: Vec<String> = letters.iter().map(|(position, ..)| position.to_string()).collect();
                if letters.is_empty() { "Nothing".to_owned() } else { format!("Letters {}", positions.join(", ")) }
            }
            Reply::Acknowledged => "Acknowledged".to_owned(),
            Reply::Fenced => "A newer reader has come".to_owned(),
        };
        Said { sort: Sort::Client, text, sends }
    }
}

fn malformed() -> Said {
    Said::new(Sort::Other, "malformed")
}
