//! A disk that crashes, tears, fails and fills up, and a world that runs everything inline: for the tests of storage.

use std::any::Any;
use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::world::{Disk, File, OpenMode, World};

const SECTOR: usize = 512;

/// A small generator (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub fn coin(&mut self) -> bool {
        self.next() & 1 == 0
    }
}

thread_local! {
    static DICE: Cell<u64> = const { Cell::new(1) };
}

/// Tasks on tokio, blocking work inline after some yields, random numbers from a seed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct TestWorld;

impl TestWorld {
    pub fn seed(seed: u64) {
        DICE.set(seed);
    }
}

#[derive(Debug, Clone, Copy, Default)]
pub struct TestRng;

impl rand::TryRng for TestRng {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        self.try_next_u64().map(|n| n as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut dice = Dice(DICE.get());
        let drawn = dice.next();
        DICE.set(dice.0);
        Ok(drawn)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        bytes.iter_mut().for_each(|byte| *byte = self.try_next_u32().unwrap_or_else(|never| match never {}) as u8);
        Ok(())
    }
}

impl World for TestWorld {
    type Rng = TestRng;

    #[expect(clippy::disallowed_methods, reason = "this is a world")]
    fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        tokio::spawn(future)
    }

    async fn blocking<T, F>(work: F) -> T
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        use rand::Rng as _;
        for _ in 0..TestRng.next_u32() % 3 {
            tokio::task::yield_now().await;
        }
        work()
    }

    fn rng() -> TestRng {
        TestRng
    }

    fn unix_millis() -> u64 {
        1_700_000_000_000
    }
}

#[derive(Debug, Clone)]
enum Write {
    Sector(usize, Vec<u8>),
    Length(usize),
}

#[derive(Debug, Default)]
struct Inode {
    now: Vec<u8>,
    durable: Vec<u8>,
    pending: Vec<Write>,
}

fn apply_write(bytes: &mut Vec<u8>, write: &Write) {
    match write {
        Write::Length(length) => bytes.resize(*length, 0),
        Write::Sector(sector, content) => {
            let end = sector * SECTOR + content.len();
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            bytes[sector * SECTOR..end].copy_from_slice(content);
        }
    }
}

#[derive(Debug, Clone)]
enum NameOp {
    Link(String, u64),
    Unlink(String),
    Move(String, String),
}

fn apply_name(names: &mut BTreeMap<String, u64>, op: &NameOp) {
    match op {
        NameOp::Link(name, inode) => drop(names.insert(name.clone(), *inode)),
        NameOp::Unlink(name) => drop(names.remove(name)),
        NameOp::Move(from, to) => {
            let below = format!("{from}/");
            let moved: Vec<String> = names.keys().filter(|n| *n == from || n.starts_with(&below)).cloned().collect();
            for name in moved {
                if let Some(inode) = names.remove(&name) {
                    names.insert(format!("{to}{}", &name[from.len()..]), inode);
                }
            }
        }
    }
}

impl NameOp {
    fn names(&self) -> Vec<&str> {
        match self {
            Self::Link(name, _) | Self::Unlink(name) => vec![name],
            Self::Move(from, to) => vec![from, to],
        }
    }
}

fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[derive(Debug, Default)]
struct Core {
    inodes: BTreeMap<u64, Inode>,
    next_inode: u64,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    pending_names: Vec<NameOp>,
    directories: BTreeSet<String>,
    life: u64,
    dead: bool,
    locked: bool,
    knobs: Knobs,
}

/// What goes wrong.
#[derive(Debug, Clone, Default)]
pub struct Knobs {
    /// The process dies in the middle of the operation after so many that change something.
    pub dies_after: Option<u64>,
    /// The next operations of this kind fail.
    pub fails: Option<&'static str>,
    /// Only the next one does.
    pub fails_once: bool,
    /// Bytes that the disk can hold.
    pub capacity: Option<u64>,
    /// Sabotage: syncing a file does nothing.
    pub no_sync: bool,
    /// Sabotage: syncing a directory does nothing.
    pub no_directory_sync: bool,
}

/// The disk, as one life of a process sees it.
#[derive(Debug, Clone)]
pub struct FaultDisk {
    core: Arc<Mutex<Core>>,
    life: u64,
}

impl FaultDisk {
    pub fn new() -> Self {
        Self { core: Arc::default(), life: 0 }
    }

