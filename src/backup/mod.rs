//! The whole post office in one file, and a new cluster out of it.
//!
//! * [`format`](mod@format): the file, pure: what a server writes it with, and what everybody reads it with.
//! * [`check`](fn@check): reads a file to its end and says what is in it.
//! * [`restore`](fn@restore): makes the data directory of a founder out of it.
//!
//! A server makes the bytes ([`crate::server`]), a client carries them ([`crate::client::Backup`]) and looks at each
//! block as it comes. `docs/backup.md` has the guarantees.

mod check;
mod error;
pub mod format;
mod restore;
#[cfg(test)]
mod tests;

pub use check::{Contents, check};
pub use error::{BadBackup, RestoreError};
pub use format::{Header, Summary};
pub use restore::{Restored, restore};
