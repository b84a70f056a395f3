//! An open loop: messages become due at fixed times, whether or not the ones before were answered.

use std::num::NonZeroU64;
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::clock::Clock;

/// Messages that become due within this time of each other are let go together: a thread that sleeps shorter does
/// little else but fall asleep and wake up. A message's time counts from when it was due all the same.
const TOGETHER_NS: u64 = 100_000;
/// How long after the call the first message is due.
const SOON_NS: u64 = 5_000_000;

/// Lets `rate` messages a second become due for `seconds`, in turn at each of `senders`, which get the times in
/// nanoseconds of the clock. A thread of its own does it, since tokio's timers know only milliseconds.
pub fn pace(clock: Clock, rate: u64, seconds: u64, senders: usize) -> Vec<UnboundedReceiver<u64>> {
    let (due, receivers): (Vec<_>, Vec<_>) = (0..senders).map(|_| unbounded_channel()).unzip();
    #[expect(
        clippy::disallowed_methods,
        reason = "the load is made on the machine that you sit at, and is to be even"
    )]
    drop(std::thread::spawn(move || run(clock, rate, seconds, &due)));
    receivers
}

fn run(clock: Clock, rate: u64, seconds: u64, senders: &[UnboundedSender<u64>]) {
    // Where that is not granted, messages become due up to 50 µs late, which counts as part of their latency.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1000));
    let start = clock.now() + SOON_NS;
    let due = |message: u64| start + (u128::from(message) * 1_000_000_000 / u128::from(rate)) as u64;
    let (mut message, all) = (0, rate * seconds);
    while message < all {
        let (now, next) = (clock.now(), due(message));
        if next > now {
            #[expect(clippy::disallowed_methods, reason = "see above")]
            std::thread::sleep(Duration::from_nanos((next - now).max(if rate > 10_000 { TOGETHER_NS } else { 0 })));
        }
        let now = clock.now();
        while message < all && due(message) <= now {
            // A sender that has given up wants no more.
            let _ = senders[message as usize % senders.len()].send(due(message));
            message += 1;
        }
    }
}
