//! What the clients wrote down, and what it comes to.
//!
//! A client writes down what it did and saw itself, and nothing that the cluster says about others. The counts are made
//! from these journals alone. Pure: no clock, no cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::Duration;

use serde::Serialize;

/// A client, as a place in the list of journals.
pub type Who = usize;

/// What one client wrote down. Times are since the demo began.
#[derive(Debug, Clone, Default)]
pub struct Journal {
    /// Sends, in the order made: numbers 1, 2, 3, …
    pub sent: Vec<Sent>,
    /// Receipts, in the order they came.
    pub receipts: Vec<Received>,
    /// Sends that were answered with an error.
    pub failed: u64,
    /// Deliveries, in the order they came.
    pub deliveries: Vec<Delivered>,
    /// Deliveries whose content is not what any client sent under that name and number.
    pub altered: u64,
}

/// A send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sent {
    /// The recipient.
    pub to: Who,
    /// Counted by the sender.
    pub number: u64,
    /// When it was handed to the library.
    pub at: Duration,
}

/// A receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// The number of the send that it answers, as the sender counted.
    pub number: u64,
    /// The position it names.
    pub position: u64,
    /// When it came.
    pub at: Duration,
}

/// A delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivered {
    /// The sender.
    pub from: Who,
    /// The sender's number.
    pub number: u64,
    /// Its position in the inbox.
    pub position: u64,
    /// When it came.
    pub at: Duration,
}

/// What the journals come to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Sends made.
    pub sent: u64,
    /// Sends with a receipt.
    pub accepted: u64,
    /// Sends that arrived at their recipient.
    pub delivered: u64,
    /// Sends with a receipt that did not arrive.
    pub lost: u64,
    /// Arrivals of a send that had arrived before.
    pub doubled: u64,
    /// Arrivals before which a later send of the same sender, or a later position, had arrived.
    pub out_of_order: u64,
    /// Arrivals that nobody sent so: another content, recipient or position than the sender knows of.
    pub altered: u64,
    /// How many of the lost ones each client waits for, if there are any.
    #[serde(skip)]
    pub lost_by: BTreeMap<Who, u64>,
    /// The longest time that a client waited, while traffic ran.
    pub longest_pause: Option<Pause>,
}

/// A time in which a client got nothing although something was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Pause {
    /// The client.
    #[serde(skip)]
    pub who: Who,
    /// What it waited for.
    pub waited_for: Awaited,
    /// How long, in milliseconds.
    #[serde(rename = "ms", serialize_with = "as_millis")]
    pub length: Duration,
    /// When it began.
    #[serde(skip)]
    pub from: Duration,
}

/// What a client may wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Awaited {
    /// For any receipt.
    Receipt,
    /// For any delivery.
    Delivery,
}

fn as_millis<S: serde::Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u64(duration.as_millis() as u64)
}

impl Counts {
    /// Whether everything that was sent was accepted and arrived, once and in order.
    pub fn are_right(&self) -> bool {
        let all = self.sent == self.accepted && self.accepted == self.delivered;
        all && self.lost == 0 && self.doubled == 0 && self.out_of_order == 0 && self.altered == 0
    }
}

/// Counts. `traffic` is the time in which pauses are looked for.
pub fn count(journals: &[Journal], traffic: Range<Duration>) -> Counts {
    let mut counts = Counts::default();
    // By sender and number: who it is for, and the position that its receipt names.
    let mut sends: BTreeMap<(Who, u64), (Who, Option<u64>)> = BTreeMap::new();
    for (who, journal) in journals.iter().enumerate() {
        counts.sent += journal.sent.len() as u64;
        sends.extend(journal.sent.iter().map(|sent| ((who, sent.number), (sent.to, None))));
        for receipt in &journal.receipts {
            match sends.get_mut(&(who, receipt.number)) {
                Some((_, position @ None)) => {
                    *position = Some(receipt.position);
                    counts.accepted += 1;
                }
                // A second receipt, or one for a send that was never made.
                _ => counts.altered += 1,
            }
        }
    }
    let mut arrived = BTreeSet::new();
    for (who, journal) in journals.iter().enumerate() {
        counts.altered += journal.altered;
        let mut last_number: BTreeMap<Who, u64> = BTreeMap::new();
        let mut last_position = 0;
        for delivery in &journal.deliveries {
            let send = (delivery.from, delivery.number);
            match sends.get(&send) {
                Some((to, position)) if *to == who && position.is_none_or(|p| p == delivery.position) => {}
                // The same send at a second position is a double; it is counted as one below.
                Some((to, _)) if *to == who && arrived.contains(&send) => {}
                _ => {
                    counts.altered += 1;
                    continue;
                }
            }
            if !arrived.insert(send) {
                counts.doubled += 1;
                continue;
            }
            counts.delivered += 1;
            let last = last_number.entry(delivery.from).or_default();
            if delivery.number < *last || delivery.position <= last_position {
                counts.out_of_order += 1;
            }
            *last = delivery.number.max(*last);
            last_position = last_position.max(delivery.position);
        }
    }
    for (send, (to, position)) in &sends {
        if position.is_some() && !arrived.contains(send) {
            counts.lost += 1;
            *counts.lost_by.entry(*to).or_default() += 1;
        }
    }
    counts.longest_pause = longest_pause(journals, &counts.lost_by, &traffic);
    counts
}

