//! What is in one file: what reads see, and what a power cut would leave of it.
//!
//! Reads see `pages`. For every 512-byte sector that was written since it was last durable, `unsynced` keeps the bytes
//! that are on the platter. So a sync costs what was written since the last one, and nothing grows with the file.

use std::collections::BTreeMap;
use std::io;

use rand::RngExt;

use crate::random::Stream;

/// A disk writes so many bytes at once or not at all.
pub const SECTOR_BYTES: u64 = 512;
const SECTOR: usize = SECTOR_BYTES as usize;
pub(super) const PAGE_BYTES: u64 = 4096;
const PAGE: usize = PAGE_BYTES as usize;

type Sector = [u8; SECTOR];
/// A page that takes up space; without bytes it is all zeros, as logs are made. No sector of such a page is unsynced.
type Page = Option<Box<[u8; PAGE]>>;

static ZEROS: [u8; PAGE] = [0; PAGE];

/// Whether all of it is zeros.
pub(super) fn is_zero(bytes: &[u8]) -> bool {
    // Comparing slices is a `memcmp`: most of what is written and read are whole segments of zeros.
    bytes.chunks(PAGE).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

/// The bytes on the platter below a sector that was written and not synced.
#[derive(Debug)]
struct Unsynced {
    /// `None` is all zeros.
    durable: Option<Box<Sector>>,
    /// Whether the next sync covers it. A failed one leaves its sectors behind: Linux marks such pages clean, so a
    /// later sync succeeds without having written them.
    covered: bool,
}

/// How much of what was not synced a power cut leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tear {
    /// None of it.
    Nothing,
    /// All of it.
    Everything,
    /// Any of its sectors.
    Some,
}

impl Tear {
    pub(super) fn draw(random: &mut Stream) -> Self {
        match random.random_range(0..4) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Some,
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Content {
    /// A page that is not there is all zeros.
    pages: BTreeMap<u64, Page>,
    len: u64,
    durable_len: u64,
    /// Whether the next sync covers the length: see [`Unsynced::covered`].
    len_covered: bool,
    /// Its length was set since it was last durable.
    len_set: bool,
    unsynced: BTreeMap<u64, Unsynced>,
}

impl Content {
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    pub(super) fn used_bytes(&self) -> u64 {
        self.pages.len() as u64 * PAGE_BYTES
    }

    /// Bytes that a write would take beyond those in use.
    pub(super) fn growth(&self, offset: u64, bytes: usize) -> u64 {
        if bytes == 0 {
            return 0;
        }
        let (first, last) = (offset / PAGE_BYTES, (offset + bytes as u64 - 1) / PAGE_BYTES);
        (last - first + 1 - self.pages.range(first..=last).count() as u64) * PAGE_BYTES
    }

    /// Fills `buffer`. Says whether all of it came from pages without bytes, so that it is known to be zeros.
    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> io::Result<bool> {
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > self.len) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.copy_out(offset, buffer))
    }

    fn copy_out(&self, offset: u64, buffer: &mut [u8]) -> bool {
        let pages = offset / PAGE_BYTES..(offset + buffer.len() as u64).div_ceil(PAGE_BYTES);
        if self.pages.range(pages).all(|(_, page)| page.is_none()) {
            buffer.fill(0);
            return true;
        }
        for_pieces(offset, buffer.len(), PAGE_BYTES, |page, start, range| match self.pages.get(&page) {
            Some(Some(bytes)) => buffer[range.clone()].copy_from_slice(&bytes[start..start + range.len()]),
            Some(None) | None => buffer[range].fill(0),
        });
        false
    }

    pub(super) fn write(&mut self, offset: u64, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        for_pieces(offset, bytes.len(), PAGE_BYTES, |page, start, range| {
            let (from, bytes) = (page * PAGE_BYTES + start as u64, &bytes[range]);
            let sectors = from / SECTOR_BYTES..=(from + bytes.len() as u64 - 1) / SECTOR_BYTES;
            let was_zero = !matches!(self.pages.get(&page), Some(Some(_)));
            if was_zero && is_zero(bytes) && self.unsynced.range(sectors.clone()).next().is_none() {
                // Zeros over zeros, on the platter too: there is nothing that a power cut could tell.
                self.pages.entry(page).or_default();
                return;
            }
            sectors.for_each(|sector| self.save(sector));
            let page = self.pages.entry(page).or_default().get_or_insert_with(|| Box::new(ZEROS));
            page[start..start + bytes.len()].copy_from_slice(bytes);
        });
        let end = offset + bytes.len() as u64;
        if end > self.len {
            self.len = end;
            self.len_covered = true;
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            let written = self.pages.range(len / PAGE_BYTES..).filter(|(_, page)| page.is_some());
            let pages: Vec<u64> = written.map(|(page, _)| *page).collect();
            for page in pages {
                let first = page * PAGE_BYTES / SECTOR_BYTES;
                for sector in first.max(len / SECTOR_BYTES)..first + PAGE_BYTES / SECTOR_BYTES {
                    self.save(sector);
                }
            }
            self.zero_from(len);
        }
        if len != self.len {
            self.len = len;
            self.len_set = true;
            self.len_covered = true;
        }
    }

    /// Keeps what the platter has of a sector that is about to change.
    fn save(&mut self, sector: u64) {
        if let Some(unsynced) = self.unsynced.get_mut(&sector) {
            unsynced.covered = true;
            return;
        }
        let is_written = matches!(self.pages.get(&(sector * SECTOR_BYTES / PAGE_BYTES)), Some(Some(_)));
        let durable = is_written.then(|| {
            let mut bytes = Box::new([0; SECTOR]);
            self.copy_out(sector * SECTOR_BYTES, &mut *bytes);
            bytes
        });
        self.unsynced.insert(sector, Unsynced { durable, covered: true });
    }

