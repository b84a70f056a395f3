//! The machine that you sit at.

use std::any::Any;
use std::future::Future;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};

use super::{BoxFuture, Connection, Disk, File, Listener, Network, OpenMode, World};

/// tokio's tasks and timers, the operating system's randomness, threads for what blocks.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RealWorld;

/// The calling thread's generator, which reseeds itself from the operating system. It is made anew for each use, so
/// that whoever holds it may cross threads.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealRng;

#[expect(clippy::disallowed_methods, reason = "this is the seam that the others go through")]
mod seam {
    use super::*;

    impl rand::TryRng for RealRng {
        type Error = std::convert::Infallible;

        fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
            rand::rng().try_next_u32()
        }

        fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
            rand::rng().try_next_u64()
        }

        fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
            rand::rng().try_fill_bytes(bytes)
        }
    }

    impl World for RealWorld {
        type Rng = RealRng;

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
            match tokio::task::spawn_blocking(work).await {
                Ok(value) => value,
                Err(error) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    // The runtime is going away and took the work with it: so does whoever waits here.
                    Err(_) => std::future::pending().await,
                },
            }
        }

        fn rng() -> RealRng {
            RealRng
        }

        fn unix_millis() -> u64 {
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64)
        }
    }

    impl Network for RealNetwork {
        fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
            Box::pin(async move {
                let listener = TcpListener::bind(address).await.map_err(|e| named(e, "cannot listen on", address))?;
                Ok(Box::new(RealListener(listener)) as Box<dyn Listener>)
            })
        }

        fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
            Box::pin(async move {
                let stream = TcpStream::connect(address).await.map_err(|e| named(e, "cannot connect to", address))?;
                connection(stream, address.to_owned())
            })
        }
    }

    impl RealDisk {
        /// The directory at `path`, which is made if it is not there.
        ///
        /// # Errors
        /// The system's, with the path in its text.
        pub fn new(path: impl Into<PathBuf>) -> io::Result<Self> {
            let root = path.into();
            std::fs::create_dir_all(&root).map_err(|e| named(e, "cannot create", &root.display().to_string()))?;
            Ok(Self { root })
        }

        fn at(&self, path: &str) -> PathBuf {
            if path.is_empty() { self.root.clone() } else { self.root.join(path) }
        }
    }

    impl Disk for RealDisk {
        fn open(&self, path: &str, mode: OpenMode) -> io::Result<Arc<dyn File>> {
            let at = self.at(path);
            let mut options = std::fs::OpenOptions::new();
            options.read(true).write(true);
            match mode {
                OpenMode::Existing => {}
                OpenMode::CreateNew => drop(options.create_new(true)),
                OpenMode::Create => drop(options.create(true).truncate(false)),
            }
            let file = options.open(&at).map_err(|e| on(e, "open", &at))?;
            Ok(Arc::new(RealFile { file, path: at }))
        }

        fn list(&self, path: &str) -> io::Result<Vec<String>> {
            let at = self.at(path);
            let entries = match std::fs::read_dir(&at) {
                Ok(entries) => entries,
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
                Err(e) => return Err(on(e, "list", &at)),
            };
            let mut names = Vec::new();
            for entry in entries {
                names.push(entry.map_err(|e| on(e, "list", &at))?.file_name().to_string_lossy().into_owned());
            }
            names.sort();
            Ok(names)
        }

        fn create_directory(&self, path: &str) -> io::Result<()> {
            let at = self.at(path);
            std::fs::create_dir_all(&at).map_err(|e| on(e, "create", &at))
        }

        fn rename(&self, from: &str, to: &str) -> io::Result<()> {
            let at = self.at(from);
            std::fs::rename(&at, self.at(to)).map_err(|e| on(e, "rename", &at))
        }

        fn rename_new(&self, from: &str, to: &str) -> io::Result<()> {
            let at = self.at(from);
            // A second name is refused if it is taken, by every file system that has them; a rename would replace.
            match std::fs::hard_link(&at, self.at(to)) {
                Ok(()) => std::fs::remove_file(&at).map_err(|e| on(e, "remove", &at)),
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(on(e, "rename", &at)),
                Err(_) => {
                    let flags = rustix::fs::RenameFlags::NOREPLACE;
                    rustix::fs::renameat_with(rustix::fs::CWD, &at, rustix::fs::CWD, self.at(to), flags)
                        .map_err(|e| on(e.into(), "rename", &at))
                }
            }
        }

        fn remove(&self, path: &str) -> io::Result<()> {
            let at = self.at(path);
            std::fs::remove_file(&at).map_err(|e| on(e, "remove", &at))
        }

        fn sync_directory(&self, path: &str) -> io::Result<()> {
            let at = self.at(path);
            std::fs::File::open(&at).and_then(|d| d.sync_all()).map_err(|e| on(e, "sync", &at))
        }

        fn lock(&self) -> io::Result<Box<dyn Any + Send + Sync>> {
            let at = self.at("lock");
            let mut options = std::fs::OpenOptions::new();
            let file = options.create(true).truncate(false).write(true).open(&at).map_err(|e| on(e, "open", &at))?;
            match file.try_lock() {
                Ok(()) => Ok(Box::new(file)),
                Err(std::fs::TryLockError::WouldBlock) => Err(io::Error::new(
                    io::ErrorKind::WouldBlock,
                    format!("{} is in use by another process", self.root.display()),
                )),
                Err(std::fs::TryLockError::Error(e)) => Err(on(e, "lock", &at)),
            }
        }

        fn free_bytes(&self) -> io::Result<u64> {
            let stat = rustix::fs::statvfs(&self.root).map_err(|e| on(e.into(), "measure", &self.root))?;
            Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
        }

        fn describe(&self) -> String {
            self.root.display().to_string()
        }
    }
}

/// TCP.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealNetwork;

struct RealListener(TcpListener);

impl Listener for RealListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move {
            let (stream, peer) = self.0.accept().await?;
            connection(stream, peer.to_string())
        })
    }

    fn address(&self) -> String {
        self.0.local_addr().map_or_else(|_| "?".to_owned(), |a| a.to_string())
    }
}

fn connection(stream: TcpStream, peer: String) -> io::Result<Connection> {
    // Batching is ours: what is handed to the socket is to leave at once.
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Ok(Connection { reader: Box::new(reader), writer: Box::new(writer), peer })
}

/// A directory of the file system.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
}

#[derive(Debug)]
struct RealFile {
    file: std::fs::File,
    path: PathBuf,
}

impl RealFile {
    fn advise(&self, offset: u64, bytes: u64, advice: rustix::fs::Advice) {
        if let Some(bytes) = std::num::NonZeroU64::new(bytes) {
            let _ = rustix::fs::fadvise(&self.file, offset, Some(bytes), advice);
        }
    }
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        self.file.metadata().map(|m| m.len()).map_err(|e| on(e, "measure", &self.path))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset).map_err(|e| on(e, "read", &self.path))
    }

    fn forget(&self, offset: u64, bytes: u64) {
        self.advise(offset, bytes, rustix::fs::Advice::DontNeed);
    }

    fn prefetch(&self, offset: u64, bytes: u64) {
        self.advise(offset, bytes, rustix::fs::Advice::WillNeed);
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset).map_err(|e| on(e, "write", &self.path))
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes).map_err(|e| on(e, "resize", &self.path))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data().map_err(|e| on(e, "sync", &self.path))
    }
}

fn named(error: io::Error, what: &str, object: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{what} {object}: {error}"))
}

fn on(error: io::Error, verb: &str, path: &Path) -> io::Error {
    named(error, &format!("cannot {verb}"), &path.display().to_string())
}
