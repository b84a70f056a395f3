//! What the storage said when it failed. openraft passes on a text only, and not every error is told to it.

use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::storage::StorageError;

/// The first error of the disk that the log or the state met, for whoever decides what becomes of the server. Clones
/// share it.
#[derive(Debug, Clone, Default)]
pub struct Trouble(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    first: Mutex<Option<Cause>>,
    noted: Notify,
}

/// What the disk did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cause {
    /// It gave back something else than was written: the text says what.
    Damage(String),
    /// It failed: the text says at what.
    Failure(String),
}

impl Trouble {
    /// Keeps what went wrong, if something did, and gives the result on.
    ///
    /// # Errors
    /// Those of `result`.
    pub fn note<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &result {
            self.meet(error);
        }
        result
    }

    /// Keeps an error.
    pub fn meet(&self, error: &io::Error) {
        // A snapshot that came out of order is no fault of this disk.
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<StorageError>());
        if matches!(inner, Some(StorageError::BadChunk(_) | StorageError::NewerFormat { .. })) {
            return;
        }
        let text = error.to_string();
        // A file that ends before what was written to it is damage, too.
        let damage = matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof);
        let cause = if damage { Cause::Damage(text) } else { Cause::Failure(text) };
        self.0.first.lock().get_or_insert(cause);
        self.0.noted.notify_one();
    }

    /// What was met first, if anything was.
    pub fn met(&self) -> Option<Cause> {
        self.0.first.lock().clone()
    }

    /// Waits until something is met. May be dropped and called again.
    pub async fn noted(&self) {
        self.0.noted.notified().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_error_of_the_disk_counts_and_damage_is_told_from_failure() {
        let trouble = Trouble::default();
        assert!(trouble.note(Err::<(), _>(StorageError::BadChunk("out of order").into())).is_err());
        assert_eq!(trouble.met(), None);
        let damage = StorageError::damaged(b"k", "bad");
        assert!(trouble.note(Err::<(), _>(damage.into())).is_err());
        assert!(trouble.note(Err::<(), _>(io::Error::other("input/output error"))).is_err());
        assert!(matches!(trouble.met(), Some(Cause::Damage(_))));
    }
}
