//! Carrying a backup away.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::session::Answer;
use super::{Client, Error};
use crate::backup::BadBackup;
use crate::backup::format::{Header, Parser, Part, Summary};
use crate::wire::{Nonce, Refusal};
use crate::world::{Disk, File, OpenMode, World};

/// How often a backup is begun anew when its server could not go on with it.
const ATTEMPTS: u32 = 10;
/// The pause before.
const PAUSE: Duration = Duration::from_millis(500);

/// Why there is no backup. No file is left behind.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The cluster did not give it.
    #[error(transparent)]
    Client(#[from] Error),
    /// What came was not as it was sent.
    #[error("what the server sent is no backup: {0}")]
    Damaged(#[from] BadBackup),
    /// The file is there already.
    #[error("{file} exists: a backup overwrites nothing; give another name, or move it away")]
    Exists {
        /// The file.
        file: String,
    },
    /// The name is of the file under which a backup is written until it is whole.
    #[error("{file} exists: another backup is writing it, or one was killed; in that case remove it")]
    Unfinished {
        /// The file.
        file: String,
    },
    /// The disk failed.
    #[error("the backup cannot be written: {0}")]
    Disk(#[from] io::Error),
}

/// A backup that is being read: every message that was accepted before it was begun, and all else that the post office
/// knows, as of one moment.
///
/// Its bytes are those of the file ([`crate::backup`]). It is read from one server; if that cannot go on, it ends with
/// [`Refusal::BackupEnded`] or [`Error::TimedOut`], and another one has to be begun.
#[derive(Debug)]
pub struct Backup<W: World> {
    client: Client<W>,
    id: Nonce,
    offset: u64,
    parser: Parser,
    header: Option<Header>,
    summary: Option<Summary>,
}

impl<W: World> Client<W> {
    /// Begins a backup of everything that was accepted before now, at the server that the client is attached to. A
    /// client has one at a time.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`Refusal::TooManyBackups`]; no answer in time.
    pub async fn backup(&self) -> Result<Backup<W>, Error> {
        match self.ask(|session, now, token| session.backup(now, token)).await? {
            Answer::BackupBegun(id) => Ok(Backup {
                client: self.clone(),
                id,
                offset: 0,
                parser: Parser::default(),
                header: None,
                summary: None,
            }),
            other => super::api::unexpected(&other),
        }
    }

    /// Writes a backup to a new file: under the name with `.part` behind it until it is whole and synced. A server that
    /// cannot go on is replaced by another one, and the backup begun anew. `progress` is told the bytes so far.
    ///
    /// # Errors
    /// [`BackupError`]; nothing is left behind. Neither is when the future is dropped.
    pub async fn save_backup(
        &self,
        disk: Arc<dyn Disk>,
        file: &str,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<Summary, BackupError> {
        let unfinished = Unfinished::<W>::create(disk, file).await?;
        let mut attempt = 1;
        let saved = loop {
            match self.fill(&unfinished, &mut progress).await {
                Err(BackupError::Client(error)) if attempt < ATTEMPTS && may_go_on(&error) => {
                    tracing::warn!(%error, attempt, "the backup is begun anew");
                    attempt += 1;
                    W::sleep(PAUSE).await;
                }
                Err(error) => break Err(error),
                Ok(summary) => break unfinished.publish().await.map(|()| summary),
            }
        };
        if saved.is_err() {
            unfinished.remove().await;
        }
        saved
    }

    async fn fill(
        &self,
        unfinished: &Unfinished<W>,
        progress: &mut (impl FnMut(u64) + Send),
    ) -> Result<Summary, BackupError> {
        let mut backup = self.backup().await?;
        unfinished.write(|file| file.set_len(0)).await?;
        progress(0);
        let mut at = 0;
        while let Some(bytes) = backup.next().await? {
            let length = bytes.len() as u64;
            unfinished.write(move |file| file.write_at(at, &bytes)).await?;
            at += length;
            progress(at);
        }
        Ok(backup.summary().cloned().ok_or(BadBackup::CutOff { bytes: at })?)
    }
}

/// Whether another attempt, perhaps at another server, may do better.
fn may_go_on(error: &Error) -> bool {
    matches!(error, Error::Refused(Refusal::BackupEnded { .. }) | Error::TimedOut { .. } | Error::Unknown { .. })
}

impl<W: World> Backup<W> {
    /// The next bytes of the file; `None` when it is whole and everything in it is right. Nothing is asked of the server
    /// before the bytes are wanted.
    ///
    /// # Errors
    /// [`BackupError::Client`], [`BackupError::Damaged`]; this backup is of no use after either.
    pub async fn next(&mut self) -> Result<Option<Bytes>, BackupError> {
        while self.summary.is_none() {
            let (id, from) = (self.id, self.offset);
            match self.client.ask(|session, now, token| session.read_backup(now, id, from, token)).await? {
                Answer::BackupPart { bytes, last, .. } if bytes.is_empty() && !last => {}
                Answer::BackupPart { offset, bytes, last } => {
                    if offset != from {
                        let why = format!("the server sent what belongs at {offset}");
                        return Err(BadBackup::Damaged { at: from, why }.into());
                    }
                    self.offset += bytes.len() as u64;
                    self.look_at(&bytes)?;
                    if last && self.summary.is_none() {
                        self.parser.finish()?;
                    }
                    return Ok(Some(bytes));
                }
                other => return super::api::unexpected(&other),
            }
        }
        Ok(None)
    }

    fn look_at(&mut self, bytes: &[u8]) -> Result<(), BadBackup> {
        self.parser.feed(bytes);
        while let Some(part) = self.parser.next_part()? {
            match part {
                Part::Header(header) => self.header = Some(header),
                Part::Records(_) => {}
                Part::End(summary) => self.summary = Some(summary),
            }
        }
        Ok(())
    }

    /// What the backup says of itself, once that was read.
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// What it has come to, once it is whole.
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }
}

/// A file under its first name. It goes with the value unless it was published.
struct Unfinished<W: World> {
    disk: Arc<dyn Disk>,
    path: String,
    part: String,
    file: Arc<dyn File>,
    /// It is there under its first name.
    exists: std::sync::atomic::AtomicBool,
    world: std::marker::PhantomData<W>,
}

impl<W: World> Unfinished<W> {
    async fn create(disk: Arc<dyn Disk>, path: &str) -> Result<Self, BackupError> {
        let (path, part) = (path.to_owned(), format!("{path}.part"));
        let (on, target, name) = (disk.clone(), path.clone(), part.clone());
        let opened = W::blocking(move || {
            if on.list("")?.contains(&target) {
                return Err(BackupError::Exists { file: target });
            }
            match on.open(&name, OpenMode::CreateNew) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    Err(BackupError::Unfinished { file: name })
                }
                opened => Ok(opened?),
            }
        });
        let (file, exists, world) = (opened.await?, true.into(), std::marker::PhantomData);
        Ok(Self { disk, path, part, file, exists, world })
    }

    async fn write(&self, work: impl FnOnce(&dyn File) -> io::Result<()> + Send + 'static) -> io::Result<()> {
        let file = self.file.clone();
        W::blocking(move || work(&*file)).await
    }

    /// The file gets its name, durably, unless another one has it by now.
    async fn publish(&self) -> Result<(), BackupError> {
        let (disk, file, part, path) = (self.disk.clone(), self.file.clone(), self.part.clone(), self.path.clone());
        W::blocking(move || {
            file.sync()?;
            match disk.rename_new(&part, &path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(BackupError::Exists { file: path }),
                renamed => {
                    renamed?;
                    Ok(disk.sync_directory("")?)
                }
            }
        })
        .await?;
        self.exists.store(false, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    async fn remove(&self) {
        if self.exists.swap(false, std::sync::atomic::Ordering::Relaxed) {
            let (disk, part) = (self.disk.clone(), self.part.clone());
            if let Err(error) = W::blocking(move || disk.remove(&part)).await {
                tracing::warn!(%error, file = self.part, "what was written of the backup could not be removed");
            }
        }
    }
}

impl<W: World> Drop for Unfinished<W> {
    fn drop(&mut self) {
        if *self.exists.get_mut() {
            // Whoever wanted it has given up.
            let _ = self.disk.remove(&self.part);
        }
    }
}
