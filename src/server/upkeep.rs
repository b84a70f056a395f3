//! What a server does by itself, a few times a second: takes checkpoints, sends clients elsewhere when it has lost
//! touch with the leader or its disk hangs, tells them when there are other servers, proposes ticks when something is
//! due, hands leadership over when its disk is full or hangs, serves nobody while it is drained.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft_rt::Instant as _;
use openraft_rt::watch::WatchReceiver as _;

use super::Abort;
use super::disk_watch::DiskWatch;
use super::node::Node;
use super::observer::Observer;
use crate::wire::command::Command;
use crate::wire::{Refusal, Time};
use crate::world::{Event, Instant, World};

/// A leader whose entries were refused for want of room tries again within this time.
const REFUSED: Duration = Duration::from_secs(2);
/// The least time after which a follower that applies what is committed too late counts as out of touch. A disk may well take
/// a second for a sync while others write to it.
const LATE: Duration = Duration::from_secs(2);
/// A drained server stands for election after a silence of so many longest election timeouts. The others stand after one
/// to two, and lead before, if they can.
const LAST_RESORT: u32 = 4;
/// The least time between two ticks, in milliseconds: what is due is done so late at most, if nothing else happens.
const TICKS: u64 = 50;
/// What a place in an inbox takes in a cut for a checkpoint, in bytes, about.
const PLACE_BYTES: u64 = 100;
/// A checkpoint is taken so long after the one before, or up to half as long again,
const CHECKPOINT_AFTER: Duration = Duration::from_secs(5);
/// if so large a part of the log has been written since that it is taken for otherwise.
const CHECKPOINT_PART: u64 = 64;
/// How often a full disk is given a checkpoint.
const FULL_DISK: Duration = Duration::from_secs(5);
/// The longest pause before a leader whose disk stays full tries again to let another one lead.
const FULL_DISK_MAX: Duration = Duration::from_secs(300);

/// Looks after the node for ever.
pub(super) async fn upkeep<W: World>(node: Arc<Node<W>>) {
    let round = (node.settings.heartbeat / 2).max(Duration::from_millis(5));
    let mut cleaned_at = node.log.bytes_written();
    let mut checkpoints = Checkpoints::new::<W>(cleaned_at);
    let mut asked: Option<(u64, u64)> = None;
    let mut ticked = Time(0);
    let mut led_since: Option<Instant> = None;
    let mut touch = None;
    let mut lag = Lag::default();
    let mut told = None;
    let mut made_room = W::now();
    let mut watch = DiskWatch::default();
    let mut hands_over = None;
    let mut full = FullDisk::default();
    let mut drain = Drain { begun: W::now(), handed_over: None, last_resort: false };
    let mut observer = Observer::default();
    loop {
        W::sleep(round).await;
        observer.look(&node);
        let leads = node.raft.is_leader();
        led_since = leads.then(|| led_since.unwrap_or_else(W::now));
        let hangs = watch.look(node.log.progress(), W::now(), round) > node.settings.disk_patience;
        if hangs != node.health.hangs() {
            node.health.set_hangs(hangs);
            if hangs {
                tracing::error!("the disk does nothing any more: this server leads no more and serves nobody");
            } else {
                tracing::warn!("the disk answers again");
            }
            W::observe(|| Event { kind: "disk", who: None, detail: format!("hangs={hangs}") });
        }
        let idles = drain.keep(&node).await;
        serve_or_move(&node, &mut touch, &mut lag, idles);
        let membership = *node.raft.metrics().borrow_watched().membership_config.log_id();
        if membership != told {
            told = membership;
            node.tell_servers();
        }
        if hangs {
            // Once it has heard of a newer leader, Raft waits for the disk to write that down: what it says of itself is
            // of before, and it is not to be asked anything all the time.
            if leads && hands_over.is_none_or(|at| W::now() > at + node.settings.election_timeout.1 * 4) {
                hands_over = Some(W::now());
                tracing::warn!("the disk hangs: handing leadership over");
                node.hand_over().await;
            }
            continue;
        }
        hands_over = None;
        let written = node.log.bytes_written();
        if let Some((cuts, at)) = asked
            && node.office.cuts() != cuts
        {
            cleaned_at = at;
            asked = None;
        }
        // A message to many is small in the log and large in the checkpoint.
        let places = node.office.post_office.lock().fresh_places();
        let since = written.saturating_sub(cleaned_at) + places.saturating_mul(PLACE_BYTES);
        // A checkpoint lets log segments go: it is what makes room on a full disk.
        let no_room = node.log.disk_full() && since > 0 && W::now() - made_room > FULL_DISK;
        let busy = checkpoints.is_writing();
        if !busy && (no_room || since >= node.settings.checkpoint_log_bytes || since >= memory_is_short(&node)) {
            made_room = W::now();
            // Nothing comes of it while the one before is being written: what counts is the next cut.
            asked.get_or_insert((node.office.cuts(), written));
            if node.raft.trigger().snapshot().await.is_err() {
                return;
            }
            checkpoints.taken::<W>(written);
        } else if asked.is_none() {
            checkpoints.take_if_due(&node, written);
        }
        if leads {
            let due = node.office.post_office.lock().next_due();
            let now = node.clock.now::<W>();
            if due.is_some_and(|due| due <= now) && now.0 >= ticked.0 + TICKS {
                ticked = now;
                node.hub.tell(&Command::Tick);
            }
            let settled = led_since.is_some_and(|since| W::now() - since > node.settings.election_timeout.1);
            if settled && full.hands_over(node.log.disk_full(), W::now()) {
                led_since = None;
                W::reached("leadership handed over for a full disk");
                hand_over(&node, "the disk is full").await;
            }
        }
    }
}

