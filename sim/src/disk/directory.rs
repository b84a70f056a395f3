//! Names: a directory as it is seen, and as a power cut would leave it.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use rand::RngExt;

use super::content::{Content, Tear};
use crate::random::Stream;

/// A file's content, shared by its names and by whoever has it open.
#[derive(Debug)]
pub(super) struct FileNode {
    pub(super) content: Mutex<Content>,
    /// Bytes in use on the whole disk.
    used: Arc<AtomicU64>,
}

impl FileNode {
    pub(super) fn new(used: Arc<AtomicU64>) -> Arc<Self> {
        Arc::new(Self { content: Mutex::default(), used })
    }

    /// Changes the content and keeps the count of bytes in use.
    pub(super) fn change<R>(&self, f: impl FnOnce(&mut Content) -> R) -> R {
        let mut content = self.content.lock();
        let before = content.used_bytes();
        let value = f(&mut content);
        let after = content.used_bytes();
        // Wrapping addition of a negative difference is a subtraction.
        self.used.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
        value
    }
}

impl Drop for FileNode {
    fn drop(&mut self) {
        self.used.fetch_sub(self.content.get_mut().used_bytes(), Ordering::Relaxed);
    }
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) enum Node {
    File(Arc<FileNode>),
    Directory(DirectoryNode),
}

impl Node {
    /// Makes a file's content or a directory's names durable.
    pub(super) fn sync(&self) {
        match self {
            Self::File(file) => file.change(Content::sync),
            Self::Directory(directory) => sync(directory),
        }
    }

    fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::File(one), Self::File(two)) => Arc::ptr_eq(one, two),
            (Self::Directory(one), Self::Directory(two)) => Arc::ptr_eq(one, two),
            _ => false,
        }
    }
}

pub(super) type DirectoryNode = Arc<Mutex<Directory>>;

#[derive(Debug, Default)]
pub(super) struct Directory {
    now: BTreeMap<String, Node>,
    durable: BTreeMap<String, Node>,
    /// Changes since the last sync, oldest first.
    pending: Vec<Change>,
}

/// A change that is durable as a whole or not at all.
#[derive(Debug)]
struct Change {
    /// What becomes of the names; `None` is a removal.
    names: Vec<(String, Option<Node>)>,
    /// What must be durable before: the new name of what moved to another directory. So a move may leave both names
    /// after a power cut, but never none.
    after: Option<(Weak<Mutex<Directory>>, String, Node)>,
}

impl Directory {
    pub(super) fn get(&self, name: &str) -> Option<Node> {
        self.now.get(name).cloned()
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.now.keys().cloned().collect()
    }

    pub(super) fn set(&mut self, name: &str, node: Option<Node>) {
        self.change(Change { names: vec![(name.to_owned(), node)], after: None });
    }

    fn change(&mut self, change: Change) {
        put(&mut self.now, change.names.clone());
        self.pending.push(change);
    }
}

fn put(names: &mut BTreeMap<String, Node>, changes: Vec<(String, Option<Node>)>) {
    for (name, node) in changes {
        match node {
            Some(node) => names.insert(name, node),
            None => names.remove(&name),
        };
    }
}

/// Moves a name. Within one directory that is one change, as every journal has it.
pub(super) fn rename(source: (&DirectoryNode, &str), target: (&DirectoryNode, &str), node: Node) {
    let (from, to) = ((source.1.to_owned(), None), (target.1.to_owned(), Some(node.clone())));
    if Arc::ptr_eq(source.0, target.0) {
        source.0.lock().change(Change { names: vec![to, from], after: None });
    } else {
        target.0.lock().change(Change { names: vec![to], after: None });
        let after = Some((Arc::downgrade(target.0), target.1.to_owned(), node));
        source.0.lock().change(Change { names: vec![from], after });
    }
}

/// Makes the names in `directory` durable.
pub(super) fn sync(directory: &DirectoryNode) {
    let pending = std::mem::take(&mut directory.lock().pending);
    make_durable(directory, pending);
}

/// No lock is held across another directory's: they may be above or below each other.
fn make_durable(directory: &DirectoryNode, changes: Vec<Change>) {
    for change in changes {
        if let Some((target, name, node)) = change.after
            && let Some(target) = target.upgrade()
        {
            let due = target.lock().take_pending_through(&name, &node);
            make_durable(&target, due);
        }
        put(&mut directory.lock().durable, change.names);
    }
}

impl Directory {
    fn take_pending_through(&mut self, name: &str, node: &Node) -> Vec<Change> {
        let holds =
            |change: &Change| change.names.iter().any(|(n, to)| n == name && to.as_ref().is_some_and(|to| to.is(node)));
        match self.pending.iter().position(holds) {
            Some(at) => self.pending.drain(..=at).collect(),
            None => Vec::new(),
        }
    }
}

/// The power goes. Of each directory's changes that were not synced the oldest so many are there, as a journal would
/// have it; then every file that still has a name loses of its own what it draws.
pub(super) fn crash(root: &DirectoryNode, random: &mut Stream) {
    let mut directories = Vec::new();
    collect(root, &mut directories);
    for directory in &directories {
        let mut pending = std::mem::take(&mut directory.lock().pending);
        let kept = match Tear::draw(random) {
            Tear::Nothing => 0,
            Tear::Everything => pending.len(),
            Tear::Some => random.random_range(0..=pending.len()),
        };
        pending.truncate(kept);
        make_durable(directory, pending);
    }
    for directory in &directories {
        let mut directory = directory.lock();
        directory.now = directory.durable.clone();
    }
    tear_files(root, random);
}

fn collect(directory: &DirectoryNode, found: &mut Vec<DirectoryNode>) {
    if found.iter().any(|known| Arc::ptr_eq(known, directory)) {
        return;
    }
    found.push(directory.clone());
    let below: Vec<Node> = {
        let directory = directory.lock();
        directory.now.values().chain(directory.durable.values()).cloned().collect()
    };
    for node in below {
        if let Node::Directory(node) = node {
            collect(&node, found);
        }
    }
}

fn tear_files(directory: &DirectoryNode, random: &mut Stream) {
    for node in directory.lock().now.values() {
        match node {
            Node::File(file) => {
                let tear = Tear::draw(random);
                file.change(|content| content.crash(tear, random));
            }
            Node::Directory(directory) => tear_files(directory, random),
        }
    }
}

/// Finds the directory at `path`.
pub(super) fn directory_at(root: &DirectoryNode, path: &str) -> io::Result<DirectoryNode> {
    let mut at = root.clone();
    for name in parts(path)? {
        let next = at.lock().get(name);
        at = match next {
            Some(Node::Directory(directory)) => directory,
            Some(Node::File(_)) => return Err(io::ErrorKind::NotADirectory.into()),
            None => return Err(io::ErrorKind::NotFound.into()),
        };
    }
    Ok(at)
}

/// The directory that holds `path`, and its name there.
pub(super) fn parent_of<'a>(root: &DirectoryNode, path: &'a str) -> io::Result<(DirectoryNode, &'a str)> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "an empty name"));
    }
    parts(name)?;
    Ok((directory_at(root, parent)?, name))
}

/// The names along `path`.
pub(super) fn parts(path: &str) -> io::Result<Vec<&str>> {
    if path.is_empty() {
        return Ok(Vec::new());
    }
    let parts: Vec<&str> = path.split('/').collect();
    if parts.iter().any(|part| matches!(*part, "" | "." | "..")) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "a path that leaves the data directory"));
    }
    Ok(parts)
}
