//! A disk that forgets what was not synced.
//!
//! Every file and every directory has a part that a power cut leaves and one that it may take: file contents are
//! durable after [`File::sync`] of that file, names after [`Disk::sync_directory`] of that directory, and nothing
//! becomes durable by itself. A power cut leaves of the rest what it draws: nothing, all, or single sectors, and a
//! prefix of each directory's changes. What was synced is never lost; damage is a fault of its own.
//!
//! A [`Drive`] is the machine's: the runner owns it, and it outlives crashes. A [`SimDisk`] is one process's access to
//! it, which ends with the process: what a destructor still writes after the crash goes nowhere.

mod content;
mod damage;
mod directory;
#[cfg(test)]
mod model_test;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::io::{self, ErrorKind};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};
use rand::RngExt;
use restante::world::{Disk, File, OpenMode};
use xxhash_rust::xxh3::xxh3_64;

use self::directory::{DirectoryNode, FileNode, Node, directory_at, parent_of, parts};
use crate::context::{self, Cost};
use crate::random::{Stream, stream};
use crate::trace::Event;

pub use self::content::SECTOR_BYTES;

/// What goes wrong by itself, as the plan has it for now. Probabilities are per operation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DiskFaults {
    /// A sync fails; what it should have made durable never will be, unless it is written again.
    pub sync_error: f64,
    /// A read fails.
    pub read_error: f64,
    /// A write fails after a part of it.
    pub write_error: f64,
    /// A sync takes so much longer.
    pub sync_delay: Duration,
    /// A sync that begins before this moment of the run ends at it.
    pub stuck_until: Duration,
}

/// One machine's disk, as its owner (the runner) has it.
#[derive(Debug, Clone)]
pub struct Drive(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    host: String,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    root: DirectoryNode,
    /// Which process has access; handles of earlier ones are dead.
    process: u64,
    locked: bool,
    used: Arc<AtomicU64>,
    limit: Option<u64>,
    faults: DiskFaults,
    /// Draws faults and what a power cut leaves.
    random: Stream,
    /// Draws how long syncs take.
    delays: Stream,
    sync_ms: RangeInclusive<u64>,
    /// So many operations from now the power goes.
    fuse: Option<u32>,
    /// It has gone: every operation fails until [`Drive::power_cut`].
    dark: bool,
    /// The present process was given an error that the disk is to blame for.
    failed: bool,
    /// The present process was told that there is no room, or little.
    full: bool,
    /// Syncs that stand still, and until when: what they are of is durable then.
    stuck: Vec<(Duration, Node)>,
}

impl Drive {
    /// The empty disk of `host`, whose syncs take between so many milliseconds.
    pub fn new(host: &str, seed: u64, sync_ms: RangeInclusive<u64>) -> Self {
        let state = State {
            root: DirectoryNode::default(),
            process: 0,
            locked: false,
            used: Arc::default(),
            limit: None,
            faults: DiskFaults::default(),
            random: stream(seed, &format!("disk of {host}")),
            delays: stream(seed, &format!("disk delays of {host}")),
            sync_ms,
            fuse: None,
            dark: false,
            failed: false,
            full: false,
            stuck: Vec::new(),
        };
        Self(Arc::new(Shared { host: host.to_owned(), state: Mutex::new(state) }))
    }

    /// Access for a process that starts now. Those that had it before lose it, and their lock.
    pub fn attach(&self) -> SimDisk {
        let mut state = self.0.state.lock();
        state.end_process();
        SimDisk { shared: self.0.clone(), process: state.process }
    }

    /// The process is gone, the machine is not: what it wrote is still in the machine's memory.
    pub fn process_died(&self) {
        self.0.state.lock().end_process();
    }

    /// The power goes, and with it what was not synced: see the module.
    pub fn power_cut(&self) {
        let mut state = self.0.state.lock();
        state.end_process();
        state.fuse = None;
        state.dark = false;
        // A sync that still stands still has made nothing durable that a power cut does not happen to leave.
        state.end_stuck_syncs(context::with(context::Context::elapsed).unwrap_or_default());
        state.stuck.clear();
        let State { root, random, .. } = &mut *state;
        directory::crash(root, random);
    }

    /// The disk is replaced by an empty one.
    pub fn wipe(&self) {
        let mut state = self.0.state.lock();
        state.end_process();
        state.root = DirectoryNode::default();
        state.stuck.clear();
    }