/// Checkpoints between those that clean the log, so that a start has little of it to apply, however slowly it grows. They
/// leave the log alone: a server that was away for a while catches up from it.
struct Checkpoints {
    /// How much log had been written when the last checkpoint of either kind was taken.
    last: u64,
    /// When the next one is due. Servers do it at different times, so that a majority is not held up by it.
    due: Instant,
    /// One that is being written.
    writing: Option<Abort<io::Result<()>>>,
}

impl Checkpoints {
    fn new<W: World>(log_bytes: u64) -> Self {
        Self { last: log_bytes, due: Self::next::<W>(), writing: None }
    }

    fn next<W: World>() -> Instant {
        let part = f64::from(rand::Rng::next_u32(&mut W::rng())) / f64::from(u32::MAX);
        W::now() + CHECKPOINT_AFTER + CHECKPOINT_AFTER.mul_f64(part / 2.0)
    }

    fn is_writing(&self) -> bool {
        self.writing.as_ref().is_some_and(|writing| !writing.0.is_finished())
    }

    fn taken<W: World>(&mut self, log_bytes: u64) {
        (self.last, self.due) = (log_bytes, Self::next::<W>());
    }

    fn take_if_due<W: World>(&mut self, node: &Arc<Node<W>>, log_bytes: u64) {
        let enough = log_bytes.saturating_sub(self.last) >= node.settings.checkpoint_log_bytes / CHECKPOINT_PART;
        if enough && W::now() >= self.due && !self.is_writing() {
            self.taken::<W>(log_bytes);
            W::reached("a checkpoint for a quick start");
            // An error is noted where it ends the server.
            self.writing = Some(Abort(W::spawn(node.office.clone().checkpoint())));
        }
    }
}

/// Bodies may leave memory only once they are in a checkpoint: if there are too many, one is taken after so many bytes
/// of log already.
fn memory_is_short<W: World>(node: &Node<W>) -> u64 {
    let limit = node.settings.body_memory_bytes;
    let held = node.office.post_office.lock().totals().content_bytes_in_memory;
    if held > limit { (limit / 4).max(1) } else { u64::MAX }
}

