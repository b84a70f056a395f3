//! What a stretch of a benchmark cost: processor time and memory, from `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use restante::world::{Instant, RealWorld, World};
use serde::Serialize;

/// How often memory is looked at.
const LOOK: Duration = Duration::from_millis(100);

/// Measures from its making to [`Meter::end`].
#[derive(Debug)]
pub struct Meter {
    began: Instant,
    /// The processor time that each server had used.
    servers: BTreeMap<u32, u64>,
    own: u64,
    machine: Machine,
    peak_kib: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

/// What was used. Of servers that this program did not start, nothing is known.
#[derive(Debug, Clone, Serialize)]
pub struct Usage {
    /// How long it took.
    pub wall_s: f64,
    /// Processor time of the servers.
    pub broker_cpu_s: f64,
    /// Processor time of this program, which makes the load.
    pub client_cpu_s: f64,
    /// Share of all cores that everybody else used.
    pub other_cpu_frac: f64,
    /// Share of all cores that the machine below did not give.
    pub steal_frac: f64,
    /// The most memory that the servers had at a time, in MiB, all together.
    pub peak_rss_mb: f64,
    /// The system's load average over a minute.
    pub load1: f64,
}

/// Processor time of the whole machine, in ticks.
#[derive(Debug, Clone, Copy, Default)]
struct Machine {
    busy: u64,
    stolen: u64,
}

impl Meter {
    /// Begins to measure; `servers` are process ids.
    pub fn begin(servers: &[u32]) -> Self {
        let (peak_kib, over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let watched = (servers.to_vec(), Arc::clone(&peak_kib), Arc::clone(&over));
        if !servers.is_empty() {
            drop(RealWorld::spawn(async move {
                let (servers, peak_kib, over) = watched;
                while !over.load(Relaxed) {
                    peak_kib.fetch_max(servers.iter().map(|pid| resident_kib(*pid)).sum(), Relaxed);
                    RealWorld::sleep(LOOK).await;
                }
            }));
        }
        Self {
            began: RealWorld::now(),
            servers: servers.iter().filter_map(|pid| Some((*pid, ticks(*pid)?))).collect(),
            own: ticks(std::process::id()).unwrap_or(0),
            machine: Machine::now(),
            peak_kib,
            over,
        }
    }

    /// What was used since.
    pub fn end(self) -> Usage {
        self.over.store(true, Relaxed);
        self.peak_kib.fetch_max(self.servers.keys().map(|pid| resident_kib(*pid)).sum(), Relaxed);
        let seconds = |ticks: u64| ticks as f64 / rustix::param::clock_ticks_per_second() as f64;
        let wall_s = self.began.elapsed().as_secs_f64();
        let cores = std::thread::available_parallelism().map_or(1.0, |cores| cores.get() as f64) * wall_s;
        // Of a server that was killed meanwhile, nothing can be said any more.
        let servers: u64 = self.servers.iter().map(|(pid, t)| ticks(*pid).unwrap_or(*t).saturating_sub(*t)).sum();
        let own = ticks(std::process::id()).unwrap_or(0).saturating_sub(self.own);
        let machine = Machine::now();
        Usage {
            wall_s,
            broker_cpu_s: seconds(servers),
            client_cpu_s: seconds(own),
            other_cpu_frac: seconds((machine.busy - self.machine.busy).saturating_sub(servers + own)) / cores,
            steal_frac: seconds(machine.stolen - self.machine.stolen) / cores,
            peak_rss_mb: self.peak_kib.load(Relaxed) as f64 / 1024.0,
            load1: load(),
        }
    }
}

impl Machine {
    fn now() -> Self {
        let stat = read("/proc/stat");
        let fields = stat.lines().next().unwrap_or("").split_whitespace().skip(1).map(|v| v.parse().unwrap_or(0));
        // user, nice, system, idle, iowait, irq, softirq, steal; what guests use is in user.
        let fields: Vec<u64> = fields.take(8).collect();
        let at = |field: usize| fields.get(field).copied().unwrap_or(0);
        Self { busy: at(0) + at(1) + at(2) + at(5) + at(6), stolen: at(7) }
    }
}

impl Drop for Meter {
    fn drop(&mut self) {
        self.over.store(true, Relaxed);
    }
}

#[expect(clippy::disallowed_methods, reason = "what the system tells is on no server's disk, and in no simulation")]
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

fn load() -> f64 {
    read("/proc/loadavg").split(' ').next().and_then(|text| text.parse().ok()).unwrap_or(0.0)
}

/// The processor time that a process has used; `None` if it is not there.
fn ticks(pid: u32) -> Option<u64> {
    let stat = read(&format!("/proc/{pid}/stat"));
    // The program's name comes before, in brackets, and may have spaces in it.
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 2..)?.split(' ').collect();
    Some(fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?)
}

/// The memory that these processes have now, in MiB, all together.
pub fn resident_mb(pids: &[u32]) -> f64 {
    pids.iter().map(|pid| resident_kib(*pid)).sum::<u64>() as f64 / 1024.0
}

fn resident_kib(pid: u32) -> u64 {
    let status = read(&format!("/proc/{pid}/status"));
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_time_and_memory_and_one_that_is_not_there_has_none() {
        assert!(ticks(std::process::id()).is_some() && resident_kib(std::process::id()) > 0);
        assert_eq!((ticks(u32::MAX), resident_kib(u32::MAX)), (None, 0));
        assert!(Machine::now().busy > 0 && load() >= 0.0);
    }
}
