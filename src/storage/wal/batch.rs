//! The shape of a batch on disk: pure encoding and checking.
//!
//! A batch starts at a sector boundary and spans whole 512-byte sectors, each of which is verified by itself:
//!
//! ```text
//! header sector        magic · payload length · batch number · records · CRCs of data sectors … · own CRC
//! continuation sector  CRCs of further data sectors …                                           · own CRC
//! data sector          512 bytes of payload (the last one padded with zeros); its CRC stands above
//! ```
//!
//! * The header sector and the continuation sectors end with a CRC of their own, so they need nobody else.
//! * A small payload lives in the header sector, in place of the CRCs: such a batch is one sector, written whole or
//!   not at all.
//! * Every CRC is seeded with the segment's salt, and all but the header's also with the batch number and the sector's
//!   place. A sector that ended up in the wrong place, or was left over from another batch, does not verify. The salt
//!   is random and never leaves the server, so no client can send a body that would pass for a batch.

use crc32c::crc32c_append;

/// What a disk writes whole or not at all, in bytes.
pub const SECTOR: usize = 512;
/// Longest payload of one batch, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;

const MAGIC: [u8; 4] = *b"RSTB";
const FIXED: usize = 24;
const CRC_AT: usize = SECTOR - 4;
const INLINE_BYTES_MAX: usize = CRC_AT - FIXED;
const CRCS_IN_HEADER: usize = INLINE_BYTES_MAX / 4;
const CRCS_IN_CONTINUATION: usize = CRC_AT / 4;

/// Where the sectors of a batch with a payload of some length are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    payload: usize,
    continuation: usize,
    data: usize,
}

impl Layout {
    /// That of a payload of so many bytes.
    pub fn of(payload: usize) -> Self {
        if payload <= INLINE_BYTES_MAX {
            return Self { payload, continuation: 0, data: 0 };
        }
        let data = payload.div_ceil(SECTOR);
        let continuation = data.saturating_sub(CRCS_IN_HEADER).div_ceil(CRCS_IN_CONTINUATION);
        Self { payload, continuation, data }
    }

    /// Bytes of the whole batch: a multiple of the sector's.
    pub fn bytes(self) -> usize {
        (1 + self.continuation + self.data) * SECTOR
    }

    /// Where the payload starts, from the batch's start.
    pub fn payload_at(self) -> usize {
        if self.data == 0 { FIXED } else { (1 + self.continuation) * SECTOR }
    }

    /// Where the CRC of data sector `i` is.
    fn crc_at(i: usize) -> usize {
        match i.checked_sub(CRCS_IN_HEADER) {
            None => FIXED + i * 4,
            Some(i) => (1 + i / CRCS_IN_CONTINUATION) * SECTOR + i % CRCS_IN_CONTINUATION * 4,
        }
    }
}

/// A batch in the making: the payload is written where it will stay.
#[derive(Debug)]
pub struct Builder {
    layout: Layout,
    bytes: Vec<u8>,
}

impl Builder {
    /// For a payload of exactly so many bytes.
    pub fn new(payload: usize) -> Self {
        assert!(payload <= PAYLOAD_BYTES_MAX, "the caller splits what does not fit a batch");
        let layout = Layout::of(payload);
        let mut bytes = Vec::with_capacity(layout.bytes());
        bytes.resize(layout.payload_at(), 0);
        Self { layout, bytes }
    }