    /// The process dies and the machine with it: what was not synced is lost, survives, or is torn.
    pub fn crash(&self, dice: &mut Dice) -> Self {
        let mut core = self.core.lock();
        let Core { inodes, durable_names, pending_names, .. } = &mut *core;
        for inode in inodes.values_mut() {
            let mode = dice.below(4);
            for write in std::mem::take(&mut inode.pending) {
                if mode == 1 || mode > 1 && dice.coin() {
                    apply_write(&mut inode.durable, &write);
                }
            }
            inode.now = inode.durable.clone();
        }
        let mut lost = BTreeSet::new();
        for op in std::mem::take(pending_names) {
            if op.names().iter().any(|name| lost.contains(*name)) || dice.coin() {
                lost.extend(op.names().into_iter().map(str::to_owned));
            } else {
                apply_name(durable_names, &op);
            }
        }
        core.names = core.durable_names.clone();
        let life = core.restart();
        drop(core);
        Self { core: self.core.clone(), life }
    }

    /// The process dies, the machine does not: nothing is lost, nothing more is synced.
    pub fn kill(&self) -> Self {
        let life = self.core.lock().restart();
        Self { core: self.core.clone(), life }
    }

    pub fn knobs<T>(&self, change: impl FnOnce(&mut Knobs) -> T) -> T {
        change(&mut self.core.lock().knobs)
    }

    pub fn is_dead(&self) -> bool {
        self.core.lock().dead
    }

    /// A copy of all files, as they are now.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let core = self.core.lock();
        core.names.iter().map(|(name, inode)| (name.clone(), core.inodes[inode].now.clone())).collect()
    }

    /// A disk with these files, all durable.
    pub fn with(files: &BTreeMap<String, Vec<u8>>) -> Self {
        let disk = Self::new();
        {
            let mut core = disk.core.lock();
            for (name, bytes) in files {
                core.next_inode += 1;
                let inode = core.next_inode;
                core.inodes.insert(inode, Inode { now: bytes.clone(), durable: bytes.clone(), pending: Vec::new() });
                core.names.insert(name.clone(), inode);
                core.directories.insert(parent(name).to_owned());
            }
            core.durable_names = core.names.clone();
        }
        disk
    }

    fn enter(&self, kind: &'static str) -> io::Result<parking_lot::MutexGuard<'_, Core>> {
        let mut core = self.core.lock();
        if core.dead || core.life != self.life {
            return Err(io::Error::other("the process is dead"));
        }
        if core.knobs.fails == Some(kind) {
            core.knobs.fails = core.knobs.fails.filter(|_| !core.knobs.fails_once);
            return Err(io::Error::other(format!("injected: {kind}")));
        }
        if !matches!(kind, "read" | "len" | "list")
            && let Some(left) = &mut core.knobs.dies_after
        {
            match left.checked_sub(1) {
                Some(less) => *left = less,
                None => core.dead = true,
            }
        }
        Ok(core)
    }
}

impl Core {
    /// A new life: files that the old one has open are of no use to it any more.
    fn restart(&mut self) -> u64 {
        self.life += 1;
        (self.dead, self.locked) = (false, false);
        self.knobs.dies_after = None;
        self.life
    }

    fn used(&self) -> u64 {
        self.names.values().map(|inode| self.inodes[inode].now.len() as u64).sum()
    }

    fn done(&self) -> io::Result<()> {
        if self.dead { Err(io::Error::other("the process died here")) } else { Ok(()) }
    }
}

#[derive(Debug)]
struct FaultFile {
    disk: FaultDisk,
    inode: u64,
}

