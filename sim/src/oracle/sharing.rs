//! The promises as they hold for what goes to many, and for delivered receipts.
//!
//! * durable: whoever was to get a message for certain gets it.
//! * once: an inbox gets it at one place, and its sender is told once what became of it.
//! * in order: all who get two messages of a channel get them in the same order.
//! * honest: nobody gets what is not for them; all of several recipients get it, or none; a receipt tells of
//!   acknowledgements that were made.

use std::collections::{BTreeMap, BTreeSet};

use restante::wire::sharing::fits;

use super::Promise;
use super::names::Names;
use crate::history::{Change, History, SendKey, To, What, Without};

/// Never, as far as anybody knows.
const NEVER: usize = usize::MAX;

/// The inbox of one registration.
type Place<'a> = (&'a str, u64);

#[derive(Debug)]
struct Enlistment<'a> {
    change: &'a Change,
    asked: usize,
    /// When it was made by; never if nobody knows.
    answered: usize,
}

impl Enlistment<'_> {
    /// Whether it is about what is sent to that channel; and whether it makes its client get it.
    fn about(&self, channel: &str) -> Option<bool> {
        let (about, on) = match self.change {
            Change::Join(joined) => (joined == channel, true),
            Change::Leave(left) => (left == channel, false),
            Change::Subscribe(pattern) => (fits(channel, pattern), true),
            Change::Unsubscribe(pattern) => (fits(channel, pattern), false),
            Change::SetInbox { .. } => return None,
        };
        about.then_some(on)
    }

    /// Whether that one undoes this one.
    fn is_undone_by(&self, other: &Self) -> bool {
        match (self.change, other.change) {
            (Change::Join(one), Change::Leave(other)) | (Change::Subscribe(one), Change::Unsubscribe(other)) => {
                one == other
            }
            _ => false,
        }
    }
}

#[derive(Debug)]
struct Post<'a> {
    to: &'a To,
    digest: u64,
    expires: bool,
    delayed: bool,
    /// When it is to be delivered, by the cluster's clock.
    due: Option<u64>,
    posted: usize,
    answered: usize,
    reached: Option<(u32, u32)>,
    refused: Option<&'a Without>,
    /// Where it was delivered.
    places: BTreeMap<Place<'a>, u64>,
    /// Who has acknowledged it, when.
    acknowledged: BTreeMap<Place<'a>, usize>,
    receipts: Vec<(usize, u32, u32)>,
}

