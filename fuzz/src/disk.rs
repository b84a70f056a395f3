//! A disk in memory that does what it is told.

use std::any::Any;
use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use restante::world::{Disk, File, OpenMode};

type Content = Arc<Mutex<Vec<u8>>>;

/// Files by their paths. Directories are where files are.
#[derive(Debug, Default)]
pub struct MemoryDisk(Mutex<BTreeMap<String, Content>>);

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl MemoryDisk {
    /// A disk with these files.
    pub fn with(files: &BTreeMap<String, Vec<u8>>) -> Arc<Self> {
        let files = files.iter().map(|(path, bytes)| (path.clone(), Arc::new(Mutex::new(bytes.clone()))));
        Arc::new(Self(Mutex::new(files.collect())))
    }

    /// What the files hold.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        locked(&self.0).iter().map(|(path, content)| (path.clone(), locked(content).clone())).collect()
    }
}

fn missing(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.to_owned())
}

impl Disk for MemoryDisk {
    fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut files = locked(&self.0);
        match (files.get(path), mode) {
            (Some(_), OpenMode::CreateNew) => Err(io::Error::new(io::ErrorKind::AlreadyExists, path.to_owned())),
            (None, OpenMode::Existing) => Err(missing(path)),
            (Some(content), _) => Ok(Arc::new(MemoryFile(content.clone()))),
            (None, _) => Ok(Arc::new(MemoryFile(files.entry(path.to_owned()).or_default().clone()))),
        }
    }

    fn list(&self, path: &str) -> io::Result<Vec<String>> {
        let prefix = if path.is_empty() { String::new() } else { format!("{path}/") };
        let files = locked(&self.0);
        let mut names: Vec<String> =
            files.keys().filter_map(|file| file.strip_prefix(&prefix)?.split('/').next().map(str::to_owned)).collect();
        names.dedup();
        Ok(names)
    }

    fn create_directory(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut files = locked(&self.0);
        let content = files.remove(from).ok_or_else(|| missing(from))?;
        files.insert(to.to_owned(), content);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        locked(&self.0).remove(path).map(drop).ok_or_else(|| missing(path))
    }

    fn sync_directory(&self, _path: &str) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
        Ok(Box::new(()))
    }

    fn free_bytes(&self) -> io::Result<u64> {
        Ok(1 << 40)
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}

#[derive(Debug)]
struct MemoryFile(Content);

impl File for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(locked(&self.0).len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let bytes = locked(&self.0);
        let from = usize::try_from(offset).ok().filter(|from| *from <= bytes.len());
        let read = from.and_then(|from| bytes[from..].get(..buffer.len()));
        buffer.copy_from_slice(read.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut content = locked(&self.0);
        let end = offset as usize + bytes.len();
        if content.len() < end {
            content.resize(end, 0);
        }
        content[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        locked(&self.0).resize(bytes as usize, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
