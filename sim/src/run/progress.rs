//! What is still missing, read off the clients' journals as they grow.

use std::collections::BTreeSet;

use crate::history::{Entry, Journal, Process, SendKey, What};
use crate::plan::Plan;

#[derive(Debug)]
pub(super) struct Progress {
    read: usize,
    /// Clients that have more to send.
    sending: BTreeSet<String>,
    /// Sends whose outcome their client does not know yet.
    open: BTreeSet<(Process, SendKey)>,
    /// Accepted and not delivered.
    accepted: BTreeSet<SendKey>,
    delivered: BTreeSet<SendKey>,
}

impl Progress {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            read: 0,
            sending: plan.client_names().into_iter().collect(),
            open: BTreeSet::new(),
            accepted: BTreeSet::new(),
            delivered: BTreeSet::new(),
        }
    }

    /// Whether all that is missing, as far as was read, is the arrival of what was accepted. When the service has been
    /// calm and live for as long as the plan allows, that is a loss.
    pub(super) fn only_arrivals_are_missing(&self) -> bool {
        self.sending.is_empty() && self.open.is_empty() && !self.accepted.is_empty()
    }

    /// Reads on.
    ///
    /// # Errors
    /// What is missing.
    pub(super) fn missing(&mut self, journal: &Journal) -> Result<(), String> {
        journal.look(self.read, |entries| {
            entries.iter().for_each(|entry| self.read_entry(entry));
            self.read += entries.len();
        });
        if let Some(client) = self.sending.first() {
            return Err(format!("{} clients have more to send, {client} among them", self.sending.len()));
        }
        if let Some((process, send)) = self.open.first() {
            return Err(format!("{} sends have no outcome, {send} of {process} among them", self.open.len()));
        }
        match self.accepted.first() {
            Some(send) => Err(format!("{} accepted sends have not arrived, {send} among them", self.accepted.len())),
            None => Ok(()),
        }
    }

    fn read_entry(&mut self, entry: &Entry) {
        match &entry.what {
            What::SentAll => drop(self.sending.remove(&entry.process.client)),
            What::Invoked { send, .. } => drop(self.open.insert((entry.process.clone(), send.clone()))),
            What::Accepted { send, .. } => {
                self.open.remove(&(entry.process.clone(), send.clone()));
                if !self.delivered.contains(send) {
                    self.accepted.insert(send.clone());
                }
            }
            What::Refused { send, .. } | What::Unknown { send } => {
                self.open.remove(&(entry.process.clone(), send.clone()));
            }
            What::Delivered { send: Some(send), .. } => {
                self.accepted.remove(send);
                self.delivered.insert(send.clone());
            }
            What::Died => self.open.retain(|(process, _)| *process != entry.process),
            _ => {}
        }
    }
}
