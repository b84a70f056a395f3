//! Reading a backup's file.

use std::io;

use bytes::Bytes;

use super::BadBackup;
use super::format::{Header, Parser, Part, Summary};
use crate::post_office::{PostOffice, Totals};
use crate::world::File;

/// How much is read at once, in bytes.
const READ_BYTES: usize = 256 << 10;

/// What a whole and consistent backup holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// What the file says of itself.
    pub summary: Summary,
    /// What the state comes to.
    pub totals: Totals,
    /// The digest of the state, as `status` shows it of a server at that index.
    pub state_digest: u64,
}

/// Reads a backup to its end and puts its state together, in memory but for the bodies. Blocks.
///
/// # Errors
/// [`BadBackup`].
pub fn check(file: &dyn File) -> Result<Contents, BadBackup> {
    let mut parts = Parts::new(file)?;
    let mut failed = None;
    let mut records = Records { parts: &mut parts, waiting: Vec::new().into_iter() };
    let office = PostOffice::load(std::iter::from_fn(|| match records.next_record() {
        Ok(record) => record,
        Err(error) => {
            failed = Some(error);
            None
        }
    }));
    if let Some(error) = failed {
        return Err(error);
    }
    let office = office?;
    let summary = parts.summary()?;
    if office.applied() > summary.header.applied {
        let why = "its header is of an earlier moment than its records".to_owned();
        return Err(BadBackup::Damaged { at: 0, why });
    }
    Ok(Contents { summary, totals: office.totals(), state_digest: office.digest() })
}

struct Records<'a, 'b> {
    parts: &'a mut Parts<'b>,
    waiting: std::vec::IntoIter<(Bytes, Bytes)>,
}

impl Records<'_, '_> {
    fn next_record(&mut self) -> Result<Option<(Vec<u8>, Bytes)>, BadBackup> {
        loop {
            if let Some((key, value)) = self.waiting.next() {
                return Ok(Some((key.to_vec(), value)));
            }
            match self.parts.next_records()? {
                Some(records) => self.waiting = records.into_iter(),
                None => return Ok(None),
            }
        }
    }
}

/// The parts of a file, one after the other.
pub(super) struct Parts<'a> {
    file: &'a dyn File,
    length: u64,
    at: u64,
    parser: Parser,
    header: Header,
    summary: Option<Summary>,
}

impl<'a> Parts<'a> {
    /// Reads the first part.
    pub fn new(file: &'a dyn File) -> Result<Self, BadBackup> {
        let (length, mut at, mut parser) = (file.len()?, 0, Parser::default());
        loop {
            match parser.next_part()? {
                Some(Part::Header(header)) => return Ok(Self { file, length, at, parser, header, summary: None }),
                Some(_) => return Err(BadBackup::NotOne),
                None if !read_on(file, length, &mut at, &mut parser)? => {
                    parser.finish()?;
                    return Err(BadBackup::NotOne);
                }
                None => {}
            }
        }
    }

    /// What the file says of itself.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The next records; `None` when the end was reached, and everything is right.
    pub fn next_records(&mut self) -> Result<Option<Vec<(Bytes, Bytes)>>, BadBackup> {
        loop {
            match self.parser.next_part()? {
                Some(Part::Records(records)) => return Ok(Some(records)),
                Some(Part::End(summary)) => self.summary = Some(summary),
                Some(Part::Header(_)) => {}
                None => {
                    if !read_on(self.file, self.length, &mut self.at, &mut self.parser)? {
                        self.parser.finish()?;
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// What the whole file comes to, once the end was reached.
    pub fn summary(&self) -> Result<Summary, BadBackup> {
        self.summary.clone().ok_or(BadBackup::CutOff { bytes: self.at })
    }
}

/// Feeds the parser; false at the end of the file.
fn read_on(file: &dyn File, length: u64, at: &mut u64, parser: &mut Parser) -> Result<bool, BadBackup> {
    let bytes = (length - *at).min(READ_BYTES as u64) as usize;
    let mut buffer = vec![0; bytes];
    match file.read_at(*at, &mut buffer) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(BadBackup::CutOff { bytes: *at }),
        read => read?,
    }
    *at += bytes as u64;
    parser.feed(&buffer);
    Ok(bytes > 0)
}
