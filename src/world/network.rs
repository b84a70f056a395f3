//! Connections.

use std::fmt::Debug;
use std::future::Future;
use std::io;
use std::pin::Pin;

use tokio::io::{AsyncRead, AsyncWrite};

/// A boxed future that may cross threads.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The two halves of an open connection. Dropping both closes it.
pub struct Connection {
    /// What arrives.
    pub reader: Box<dyn AsyncRead + Send + Sync + Unpin>,
    /// What is sent.
    pub writer: Box<dyn AsyncWrite + Send + Sync + Unpin>,
    /// The other end, for logs.
    pub peer: String,
}

/// Opens connections and waits for them.
pub trait Network: Debug + Send + Sync + 'static {
    /// Waits for connections to `address` (`host:port`; port 0 takes a free one).
    ///
    /// # Errors
    /// The system's, with the address in its text.
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>>;

    /// Opens a connection to `address` (`host:port`). The caller sets the deadline.
    ///
    /// # Errors
    /// The system's, with the address in its text.
    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>>;
}

/// A socket that waits for connections.
pub trait Listener: Send + Sync {
    /// The next connection.
    ///
    /// # Errors
    /// The system's; the listener goes on.
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>>;

    /// The address it waits at, with the port that was taken.
    fn address(&self) -> String;
}