/// How long a follower takes to apply what it was told is committed. With a slow disk it hears the leader, and falls behind
/// none the less.
#[derive(Debug, Default)]
struct Lag {
    /// An index that was committed, and when that was heard.
    target: Option<(u64, Instant)>,
    late: bool,
}

impl Lag {
    /// Whether it takes longer than `patience`, or did so the last time that it got there.
    fn is_late(&mut self, committed: u64, applied: u64, now: Instant, patience: Duration) -> bool {
        match self.target {
            Some((target, since)) if applied < target => self.late |= now.saturating_duration_since(since) > patience,
            reached => {
                self.late &= reached.is_some_and(|(_, since)| now.saturating_duration_since(since) > patience);
                self.target = (applied < committed).then_some((committed, now));
            }
        }
        self.late
    }
}

/// A home that has not heard of a leader for too long may be behind without knowing: it delivers nothing more and
/// sends its clients elsewhere. So does one whose disk hangs, is too slow, or has no room for a leader's entries: it hears
/// the leader, and falls behind none the less. Four times the longest election timeout, so that an ordinary election, which
/// begins after two of them at the latest, moves nobody.
fn serve_or_move<W: World>(node: &Node<W>, touch: &mut Option<Instant>, lag: &mut Lag, idles: bool) {
    let patience = node.settings.election_timeout.1 * 4;
    // The last touch is kept over a change of leader: who led until now has heard of no leader for long, and who leads
    // since now has not yet had an answer.
    let (acknowledged, alone, leads) = {
        let metrics = node.raft.metrics();
        let metrics = metrics.borrow_watched();
        let leads = metrics.current_leader == Some(node.me.incarnation);
        let voters = metrics.membership_config.membership().voter_ids().count();
        (metrics.last_quorum_acked.filter(|_| leads).map(|at| W::now() - at.elapsed()), leads && voters == 1, leads)
    };
    *touch = (*touch).max(node.heard.last()).max(acknowledged).max(alone.then(W::now));
    let in_touch = touch.is_some_and(|at| W::now().saturating_duration_since(at) <= patience);
    let left_behind = node.health.refused().is_some_and(|at| W::now().saturating_duration_since(at) <= REFUSED);
    let committed = node.heard.committed();
    let applied = if leads { committed } else { node.office.applied().0.map_or(0, |id| id.index) };
    let late = lag.is_late(committed, applied, W::now(), patience.max(LATE));
    let in_touch = in_touch && !left_behind && !late && !node.health.hangs();
    let closed = node.hub.lock().closed_for.clone();
    let close_for = match (in_touch, idles) {
        (false, _) => Some(Refusal::NoLeader),
        (true, true) => Some(Refusal::Drained),
        (true, false) => None,
    };
    // A server that stops does so for good.
    if closed == close_for || closed == Some(Refusal::Stopping) {
        return;
    }
    match &close_for {
        None if closed == Some(Refusal::Drained) => tracing::info!("serving clients again"),
        None => W::reached("a home in touch again"),
        Some(Refusal::Drained) => {
            W::reached("a home drained");
            tracing::info!("this server is drained: clients are sent elsewhere");
        }
        Some(_) => {
            W::reached("a home out of touch");
            tracing::warn!(
                left_behind,
                late,
                hangs = node.health.hangs(),
                "out of touch with the leader, behind it, or without a disk: clients are sent elsewhere"
            );
        }
    }
    node.hub.close_for(close_for);
}

/// What a drained server does about it.
struct Drain {
    /// When upkeep began: a server that has only just started has not been waiting for a leader yet.
    begun: Instant,
    /// When leadership was last handed over for it.
    handed_over: Option<Instant>,
    /// It leads although it is drained.
    last_resort: bool,
}