impl FaultFile {
    fn write(&self, core: &mut Core, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let used = core.used();
        let capacity = core.knobs.capacity;
        let inode = core.inodes.entry(self.inode).or_default();
        let end = offset + bytes.len();
        let grows = end.saturating_sub(inode.now.len()) as u64;
        if grows > 0 && capacity.is_some_and(|capacity| used + grows > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        if inode.now.len() < end {
            inode.now.resize(end, 0);
        }
        inode.now[offset..end].copy_from_slice(bytes);
        for sector in offset / SECTOR..end.div_ceil(SECTOR) {
            let to = ((sector + 1) * SECTOR).min(inode.now.len());
            let content = inode.now[sector * SECTOR..to].to_vec();
            inode.pending.push(Write::Sector(sector, content));
        }
        Ok(())
    }
}

impl File for FaultFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.enter("len")?.inodes[&self.inode].now.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let core = self.disk.enter("read")?;
        let from = core.inodes[&self.inode].now.get(offset as usize..).unwrap_or_default();
        let from = from.get(..buffer.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(from);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut core = self.disk.enter("write")?;
        if core.knobs.fails == Some("write in part") {
            core.knobs.fails = core.knobs.fails.filter(|_| !core.knobs.fails_once);
            let part = Dice(offset).below(bytes.len() as u64) as usize;
            self.write(&mut core, offset as usize, &bytes[..part])?;
            return Err(io::Error::other("injected: a part was written"));
        }
        self.write(&mut core, offset as usize, bytes)?;
        core.done()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut core = self.disk.enter("write")?;
        let used = core.used();
        let capacity = core.knobs.capacity;
        let inode = core.inodes.entry(self.inode).or_default();
        let grows = bytes.saturating_sub(inode.now.len() as u64);
        if grows > 0 && capacity.is_some_and(|capacity| used + grows > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        inode.now.resize(bytes as usize, 0);
        inode.pending.push(Write::Length(bytes as usize));
        core.done()
    }

    fn sync(&self) -> io::Result<()> {
        let mut core = self.disk.enter("sync")?;
        core.done()?;
        if core.knobs.no_sync {
            return Ok(());
        }
        if let Some(inode) = core.inodes.get_mut(&self.inode) {
            inode.pending.clear();
            inode.durable = inode.now.clone();
        }
        Ok(())
    }
}

impl Disk for FaultDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let there = self.enter("list")?.names.get(path).copied();
        let inode = match (there, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) => inode,
            (None, OpenMode::Existing) => return Err(io::ErrorKind::NotFound.into()),
            (None, _) => {
                let mut core = self.enter("create")?;
                core.next_inode += 1;
                let inode = core.next_inode;
                core.inodes.insert(inode, Inode::default());
                core.names.insert(path.to_owned(), inode);
                core.pending_names.push(NameOp::Link(path.to_owned(), inode));
                core.done()?;
                inode
            }
        };
        Ok(Arc::new(FaultFile { disk: self.clone(), inode }))
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let core = self.enter("list")?;
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below = core.names.keys().chain(&core.directories).filter_map(|name| name.strip_prefix(&prefix));
        let names: BTreeSet<&str> =
            below.filter(|rest| !rest.is_empty()).map(|rest| rest.split('/').next().unwrap_or(rest)).collect();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    fn create_directory(&self, path: &str) -> io::Result<()> {
        self.enter("create")?.directories.insert(path.to_owned());
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut core = self.enter("rename")?;
        let below = format!("{from}/");
        let (files, directories): (Vec<_>, Vec<_>) = (
            core.names.keys().filter(|n| *n == from || n.starts_with(&below)).cloned().collect(),
            core.directories.iter().filter(|n| *n == from || n.starts_with(&below)).cloned().collect(),
        );
        if files.is_empty() && directories.is_empty() {
            return Err(io::ErrorKind::NotFound.into());
        }
        for name in directories {
            core.directories.remove(&name);
            core.directories.insert(format!("{to}{}", &name[from.len()..]));
        }
        let op = NameOp::Move(from.to_owned(), to.to_owned());
        apply_name(&mut core.names, &op);
        core.pending_names.push(op);
        core.done()
    }

    fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
        let taken = {
            let core = self.enter("rename")?;
            core.names.contains_key(to) || core.directories.contains(to)
        };
        if taken { Err(io::ErrorKind::AlreadyExists.into()) } else { self.rename(from, to) }
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut core = self.enter("remove")?;
        if core.names.remove(path).is_none() {
            return Err(io::ErrorKind::NotFound.into());
        }
        core.pending_names.push(NameOp::Unlink(path.to_owned()));
        core.done()
    }

    fn sync_directory(&self, path: &str) -> io::Result<()> {
        let mut core = self.enter("sync directory")?;
        core.done()?;
        if core.knobs.no_directory_sync {
            return Ok(());
        }
        for op in std::mem::take(&mut core.pending_names) {
            if op.names().iter().any(|name| parent(name) == path) {
                apply_name(&mut core.durable_names, &op);
            } else {
                core.pending_names.push(op);
            }
        }
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        let mut core = self.enter("list")?;
        if std::mem::replace(&mut core.locked, true) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Unlock(self.clone())))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let core = self.enter("list")?;
        Ok(core.knobs.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(core.used())))
    }

    fn describe(&self) -> String {
        "the test's disk".to_owned()
    }
}

struct Unlock(FaultDisk);

impl Drop for Unlock {
    fn drop(&mut self) {
        let mut core = self.0.core.lock();
        if core.life == self.0.life {
            core.locked = false;
        }
    }
}