    /// Where the payload goes, behind what is there.
    pub fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The finished batch.
    pub fn seal(mut self, salt: u64, number: u64, records: u32) -> Vec<u8> {
        let layout = self.layout;
        assert_eq!(self.bytes.len(), layout.payload_at() + layout.payload, "the payload is as long as was said");
        self.bytes.resize(layout.bytes(), 0);
        let bytes = &mut self.bytes;
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..8].copy_from_slice(&(layout.payload as u32).to_le_bytes());
        bytes[8..16].copy_from_slice(&number.to_le_bytes());
        bytes[16..20].copy_from_slice(&records.to_le_bytes());
        for i in 0..layout.data {
            let sector = 1 + layout.continuation + i;
            let crc = crc32c_append(seed(salt, number, sector), &bytes[sector * SECTOR..][..SECTOR]);
            bytes[Layout::crc_at(i)..][..4].copy_from_slice(&crc.to_le_bytes());
        }
        for sector in 0..=layout.continuation {
            let crc = own_crc(&bytes[sector * SECTOR..][..SECTOR], salt, number, sector);
            bytes[sector * SECTOR + CRC_AT..][..4].copy_from_slice(&crc.to_le_bytes());
        }
        self.bytes
    }
}

/// What a header sector says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// Counts the batches over the log's life.
    pub number: u64,
    /// How many records the payload holds.
    pub records: u32,
    /// Where things are.
    pub layout: Layout,
}

/// What was found where a batch may start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// A header that verifies.
    Header(Header),
    /// Zeros: nothing was ever written here.
    Nothing,
    /// Something that no writer of this segment left behind.
    Bad,
}

/// Judges the sector where a batch may start.
pub fn find(sector: &[u8], salt: u64) -> Found {
    if is_zero(sector) {
        return Found::Nothing;
    }
    let payload = u32_at(sector, 4) as usize;
    if sector[..4] != MAGIC || u32_at(sector, CRC_AT) != own_crc(sector, salt, 0, 0) || payload > PAYLOAD_BYTES_MAX {
        return Found::Bad;
    }
    Found::Header(Header { number: u64_at(sector, 8), records: u32_at(sector, 16), layout: Layout::of(payload) })
}

/// A sector of a batch that does not verify.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BadSector {
    /// Which one, counted from the batch's header.
    pub sector: usize,
    /// It is all zeros: it may never have been written. Otherwise it was, and has changed since.
    pub unwritten: bool,
}

impl Header {
    /// Checks every sector of the batch in `bytes`, whose header this is. Reports a changed sector rather than an
    /// unwritten one.
    ///
    /// # Errors
    /// The sector that does not verify.
    pub fn check(&self, bytes: &[u8], salt: u64) -> Result<(), BadSector> {
        let layout = self.layout;
        let mut unwritten = None;
        let mut judge = |sector: usize, good: bool| {
            if good {
                return Ok(());
            }
            if !is_zero(&bytes[sector * SECTOR..][..SECTOR]) {
                return Err(BadSector { sector, unwritten: false });
            }
            unwritten.get_or_insert(BadSector { sector, unwritten: true });
            Ok(())
        };
        // A data sector can be judged only if the sector that holds its CRC is good.
        let mut holder_good = vec![true; 1 + layout.continuation];
        for sector in 1..=layout.continuation {
            let own = &bytes[sector * SECTOR..][..SECTOR];
            let good = u32_at(own, CRC_AT) == own_crc(own, salt, self.number, sector);
            holder_good[sector] = good;
            judge(sector, good)?;
        }
        for i in 0..layout.data {
            let at = Layout::crc_at(i);
            if holder_good[at / SECTOR] {
                let sector = 1 + layout.continuation + i;
                let crc = crc32c_append(seed(salt, self.number, sector), &bytes[sector * SECTOR..][..SECTOR]);
                judge(sector, crc == u32_at(bytes, at))?;
            }
        }
        unwritten.map_or(Ok(()), Err)
    }

    /// The payload of the batch in `bytes`.
    pub fn payload<'a>(&self, bytes: &'a [u8]) -> &'a [u8] {
        &bytes[self.layout.payload_at()..][..self.layout.payload]
    }
}

/// Whether nothing was ever written there.
pub fn is_zero(bytes: &[u8]) -> bool {
    // Comparing slices is a `memcmp`: a start reads whole segments of zeros.
    static ZEROS: [u8; 4096] = [0; 4096];
    bytes.chunks(ZEROS.len()).all(|chunk| *chunk == ZEROS[..chunk.len()])
}

