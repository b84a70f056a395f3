//! Clocks that jump and drift: worked out anew from all faults that are on, since they overlap.

use super::super::Runner;
use crate::plan::{ClockFault, Fault};

impl Runner<'_> {
    pub(super) fn clock_fault(&mut self, fault: &ClockFault) {
        let (ClockFault::Jump { host, .. } | ClockFault::Drift { host, .. }) = fault;
        self.on_host(host, Self::restore_clock);
    }

    fn restore_clock(&mut self, at: usize) {
        let name = self.hosts.at(at).name.clone();
        let (mut ahead_ms, mut rate) = (0i64, 1.0f64);
        for fault in self.faults.active() {
            match fault {
                Fault::Clock(ClockFault::Jump { host, behind, by }) if *host == name => {
                    let by = i64::try_from(by.0).unwrap_or(i64::MAX);
                    ahead_ms = ahead_ms.saturating_add(if *behind { -by } else { by });
                }
                Fault::Clock(ClockFault::Drift { host, slower, by }) if *host == name => {
                    rate *= if *slower { 1.0 - by.probability() } else { 1.0 + by.probability() };
                }
                _ => {}
            }
        }
        let index = self.hosts.at(at).index;
        self.context.set_clock(index, ahead_ms, rate);
    }
}
