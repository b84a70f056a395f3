//! A client's connection frame by frame, to say what the library would never say.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use restante::wire::client::{REPLY_KIND, REQUEST_KIND, Reply, Request};
use restante::wire::command::{self, Command, Headers};
use restante::wire::types::Refusal;
use restante::wire::{CLIENT_MAGIC, CLIENT_VERSION, Epoch, Nonce, Number, Position, RegistrationId, StreamId, frame};

use super::PATIENCE;

/// See the module.
pub struct Raw {
    address: String,
    stream: TcpStream,
    buffer: BytesMut,
    nonce: Nonce,
}

impl Raw {
    /// A connection on which nothing was said.
    pub fn silent(address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the server accepts connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        Self {
            address: address.to_owned(),
            stream,
            buffer: BytesMut::new(),
            nonce: u128::from(rand::random::<u64>()) << 64,
        }
    }

    /// A connection that was welcomed by a server that serves.
    #[track_caller]
    pub fn welcome(address: &str) -> Self {
        let mut raw = Self::silent(address);
        assert!(raw.greet(), "{address} does not serve");
        raw
    }

    /// Another connection to the same server, as soon as it serves.
    #[track_caller]
    fn welcome_again(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            *self = Self::silent(&self.address);
            if self.greet() {
                return;
            }
            assert!(Instant::now() < deadline, "{} does not serve again", self.address);
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Says Hello, and whether that was welcome.
    #[track_caller]
    pub fn greet(&mut self) -> bool {
        self.write(&CLIENT_MAGIC);
        self.request(&Request::Hello { version: CLIENT_VERSION, cluster: None, agent: "raw".to_owned() });
        matches!(self.reply(), Some((Reply::Welcome { cluster: Some(_), .. }, _)))
    }

    /// Bytes as they are. The server may have closed the connection already.
    pub fn write(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            let gone = matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
            assert!(gone, "cannot write: {error}");
        }
    }

    /// A request.
    pub fn request(&mut self, request: &Request) {
        let mut bytes = BytesMut::new();
        frame::put(&mut bytes, REQUEST_KIND, request, &[]);
        self.write(&bytes);
    }

    /// A command, with a content behind it.
    pub fn command(&mut self, command: &Command<'_>, content: &[u8]) {
        let mut bytes = BytesMut::new();
        frame::put(&mut bytes, command::KIND, command, content);
        self.write(&bytes);
    }

    /// A send.
    pub fn send(&mut self, stream: StreamId, number: u64, to: &str, body: &[u8]) {
        let content = command::encode_content(&Headers::new(), body);
        self.command(&Command::Send { stream, number: Number(number), confirmed: Number(0), to }, &content);
    }

    /// A nonce of its own.
    pub fn nonce(&mut self) -> Nonce {
        self.nonce += 1;
        self.nonce
    }

    /// No more will be written.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("it can be closed");
    }

    /// The next reply and what is behind it; `None` if the server has closed the connection.
    #[track_caller]
    pub fn reply(&mut self) -> Option<(Reply, Bytes)> {
        loop {
            if let Some(frame) = frame::split(&mut self.buffer, usize::MAX).expect("servers write whole frames") {
                assert_eq!(frame.kind, REPLY_KIND);
                let (reply, rest) = frame::take::<Reply>(&frame.payload).expect("servers write replies");
                let rest = frame.payload.slice_ref(rest);
                return Some((reply, rest));
            }
            let mut bytes = [0; 64 << 10];
            match self.stream.read(&mut bytes) {
                Ok(0) => return None,
                Ok(read) => self.buffer.extend_from_slice(&bytes[..read]),
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("waited {PATIENCE:?} in vain for a reply: {error}"),
            }
        }
    }

    /// The next reply that `wanted` wants; others are skipped.
    #[track_caller]
    pub fn until<T>(&mut self, what: &str, wanted: impl FnMut(&Reply, &Bytes) -> Option<T>) -> T {
        match self.unless_moved(wanted) {
            Ok(found) => found,
            Err(last) => panic!("the server closed the connection before {what}; it said last {last:?}"),
        }
    }

    /// The next reply that `wanted` wants, or the last one before the server closed the connection, as it does when it
    /// sends its clients elsewhere.
    #[track_caller]
    pub fn unless_moved<T>(&mut self, mut wanted: impl FnMut(&Reply, &Bytes) -> Option<T>) -> Result<T, Option<Reply>> {
        let mut last = None;
        while let Some((reply, rest)) = self.reply() {
            if let Some(found) = wanted(&reply, &rest) {
                return Ok(found);
            }
            last = Some(reply);
        }
        Err(last)
    }

    /// Registers a name.
    #[track_caller]
    pub fn register(&mut self, name: &str, home: &str) -> RegistrationId {
        let nonce = self.nonce();
        self.answer("a registration", &Command::Register { nonce, name, home }, &[], |reply| match reply {
            Reply::Registered { nonce: n, registration } if *n == nonce => Some(*registration),
            _ => None,
        })
    }

    /// Opens a stream.
    #[track_caller]
    pub fn open_stream(&mut self, name: &str) -> StreamId {
        let nonce = self.nonce();
        self.answer("a stream", &Command::OpenStream { nonce, name }, &[], |reply| match reply {
            Reply::StreamOpened { nonce: n, stream, .. } if *n == nonce => Some(*stream),
            _ => None,
        })
    }

    /// Becomes the reader of an inbox.
    #[track_caller]
    pub fn attach(
        &mut self,
        name: &str,
        home: &str,
        expected: Epoch,
        window: u32,
    ) -> (RegistrationId, Epoch, Position) {
        let nonce = self.nonce();
        let command = Command::Attach { nonce, name, home, expected, resumes: None, window };
        self.answer("an attachment", &command, &[], |reply| match reply {
            Reply::Attached { nonce: n, registration, epoch, acknowledged } if *n == nonce => {
                Some((*registration, *epoch, *acknowledged))
            }
            _ => None,
        })
    }

    /// The reply to a command that `wanted` wants. The command is given again, as it is, after the server has sent everybody
    /// away, as it does between two leaders.
    #[track_caller]
    pub fn answer<T>(
        &mut self,
        what: &str,
        command: &Command<'_>,
        content: &[u8],
        mut wanted: impl FnMut(&Reply) -> Option<T>,
    ) -> T {
        loop {
            self.command(command, content);
            match self.unless_moved(|reply, _| wanted(reply)) {
                Ok(found) => return found,
                Err(Some(Reply::Move { reason: Refusal::NoLeader })) => self.welcome_again(),
                Err(last) => panic!("the server closed the connection before {what}; it said last {last:?}"),
            }
        }
    }
}
