//! What happens to files that nobody writes: bits that change, ends and names that vanish. It is durable at once.
//!
//! Nothing here is what a power cut does: see the module above for that.

use std::sync::Arc;

use rand::RngExt;

use super::Drive;
use super::directory::{self, DirectoryNode, FileNode, Node, directory_at, parent_of};
use crate::random::Stream;

impl Drive {
    /// Changes one bit of a file that `which` accepts, by its path. Says where; `None` if there is no such file with
    /// anything in it.
    ///
    /// What was written and not synced keeps its bits: it is in the machine's memory.
    pub fn flip(&self, which: impl Fn(&str) -> bool, random: &mut Stream) -> Option<String> {
        let (path, file) = self.choose(which, random)?;
        let (offset, bit) = file.content.lock().flip(random)?;
        Some(format!("bit {bit} of byte {offset} of {path}"))
    }

    /// Cuts a file that `which` accepts. Says to what length.
    pub fn truncate(&self, which: impl Fn(&str) -> bool, random: &mut Stream) -> Option<String> {
        let (path, file) = self.choose(which, random)?;
        let before = file.content.lock().len();
        let after = match random.random_range(0..3) {
            0 => 0,
            1 => before.saturating_sub(random.random_range(1..=8192)),
            _ => random.random_range(0..before),
        };
        file.change(|content| {
            content.set_len(after);
            content.sync();
        });
        Some(format!("{path} cut from {before} to {after} bytes"))
    }

    /// Removes a file that `which` accepts. Says which.
    pub fn remove_file(&self, which: impl Fn(&str) -> bool, random: &mut Stream) -> Option<String> {
        let (path, _) = self.choose(which, random)?;
        self.forget(&path).then_some(path)
    }

    /// Removes what is at `path`, with all that is in it. Says whether there was anything.
    pub fn forget(&self, path: &str) -> bool {
        let state = self.0.state.lock();
        let Ok((parent, name)) = parent_of(&state.root, path) else { return false };
        if parent.lock().get(name).is_none() {
            return false;
        }
        parent.lock().set(name, None);
        directory::sync(&parent);
        true
    }

    /// The paths of all files.
    pub fn files(&self) -> Vec<String> {
        self.all_files().into_iter().map(|(path, _)| path).collect()
    }

    /// What is in the directory at `path`.
    pub fn names_in(&self, path: &str) -> Vec<String> {
        let state = self.0.state.lock();
        directory_at(&state.root, path).map_or_else(|_| Vec::new(), |directory| directory.lock().names())
    }

    fn all_files(&self) -> Vec<(String, Arc<FileNode>)> {
        let mut files = Vec::new();
        collect("", &self.0.state.lock().root, &mut files);
        files
    }

    fn choose(&self, which: impl Fn(&str) -> bool, random: &mut Stream) -> Option<(String, Arc<FileNode>)> {
        let mut files = self.all_files();
        files.retain(|(path, file)| which(path) && file.content.lock().len() > 0);
        (!files.is_empty()).then(|| files.swap_remove(random.random_range(0..files.len())))
    }
}

fn collect(above: &str, directory: &DirectoryNode, files: &mut Vec<(String, Arc<FileNode>)>) {
    let directory = directory.lock();
    for name in directory.names() {
        let path = if above.is_empty() { name.clone() } else { format!("{above}/{name}") };
        match directory.get(&name) {
            Some(Node::File(file)) => files.push((path, file)),
            Some(Node::Directory(below)) => collect(&path, &below, files),
            None => {}
        }
    }
}