    /// The power goes at the `operations`-th change from now (0: the next), in the middle of whatever is being done.
    pub fn light_fuse(&self, operations: u32) {
        self.0.state.lock().fuse = Some(operations);
    }

    /// Whether a fuse has burnt down, and [`Drive::power_cut`] is due.
    pub fn is_dark(&self) -> bool {
        self.0.state.lock().dark
    }

    /// What goes wrong from now on. Gives what did until now.
    pub fn set_faults(&self, faults: DiskFaults) -> DiskFaults {
        std::mem::replace(&mut self.0.state.lock().faults, faults)
    }

    /// So many bytes fit; `None` is no limit.
    pub fn set_limit(&self, bytes: Option<u64>) {
        self.0.state.lock().limit = bytes;
    }

    /// Only so many bytes more fit, or even fewer if that was so already.
    pub fn leave_only(&self, bytes: u64) {
        let mut state = self.0.state.lock();
        let limit = state.used.load(Ordering::Relaxed).saturating_add(bytes);
        state.limit = Some(state.limit.map_or(limit, |before| before.min(limit)));
    }

    /// Whether the process that has it now was given an error for which the disk is to blame.
    pub fn has_failed(&self) -> bool {
        self.0.state.lock().failed
    }

    /// Whether the process that has it now was told that there is no room, or not as much as it may want.
    pub fn has_been_full(&self) -> bool {
        self.0.state.lock().full
    }

    /// Bytes in use, in whole pages.
    pub fn used_bytes(&self) -> u64 {
        self.0.state.lock().used.load(Ordering::Relaxed)
    }
}

impl State {
    fn end_process(&mut self) {
        self.process += 1;
        self.locked = false;
        (self.failed, self.full) = (false, false);
    }

    fn free(&self) -> u64 {
        // Without a limit: more than any test would write.
        self.limit.unwrap_or(1 << 50).saturating_sub(self.used.load(Ordering::Relaxed))
    }

    fn fails(&mut self, probability: f64) -> bool {
        let fails = probability > 0.0 && self.random.random_bool(probability);
        self.failed |= fails;
        fails
    }

    /// Syncs that stood still until `now` at the latest have come to their end. They did before whatever is done next: what
    /// fails then takes nothing of them away.
    fn end_stuck_syncs(&mut self, now: Duration) {
        self.stuck.retain(|(until, node)| {
            if *until <= now {
                node.sync();
            }
            *until > now
        });
    }

    /// Makes `node` durable now or, if syncs stand still, some time later; says how long whoever asked has to wait.
    fn sync(&mut self, node: Node) {
        let drawn = Duration::from_millis(self.delays.random_range(self.sync_ms.clone()));
        let slowed = self.faults.sync_delay;
        let now = context::with(context::Context::disk_time).unwrap_or_default();
        let stuck = self.faults.stuck_until.saturating_sub(now);
        if stuck.is_zero() {
            node.sync();
        } else {
            self.stuck.push((now + stuck, node));
        }
        let cost = Cost { all: drawn + slowed + stuck, slowed, stood_still: !stuck.is_zero() };
        context::with(|run| run.add_cost(cost));
    }
}

/// One process's access to a [`Drive`].
#[derive(Debug, Clone)]
pub struct SimDisk {
    shared: Arc<Shared>,
    process: u64,
}

#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    path: String,
    node: Arc<FileNode>,
}

/// Whether an operation changes the disk: those burn the fuse.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Change,
}

impl SimDisk {
    /// Starts an operation: the state, if this process still has it and the power is on. The second is true if the
    /// power goes during this very operation.
    fn begin(&self, access: Access) -> io::Result<(MutexGuard<'_, State>, bool)> {
        context::with(context::Context::count_disk_operation);
        let mut state = self.shared.state.lock();
        if state.process != self.process {
            return Err(io::Error::other("this process has ended"));
        }
        if state.dark {
            return Err(io::Error::other("the power is off"));
        }
        if !state.stuck.is_empty() {
            state.end_stuck_syncs(context::with(context::Context::disk_time).unwrap_or_default());
        }
        let cut = access == Access::Change && state.fuse == Some(0);
        if cut {
            state.dark = true;
            context::with(|run| run.kill(&self.shared.host));
        } else if access == Access::Change {
            state.fuse = state.fuse.map(|left| left - 1);
        }
        Ok((state, cut))
    }

