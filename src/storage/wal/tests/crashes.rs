//! Random work with crashes at random moments: what was acknowledged is there, in order, and nothing that was not
//! queued.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;

use super::*;
use crate::storage::MetaKey;
use crate::storage::testing::{Dice, FaultDisk, Knobs};

const SEGMENT: u64 = 8 << 10;

#[derive(Debug, Clone)]
enum Op {
    Append(Vec<LogEntry>),
    KeepBelow(u64),
    DropBelow(u64),
    Put(MetaKey, Bytes),
}

/// What a log is to contain.
#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    entries: BTreeMap<u64, LogEntry>,
    floor: u64,
    meta: BTreeMap<u8, Bytes>,
}

impl Model {
    fn apply(&mut self, op: &Op) {
        match op {
            Op::Append(entries) => self.entries.extend(entries.iter().map(|entry| (entry.index, entry.clone()))),
            Op::KeepBelow(next) => drop(self.entries.split_off(next)),
            Op::DropBelow(floor) => {
                self.floor = self.floor.max(*floor);
                self.entries = self.entries.split_off(&self.floor);
            }
            Op::Put(key, value) => drop(self.meta.insert(*key as u8, value.clone())),
        }
    }

    fn next(&self) -> u64 {
        self.entries.last_key_value().map_or(self.floor, |(last, _)| last + 1)
    }

    async fn of(log: &Log<TestWorld>) -> Result<Self, String> {
        let entries = all(log).await.map_err(|error| error.to_string())?;
        let meta = [MetaKey::Vote, MetaKey::Purged];
        Ok(Self {
            entries: entries.into_iter().map(|entry| (entry.index, entry)).collect(),
            floor: log.purged_below(),
            meta: meta.into_iter().filter_map(|key| Some((key as u8, log.get(key)?))).collect(),
        })
    }
}

/// What has been queued since the last start, and how much of it was acknowledged.
#[derive(Default)]
struct History {
    before: Model,
    ops: Vec<Op>,
    acknowledged: Arc<Mutex<usize>>,
    committed: u64,
}

impl History {
    fn queued(&mut self, op: Op) -> usize {
        self.ops.push(op);
        self.ops.len()
    }

    /// Finds the prefix of what was queued that `found` is.
    fn check(&mut self, found: Model, committed: Option<Bytes>) -> Result<(), String> {
        let acknowledged = *self.acknowledged.lock();
        let mut model = self.before.clone();
        for op in &self.ops[..acknowledged] {
            model.apply(op);
        }
        let mut rest: VecDeque<&Op> = self.ops[acknowledged..].iter().collect();
        while model != found {
            match rest.pop_front() {
                Some(op) => model.apply(op),
                None => {
                    return Err(format!(
                        "of {} operations {acknowledged} were acknowledged, and found was {:?} with floor {}",
                        self.ops.len(),
                        found.entries.keys().collect::<Vec<_>>(),
                        found.floor,
                    ));
                }
            }
        }
        if let Some(bytes) = committed {
            let value = u64::from_le_bytes(bytes[..].try_into().map_err(|_| "a short value")?);
            if value > self.committed {
                return Err(format!("committed {value} was never set"));
            }
        }
        (self.before, self.ops) = (found, Vec::new());
        *self.acknowledged.lock() = 0;
        Ok(())
    }
}