fn seed(salt: u64, number: u64, sector: usize) -> u32 {
    let mut place = [0; 24];
    place[..8].copy_from_slice(&salt.to_le_bytes());
    place[8..16].copy_from_slice(&number.to_le_bytes());
    place[16..].copy_from_slice(&(sector as u64).to_le_bytes());
    crc32c::crc32c(&place)
}

/// The CRC at the end of a header or continuation sector. The header's covers the batch number, so it is not in its
/// seed: the reader does not know the number before.
fn own_crc(sector: &[u8], salt: u64, number: u64, place: usize) -> u32 {
    crc32c_append(seed(salt, if place == 0 { 0 } else { number }, place), &sector[..CRC_AT])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(payload: &[u8], salt: u64, number: u64) -> Vec<u8> {
        let mut builder = Builder::new(payload.len());
        builder.payload().extend_from_slice(payload);
        builder.seal(salt, number, 1)
    }

    fn header(bytes: &[u8], salt: u64) -> Header {
        match find(&bytes[..SECTOR], salt) {
            Found::Header(header) => header,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_sealed_is_read_back_at_every_boundary_of_the_layout() {
        let full = CRCS_IN_HEADER * SECTOR;
        let more = full + CRCS_IN_CONTINUATION * SECTOR;
        for bytes in [0, 1, INLINE_BYTES_MAX, INLINE_BYTES_MAX + 1, 512, 513, full, full + 1, more, more + 1, 300_000] {
            let payload: Vec<u8> = (0..bytes).map(|i| (i * 7 + 3) as u8).collect();
            let sealed = batch(&payload, 9, 4);
            let header = header(&sealed, 9);
            assert_eq!((header.number, header.records, header.layout.bytes()), (4, 1, sealed.len()));
            assert_eq!(header.check(&sealed, 9), Ok(()));
            assert_eq!(header.payload(&sealed), payload);
        }
    }

    #[test]
    fn every_flipped_bit_is_told_as_a_change_and_every_wiped_sector_as_unwritten() {
        for bytes in [100, 600, CRCS_IN_HEADER * SECTOR + 900] {
            let good = batch(&vec![0x5a; bytes], 3, 8);
            for at in 0..good.len() {
                let mut bad = good.clone();
                bad[at] ^= 1 << (at % 8);
                match find(&bad[..SECTOR], 3) {
                    Found::Bad => assert!(at < SECTOR),
                    Found::Nothing => panic!("it is not zero"),
                    Found::Header(header) => {
                        assert_eq!(header.check(&bad, 3), Err(BadSector { sector: at / SECTOR, unwritten: false }));
                    }
                }
            }
            for sector in 1..good.len() / SECTOR {
                let mut torn = good.clone();
                torn[sector * SECTOR..][..SECTOR].fill(0);
                assert_eq!(header(&torn, 3).check(&torn, 3), Err(BadSector { sector, unwritten: true }));
            }
        }
    }

    #[test]
    fn a_sector_of_another_batch_or_place_or_segment_does_not_verify() {
        let good = batch(&[0x5a; 2000], 3, 8);
        assert_eq!(find(&good[..SECTOR], 4), Found::Bad, "another segment's salt");
        let other = batch(&[0x5a; 2000], 3, 9);
        let mut mixed = good.clone();
        mixed[SECTOR..][..SECTOR].copy_from_slice(&other[SECTOR..][..SECTOR]);
        assert_eq!(header(&mixed, 3).check(&mixed, 3), Ok(()), "data of equal bytes is equal");
        let long = batch(&vec![1; CRCS_IN_HEADER * SECTOR + 900], 3, 8);
        let mut mixed = batch(&vec![1; CRCS_IN_HEADER * SECTOR + 900], 3, 9);
        mixed[SECTOR..][..SECTOR].copy_from_slice(&long[SECTOR..][..SECTOR]);
        assert_eq!(header(&mixed, 3).check(&mixed, 3), Err(BadSector { sector: 1, unwritten: false }));
    }
}