    /// Runs an operation on names: all or nothing, so a cut leaves nothing of it.
    fn on_names<T>(
        &self,
        kind: &str,
        path: &str,
        access: Access,
        f: impl FnOnce(&mut State) -> io::Result<T>,
    ) -> io::Result<T> {
        let result =
            self.begin(access).and_then(|(mut state, cut)| if cut { Err(power_gone()) } else { f(&mut state) });
        self.trace(kind, path, &[], &result);
        result.map_err(|error| self.named(error, kind, path))
    }

    fn trace<T>(&self, kind: &str, path: &str, fields: &[(&str, u64)], result: &io::Result<T>) {
        context::with(|run| {
            let text = result.as_ref().err().map(ToString::to_string);
            run.trace_as(
                &self.shared.host,
                &Event { kind, subject: path, fields, text: text.as_deref().unwrap_or("") },
            );
        });
    }

    fn named(&self, error: io::Error, kind: &str, path: &str) -> io::Error {
        let verb = kind.trim_start_matches("disk.");
        io::Error::new(error.kind(), format!("cannot {verb} {}/{path}: {error}", self.describe()))
    }
}

impl Disk for SimDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        // Opening a file that is there changes nothing.
        let access = if mode == OpenMode::Existing { Access::Read } else { Access::Change };
        let node = self.on_names("disk.open", path, access, |state| {
            let (parent, name) = parent_of(&state.root, path)?;
            let mut parent = parent.lock();
            match (parent.get(name), mode) {
                (Some(Node::Directory(_)), _) => Err(ErrorKind::IsADirectory.into()),
                (Some(Node::File(_)), OpenMode::CreateNew) => Err(ErrorKind::AlreadyExists.into()),
                (Some(Node::File(file)), _) => Ok(file),
                (None, OpenMode::Existing) => Err(ErrorKind::NotFound.into()),
                (None, _) => {
                    let file = FileNode::new(state.used.clone());
                    parent.set(name, Some(Node::File(file.clone())));
                    Ok(file)
                }
            }
        })?;
        Ok(Arc::new(SimFile { disk: self.clone(), path: path.to_owned(), node }))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        self.on_names("disk.list", path, Access::Read, |state| match directory_at(&state.root, path) {
            Ok(directory) => Ok(directory.lock().names()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        })
    }

    fn create_directory(&self, path: &str) -> io::Result<()> {
        self.on_names("disk.mkdir", path, Access::Change, |state| {
            let mut at = state.root.clone();
            for name in parts(path)? {
                let found = at.lock().get(name);
                let next = match found {
                    Some(Node::Directory(directory)) => directory,
                    Some(Node::File(_)) => return Err(ErrorKind::NotADirectory.into()),
                    None => {
                        let made = DirectoryNode::default();
                        at.lock().set(name, Some(Node::Directory(made.clone())));
                        made
                    }
                };
                at = next;
            }
            Ok(())
        })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.on_names("disk.rename", &format!("{from} {to}"), Access::Change, |state| {
            let (source, source_name) = parent_of(&state.root, from)?;
            let (target, target_name) = parent_of(&state.root, to)?;
            let Some(node) = source.lock().get(source_name) else { return Err(ErrorKind::NotFound.into()) };
            if from == to {
                return Ok(());
            }
            if to.strip_prefix(from).is_some_and(|rest| rest.starts_with('/')) {
                return Err(io::Error::new(ErrorKind::InvalidInput, "into itself"));
            }
            let replaced = target.lock().get(target_name);
            match (&node, replaced) {
                (_, None) | (Node::File(_), Some(Node::File(_))) => {}
                (_, Some(Node::Directory(_))) => return Err(ErrorKind::DirectoryNotEmpty.into()),
                (Node::Directory(_), Some(Node::File(_))) => return Err(ErrorKind::NotADirectory.into()),
            }
            directory::rename((&source, source_name), (&target, target_name), node);
            Ok(())
        })
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        let taken = self.on_names("disk.look", to, Access::Read, |state| {
            let (target, name) = parent_of(&state.root, to)?;
            let taken = target.lock().get(name).is_some();
            Ok(taken)
        });
        // Nothing else runs between the two.
        if taken? { Err(ErrorKind::AlreadyExists.into()) } else { self.rename(from, to) }
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.on_names("disk.remove", path, Access::Change, |state| {
            let (parent, name) = parent_of(&state.root, path)?;
            let mut parent = parent.lock();
            match parent.get(name) {
                Some(Node::File(_)) => parent.set(name, None),
                Some(Node::Directory(_)) => return Err(ErrorKind::IsADirectory.into()),
                None => return Err(ErrorKind::NotFound.into()),
            }
            Ok(())
        })
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        self.on_names("disk.syncdir", path, Access::Change, |state| {
            let directory = directory_at(&state.root, path)?;
            let probability = state.faults.sync_error;
            if state.fails(probability) {
                return Err(injected());
            }
            state.sync(Node::Directory(directory));
            Ok(())
        })
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        self.open("lock", OpenMode::Create)?;
        self.on_names("disk.lock", "", Access::Read, |state| {
            if state.locked {
                return Err(io::Error::new(ErrorKind::WouldBlock, "in use by another process"));
            }
            state.locked = true;
            Ok(())
        })?;
        Ok(Box::new(LockGuard(self.clone())))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        self.on_names("disk.free", "", Access::Read, |state| {
            // Whoever is told of little space may give up for that reason.
            state.full |= state.limit.is_some();
            Ok(state.free())
        })
    }

    fn describe(&self) -> String {
        format!("the disk of {}", self.shared.host)
    }
}