fn longest_pause(journals: &[Journal], lost_by: &BTreeMap<Who, u64>, traffic: &Range<Duration>) -> Option<Pause> {
    let mut longest: Option<Pause> = None;
    for (who, journal) in journals.iter().enumerate() {
        let mut look = |waited_for, start: Option<Duration>, times: Vec<Duration>, end: Option<Duration>| {
            let Some(mut from) = start else { return };
            for at in times.into_iter().filter(|at| traffic.contains(at)).chain(end) {
                let length = at.saturating_sub(from);
                if longest.is_none_or(|pause| length > pause.length) {
                    longest = Some(Pause { who, waited_for, length, from });
                }
                from = at;
            }
        };
        let first_send = journal.sent.iter().map(|sent| sent.at).find(|at| traffic.contains(at));
        // Whoever still waits waits until the end.
        let end = |waits: bool| waits.then_some(traffic.end);
        let receipts = journal.receipts.iter().map(|receipt| receipt.at).collect();
        look(Awaited::Receipt, first_send, receipts, end(journal.receipts.len() < journal.sent.len()));
        let first_delivery = journal.deliveries.iter().map(|delivery| delivery.at).find(|at| traffic.contains(at));
        let deliveries = journal.deliveries.iter().map(|delivery| delivery.at).collect();
        look(Awaited::Delivery, first_delivery, deliveries, end(lost_by.contains_key(&who)));
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: Range<Duration> = Duration::ZERO..Duration::MAX;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Client 0 sends five messages to client 1, and all goes well; ten milliseconds lie between them.
    fn good() -> Vec<Journal> {
        let mut journals = vec![Journal::default(), Journal::default()];
        for number in 1..=5 {
            journals[0].sent.push(Sent { to: 1, number, at: ms(number * 10) });
            journals[0].receipts.push(Received { number, position: number, at: ms(number * 10 + 2) });
            let at = ms(number * 10 + 3);
            journals[1].deliveries.push(Delivered { from: 0, number, position: number, at });
        }
        journals
    }

    fn counted(change: impl FnOnce(&mut Vec<Journal>)) -> Counts {
        let mut journals = good();
        change(&mut journals);
        count(&journals, WHOLE)
    }

    #[test]
    fn a_good_history_is_right() {
        let counts = counted(|_| ());
        assert_eq!((counts.sent, counts.accepted, counts.delivered), (5, 5, 5));
        assert!(counts.are_right(), "{counts:?}");
        assert_eq!(counts.longest_pause.unwrap().length, ms(10));
    }

    #[test]
    fn a_loss_is_counted() {
        let counts = counted(|j| {
            j[1].deliveries.remove(2);
        });
        assert_eq!(
            (counts.lost, counts.delivered, counts.doubled, counts.out_of_order, counts.altered),
            (1, 4, 0, 0, 0)
        );
        assert!(!counts.are_right());
    }

    #[test]
    fn the_last_message_can_be_lost_too() {
        assert_eq!(counted(|j| j[1].deliveries.truncate(4)).lost, 1);
    }

    #[test]
    fn a_send_without_receipt_is_not_lost_but_not_right_either() {
        let counts = counted(|j| {
            j[0].receipts.pop();
            j[1].deliveries.pop();
        });
        assert_eq!((counts.lost, counts.accepted, counts.delivered), (0, 4, 4));
        assert!(!counts.are_right());
        let arrived_unreceipted = counted(|j| j[0].receipts.truncate(4));
        assert_eq!((arrived_unreceipted.accepted, arrived_unreceipted.delivered), (4, 5));
        assert!(!arrived_unreceipted.are_right());
    }

    #[test]
    fn a_double_is_counted_once_however_it_comes() {
        let same_position = counted(|j| {
            let again = j[1].deliveries[1];
            j[1].deliveries.push(again);
        });
        assert_eq!((same_position.doubled, same_position.out_of_order, same_position.altered), (1, 0, 0));
        let other_position = counted(|j| {
            let again = Delivered { position: 6, ..j[1].deliveries[1] };
            j[1].deliveries.push(again);
        });
        assert_eq!((other_position.doubled, other_position.altered), (1, 0));
        assert!(!same_position.are_right() && !other_position.are_right());
    }

    #[test]
    fn a_reorder_is_counted() {
        let counts = counted(|j| {
            // The positions say what the inbox says; the numbers are swapped in it.
            j[1].deliveries.swap(1, 2);
            (j[1].deliveries[1].position, j[1].deliveries[2].position) = (2, 3);
            (j[0].receipts[1].position, j[0].receipts[2].position) = (3, 2);
        });
        assert_eq!((counts.out_of_order, counts.lost, counts.doubled, counts.altered), (1, 0, 0, 0));
        assert!(!counts.are_right());
    }

    #[test]
    fn positions_must_ascend() {
        assert_eq!(counted(|j| j[1].deliveries.swap(3, 4)).out_of_order, 1);
    }

    #[test]
    fn order_is_each_senders_own() {
        let counts = counted(|j| {
            let mut third = Journal::default();
            third.sent.push(Sent { to: 1, number: 1, at: ms(1) });
            third.receipts.push(Received { number: 1, position: 6, at: ms(60) });
            j.push(third);
            j[1].deliveries.push(Delivered { from: 2, number: 1, position: 6, at: ms(61) });
        });
        assert!(counts.are_right(), "{counts:?}");
    }

    #[test]
    fn what_nobody_sent_is_altered() {
        let never_sent = Delivered { from: 0, number: 9, position: 6, at: ms(70) };
        assert_eq!(counted(|j| j[1].deliveries.push(never_sent)).altered, 1);
        let to_another = counted(|j| {
            let stray = j[1].deliveries.pop().unwrap();
            j[0].deliveries.push(stray);
        });
        assert_eq!((to_another.altered, to_another.lost), (1, 1));
        assert_eq!(counted(|j| j[1].altered = 1).altered, 1);
        assert_eq!(counted(|j| j[0].receipts[4].position = 7).altered, 1);
        let again = |j: &mut Vec<Journal>| {
            let receipt = j[0].receipts[0];
            j[0].receipts.push(receipt);
        };
        assert_eq!(counted(again).altered, 1);
    }

    #[test]
    fn the_longest_pause_is_found_and_named() {
        let pause = counted(|j| {
            j[0].receipts[3].at = ms(400);
            j[0].receipts[4].at = ms(401);
        })
        .longest_pause
        .unwrap();
        assert_eq!((pause.who, pause.waited_for, pause.length, pause.from), (0, Awaited::Receipt, ms(368), ms(32)));
        let pause = counted(|j| j[1].deliveries[4].at = ms(900)).longest_pause.unwrap();
        assert_eq!((pause.who, pause.waited_for, pause.length), (1, Awaited::Delivery, ms(857)));
    }

    #[test]
    fn a_sender_that_never_gets_its_receipt_waits_until_the_end() {
        let mut journals = good();
        journals[0].receipts.truncate(2);
        let pause = count(&journals, ms(0)..ms(1000)).longest_pause.unwrap();
        assert_eq!((pause.waited_for, pause.length), (Awaited::Receipt, ms(978)));
    }

    #[test]
    fn a_recipient_of_what_was_lost_waits_until_the_end_and_is_named() {
        let mut journals = good();
        journals[1].deliveries.truncate(2);
        let counts = count(&journals, ms(0)..ms(1000));
        let pause = counts.longest_pause.unwrap();
        assert_eq!((pause.who, pause.waited_for, pause.length), (1, Awaited::Delivery, ms(977)));
        assert_eq!(counts.lost_by, BTreeMap::from([(1, 3)]));
    }

    #[test]
    fn what_was_before_the_traffic_is_no_pause() {
        let mut journals = good();
        journals[0].sent[0].at = ms(0);
        journals[0].receipts[0].at = ms(0);
        journals[1].deliveries[0].at = ms(0);
        assert_eq!(count(&journals, ms(15)..ms(1000)).longest_pause.unwrap().length, ms(10));
    }
}
