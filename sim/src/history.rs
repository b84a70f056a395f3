//! What clients saw: the journals that they keep themselves, which is all that the [`crate::oracle`] judges by.
//!
//! A client writes an entry at the moment it knows: when it hands a send to the library, when the library answers, when
//! a delivery is in its hands. The journals of a run share one order, which is the order in which things happened, and
//! survive the client's death like a notebook on the desk.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::context;
use crate::scenario::Stage;
pub use crate::send_key::SendKey;
use crate::trace::Event;

/// One life of a client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Process {
    /// The client's name.
    pub client: String,
    /// Counted from 1.
    pub life: u32,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.client, self.life)
    }
}

/// Why a send was refused for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Why {
    /// The recipient is not registered.
    NoSuchClient,
    /// The recipient's inbox is full.
    InboxFull,
    /// The stream was closed under it, which is the sender's own deregistration.
    StreamClosed,
    /// It never left the client's process.
    NotSent,
    /// Something else, in its words.
    Other(String),
}

/// Who a send goes to, if not to one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum To {
    /// All of these, or none.
    Clients(Vec<String>),
    /// Whoever is in that channel, or has subscribed to a pattern that its name fits.
    Channel(String),
    /// Whoever is registered.
    Everybody,
}

/// A change of what a client gets of channels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// It is in that channel.
    Join(String),
    /// It is not.
    Leave(String),
    /// It gets whatever fits that pattern.
    Subscribe(String),
    /// It does not.
    Unsubscribe(String),
    /// Its inbox is set up so.
    SetInbox {
        /// It drops its oldest messages when it is full.
        drops: bool,
        /// It keeps so many that were acknowledged.
        keeps: u32,
    },
}

/// Why a send to more than one reached nobody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Without {
    /// Some of its recipients stood in the way.
    Recipients {
        /// Nobody is registered under these names.
        unknown: Vec<String>,
        /// The inboxes of these are full.
        full: Vec<String>,
    },
    /// There is no such channel.
    NoSuchChannel,
    /// The sender's inbox has no room for the receipt.
    NoRoomForReceipt,
    /// It never left the client's process, or its stream was closed under it.
    NotSent,
    /// Something else, in its words.
    Other(String),
}