#[derive(Default)]
struct Check<'a> {
    names: Names<'a>,
    enlistments: BTreeMap<&'a str, Vec<Enlistment<'a>>>,
    questions: BTreeMap<(&'a str, u64), usize>,
    created: BTreeMap<&'a str, usize>,
    posts: BTreeMap<&'a SendKey, Post<'a>>,
    /// What each attachment delivered of them: position and send.
    delivered: BTreeMap<u64, Vec<(u64, &'a SendKey)>>,
    notices: BTreeMap<(Place<'a>, u64), u64>,
    /// Somebody asked for the end of a registration.
    endings: bool,
    /// Names whose inboxes drop their oldest: while there are any, nothing is known to be lost.
    dropping: BTreeSet<&'a str>,
    found: Vec<(Promise, String)>,
}

/// What breaks this promise.
pub(super) fn check(history: &History, promise: Promise) -> Vec<String> {
    let shares = |what: &What| matches!(what, What::Posted { .. } | What::Delivered { notice: Some(_), .. });
    if !history.entries.iter().any(|entry| shares(&entry.what)) {
        return Vec::new();
    }
    let mut check = Check { names: Names::read(history), dropping: history.dropping(), ..Check::default() };
    for (order, entry) in history.entries.iter().enumerate() {
        check.read(order, &entry.what);
    }
    check.judge(history.complete);
    let found = check.found.into_iter().filter(|(broken, _)| *broken == promise);
    found.map(|(_, text)| text).collect()
}

impl<'a> Check<'a> {
    fn say(&mut self, promise: Promise, text: String) {
        self.found.push((promise, text));
    }

    fn read(&mut self, order: usize, what: &'a What) {
        match what {
            What::Created { channel } => drop(self.created.entry(channel).or_insert(order)),
            What::Deregistering { .. } => self.endings = true,
            What::Enlisting { name, question, change } => {
                let all = self.enlistments.entry(name).or_default();
                self.questions.insert((name, *question), all.len());
                all.push(Enlistment { change, asked: order, answered: NEVER });
            }
            What::Enlisted { name, question } => {
                let at = self.questions.get(&(name.as_str(), *question)).copied();
                if let (Some(at), Some(all)) = (at, self.enlistments.get_mut(name.as_str())) {
                    all[at].answered = order;
                }
            }
            What::Posted { send, to, digest, expires, delayed, .. } => {
                let post = Post {
                    to,
                    digest: *digest,
                    expires: *expires > 0,
                    delayed: *delayed,
                    due: None,
                    posted: order,
                    answered: NEVER,
                    reached: None,
                    refused: None,
                    places: BTreeMap::new(),
                    acknowledged: BTreeMap::new(),
                    receipts: Vec::new(),
                };
                self.posts.insert(send, post);
            }
            What::Reached { send, inboxes, full } => {
                if let Some(post) = self.posts.get_mut(send) {
                    (post.answered, post.reached) = (order, Some((*inboxes, *full)));
                }
            }
            What::Scheduled { send, due } => {
                if let Some(post) = self.posts.get_mut(send) {
                    (post.answered, post.due) = (order, Some(*due));
                }
            }
            What::NotReached { send, why } => {
                if let Some(post) = self.posts.get_mut(send) {
                    (post.answered, post.refused) = (order, Some(why));
                }
            }
            What::Receipted { send, acknowledged, ended } => {
                if let Some(post) = self.posts.get_mut(send) {
                    post.receipts.push((order, *acknowledged, *ended));
                }
            }
            What::Delivered { session, inbox, position, message, notice: Some(_), .. } => {
                let place = (inbox.as_str(), self.names.of_session(*session));
                let known = *self.notices.entry((place, *message)).or_insert(*position);
                if *message != 0 && known != *position {
                    let text =
                        format!("{inbox} is told at positions {known} and {position} what became of one message");
                    self.say(Promise::Once, text);
                }
            }
            What::Delivered {
                session,
                inbox,
                position,
                from,
                number,
                send: Some(send),
                digest,
                channel,
                message,
                ..
            } if send.is_shared() => {
                let place = (inbox.as_str(), self.names.of_session(*session));
                self.delivered.entry(*session).or_default().push((*position, send));
                let Some(post) = self.posts.get_mut(send) else {
                    return self.say(Promise::Honest, format!("{send} was delivered to {inbox}, and was never sent"));
                };
                let known = *post.places.entry(place).or_insert(*position);
                let channel_is_right = match post.to {
                    To::Channel(sent_to) => *message == 0 || channel.as_ref() == Some(sent_to),
                    _ => channel.is_none(),
                };
                let is_right = post.digest == *digest && *from == send.sender && *number == send.number;
                if known != *position {
                    let text = format!("{send} is at positions {known} and {position} of {inbox}");
                    self.say(Promise::Once, text);
                }
                if !is_right || !channel_is_right {
                    let text = format!("{send} came to {inbox} as number {number} of {from} in {channel:?}, changed");
                    self.say(Promise::Honest, text);
                }
            }
            What::Acknowledged { session, inbox, from, to } => {
                let place = (inbox.as_str(), self.names.of_session(*session));
                for (position, send) in self.delivered.get(session).into_iter().flatten() {
                    if (from..=to).contains(&position)
                        && let Some(post) = self.posts.get_mut(send)
                    {
                        post.acknowledged.entry(place).or_insert(order);
                    }
                }
            }
            _ => {}
        }
    }

    fn judge(&mut self, complete: bool) {
        let posts = std::mem::take(&mut self.posts);
        for (send, post) in &posts {
            self.judge_places(send, post);
            self.judge_answer(send, post);
            self.judge_receipts(send, post);
            if complete && !self.endings && self.dropping.is_empty() && !post.expires {
                self.judge_loss(send, post);
            }
        }
        self.judge_order(&posts);
    }

    /// Nobody gets what is not for them.
    fn judge_places(&mut self, send: &SendKey, post: &Post<'_>) {
        for (name, registration) in post.places.keys() {
            let is_for_them = match post.to {
                To::Clients(names) => names.iter().any(|one| one == name),
                // Of what comes later, whoever is there by then.
                To::Channel(channel) if post.delayed => self.may_get(name, channel, post.posted, NEVER),
                To::Channel(channel) => self.may_get(name, channel, post.posted, post.answered),
                To::Everybody => true,
            };
            if !is_for_them {
                let text = format!("{send} was sent to {:?} and delivered to {name} ({registration})", post.to);
                self.say(Promise::Honest, text);
            }
        }
        if post.refused.is_some() && !post.places.is_empty() {
            let names: Vec<&str> = post.places.keys().map(|(name, _)| *name).collect();
            let text = format!("{send} was refused and delivered to {} all the same", names.join(", "));
            self.say(Promise::Honest, text);
        }
        if let Some((inboxes, _)) = post.reached
            && post.places.len() > inboxes as usize
        {
            let text = format!("{send} is in {inboxes} inboxes, and came to {}", post.places.len());
            self.say(Promise::Honest, text);
        }
    }

    /// What is said of a send is true.
    fn judge_answer(&mut self, send: &SendKey, post: &Post<'_>) {
        let (from, to) = (post.posted, post.answered);
        match (post.refused, post.to) {
            (Some(Without::Recipients { unknown, .. }), _) => {
                let there: Vec<_> = unknown.iter().filter(|name| self.names.there(name, from, to).is_some()).collect();
                if !there.is_empty() {
                    let text = format!("{send} was refused since {there:?} were not registered, and they were");
                    self.say(Promise::Honest, text);
                }
            }
            (Some(Without::NoSuchChannel), To::Channel(channel)) => {
                let there = self.created.get(channel.as_str()).is_some_and(|created| *created < from);
                let text = format!("{send} found no channel {channel}, and there is one");
                there.then(|| self.say(Promise::Honest, text));
            }
            (Some(Without::NoSuchChannel), _) => {
                self.say(Promise::Honest, format!("{send} was refused for a channel, and goes to none"));
            }
            (Some(Without::Other(why)), _) => {
                self.say(Promise::Honest, format!("{send} was refused: {why}, for which there is no reason"));
            }
            _ => {}
        }
    }

    /// A receipt comes once, and tells of acknowledgements that were made.
    fn judge_receipts(&mut self, send: &SendKey, post: &Post<'_>) {
        if post.receipts.len() > 1 {
            let text = format!("{send} had {} delivered receipts", post.receipts.len());
            self.say(Promise::Once, text);
        }
        for (order, acknowledged, ended) in &post.receipts {
            let made = post.acknowledged.values().filter(|at| *at < order).count();
            if made < *acknowledged as usize {
                let text = format!("{send} is said to be acknowledged by {acknowledged}, and {made} have done so");
                self.say(Promise::Honest, text);
            }
            if let Some((inboxes, _)) = post.reached
                && acknowledged + ended != inboxes
            {
                let text =
                    format!("{send} is in {inboxes} inboxes, and its receipt tells of {acknowledged} and {ended}");
                self.say(Promise::Honest, text);
            }
        }
    }

    /// Whoever was to get it for certain gets it.
    fn judge_loss(&mut self, send: &SendKey, post: &Post<'_>) {
        let inboxes = match (post.reached, post.due, post.to) {
            (Some((inboxes, 0)), ..) => inboxes,
            // Who else gets what comes later shows when its time has come.
            (None, Some(_), To::Clients(names)) => names.iter().collect::<BTreeSet<_>>().len() as u32,
            _ => return,
        };
        let (from, to) = (post.posted, post.answered);
        let there: Vec<&str> = self.names.all_there(from, to).map(|(name, _)| name).collect();
        let certain = there.into_iter().filter(|name| match post.to {
            To::Clients(names) => names.iter().any(|one| one == name),
            To::Channel(channel) => self.gets(name, channel, from, to),
            To::Everybody => true,
        });
        let got: BTreeSet<&str> = post.places.keys().map(|(name, _)| *name).collect();
        let lost: Vec<&str> = certain.filter(|name| !got.contains(name)).collect();
        if !lost.is_empty() {
            let text = format!("{send} was accepted for {inboxes} inboxes, and never came to {}", lost.join(", "));
            self.say(Promise::Durable, text);
        } else if post.places.len() < inboxes as usize {
            let text = format!("{send} was accepted for {inboxes} inboxes, and came to {}", post.places.len());
            self.say(Promise::Durable, text);
        }
    }

    /// All who get two messages of a channel get them in the same order.
    fn judge_order(&mut self, posts: &BTreeMap<&'a SendKey, Post<'a>>) {
        let mut inboxes: BTreeMap<(&str, Place<'a>), BTreeMap<u64, &SendKey>> = BTreeMap::new();
        for (send, post) in posts {
            let To::Channel(channel) = post.to else { continue };
            for (place, position) in &post.places {
                inboxes.entry((channel, *place)).or_default().insert(*position, send);
            }
        }
        let all: Vec<_> = inboxes.into_iter().collect();
        for (n, ((channel, (one, _)), first)) in all.iter().enumerate() {
            for ((_, (other, _)), second) in all[n + 1..].iter().filter(|((of, _), _)| of == channel) {
                let both = |of: &BTreeMap<u64, &'a SendKey>, with: &BTreeMap<u64, &'a SendKey>| {
                    let with: BTreeSet<_> = with.values().copied().collect();
                    of.values().copied().filter(|send| with.contains(send)).collect::<Vec<_>>()
                };
                let (ones, others) = (both(first, second), both(second, first));
                if let Some(at) = (0..ones.len()).find(|at| ones[*at] != others[*at]) {
                    let text = format!("{one} got {} of channel {channel} where {other} got {}", ones[at], others[at]);
                    self.say(Promise::Order, text);
                }
            }
        }
    }

    /// Whether that client gets, for certain, what is sent to a channel between the two moments.
    fn gets(&self, name: &str, channel: &str, from: usize, to: usize) -> bool {
        let Some(all) = self.enlistments.get(name) else { return false };
        all.iter().any(|on| {
            let undone = |off: &&Enlistment<'_>| on.is_undone_by(off) && off.asked <= to && off.answered > on.asked;
            on.about(channel) == Some(true) && on.answered < from && all.iter().find(undone).is_none()
        })
    }

    /// Whether it may get that.
    fn may_get(&self, name: &str, channel: &str, from: usize, to: usize) -> bool {
        let Some(all) = self.enlistments.get(name) else { return false };
        all.iter().any(|on| {
            let undone = |off: &&Enlistment<'_>| on.is_undone_by(off) && off.asked > on.answered && off.answered < from;
            on.about(channel) == Some(true) && on.asked <= to && all.iter().find(undone).is_none()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::examples::*;
    use super::*;

    fn key(number: u64) -> SendKey {
        SendKey { sender: "client1".into(), stream: SendKey::SHARED + 1, number }
    }

    fn posted(number: u64, to: To) -> What {
        What::Posted { send: key(number), to, digest: number, receipt: true, expires: 0, delayed: false }
    }

    fn to_channel(number: u64) -> What {
        posted(number, To::Channel("news".into()))
    }

    fn to_both(number: u64) -> What {
        posted(number, To::Clients(vec!["client2".into(), "client3".into()]))
    }

    fn reached(number: u64, inboxes: u32) -> What {
        What::Reached { send: key(number), inboxes, full: 0 }
    }

    fn got(session: u64, inbox: &str, position: u64, number: u64) -> What {
        What::Delivered {
            session,
            inbox: inbox.into(),
            position,
            redelivered: false,
            from: "client1".into(),
            number,
            send: Some(key(number)),
            digest: number,
            message: 900 + number,
            channel: Some("news".into()),
            notice: None,
            time: 0,
        }
    }

    fn plainly(mut delivery: What) -> What {
        if let What::Delivered { channel, .. } = &mut delivery {
            *channel = None;
        }
        delivery
    }

    fn enlisting(name: &str, question: u64, change: Change) -> [What; 2] {
        let name = name.to_owned();
        [What::Enlisting { name: name.clone(), question, change }, What::Enlisted { name, question }]
    }

    fn join(name: &str, question: u64) -> [What; 2] {
        enlisting(name, question, Change::Join("news".into()))
    }

    fn registered(name: &str) -> What {
        What::Registered { name: name.into(), question: 1, registration: name.len() as u64 }
    }

    fn both_joined() -> Vec<What> {
        let there = vec![registered("client2"), registered("client3"), What::Created { channel: "news".into() }];
        [there, join("client2", 1).to_vec(), join("client3", 1).to_vec()].concat()
    }

    fn broken(whats: Vec<What>, promise: Promise) -> Vec<String> {
        super::check(&complete([both_joined(), whats].concat()), promise)
    }

    fn passes(whats: Vec<What>) {
        for promise in Promise::ALL {
            assert_eq!(broken(whats.clone(), promise), Vec::<String>::new());
        }
    }

    fn rejects(whats: Vec<What>, promise: Promise, expected: &str) {
        let violations = broken(whats, promise);
        assert!(violations.iter().any(|text| text.contains(expected)), "{violations:?}");
    }

    #[test]
    fn a_member_gets_what_is_sent_to_its_channel() {
        passes(vec![to_channel(1), reached(1, 2), got(1, "client2", 1, 1), got(2, "client3", 1, 1)]);
        let one = vec![to_channel(1), reached(1, 2), got(1, "client2", 1, 1)];
        rejects(one, Promise::Durable, "never came to client3");
        // A full inbox is passed over, and the receipt says so.
        passes(vec![to_channel(1), What::Reached { send: key(1), inboxes: 1, full: 1 }, got(1, "client2", 1, 1)]);
        // Whoever leaves meanwhile may get it or not.
        let leaves = enlisting("client3", 2, Change::Leave("news".into()));
        let [asks, left] = leaves.clone();
        passes(vec![asks, to_channel(1), reached(1, 1), left, got(1, "client2", 1, 1)]);
        let unjust = [leaves.to_vec(), vec![to_channel(1), reached(1, 2), got(2, "client3", 1, 1)]].concat();
        rejects(unjust, Promise::Honest, "delivered to client3");
    }

    #[test]
    fn patterns_are_memberships_too() {
        let swap = |question, change| enlisting("client3", question, change).to_vec();
        let left = swap(2, Change::Leave("news".into()));
        let subscribed = [left.clone(), swap(3, Change::Subscribe(">".into()))].concat();
        let sent = vec![to_channel(1), reached(1, 2), got(1, "client2", 1, 1)];
        rejects([subscribed.clone(), sent.clone()].concat(), Promise::Durable, "never came to client3");
        let no_more = [subscribed, swap(4, Change::Unsubscribe(">".into()))].concat();
        let sent = vec![to_channel(1), reached(1, 1), got(1, "client2", 1, 1)];
        passes([no_more.clone(), sent.clone()].concat());
        rejects([no_more, sent, vec![got(2, "client3", 1, 1)]].concat(), Promise::Honest, "delivered to client3");
    }

    #[test]
    fn several_get_it_all_or_none() {
        let (two, three) = (plainly(got(1, "client2", 1, 1)), plainly(got(2, "client3", 1, 1)));
        passes(vec![to_both(1), reached(1, 2), two.clone(), three.clone()]);
        rejects(vec![to_both(1), reached(1, 2), two.clone()], Promise::Durable, "never came to client3");
        let full = Without::Recipients { unknown: vec![], full: vec!["client3".into()] };
        let refused = |why| What::NotReached { send: key(1), why };
        rejects(vec![to_both(1), refused(full), two], Promise::Honest, "refused and delivered to client2");
        let unknown = Without::Recipients { unknown: vec!["client3".into()], full: vec![] };
        rejects(vec![to_both(1), refused(unknown)], Promise::Honest, "were not registered, and they were");
        rejects(vec![to_channel(1), refused(Without::NoSuchChannel)], Promise::Honest, "there is one");
    }

    #[test]
    fn an_inbox_gets_it_at_one_place_and_unchanged() {
        let twice = vec![to_channel(1), got(1, "client2", 1, 1), got(1, "client2", 2, 1)];
        rejects(twice, Promise::Once, "positions 1 and 2 of client2");
        rejects(vec![to_channel(1), plainly(got(1, "client2", 1, 1))], Promise::Honest, "changed");
        rejects(vec![to_both(1), got(1, "client2", 1, 1)], Promise::Honest, "changed");
    }

    #[test]
    fn what_is_to_come_later_comes_to_those_who_are_named_or_there_by_then() {
        let later = |number, to| match posted(number, to) {
            What::Posted { send, to, digest, receipt, expires, .. } => {
                What::Posted { send, to, digest, receipt, expires, delayed: true }
            }
            other => other,
        };
        let both = To::Clients(vec!["client2".into(), "client3".into()]);
        let scheduled = What::Scheduled { send: key(1), due: 5 };
        let two = plainly(got(1, "client2", 1, 1));
        let sent = vec![later(1, both), scheduled.clone(), two];
        rejects(sent.clone(), Promise::Durable, "never came to client3");
        passes([sent.clone(), vec![plainly(got(2, "client3", 1, 1))]].concat());
        let drops = enlisting("client3", 5, Change::SetInbox { drops: true, keeps: 0 }).to_vec();
        passes([drops, sent].concat());
        let to_news = later(1, To::Channel("news".into()));
        let leaves = enlisting("client3", 2, Change::Leave("news".into())).to_vec();
        passes([vec![to_news.clone(), scheduled.clone()], leaves.clone(), vec![got(2, "client3", 1, 1)]].concat());
        rejects([leaves, vec![to_news, scheduled, got(2, "client3", 1, 1)]].concat(), Promise::Honest, "client3");
    }

    #[test]
    fn members_see_one_order() {
        let sent = vec![to_channel(1), to_channel(2), got(1, "client2", 1, 1), got(1, "client2", 2, 2)];
        passes([sent.clone(), vec![got(2, "client3", 1, 1), got(2, "client3", 2, 2)]].concat());
        let other = [sent, vec![got(2, "client3", 1, 2), got(2, "client3", 2, 1)]].concat();
        rejects(other, Promise::Order, "client2 got");
    }

    #[test]
    fn a_receipt_comes_once_and_tells_the_truth() {
        let receipt = |acknowledged, ended| What::Receipted { send: key(1), acknowledged, ended };
        let acknowledged = |session, inbox: &str| What::Acknowledged { session, inbox: inbox.into(), from: 1, to: 1 };
        let sent = vec![to_channel(1), reached(1, 2), got(1, "client2", 1, 1), got(2, "client3", 1, 1)];
        let first = [sent, vec![acknowledged(1, "client2")]].concat();
        let with = |more: &[What]| [first.clone(), more.to_vec()].concat();
        passes(with(&[acknowledged(2, "client3"), receipt(2, 0)]));
        passes(with(&[receipt(1, 1)]));
        rejects(with(&[receipt(2, 0), acknowledged(2, "client3")]), Promise::Honest, "and 1 have done so");
        rejects(with(&[receipt(1, 0)]), Promise::Honest, "in 2 inboxes, and its receipt tells of 1 and 0");
        rejects(with(&[receipt(1, 1), receipt(1, 1)]), Promise::Once, "2 delivered receipts");
        let notice = |position| What::Delivered {
            session: 3,
            inbox: "client1".into(),
            position,
            redelivered: false,
            from: "client1".into(),
            number: 1,
            send: None,
            digest: 0,
            message: 77,
            channel: None,
            notice: Some((1, 1)),
            time: 0,
        };
        passes(with(&[notice(4)]));
        rejects(with(&[notice(4), notice(5)]), Promise::Once, "positions 4 and 5");
    }
}
