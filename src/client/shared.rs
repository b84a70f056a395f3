//! What the application's handles and the driver's task share: the session, and who waits for what.
//!
//! A send takes the lock, encodes its frame into the session and returns; the driver is woken only if it sleeps. A
//! receipt finds its future by an index into a slab. So in a loaded client no message costs a task switch or an
//! allocation of its own.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;
use slab::Slab;

use super::session::{Answer, Output, Session, Token};
use super::{Error, Fate, NoDelivery, Receipt, SendError};
use crate::wire::Number;
use crate::world::Instant;

/// See the module.
pub(super) struct Shared {
    state: Mutex<State>,
    started: Instant,
    clock: fn() -> Instant,
}

pub(super) struct State {
    pub(super) session: Session,
    pub(super) receipts: Tickets<Result<Receipt, SendError>>,
    pub(super) deliveries: Tickets<Result<Fate, NoDelivery>>,
    answers: Tickets<Result<Answer, Error>>,
    /// Who waits for room in a stream.
    room: Vec<(usize, Waker)>,
    /// Who waits for deliveries, by inbox.
    arrivals: BTreeMap<usize, Waker>,
    /// What only the driver can carry out.
    actions: VecDeque<Output>,
    /// What whoever watches the world is told.
    notices: Vec<Notice>,
    /// The driver's, while it sleeps.
    driver: Option<Waker>,
    /// The session has something for the driver.
    attention: bool,
    /// No handle is left.
    pub(super) abandoned: bool,
}

/// Something for [`crate::world::World::observe`].
#[derive(Debug, Clone, Copy)]
pub(super) enum Notice {
    Receipt { number: Number, accepted: Option<u64> },
    Acknowledged { inbox: usize, up_to: u64 },
}

impl Shared {
    pub(super) fn new(session: Session, clock: fn() -> Instant) -> Self {
        let state = State {
            session,
            receipts: Tickets::default(),
            deliveries: Tickets::default(),
            answers: Tickets::default(),
            room: Vec::new(),
            arrivals: BTreeMap::new(),
            actions: VecDeque::new(),
            notices: Vec::new(),
            driver: None,
            attention: false,
            abandoned: false,
        };
        Self { state: Mutex::new(state), started: clock(), clock }
    }

    /// The time since the session began, which is the time it knows.
    pub(super) fn now(&self) -> Duration {
        (self.clock)().saturating_duration_since(self.started)
    }

    /// When that is on the world's clock.
    pub(super) fn instant(&self, at: Duration) -> Instant {
        self.started + at
    }

    /// Does something with the session; whoever waits for what comes of it is woken after the lock is free again.
    pub(super) fn with<R>(&self, work: impl FnOnce(&mut State, Duration) -> R) -> R {
        let now = self.now();
        let mut wakers = Vec::new();
        let result = {
            let mut state = self.state.lock();
            let result = work(&mut state, now);
            state.settle(now, &mut wakers);
            result
        };
        for waker in wakers {
            waker.wake();
        }
        result
    }

    /// The same on behalf of the application: the driver looks at the session afterwards.
    pub(super) fn ask<R>(&self, work: impl FnOnce(&mut State, Duration) -> R) -> R {
        self.with(|state, now| {
            state.attention = true;
            work(state, now)
        })
    }

    /// Asks for something that has one answer.
    pub(super) fn request(self: &Arc<Self>, work: impl FnOnce(&mut Session, Duration, Token)) -> Asking {
        let token = self.ask(|state, now| {
            let token = state.answers.add();
            work(&mut state.session, now, token);
            token
        });
        Asking { shared: Arc::clone(self), token: Some(token) }
    }

    /// What the driver is to do and when it is to come back; the rest is settled.
    pub(super) fn take_actions(&self) -> (VecDeque<Output>, Vec<Notice>) {
        self.with(|state, now| {
            state.attention = false;
            if state.abandoned {
                state.session.close(now);
            }
            state.session.tick(now);
        });
        let mut state = self.state.lock();
        (std::mem::take(&mut state.actions), std::mem::take(&mut state.notices))
    }

    /// Whether the driver is wanted; if not, it is woken when it is.
    pub(super) fn poll_attention(&self, context: &Context<'_>) -> bool {
        let mut state = self.state.lock();
        if !state.attention {
            state.driver = Some(context.waker().clone());
        }
        state.attention
    }
}

