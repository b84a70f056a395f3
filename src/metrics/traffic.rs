//! Bytes of connections, by who is at their other end. It wraps a server's network, so that nothing else has to count.

use std::collections::BTreeMap;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::limits::SERVERS_MAX;
use crate::world::{BoxFuture, Connection, Listener, Network};

/// Addresses that are counted apart. There are no more servers than half of it; the rest were servers once.
const ADDRESSES_MAX: usize = 2 * SERVERS_MAX;

/// What went to and fro over some connections.
#[derive(Debug, Default)]
pub struct Bytes {
    received: AtomicU64,
    sent: AtomicU64,
}

impl Bytes {
    /// Bytes received.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Bytes sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }
}

/// The traffic of one server.
#[derive(Debug, Default)]
pub struct Traffic {
    accepted: Arc<Bytes>,
    opened: Mutex<BTreeMap<String, Arc<Bytes>>>,
}

impl Traffic {
    /// Of connections that others opened: clients, HTTP, and other servers.
    pub fn accepted(&self) -> &Bytes {
        &self.accepted
    }

    /// Of connections that this server opened to others, by their addresses, ascending.
    pub fn opened(&self) -> Vec<(String, Arc<Bytes>)> {
        self.opened.lock().iter().map(|(address, bytes)| (address.clone(), bytes.clone())).collect()
    }

    fn to(&self, address: &str) -> Arc<Bytes> {
        let mut opened = self.opened.lock();
        if let Some(known) = opened.get(address) {
            return known.clone();
        }
        let key = if opened.len() < ADDRESSES_MAX { address } else { "others" };
        opened.entry(key.to_owned()).or_default().clone()
    }
}

/// A network whose traffic is counted.
#[derive(Debug)]
pub struct Counted {
    network: Arc<dyn Network>,
    traffic: Arc<Traffic>,
}

impl Counted {
    /// Counts what goes through `network`.
    pub fn new(network: Arc<dyn Network>, traffic: Arc<Traffic>) -> Self {
        Self { network, traffic }
    }
}

impl Network for Counted {
    fn listen<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Box<dyn Listener>>> {
        Box::pin(async move {
            let listener = self.network.listen(address).await?;
            let bytes = self.traffic.accepted.clone();
            Ok(Box::new(CountedListener { listener, bytes }) as Box<dyn Listener>)
        })
    }

    fn connect<'a>(&'a self, address: &'a str) -> BoxFuture<'a, io::Result<Connection>> {
        Box::pin(async move { Ok(counted(self.network.connect(address).await?, &self.traffic.to(address))) })
    }
}

struct CountedListener {
    listener: Box<dyn Listener>,
    bytes: Arc<Bytes>,
}

impl Listener for CountedListener {
    fn accept(&mut self) -> BoxFuture<'_, io::Result<Connection>> {
        Box::pin(async move { Ok(counted(self.listener.accept().await?, &self.bytes)) })
    }

    fn address(&self) -> String {
        self.listener.address()
    }
}

fn counted(connection: Connection, bytes: &Arc<Bytes>) -> Connection {
    let Connection { reader, writer, peer } = connection;
    let reader = Box::new(CountedHalf { half: reader, bytes: bytes.clone() });
    let writer = Box::new(CountedHalf { half: writer, bytes: bytes.clone() });
    Connection { reader, writer, peer }
}

struct CountedHalf<H> {
    half: H,
    bytes: Arc<Bytes>,
}

impl<H: AsyncRead + Unpin> AsyncRead for CountedHalf<H> {
    fn poll_read(mut self: Pin<&mut Self>, task: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.half).poll_read(task, buffer);
        let read = buffer.filled().len() - before;
        if read > 0 {
            self.bytes.received.fetch_add(read as u64, Ordering::Relaxed);
        }
        polled
    }
}

impl<H: AsyncWrite + Unpin> CountedHalf<H> {
    fn wrote(&self, polled: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(written)) = &polled {
            self.bytes.sent.fetch_add(*written as u64, Ordering::Relaxed);
        }
        polled
    }
}

impl<H: AsyncWrite + Unpin> AsyncWrite for CountedHalf<H> {
    fn poll_write(mut self: Pin<&mut Self>, task: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.half).poll_write(task, bytes);
        self.wrote(polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.half).poll_write_vectored(task, bytes);
        self.wrote(polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.half.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.half).poll_shutdown(task)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn what_is_read_and_written_is_counted() {
        let bytes = Arc::new(Bytes::default());
        let (near, mut far) = tokio::io::duplex(64);
        let (reader, writer) = tokio::io::split(near);
        let connection = Connection { reader: Box::new(reader), writer: Box::new(writer), peer: "far".to_owned() };
        let mut connection = counted(connection, &bytes);
        connection.writer.write_all(b"twelve bytes").await.unwrap();
        far.write_all(b"four").await.unwrap();
        connection.reader.read_exact(&mut [0; 4]).await.unwrap();
        assert_eq!((bytes.sent(), bytes.received()), (12, 4));
    }

    #[test]
    fn addresses_are_counted_apart_and_bounded() {
        let traffic = Traffic::default();
        for port in 0..3 * ADDRESSES_MAX {
            traffic.to(&format!("a:{port}"));
        }
        assert_eq!(traffic.opened().len(), ADDRESSES_MAX + 1);
        assert!(Arc::ptr_eq(&traffic.to("a:0"), &traffic.to("a:0")));
    }
}