/// What a client saw. `session` counts the attachments of readers over the whole run, `question` what is asked for:
/// parts of one process may ask for the same thing at once. What is asked again for lack of an answer is the same
/// question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The client asks for a name: from now on it may be there.
    Registering {
        /// The name.
        name: String,
        /// Which question it is.
        question: u64,
    },
    /// A registration was receipted.
    Registered {
        /// The name.
        name: String,
        /// Which question that answers.
        question: u64,
        /// Its registration, as the cluster numbers them.
        registration: u64,
    },
    /// The client asks for the end of a registration: from now on it may be gone.
    Deregistering {
        /// The name.
        name: String,
        /// Of that registration; `None` for whichever holds the name.
        registration: Option<u64>,
    },
    /// It is gone: the client was told so.
    Deregistered {
        /// The name.
        name: String,
        /// What was asked.
        registration: Option<u64>,
    },
    /// The operator is told to do something.
    Ordered {
        /// What.
        what: String,
    },
    /// The operator has done it, or given it up.
    CarriedOut {
        /// What.
        what: String,
        /// How it ended.
        how: String,
    },
    /// A send was handed to the library. From now on it may have happened.
    Invoked {
        /// Which.
        send: SendKey,
        /// The recipient.
        to: String,
        /// The digest of its body.
        digest: u64,
    },
    /// The same number with the same content is asked again, at another server.
    Resent {
        /// Which.
        send: SendKey,
    },
    /// A send got its receipt.
    Accepted {
        /// Which.
        send: SendKey,
        /// Its place in the recipient's inbox.
        position: u64,
    },
    /// A send was refused for good.
    Refused {
        /// Which.
        send: SendKey,
        /// The reason given.
        why: Why,
    },
    /// Nobody knows, and this client will not ask again.
    Unknown {
        /// Which.
        send: SendKey,
    },
    /// The client asks to become the reader.
    Attaching {
        /// Of these attachments.
        session: u64,
        /// Whose.
        inbox: String,
        /// So many deliveries will be unacknowledged at most.
        window: u32,
    },
    /// It is the reader.
    Attached {
        /// Which attachment.
        session: u64,
        /// Whose.
        inbox: String,
        /// Of which registration.
        registration: u64,
    },
    /// A message is in the client's hands.
    Delivered {
        /// In which attachment.
        session: u64,
        /// Whose.
        inbox: String,
        /// Its place.
        position: u64,
        /// Whether it was marked as one that may have been delivered before.
        redelivered: bool,
        /// The sender that the cluster names.
        from: String,
        /// The number that the cluster names.
        number: u64,
        /// What the body says.
        send: Option<SendKey>,
        /// The digest of the body.
        digest: u64,
        /// The id that the cluster gave the message.
        message: u64,
        /// The channel that it came by.
        channel: Option<String>,
        /// If it is no message but a delivered receipt: how many acknowledged what it is about, and how many ended first.
        notice: Option<(u32, u32)>,
        /// When it was accepted, by the cluster's clock, in milliseconds.
        time: u64,
    },
    /// A channel is there.
    Created {
        /// Which.
        channel: String,
    },
    /// The client asks for a change of what it gets of channels.
    Enlisting {
        /// Which client.
        name: String,
        /// Which question it is.
        question: u64,
        /// The change.
        change: Change,
    },
    /// The change is made.
    Enlisted {
        /// Which client.
        name: String,
        /// Which question that answers.
        question: u64,
    },
    /// A send to more than one was handed to the library. From now on it may have happened.
    Posted {
        /// Which.
        send: SendKey,
        /// To whom.
        to: To,
        /// The digest of its body.
        digest: u64,
        /// Whether its sender asked to be told what becomes of it.
        receipt: bool,
        /// After how many milliseconds it expires; 0 for never.
        expires: u64,
        /// Whether it is to be delivered later.
        delayed: bool,
    },
    /// It got its receipt, which says when it is to be delivered.
    Scheduled {
        /// Which.
        send: SendKey,
        /// By the cluster's clock, in milliseconds.
        due: u64,
    },
    /// The client was shown what its inbox has kept of what it acknowledged.
    Kept {
        /// Whose inbox.
        inbox: String,
        /// Its registration.
        registration: u64,
        /// Positions, with what the bodies say and their digests.
        messages: Vec<(u64, Option<SendKey>, u64)>,
    },
    /// It got its receipt.
    Reached {
        /// Which.
        send: SendKey,
        /// So many inboxes it is in.
        inboxes: u32,
        /// So many were full.
        full: u32,
    },
    /// It was refused for good.
    NotReached {
        /// Which.
        send: SendKey,
        /// The reason given.
        why: Without,
    },
    /// Nobody knows, and this client will not ask again.
    PostUnknown {
        /// Which.
        send: SendKey,
    },
    /// Its delivered receipt came.
    Receipted {
        /// Which.
        send: SendKey,
        /// So many of its copies were acknowledged.
        acknowledged: u32,
        /// So many went with their recipient's registration, or expired.
        ended: u32,
    },
    /// The client acknowledges these positions. From now on they may never come again.
    Acknowledged {
        /// In which attachment.
        session: u64,
        /// Whose.
        inbox: String,
        /// The first; 1 for a cumulative one.
        from: u64,
        /// The last.
        to: u64,
    },
    /// Everything that this attachment acknowledged so far is durable, one by one or all up to a position.
    Confirmed {
        /// In which attachment.
        session: u64,
        /// Whose.
        inbox: String,
        /// The last position that was acknowledged when the client asked.
        to: u64,
    },
    /// The attachment is over, as far as this client knows.
    Ended {
        /// Which.
        session: u64,
        /// Whose.
        inbox: String,
    },
    /// The client asks who is there.
    Asking {
        /// Counts the questions of the run.
        question: u64,
    },
    /// That was the answer.
    Listed {
        /// To which question.
        question: u64,
        /// Everybody who was listed.
        clients: Vec<Row>,
    },
    /// The client was told who came or went.
    Came {
        /// Counts those who watch, over the whole run.
        watcher: u64,
        /// Who it is about.
        name: String,
        /// Its registration.
        registration: u64,
        /// What changed.
        how: Came,
    },
    /// A server said how it stands.
    Told {
        /// The server's name.
        server: String,
        /// Raft's term, as far as it knows.
        term: u64,
        /// Whether it says that it leads.
        leads: bool,
        /// The last entry that it has applied.
        applied: u64,
        /// The digest of what came of it.
        digest: u64,
    },
    /// The client sends nothing more in this stage of the run.
    Rested {
        /// Which.
        stage: Stage,
    },
    /// The process is gone (the runner writes this one).
    Died,
}

/// What changed of who is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Came {
    /// It was registered.
    Registered,
    /// A reader attached.
    Online,
    /// Its reader is gone.
    Offline,
    /// It has another home.
    Moved,
    /// Its registration has ended.
    Deregistered,
}

/// A client that was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its registration.
    pub registration: u64,
    /// So many messages wait for it.
    pub waiting: u64,
}

