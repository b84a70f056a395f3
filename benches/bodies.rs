//! Where the bodies of waiting messages live best: in the checkpoint, as they do, or in the log's segments, with only their
//! places in the checkpoint. On the disk of the temporary directory.
//!
//! `cargo bench --bench bodies`. The state is 65,536 messages for 64 inboxes in turn, with bodies of so many bytes. `write`
//! is a checkpoint of all of them, with the bodies or with places of 24 bytes in place of them. `read` gets 1,024 messages of one inbox back
//! as a delivery does, which are spread over what holds them, as the system remembers the files. To leave bodies in the log would have a cost besides
//! that is not measured here: a segment could not be removed while one of its bodies waits.

use std::sync::Arc;

use bytes::Bytes;
use divan::Bencher;
use divan::counter::ItemsCount;
use restante::post_office::Change;
use restante::storage::Checkpoint;
use restante::world::{Disk, File, OpenMode, RealDisk};

const MESSAGES: u64 = 65_536;
const INBOXES: u64 = 64;
const READ: u64 = 1024;
/// About what a message's record has besides its body.
const HEAD: [u8; 48] = [3; 48];
/// A segment, an offset, a length and a checksum.
const PLACE: [u8; 24] = [5; 24];

fn main() {
    divan::main();
}

fn disk() -> (tempfile::TempDir, Arc<dyn Disk>) {
    let Ok(directory) = tempfile::tempdir() else { panic!("no temporary directory") };
    match RealDisk::new(directory.path()) {
        Ok(disk) => (directory, Arc::new(disk)),
        Err(error) => panic!("{error}"),
    }
}

fn key(message: u64) -> Vec<u8> {
    let mut key = vec![9];
    key.extend_from_slice(&message.to_be_bytes());
    key
}

fn changes(content: &Bytes) -> Vec<Change> {
    let put = |message| Change::Put { key: key(message), head: HEAD.to_vec(), content: content.clone() };
    (0..MESSAGES).map(put).collect()
}

fn checkpoint(disk: Arc<dyn Disk>) -> Checkpoint {
    match Checkpoint::open(disk) {
        Ok(checkpoint) => checkpoint,
        Err(error) => panic!("{error}"),
    }
}

fn written(disk: Arc<dyn Disk>, content: Bytes) -> Checkpoint {
    let checkpoint = checkpoint(disk);
    let flushed = checkpoint.flush(&changes(&content), b"meta");
    assert!(flushed.is_ok(), "{flushed:?}");
    checkpoint
}

/// The file of bodies that stands for the log: each behind a head of about what an entry and a batch cost it.
fn log(disk: &Arc<dyn Disk>, bytes: usize) -> Arc<dyn File> {
    let opened = disk.open("log", OpenMode::Create);
    let Ok(file) = opened else { panic!("{opened:?}") };
    let written = (0..MESSAGES)
        .step_by(1024)
        .try_for_each(|from| file.write_at(from * (bytes + 32) as u64, &vec![7; (bytes + 32) * 1024]));
    assert!(written.and_then(|()| file.sync()).is_ok(), "the log can be written");
    file
}

#[divan::bench(args = [64, 256, 4096], sample_count = 5, sample_size = 1)]
fn write_with_bodies(bencher: Bencher<'_, '_>, bytes: usize) {
    let content = Bytes::from(vec![7; bytes]);
    let make = || {
        let (directory, disk) = disk();
        (directory, checkpoint(disk), changes(&content))
    };
    bencher.counter(ItemsCount::new(MESSAGES)).with_inputs(make).bench_local_values(
        |(directory, checkpoint, changes)| {
            let flushed = checkpoint.flush(&changes, b"meta");
            assert!(flushed.is_ok(), "{flushed:?}");
            (directory, checkpoint)
        },
    );
}

#[divan::bench(sample_count = 5, sample_size = 1)]
fn write_with_places(bencher: Bencher<'_, '_>) {
    let content = Bytes::from_static(&PLACE);
    let make = || {
        let (directory, disk) = disk();
        (directory, checkpoint(disk), changes(&content))
    };
    bencher.counter(ItemsCount::new(MESSAGES)).with_inputs(make).bench_local_values(
        |(directory, checkpoint, changes)| {
            let flushed = checkpoint.flush(&changes, b"meta");
            assert!(flushed.is_ok(), "{flushed:?}");
            (directory, checkpoint)
        },
    );
}

#[divan::bench(args = [64, 256, 4096], sample_count = 20, sample_size = 1)]
fn read_from_checkpoint(bencher: Bencher<'_, '_>, bytes: usize) {
    let (_directory, disk) = disk();
    let checkpoint = written(disk, Bytes::from(vec![7; bytes]));
    bencher.counter(ItemsCount::new(READ)).bench_local(|| {
        let keys: Vec<Vec<u8>> = (0..READ).map(|n| key(n * INBOXES)).collect();
        let got = checkpoint.get_all(&keys);
        assert!(got.is_ok_and(|got| got.iter().all(Option::is_some)));
    });
}

#[divan::bench(args = [64, 256, 4096], sample_count = 20, sample_size = 1)]
fn read_from_log(bencher: Bencher<'_, '_>, bytes: usize) {
    let (_directory, disk) = disk();
    let checkpoint = written(disk.clone(), Bytes::from_static(&PLACE));
    let file = log(&disk, bytes);
    bencher.counter(ItemsCount::new(READ)).bench_local(|| {
        // The places are in memory, as the positions of an inbox are; only the bodies are read.
        let mut out = Vec::with_capacity(READ as usize * bytes);
        let mut body = vec![0; bytes];
        for n in 0..READ {
            let read = file.read_at(n * INBOXES * (bytes + 32) as u64 + 32, &mut body);
            assert!(read.is_ok() && crc32c::crc32c(&body) != 0);
            out.extend_from_slice(&body);
        }
        out
    });
    drop(checkpoint);
}
