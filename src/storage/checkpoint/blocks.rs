//! A file that knows what it was given.
//!
//! redb verifies its pages when a file is opened, and trusts them from then on. So the checksum of every block is kept
//! in memory (4 bytes for 4 KiB) from the first time that it is read or written, and compared each time it is read
//! again: by redb, to which a changed page could make a key disappear without a word, and by the scrub, which reads
//! blocks that redb has in its cache or has no use for now.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crc32c::crc32c;
use parking_lot::RwLock;

use crate::world::File;

/// What has one checksum.
pub const BLOCK_BYTES: u64 = 4096;
const BLOCK: usize = BLOCK_BYTES as usize;

/// See the module.
#[derive(Debug)]
pub struct Blocks {
    file: Arc<dyn File>,
    /// Of each block, if it is known. Locked while a block is read or written, so that the two agree.
    sums: RwLock<Vec<Option<u32>>>,
    /// A block was needed that is not as it was.
    damaged: AtomicBool,
}

impl Blocks {
    /// Of `file`, of which nothing is known yet.
    pub fn new(file: Arc<dyn File>) -> Self {
        Self { file, sums: RwLock::default(), damaged: AtomicBool::new(false) }
    }

    /// The file's length.
    pub fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    /// See [`File::sync`].
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    /// See [`File::read_at`].
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if a block is not as it was; the disk's.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut news = Vec::new();
        {
            let sums = self.sums.read();
            self.file.read_at(offset, out)?;
            for (number, bytes) in whole_blocks(offset, out) {
                let sum = crc32c(bytes);
                match known(&sums, number) {
                    Some(before) if before != sum => return Err(self.needed(number)),
                    Some(_) => {}
                    None => news.push((number, sum)),
                }
            }
        }
        if !news.is_empty() {
            let mut sums = self.sums.write();
            for (number, sum) in news {
                // One that was written meanwhile is known by now, and another one.
                if known(&sums, number).is_none() {
                    learn(&mut sums, number, Some(sum));
                }
            }
        }
        Ok(())
    }

    /// See [`File::write_at`].
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] if a block that is overwritten in part is not as it was; the disk's.
    pub fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut sums = self.sums.write();
        let mut after = Vec::new();
        let end = offset + data.len() as u64;
        for number in offset / BLOCK_BYTES..end.div_ceil(BLOCK_BYTES) {
            let start = number * BLOCK_BYTES;
            let sum = if start >= offset && start + BLOCK_BYTES <= end {
                Some(crc32c(&data[(start - offset) as usize..][..BLOCK]))
            } else if let Some(before) = known(&sums, number) {
                let mut block = vec![0; BLOCK];
                self.file.read_at(start, &mut block)?;
                if crc32c(&block) != before {
                    return Err(self.needed(number));
                }
                let (from, to) = (offset.max(start), end.min(start + BLOCK_BYTES));
                block[(from - start) as usize..(to - start) as usize]
                    .copy_from_slice(&data[(from - offset) as usize..(to - offset) as usize]);
                Some(crc32c(&block))
            } else {
                None
            };
            after.push((number, sum));
        }
        let written = self.file.write_at(offset, data);
        for (number, sum) in after {
            learn(&mut sums, number, sum.filter(|_| written.is_ok()));
        }
        written
    }

    fn needed(&self, number: u64) -> io::Error {
        self.damaged.store(true, Ordering::Relaxed);
        changed(number)
    }

    /// Whether a block was read or changed in part that is not as it was. What the scrub finds does not count.
    pub fn is_damaged(&self) -> bool {
        self.damaged.load(Ordering::Relaxed)
    }

    /// See [`File::set_len`].
    pub fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut sums = self.sums.write();
        // What is cut off and grown again is zeros.
        sums.truncate((bytes / BLOCK_BYTES) as usize);
        self.file.set_len(bytes)
    }

    /// Reads block `number` once, so that it is known.
    ///
    /// # Errors
    /// As [`Blocks::read`].
    pub fn learn(&self, number: u64) -> io::Result<()> {
        if self.len()? >= (number + 1) * BLOCK_BYTES {
            self.read(number * BLOCK_BYTES, &mut vec![0; BLOCK])?;
        }
        Ok(())
    }

    /// Reads the known ones of so many blocks from `number` on, from the medium, and compares them. Gives the next
    /// block, `None` behind the last one.
    ///
    /// # Errors
    /// As [`Blocks::read`].
    pub fn scrub(&self, number: u64, blocks: u64) -> io::Result<Option<u64>> {
        let sums = self.sums.read();
        let end = (number + blocks).min(sums.len() as u64);
        if number >= end {
            return Ok(None);
        }
        self.file.forget(number * BLOCK_BYTES, (end - number) * BLOCK_BYTES);
        let mut block = vec![0; BLOCK];
        for number in number..end {
            if let Some(before) = known(&sums, number) {
                match self.file.read_at(number * BLOCK_BYTES, &mut block) {
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(changed(number)),
                    read => read?,
                }
                if crc32c(&block) != before {
                    return Err(changed(number));
                }
            }
        }
        Ok((end < sums.len() as u64).then_some(end))
    }
}