impl What {
    fn kind(&self) -> &'static str {
        match self {
            Self::Registering { .. } => "client.registering",
            Self::Deregistered { .. } => "client.deregistered",
            Self::Resent { .. } => "client.resent",
            Self::Asking { .. } => "client.asking",
            Self::Listed { .. } => "client.listed",
            Self::Came { .. } => "client.came",
            Self::Told { .. } => "client.told",
            Self::Registered { .. } => "client.registered",
            Self::Deregistering { .. } => "client.deregistering",
            Self::Ordered { .. } => "operator.ordered",
            Self::CarriedOut { .. } => "operator.carried_out",
            Self::Invoked { .. } => "client.invoked",
            Self::Accepted { .. } => "client.accepted",
            Self::Refused { .. } => "client.refused",
            Self::Unknown { .. } => "client.unknown",
            Self::Attaching { .. } => "client.attaching",
            Self::Attached { .. } => "client.attached",
            Self::Delivered { .. } => "client.delivered",
            Self::Acknowledged { .. } => "client.acked",
            Self::Confirmed { .. } => "client.confirmed",
            Self::Ended { .. } => "client.ended",
            Self::Created { .. } => "client.created",
            Self::Enlisting { .. } => "client.enlisting",
            Self::Enlisted { .. } => "client.enlisted",
            Self::Posted { .. } => "client.posted",
            Self::Reached { .. } => "client.reached",
            Self::Scheduled { .. } => "client.scheduled",
            Self::Kept { .. } => "client.kept",
            Self::NotReached { .. } => "client.not_reached",
            Self::PostUnknown { .. } => "client.post_unknown",
            Self::Receipted { .. } => "client.receipted",
            Self::Rested { .. } => "client.rested",
            Self::Died => "client.died",
        }
    }
}

/// One entry of the journals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The simulated time.
    pub at: Duration,
    /// Who saw it.
    pub process: Process,
    /// What.
    pub what: What,
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>10.3} s {} {:?}", self.at.as_secs_f64(), self.process, self.what)
    }
}

/// All journals of a run, in the order in which things happened.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether nothing more will be delivered: the run came to its end, or waited for as long as its plan allows.
    pub complete: bool,
    /// When each stage of the run began; the first is there from the start.
    pub stages: Vec<(Duration, Stage)>,
}

impl History {
    /// Names whose inboxes may drop what was accepted for them, since their owners have asked for it.
    pub fn dropping(&self) -> BTreeSet<&str> {
        let whats = self.entries.iter().map(|entry| &entry.what);
        let drops = whats.filter_map(|what| match what {
            What::Enlisting { name, change: Change::SetInbox { drops: true, .. }, .. } => Some(name.as_str()),
            _ => None,
        });
        drops.collect()
    }

    /// Whether something may leave an inbox that nobody acknowledged.
    pub fn may_withdraw(&self) -> bool {
        let withdraws = |entry: &Entry| {
            let drops = |change: &Change| matches!(change, Change::SetInbox { drops: true, .. });
            match &entry.what {
                What::Posted { expires, .. } => *expires > 0,
                What::Enlisting { change, .. } => drops(change),
                _ => false,
            }
        };
        self.entries.iter().any(withdraws)
    }
}

/// The pen: cheap to clone, one for the whole run.
#[derive(Debug, Clone, Default)]
pub struct Journal(Arc<Mutex<Pages>>);

#[derive(Debug, Default)]
struct Pages {
    entries: Vec<Entry>,
    sessions: u64,
    streams: u64,
    questions: u64,
    stages: Vec<(Duration, Stage)>,
}

impl Journal {
    /// Writes an entry.
    pub fn write(&self, process: &Process, what: What) {
        let at = context::with(|run| {
            let text = format!("{what:?}");
            run.trace(&Event {
                kind: what.kind(),
                subject: "",
                fields: &[("life", u64::from(process.life))],
                text: &text,
            });
            run.elapsed()
        });
        self.0.lock().entries.push(Entry { at: at.unwrap_or_default(), process: process.clone(), what });
    }

    /// A number for an attachment that is about to be asked for.
    pub fn next_session(&self) -> u64 {
        let mut pages = self.0.lock();
        pages.sessions += 1;
        pages.sessions
    }

    /// A number for a send stream that is about to be opened.
    pub fn next_stream(&self) -> u64 {
        let mut pages = self.0.lock();
        pages.streams += 1;
        pages.streams
    }

    /// A number for a question that is about to be asked.
    pub fn next_question(&self) -> u64 {
        let mut pages = self.0.lock();
        pages.questions += 1;
        pages.questions
    }

    /// A stage of the run begins (the runner writes this).
    pub(crate) fn stage(&self, at: Duration, stage: Stage) {
        self.0.lock().stages.push((at, stage));
    }

    /// Everything so far.
    pub fn history(&self, complete: bool) -> History {
        let pages = self.0.lock();
        History { entries: pages.entries.clone(), complete, stages: pages.stages.clone() }
    }

    /// Looks at the entries so far, from `skip` on.
    pub fn look<R>(&self, skip: usize, f: impl FnOnce(&[Entry]) -> R) -> R {
        let pages = self.0.lock();
        f(pages.entries.get(skip..).unwrap_or_default())
    }
}