impl Drain {
    /// Keeps a drained server from leading, and says whether it is to serve nobody. It leads only while no other could,
    /// and whoever leads serves: draining must not cost the cluster its service.
    async fn keep<W: World>(&mut self, node: &Node<W>) -> bool {
        let longest = node.settings.election_timeout.1;
        let drained = node.office.post_office.lock().is_drained(&node.me.name);
        let heard = node.heard.last().map_or(self.begun, |at| at.max(self.begun));
        // The others get a long start when there is no leader. They may all be down, or lack what this one has.
        let stands = !drained || W::now().saturating_duration_since(heard) > longest * LAST_RESORT;
        node.raft.runtime_config().elect(stands);
        if !drained || !node.raft.is_leader() {
            self.last_resort = false;
            return drained;
        }
        // Who has been asked needs a moment; one that cannot after all is asked again, or another one.
        let asked = self.handed_over.is_some_and(|at| W::now() <= at + longest * LAST_RESORT);
        if !asked && node.ready_besides(&node.me.name) > 0 {
            self.handed_over = Some(W::now());
            tracing::info!("this server is drained: handing leadership over");
            node.hand_over().await;
        } else if !asked && !self.last_resort {
            self.last_resort = true;
            W::reached("a drained leader serves, since nobody else could");
            tracing::warn!("this server is drained, but leads and serves: no other one could");
        }
        false
    }
}

/// When a leader whose disk is full hands over. Another one may be no better off, and each election takes some of the room
/// that is left, so that it is tried again after longer and longer pauses.
#[derive(Debug, Default)]
struct FullDisk {
    /// Not before, and the pause after the next time.
    next: Option<(Instant, Duration)>,
}

impl FullDisk {
    fn hands_over(&mut self, full: bool, now: Instant) -> bool {
        if !full {
            self.next = None;
            return false;
        }
        let (due, pause) = self.next.unwrap_or((now, FULL_DISK));
        if now < due {
            return false;
        }
        self.next = Some((now + pause, (pause * 2).min(FULL_DISK_MAX)));
        true
    }
}

/// A leader whose disk is full or hangs lets another one lead. From now on it proposes nothing and sends no heartbeats: if
/// the one that is asked cannot lead, the others elect one as if this one were gone.
async fn hand_over<W: World>(node: &Node<W>, why: &str) {
    tracing::warn!("{why}: handing leadership over");
    node.hand_over().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_is_late_until_it_has_caught_up_in_time() {
        let begin = crate::world::RealWorld::now();
        let mut lag = Lag::default();
        let mut is_late = |seconds, committed, applied| {
            lag.is_late(committed, applied, begin + Duration::from_secs(seconds), Duration::from_secs(3))
        };
        assert!(!is_late(0, 10, 10));
        assert!(!is_late(1, 20, 10));
        assert!(!is_late(4, 30, 19), "it has three seconds");
        assert!(is_late(5, 40, 19));
        assert!(is_late(6, 40, 20), "it has come to 20 too late, and 40 is the next");
        assert!(is_late(8, 50, 39));
        assert!(!is_late(9, 50, 40), "that took no longer than it may");
        assert!(!is_late(10, 50, 50));
        assert!(!is_late(99, 51, 50), "nothing was to be applied until now");
        assert!(!is_late(102, 51, 50));
        assert!(is_late(103, 51, 50));
        assert!(is_late(104, 51, 51), "the last time it was late");
        assert!(!is_late(105, 51, 51));
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_disk_lets_others_lead_less_and_less_often_until_it_has_room() {
        let begin = crate::world::RealWorld::now();
        let after = |seconds| begin + Duration::from_secs(seconds);
        let mut full = FullDisk::default();
        assert!(!full.hands_over(false, begin));
        assert!(full.hands_over(true, begin));
        assert!(!full.hands_over(true, after(4)));
        assert!(full.hands_over(true, after(5)));
        assert!(!full.hands_over(true, after(14)));
        assert!(full.hands_over(true, after(15)));
        assert!(!full.hands_over(false, after(16)));
        assert!(full.hands_over(true, after(17)), "it was emptied, and is full anew");
        (0..20).for_each(|n| assert!(full.hands_over(true, after(1000 + n * 300))));
    }
}