struct LockGuard(SimDisk);

impl Drop for LockGuard {
    fn drop(&mut self) {
        let mut state = self.0.shared.state.lock();
        // A dead process's guard must not open the next one's lock.
        if state.process == self.0.process {
            state.locked = false;
        }
    }
}

/// Tells bytes from others in the trace. Zeros have none of their own, since there are so many.
fn digest(bytes: &[u8]) -> u64 {
    if content::is_zero(bytes) { 0 } else { xxh3_64(bytes) }
}

impl SimFile {
    fn done<T>(&self, kind: &str, fields: &[(&str, u64)], result: io::Result<T>) -> io::Result<T> {
        self.disk.trace(kind, &self.path, fields, &result);
        result.map_err(|error| self.disk.named(error, kind, &self.path))
    }
}

impl File for SimFile {
    fn len(&self) -> io::Result<u64> {
        let result = self.disk.begin(Access::Read).map(|_| self.node.content.lock().len());
        let len = result.as_ref().map_or(0, |len| *len);
        self.done("disk.len", &[("bytes", len)], result)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let result = self.disk.begin(Access::Read).and_then(|(mut state, _)| {
            let probability = state.faults.read_error;
            if state.fails(probability) { Err(injected()) } else { self.node.content.lock().read(offset, buffer) }
        });
        let digest = if let Ok(false) = result { digest(buffer) } else { 0 };
        let fields = [("offset", offset), ("bytes", buffer.len() as u64), ("digest", digest)];
        self.done("disk.read", &fields, result.map(drop))
    }

    fn forget(&self, offset: u64, bytes: u64) {
        if self.disk.begin(Access::Read).is_ok() {
            self.node.change(|content| content.forget(offset, bytes));
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let result = self.disk.begin(Access::Change).and_then(|(mut state, cut)| {
            let probability = state.faults.write_error;
            if self.node.content.lock().growth(offset, bytes.len()) > state.free() {
                state.full = true;
                return Err(ErrorKind::StorageFull.into());
            }
            if cut || state.fails(probability) {
                let mut part = state.random.random_range(0..=bytes.len());
                if cut {
                    // A disk writes a sector whole or not at all, also when the power goes in the middle of a write.
                    let end = offset + part as u64;
                    part = (end - end % SECTOR_BYTES).saturating_sub(offset) as usize;
                }
                self.node.change(|content| content.write(offset, &bytes[..part]));
                return Err(if cut { power_gone() } else { injected() });
            }
            self.node.change(|content| content.write(offset, bytes));
            Ok(())
        });
        let fields = [("offset", offset), ("bytes", bytes.len() as u64), ("digest", digest(bytes))];
        self.done("disk.write", &fields, result)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let result = self.disk.begin(Access::Change).and_then(|(_state, cut)| {
            if cut {
                return Err(power_gone());
            }
            self.node.change(|content| content.set_len(bytes));
            Ok(())
        });
        self.done("disk.resize", &[("bytes", bytes)], result)
    }

    fn sync(&self) -> io::Result<()> {
        let result = self.disk.begin(Access::Change).and_then(|(mut state, cut)| {
            if cut {
                return Err(power_gone());
            }
            let probability = state.faults.sync_error;
            if state.fails(probability) {
                self.node.change(content::Content::sync_failed);
                return Err(injected());
            }
            state.sync(Node::File(self.node.clone()));
            Ok(())
        });
        self.done("disk.sync", &[], result)
    }
}

fn injected() -> io::Error {
    io::Error::other("input/output error")
}

fn power_gone() -> io::Error {
    io::Error::other("the power went")
}