fn known(sums: &[Option<u32>], number: u64) -> Option<u32> {
    sums.get(number as usize).copied().flatten()
}

fn learn(sums: &mut Vec<Option<u32>>, number: u64, sum: Option<u32>) {
    let at = number as usize;
    if sums.len() <= at {
        sums.resize(at + 1, None);
    }
    sums[at] = sum;
}

/// The blocks that lie whole in `bytes`, which are at `offset`.
fn whole_blocks(offset: u64, bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let first = offset.div_ceil(BLOCK_BYTES);
    let skipped = ((first * BLOCK_BYTES - offset) as usize).min(bytes.len());
    (first..).zip(bytes[skipped..].chunks_exact(BLOCK))
}

fn changed(number: u64) -> io::Error {
    let text = format!("the block at {} is not as it was written", number * BLOCK_BYTES);
    io::Error::new(io::ErrorKind::InvalidData, text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::testing::{Dice, FaultDisk};
    use crate::world::{Disk, OpenMode};

    #[test]
    fn whatever_is_written_and_read_every_changed_byte_of_it_is_found_and_nothing_else() {
        let disk = FaultDisk::new();
        let file = disk.open("x", OpenMode::Create).unwrap();
        let blocks = Blocks::new(file.clone());
        let mut dice = Dice(3);
        blocks.set_len(10 * BLOCK_BYTES).unwrap();
        blocks.read(0, &mut [0; 10 * BLOCK]).unwrap();
        for _ in 0..500 {
            let offset = dice.below(9 * BLOCK_BYTES);
            let length = dice.below((10 * BLOCK_BYTES - offset).min(3 * BLOCK_BYTES));
            let data: Vec<u8> = (0..length).map(|_| dice.next() as u8).collect();
            blocks.write(offset, &data).unwrap();
            let mut back = vec![0; length as usize];
            blocks.read(offset, &mut back).unwrap();
            assert_eq!(back, data);
        }
        assert_eq!(blocks.scrub(0, 100).unwrap(), None);
        let mut steps = 0;
        let mut next = Some(0);
        while let Some(number) = next {
            next = blocks.scrub(number, 3).unwrap();
            steps += 1;
        }
        assert_eq!(steps, 4);
        for at in (0..10 * BLOCK_BYTES).step_by(97) {
            let mut byte = [0];
            file.read_at(at, &mut byte).unwrap();
            file.write_at(at, &[byte[0] ^ 8]).unwrap();
            let number = at / BLOCK_BYTES;
            assert_eq!(blocks.scrub(number, 1).unwrap_err().kind(), io::ErrorKind::InvalidData, "byte {at}");
            assert!(blocks.read(number * BLOCK_BYTES, &mut [0; BLOCK]).is_err(), "byte {at}");
            assert!(blocks.write(number * BLOCK_BYTES + 1, &[1]).is_err(), "byte {at}");
            file.write_at(at, &byte).unwrap();
            blocks.scrub(0, 10).unwrap();
        }
        file.set_len(9 * BLOCK_BYTES + 1).unwrap();
        assert!(blocks.scrub(0, 10).is_err(), "it has become shorter");
        blocks.set_len(4 * BLOCK_BYTES).unwrap();
        blocks.scrub(0, 10).unwrap();
    }
}