/// One life of a process: opens the log, checks it, works until something fails or it has done enough.
async fn live(disk: &FaultDisk, dice: &mut Dice, history: &mut History) -> Result<(), String> {
    let log = match open(disk, SEGMENT).await {
        Ok(log) => log,
        Err(LogError::Io(_)) if disk.is_dead() => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    match Model::of(&log).await {
        Ok(found) => history.check(found, log.get(MetaKey::Committed))?,
        Err(_) if disk.is_dead() => return Ok(()),
        Err(error) => return Err(error),
    }
    let mut model = history.before.clone();
    for _ in 0..dice.below(60) {
        let ok = step(&log, dice, history, &mut model).await?;
        if !ok {
            break;
        }
    }
    Ok(())
}

/// One random operation. `false`: the disk is dead.
async fn step(log: &Log<TestWorld>, dice: &mut Dice, history: &mut History, model: &mut Model) -> Result<bool, String> {
    let next = model.next();
    let op = match dice.below(20) {
        0..10 => {
            let size = [0, 40, 400, 3000][dice.below(4) as usize] + if dice.below(60) == 0 { 12_000 } else { 0 };
            let stamp = dice.next().to_le_bytes().to_vec();
            let entries = (next..=next + dice.below(4)).map(|index| {
                let mut entry = entry(index, size);
                entry.head = stamp.clone().into();
                entry
            });
            Op::Append(entries.collect())
        }
        10 if !model.entries.is_empty() => Op::KeepBelow(next - dice.below(model.entries.len().min(6) as u64 + 1)),
        11 if !model.entries.is_empty() => Op::DropBelow((next - dice.below(model.entries.len() as u64 + 1)).max(1)),
        12 if dice.below(8) == 0 => Op::DropBelow(next + 1 + dice.below(5)),
        13 | 14 => Op::Put(MetaKey::Vote, dice.next().to_le_bytes().to_vec().into()),
        15 => Op::Put(MetaKey::Purged, vec![7; dice.below(700) as usize].into()),
        16 => {
            history.committed += 1;
            return Ok(log.put_lazy(MetaKey::Committed, history.committed.to_le_bytes().to_vec().into()).is_ok());
        }
        17 => {
            // Everything can be read at once, durable or not, from memory or disk.
            return match log.read(0..u64::MAX, u64::MAX).await {
                Ok(found) if found.iter().eq(model.entries.values()) => Ok(true),
                Ok(found) => Err(format!("read {} entries of {}", found.len(), model.entries.len())),
                Err(_) => Ok(false),
            };
        }
        _ => {
            tokio::task::yield_now().await;
            return Ok(true);
        }
    };
    let place = history.queued(op.clone());
    model.apply(&op);
    let acknowledged = history.acknowledged.clone();
    let done = match op {
        Op::Append(entries) => {
            log.append(
                entries,
                Box::new(move |result| {
                    if result.is_ok() {
                        let mut acknowledged = acknowledged.lock();
                        assert!(*acknowledged < place, "{place} is acknowledged after {acknowledged}");
                        *acknowledged = place;
                    }
                }),
            );
            return Ok(log.poisoned().is_none());
        }
        Op::KeepBelow(next) => log.truncate_after(next.checked_sub(1)).await,
        Op::DropBelow(floor) => log.purge(floor - 1).await,
        Op::Put(key, value) => log.put(key, value).await,
    };
    if done.is_ok() {
        *acknowledged.lock() = place;
    }
    Ok(done.is_ok())
}

/// Lives and dies `lives` times.
fn lives(seed: u64, lives: u64, knobs: &Knobs) -> Result<(), String> {
    TestWorld::seed(seed);
    let mut dice = Dice(seed ^ 0xabcd);
    let mut disk = FaultDisk::new();
    disk.knobs(|there| *there = knobs.clone());
    let mut history = History::default();
    for life in 0..lives {
        if dice.below(5) > 0 {
            let scale = 3 + dice.below(6);
            let after = dice.below(1 << scale);
            disk.knobs(|knobs| knobs.dies_after = Some(after));
        }
        run(live(&disk, &mut dice, &mut history)).map_err(|error| format!("seed {seed}, life {life}: {error}"))?;
        disk = if dice.below(4) == 0 { disk.kill() } else { disk.crash(&mut dice) };
    }
    Ok(())
}

#[test]
fn whatever_dies_what_was_acknowledged_is_there_and_nothing_else() {
    // 256: a spare segment whose torn batch was cut, and the process killed before it had synced that.
    for seed in (0..100).chain([256]) {
        lives(seed, 60, &Knobs::default()).unwrap();
    }
}

#[test]
fn without_the_syncs_that_would_be_noticed() {
    let caught = |knobs: Knobs| (0..20).filter(|&seed| lives(seed, 60, &knobs).is_err()).count();
    assert_eq!(caught(Knobs { no_sync: true, ..Knobs::default() }), 20, "of 20 seeds without the sync of files");
    assert_eq!(caught(Knobs { no_directory_sync: true, ..Knobs::default() }), 20, "of 20 without directories'");
}
