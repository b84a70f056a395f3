//! What is still missing, read off the clients' journals as they grow.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::{Change, Entry, Journal, Process, SendKey, To, What};
use crate::plan::Plan;
use crate::scenario::Stage;

#[derive(Debug)]
pub(super) struct Progress {
    read: usize,
    /// Up to which stage each client has nothing more to send.
    rested: BTreeMap<String, Stage>,
    /// Sends whose outcome their client does not know yet.
    open: BTreeSet<(Process, SendKey)>,
    /// Sends that are in no inbox that is known of.
    undelivered: BTreeMap<SendKey, Sent>,
    /// Accepted and not delivered, and nobody asked for the end of their recipients.
    accepted: BTreeSet<SendKey>,
    /// Sends to many that were accepted for so many inboxes, and the names of those that they have come to. While nobody
    /// has asked for the end of a registration.
    shared: BTreeMap<SendKey, (usize, BTreeSet<String>)>,
    renewed: bool,
    /// Sends to several that are to be delivered later, and how many they are for.
    named: BTreeMap<SendKey, usize>,
    /// How many questions for the end of a name are on their way.
    endings: BTreeMap<String, u32>,
}

#[derive(Debug)]
struct Sent {
    to: String,
    /// Its recipient may be gone.
    excused: bool,
}

impl Progress {
    pub(super) fn new(plan: &Plan) -> Self {
        Self {
            read: 0,
            rested: plan.client_names().into_iter().map(|name| (name, Stage::Faults)).collect(),
            open: BTreeSet::new(),
            undelivered: BTreeMap::new(),
            accepted: BTreeSet::new(),
            shared: BTreeMap::new(),
            renewed: false,
            named: BTreeMap::new(),
            endings: BTreeMap::new(),
        }
    }

    /// Whether all that is missing in `stage`, as far as was read, is the arrival of what was accepted. When the service
    /// has been calm and live for as long as the plan allows, that is a loss.
    pub(super) fn only_arrivals_are_missing(&self, stage: Stage) -> bool {
        self.restless(stage).next().is_none() && self.open.is_empty() && self.has_to_arrive()
    }

    fn has_to_arrive(&self) -> bool {
        !self.accepted.is_empty() || self.late().next().is_some()
    }

    fn late(&self) -> impl Iterator<Item = &SendKey> {
        self.shared.iter().filter(|(_, (inboxes, came))| came.len() < *inboxes && !self.renewed).map(|(send, _)| send)
    }

    fn restless(&self, stage: Stage) -> impl Iterator<Item = &str> {
        self.rested.iter().filter(move |(_, rested)| **rested < stage).map(|(client, _)| client.as_str())
    }

    /// Reads on.
    ///
    /// # Errors
    /// What is missing in `stage`.
    pub(super) fn missing(&mut self, journal: &Journal, stage: Stage) -> Result<(), String> {
        journal.look(self.read, |entries| {
            entries.iter().for_each(|entry| self.read_entry(entry));
            self.read += entries.len();
        });
        if let Some(client) = self.restless(stage).next() {
            return Err(format!("{} clients have more to send, {client} among them", self.restless(stage).count()));
        }
        if let Some((process, send)) = self.open.first() {
            return Err(format!("{} sends have no outcome, {send} of {process} among them", self.open.len()));
        }
        match self.accepted.first() {
            Some(send) => Err(format!("{} accepted sends have not arrived, {send} among them", self.accepted.len())),
            None => match self.late().next() {
                Some(send) => Err(format!("{} sends to many have not arrived, {send} among them", self.late().count())),
                None => Ok(()),
            },
        }
    }

    /// What waits for that name may go with its registration, or make room.
    fn may_go(&mut self, name: &str) {
        self.renewed = true;
        *self.endings.entry(name.to_owned()).or_default() += 1;
        for (send, sent) in self.undelivered.iter_mut().filter(|(_, sent)| sent.to == *name) {
            sent.excused = true;
            self.accepted.remove(send);
        }
    }

    fn read_entry(&mut self, entry: &Entry) {
        match &entry.what {
            What::Rested { stage } => {
                let rested = self.rested.entry(entry.process.client.clone()).or_default();
                *rested = (*rested).max(*stage);
            }
            What::Invoked { send, to, .. } => {
                self.open.insert((entry.process.clone(), send.clone()));
                let excused = self.endings.get(to).is_some_and(|asked| *asked > 0);
                self.undelivered.insert(send.clone(), Sent { to: to.clone(), excused });
            }
            What::Accepted { send, .. } => {
                self.open.remove(&(entry.process.clone(), send.clone()));
                if self.undelivered.get(send).is_some_and(|sent| !sent.excused) {
                    self.accepted.insert(send.clone());
                }
            }
            What::Posted { send, to, expires, delayed, .. } => {
                self.open.insert((entry.process.clone(), send.clone()));
                if *expires == 0 {
                    self.shared.insert(send.clone(), (0, BTreeSet::new()));
                }
                if let (true, To::Clients(names)) = (delayed, to) {
                    self.named.insert(send.clone(), names.iter().collect::<BTreeSet<_>>().len());
                }
            }
            What::Scheduled { send, .. } => {
                self.open.remove(&(entry.process.clone(), send.clone()));
                // Who else gets it shows when its time has come.
                if let (Some(named), Some(shared)) = (self.named.remove(send), self.shared.get_mut(send)) {
                    shared.0 = named;
                }
            }
            // Such an inbox may lose anything.
            What::Enlisting { name, change: Change::SetInbox { drops: true, .. }, .. } => self.may_go(name),
            What::Reached { send, inboxes, .. } => {
                self.open.remove(&(entry.process.clone(), send.clone()));
                if let Some(shared) = self.shared.get_mut(send) {
                    shared.0 = *inboxes as usize;
                }
            }
            What::NotReached { send, .. } | What::PostUnknown { send } => {
                self.open.remove(&(entry.process.clone(), send.clone()));
            }
            What::Delivered { inbox, send: Some(send), .. } if send.is_shared() => {
                if let Some(shared) = self.shared.get_mut(send) {
                    shared.1.insert(inbox.clone());
                }
            }
            What::Refused { send, .. } | What::Unknown { send } => {
                self.open.remove(&(entry.process.clone(), send.clone()));
            }
            What::Delivered { send: Some(send), .. } => {
                self.accepted.remove(send);
                self.undelivered.remove(send);
            }
            What::Deregistering { name, .. } => self.may_go(name),
            What::Deregistered { name, .. } => {
                let asked = self.endings.entry(name.clone()).or_default();
                *asked = asked.saturating_sub(1);
            }
            What::Died => self.open.retain(|(process, _)| *process != entry.process),
            _ => {}
        }
    }
}