impl State {
    /// Hands out what came of the session's work.
    fn settle(&mut self, now: Duration, wakers: &mut Vec<Waker>) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Answered { token, result } => {
                    if let Err(unwanted) = self.answers.resolve(token, result, wakers) {
                        self.undo(now, unwanted);
                    }
                }
                Output::Receipt { token, number, result } => {
                    let accepted = result.as_ref().ok().map(|receipt| receipt.position.0);
                    self.notices.push(Notice::Receipt { number, accepted });
                    if let Some(token) = token {
                        // Nobody waits for it if the future was dropped, which cancels nothing.
                        let _ = self.receipts.resolve(token, result, wakers);
                    }
                }
                Output::Delivered { token, result } => {
                    let _ = self.deliveries.resolve(token, result, wakers);
                }
                Output::Room(stream) => {
                    let room = std::mem::take(&mut self.room);
                    for (key, waker) in room {
                        if stream.is_none_or(|stream| stream == key) {
                            wakers.push(waker);
                        } else {
                            self.room.push((key, waker));
                        }
                    }
                }
                Output::Arrived(inbox) => wakers.extend(self.arrivals.remove(&inbox)),
                Output::Acknowledged { inbox, up_to } => self.notices.push(Notice::Acknowledged { inbox, up_to }),
                action @ (Output::Connect { .. } | Output::Disconnect | Output::Attached(_) | Output::Finish) => {
                    self.actions.push_back(action);
                    self.attention = true;
                }
            }
        }
        if self.attention {
            wakers.extend(self.driver.take());
        }
    }

    /// What came into being for somebody who has given up waiting is closed again.
    fn undo(&mut self, now: Duration, unwanted: Result<Answer, Error>) {
        match unwanted {
            Ok(Answer::StreamOpened(key)) => self.session.close_stream(now, key, None),
            Ok(Answer::Listening(key)) => self.session.detach(key, None),
            _ => return,
        }
        self.attention = true;
    }

    pub(super) fn wait_for_room(&mut self, stream: usize, waker: &Waker) {
        if !self.room.iter().any(|(key, other)| *key == stream && other.will_wake(waker)) {
            self.room.push((stream, waker.clone()));
        }
    }

    pub(super) fn wait_for_arrival(&mut self, inbox: usize, waker: &Waker) {
        self.arrivals.insert(inbox, waker.clone());
    }
}

/// Those who wait for a value each.
#[derive(Debug)]
pub(super) struct Tickets<T>(Slab<Ticket<T>>);

#[derive(Debug)]
enum Ticket<T> {
    Waiting(Option<Waker>),
    Done(T),
    /// The future was dropped; the place is free once the value comes.
    Dropped,
}

impl<T> Default for Tickets<T> {
    fn default() -> Self {
        Self(Slab::new())
    }
}

impl<T> Tickets<T> {
    /// The token that [`Tickets::add`] gives next.
    pub(super) fn next(&self) -> Token {
        self.0.vacant_key()
    }

    pub(super) fn add(&mut self) -> Token {
        self.0.insert(Ticket::Waiting(None))
    }

    /// The value is there. It is given back if nobody wants it.
    fn resolve(&mut self, token: Token, value: T, wakers: &mut Vec<Waker>) -> Result<(), T> {
        match self.0.get_mut(token) {
            Some(ticket @ Ticket::Waiting(_)) => {
                if let Ticket::Waiting(Some(waker)) = std::mem::replace(ticket, Ticket::Done(value)) {
                    wakers.push(waker);
                }
                Ok(())
            }
            Some(Ticket::Dropped) => {
                self.0.remove(token);
                Err(value)
            }
            Some(Ticket::Done(_)) | None => unreachable!("the session answers each token once"),
        }
    }

    pub(super) fn poll(&mut self, token: Token, context: &Context<'_>) -> Poll<T> {
        match self.0.get_mut(token) {
            Some(Ticket::Waiting(waker)) => {
                if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
                    *waker = Some(context.waker().clone());
                }
                Poll::Pending
            }
            _ => match self.0.try_remove(token) {
                Some(Ticket::Done(value)) => Poll::Ready(value),
                _ => unreachable!("a future that is done is polled no more"),
            },
        }
    }

    /// The future is dropped; its value, if it came.
    pub(super) fn abandon(&mut self, token: Token) -> Option<T> {
        match self.0.get_mut(token) {
            Some(ticket @ Ticket::Waiting(_)) => {
                *ticket = Ticket::Dropped;
                None
            }
            _ => match self.0.try_remove(token) {
                Some(Ticket::Done(value)) => Some(value),
                _ => None,
            },
        }
    }
}

/// A request on its way.
pub(super) struct Asking {
    shared: Arc<Shared>,
    /// `None` once it was answered.
    token: Option<Token>,
}

impl Future for Asking {
    type Output = Result<Answer, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(token) = self.token else { return Poll::Pending };
        let polled = self.shared.with(|state, _| state.answers.poll(token, context));
        if polled.is_ready() {
            self.token = None;
        }
        polled
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(token) = self.token {
            self.shared.with(|state, now| {
                if let Some(unwanted) = state.answers.abandon(token) {
                    state.undo(now, unwanted);
                }
            });
        }
    }
}

/// One of the application's handles on the client. When the last is gone the client closes.
pub(super) struct Handle(pub(super) Arc<Shared>);

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.ask(|state, _| state.abandoned = true);
    }
}
