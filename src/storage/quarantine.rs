//! What is set aside: files that must not be used any more, and that nobody deletes but a person.
//!
//! Everything moves, or the server could come back with its identity but without its log, and vote twice. So a durable
//! note stands at the top of the directory while things are moved, and the next start goes on where it stopped.

use std::io;

use super::small_file;
use crate::wire::client::SetAside;
use crate::world::{Disk, OpenMode};

const DIRECTORY: &str = "quarantine";
const MARK: &str = "setting-aside";
/// What stays where it is.
const STAYS: [&str; 3] = ["lock", DIRECTORY, MARK];
/// What a file system puts at the top of a disk by itself.
pub const IGNORED: [&str; 1] = ["lost+found"];

/// Whether anything was ever set aside here.
///
/// # Errors
/// The disk's.
pub fn has_any(disk: &dyn Disk) -> io::Result<bool> {
    Ok(!disk.list(DIRECTORY)?.is_empty())
}

/// What was set aside here, the latest last.
///
/// # Errors
/// The disk's.
pub fn list(disk: &dyn Disk) -> io::Result<Vec<SetAside>> {
    let mut all = Vec::new();
    for directory in disk.list(DIRECTORY)? {
        let mut numbers = directory.split('-').map(|part| part.parse::<u64>().ok());
        let (number, unix_ms) = (numbers.next().flatten(), numbers.next().flatten());
        let reason = first_line(disk, &format!("{DIRECTORY}/{directory}/reason.txt")).unwrap_or_default();
        all.push((number, SetAside { directory, unix_ms, reason }));
    }
    all.sort_by_key(|(number, _)| *number);
    Ok(all.into_iter().map(|(_, set_aside)| set_aside).collect())
}

fn first_line(disk: &dyn Disk, path: &str) -> io::Result<String> {
    let file = disk.open(path, OpenMode::Existing)?;
    let mut text = vec![0; file.len()?.min(4096) as usize];
    file.read_at(0, &mut text)?;
    Ok(String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned())
}

/// Moves everything to a new directory in quarantine, with `reason` in it as `reason.txt`.
///
/// # Errors
/// The disk's; then [`finish`] is to be called before anything else.
pub fn set_aside(disk: &dyn Disk, unix_ms: u64, reason: &str) -> io::Result<()> {
    finish(disk)?;
    disk.create_directory(DIRECTORY)?;
    disk.sync_directory("")?;
    let number = |name: &String| name.split('-').next().and_then(|number| number.parse::<u64>().ok());
    let last = disk.list(DIRECTORY)?.iter().filter_map(number).max().unwrap_or(0);
    let to = format!("{DIRECTORY}/{}-{unix_ms}", last + 1);
    disk.create_directory(&to)?;
    disk.sync_directory(DIRECTORY)?;
    small_file::write_plain(disk, &to, &format!("{to}/reason.txt"), format!("{reason}\n").as_bytes())?;
    small_file::write_plain(disk, "", MARK, to.as_bytes())?;
    finish(disk)
}

/// Goes on with a setting aside that was interrupted, if one was.
///
/// # Errors
/// The disk's.
pub fn finish(disk: &dyn Disk) -> io::Result<()> {
    let top = disk.list("")?;
    if top.iter().any(|name| *name == small_file::temporary(MARK)) {
        disk.remove(&small_file::temporary(MARK))?;
        disk.sync_directory("")?;
    }
    if !top.iter().any(|name| name == MARK) {
        return Ok(());
    }
    let mark = disk.open(MARK, OpenMode::Existing)?;
    let mut to = vec![0; mark.len()?.min(4096) as usize];
    mark.read_at(0, &mut to)?;
    let to = String::from_utf8(to).ok().filter(|to| to.starts_with(DIRECTORY));
    let to = to.unwrap_or_else(|| format!("{DIRECTORY}/0-unreadable"));
    disk.create_directory(&to)?;
    disk.sync_directory(DIRECTORY)?;
    let there = disk.list(&to)?;
    for name in disk.list("")? {
        if STAYS.contains(&name.as_str()) || IGNORED.contains(&name.as_str()) || name == small_file::temporary(MARK) {
            continue;
        }
        // A name that is there already was moved before: what bears it now is another thing.
        let free = (0..).map(|i| if i == 0 { name.clone() } else { format!("{name}.{i}") });
        let Some(free) = free.into_iter().find(|candidate| !there.contains(candidate)) else { continue };
        disk.rename(&name, &format!("{to}/{free}"))?;
    }
    // First where things are now, then where they were: a crash between may show them twice, and never not at all.
    disk.sync_directory(&to)?;
    disk.sync_directory("")?;
    disk.remove(MARK)?;
    disk.sync_directory("")
}
