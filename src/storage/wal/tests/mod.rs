//! The log over a disk that misbehaves, and over a real one.

mod crashes;
mod damage;
mod faults;
mod real;

use std::future::Future;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::oneshot;

use super::{Log, LogEntry, LogError, LogSettings};
use crate::storage::testing::{FaultDisk, TestWorld};
use crate::world::World;

fn settings(segment_bytes: u64) -> LogSettings {
    LogSettings { segment_bytes, cache_bytes: 4096, shard: 0, reserve_bytes: 0 }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.unwrap().block_on(future)
}

async fn open(disk: &FaultDisk, segment_bytes: u64) -> Result<Log<TestWorld>, LogError> {
    Log::open(Arc::new(disk.clone()), settings(segment_bytes)).await
}

fn entry(index: u64, bytes: usize) -> LogEntry {
    let body: Vec<u8> = (0..bytes).map(|i| (index as usize * 31 + i * 7) as u8).collect();
    LogEntry { index, head: Bytes::from(index.to_le_bytes().to_vec()), body: body.into() }
}

async fn append<W: World>(log: &Log<W>, entries: Vec<LogEntry>) -> io::Result<()> {
    let (sender, receiver) = oneshot::channel();
    log.append(entries, Box::new(move |result| drop(sender.send(result))));
    receiver.await.unwrap()
}

async fn all<W: World>(log: &Log<W>) -> io::Result<Vec<LogEntry>> {
    log.read(0..u64::MAX, u64::MAX).await
}