    /// Reads beyond the end, should the file grow again, are zeros.
    fn zero_from(&mut self, len: u64) {
        let (page, start) = (len / PAGE_BYTES, (len % PAGE_BYTES) as usize);
        if start > 0 {
            if let Some(Some(bytes)) = self.pages.get_mut(&page) {
                bytes[start..].fill(0);
            }
            self.pages.split_off(&(page + 1));
        } else {
            self.pages.split_off(&page);
        }
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.retain(|_, unsynced| !unsynced.covered);
        if self.len_covered {
            self.durable_len = self.len;
            self.len_set = false;
        }
    }

    /// The machine's memory of these bytes goes, as far as it takes them for clean: what a failed sync left there without
    /// the platter having it.
    pub(super) fn forget(&mut self, offset: u64, bytes: u64) {
        let range = offset / SECTOR_BYTES..offset.saturating_add(bytes).div_ceil(SECTOR_BYTES);
        let stale = self.unsynced.range(range).filter(|(_, unsynced)| !unsynced.covered);
        for sector in stale.map(|(sector, _)| *sector).collect::<Vec<u64>>() {
            if let Some(unsynced) = self.unsynced.remove(&sector) {
                self.restore(sector, unsynced.durable.as_deref());
            }
        }
    }

    pub(super) fn sync_failed(&mut self) {
        self.unsynced.values_mut().for_each(|unsynced| unsynced.covered = false);
        self.len_covered = false;
    }

    /// The power goes: what was not synced is there or not, sector by sector.
    pub(super) fn crash(&mut self, tear: Tear, random: &mut Stream) {
        // Whole files tend to be lost or kept together; a drawn share reaches both ends and what is between.
        let share = random.random_range(0.0..1.0);
        for (sector, unsynced) in std::mem::take(&mut self.unsynced) {
            let keep = match tear {
                Tear::Nothing => false,
                Tear::Everything => true,
                Tear::Some => random.random_bool(share),
            };
            if !keep {
                self.restore(sector, unsynced.durable.as_deref());
            }
        }
        let (low, high) = (self.len.min(self.durable_len), self.len.max(self.durable_len));
        let len = match tear {
            Tear::Nothing => self.durable_len,
            Tear::Everything => self.len,
            Tear::Some => match random.random_range(0..3) {
                0 => self.durable_len,
                1 => self.len,
                // Writes make a file longer piece by piece; a length that was set comes whole or not at all.
                _ if self.len_set => [low, high][random.random_range(0..2)],
                _ => random.random_range(low..=high),
            },
        };
        self.zero_from(len);
        self.len = len;
        self.durable_len = len;
        self.len_set = false;
        self.len_covered = true;
    }

    /// Changes a bit that is on the platter, and says which: byte and bit. Mostly one of something that was written,
    /// now and then one of a file's zeros.
    pub(super) fn flip(&mut self, random: &mut Stream) -> Option<(u64, u32)> {
        let durable: Vec<u64> = self.pages.keys().copied().collect();
        let written: Vec<u64> = self.pages.iter().filter(|(_, bytes)| bytes.is_some()).map(|(page, _)| *page).collect();
        let pages = if written.is_empty() || random.random_bool(0.1) { durable } else { written };
        let page = *pages.get(random.random_range(0..pages.len().max(1)))?;
        let bytes = self.pages.get_mut(&page)?.get_or_insert_with(|| Box::new([0; PAGE_BYTES as usize]));
        let first = page * PAGE_BYTES / SECTOR_BYTES;
        let sectors = (first..first + PAGE_BYTES / SECTOR_BYTES)
            .filter(|sector| !self.unsynced.contains_key(sector) && sector * SECTOR_BYTES < self.len);
        let (mut full, mut all) = (Vec::new(), Vec::new());
        for sector in sectors {
            let start = (sector * SECTOR_BYTES % PAGE_BYTES) as usize;
            if bytes[start..start + SECTOR].iter().any(|b| *b != 0) {
                full.push(sector);
            }
            all.push(sector);
        }
        let sectors = if full.is_empty() { all } else { full };
        let sector = *sectors.get(random.random_range(0..sectors.len().max(1)))?;
        let end = self.len.min((sector + 1) * SECTOR_BYTES);
        let offset = random.random_range(sector * SECTOR_BYTES..end);
        let bit = random.random_range(0..8);
        bytes[(offset % PAGE_BYTES) as usize] ^= 1 << bit;
        Some((offset, bit))
    }

    fn restore(&mut self, sector: u64, durable: Option<&Sector>) {
        let offset = sector * SECTOR_BYTES;
        let (page, start) = (offset / PAGE_BYTES, (offset % PAGE_BYTES) as usize);
        match durable {
            Some(bytes) => {
                let page = self.pages.entry(page).or_default().get_or_insert_with(|| Box::new(ZEROS));
                page[start..start + SECTOR].copy_from_slice(bytes);
            }
            None => {
                if let Some(Some(page)) = self.pages.get_mut(&page) {
                    page[start..start + SECTOR].fill(0);
                }
            }
        }
    }
}

/// Cuts `offset..offset + len` at multiples of `unit`: the unit's number, where in it the piece starts, and which part
/// of the caller's bytes it is.
fn for_pieces(offset: u64, len: usize, unit: u64, mut f: impl FnMut(u64, usize, std::ops::Range<usize>)) {
    let mut done = 0;
    while done < len {
        let at = offset + done as u64;
        let start = at % unit;
        let piece = ((unit - start) as usize).min(len - done);
        f(at / unit, start as usize, done..done + piece);
        done += piece;
    }
}
