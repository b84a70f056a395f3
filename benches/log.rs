//! How fast the log takes entries, on the disk of the temporary directory: what is measured is mostly that disk.
//!
//! `cargo bench --bench log`. `one_at_a_time` is the time of a write with its sync, and of the two task switches to the
//! thread that does it and back; `pipelined` has 64 entries on their way; `floor` is the write and the sync alone.

use std::sync::Arc;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use restante::storage::{Log, LogEntry, LogSettings};
use restante::world::{Disk, OpenMode, RealDisk, RealWorld};
use tokio::sync::oneshot;

const ENTRIES: u64 = 64;

fn main() {
    divan::main();
}

struct Bed {
    runtime: tokio::runtime::Runtime,
    log: Log<RealWorld>,
    next: u64,
    _directory: tempfile::TempDir,
}

fn bed() -> Bed {
    let Ok(directory) = tempfile::tempdir() else { panic!("no temporary directory") };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { panic!("no runtime") };
    let disk: Arc<dyn Disk> = match RealDisk::new(directory.path()) {
        Ok(disk) => Arc::new(disk),
        Err(error) => panic!("{error}"),
    };
    let settings = LogSettings { segment_bytes: 16 << 20, cache_bytes: 1 << 20, shard: 0, reserve_bytes: 0 };
    match runtime.block_on(Log::open(disk, settings)) {
        Ok(log) => Bed { runtime, log, next: 1, _directory: directory },
        Err(error) => panic!("{error}"),
    }
}

impl Bed {
    fn append(&mut self, bytes: usize) -> oneshot::Receiver<bool> {
        let (told, done) = oneshot::channel();
        let entry = LogEntry { index: self.next, head: Bytes::new(), body: Bytes::from(vec![7; bytes]) };
        self.next += 1;
        self.log.append(vec![entry], Box::new(move |result| told.send(result.is_ok()).unwrap_or_default()));
        done
    }
}

#[divan::bench(args = [256, 65_536], sample_count = 200)]
fn one_at_a_time(bencher: Bencher<'_, '_>, bytes: usize) {
    let mut bed = bed();
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        let done = bed.append(bytes);
        assert_eq!(bed.runtime.block_on(done), Ok(true));
    });
}

#[divan::bench(args = [256, 65_536], sample_count = 50)]
fn pipelined(bencher: Bencher<'_, '_>, bytes: usize) {
    let mut bed = bed();
    bencher.counter(ItemsCount::new(ENTRIES)).bench_local(|| {
        let waiting: Vec<_> = (0..ENTRIES).map(|_| bed.append(bytes)).collect();
        bed.runtime.block_on(async {
            for done in waiting {
                assert_eq!(done.await, Ok(true));
            }
        });
    });
}

#[divan::bench(args = [512, 65_536], sample_count = 200)]
fn floor(bencher: Bencher<'_, '_>, bytes: usize) {
    let Ok(directory) = tempfile::tempdir() else { panic!("no temporary directory") };
    let opened = RealDisk::new(directory.path()).and_then(|disk| disk.open("file", OpenMode::Create));
    let file = match opened {
        Ok(file) => file,
        Err(error) => panic!("{error}"),
    };
    let written = file.write_at(0, &vec![0; 16 << 20]).and_then(|()| file.sync());
    assert!(written.is_ok(), "{written:?}");
    let piece = vec![7; bytes];
    let mut at = 0;
    bencher.counter(BytesCount::new(bytes)).bench_local(|| {
        at = (at + bytes as u64) % (8 << 20);
        file.write_at(at, &piece).and_then(|()| file.sync())
    });
}
