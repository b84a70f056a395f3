//! The log in a real directory, with real threads.

use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::storage::MetaKey;
use crate::world::{RealDisk, RealWorld};

async fn open_real(path: &std::path::Path) -> Log<RealWorld> {
    let disk = Arc::new(RealDisk::new(path).unwrap());
    Log::open(disk, settings(256 << 10)).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_at_once_are_all_there_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let log = open_real(directory.path()).await;
    let mut waiting = Vec::new();
    for index in 1..=2000u64 {
        let (sender, receiver) = oneshot::channel();
        log.append(vec![entry(index, (index % 1500) as usize)], Box::new(move |result| drop(sender.send(result))));
        waiting.push(receiver);
        if index % 500 == 0 {
            log.put(MetaKey::Vote, Bytes::from(index.to_string())).await.unwrap();
        }
    }
    for done in waiting {
        done.await.unwrap().unwrap();
    }
    log.truncate_after(1900).await.unwrap();
    log.purge(700).await.unwrap();
    drop(log);
    let log = open_real(directory.path()).await;
    assert_eq!((log.first_index(), log.last()), (Some(701), Some(1900)));
    assert_eq!(log.get(MetaKey::Vote), Some(Bytes::from_static(b"2000")));
    let entries = all(&log).await.unwrap();
    assert!(entries.iter().zip(701..).all(|(found, index)| *found == entry(index, (index % 1500) as usize)));
}
