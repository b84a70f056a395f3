//! A plain HTTP client, written by hand: it shares nothing with the servers' own code.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};

use serde_json::Value;

use super::PATIENCE;

/// One connection.
pub struct Http {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// One answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body, as text.
    pub text: String,
}

impl Response {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"), "{self:?}");
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// Asserts the status, and returns the body as JSON.
    #[track_caller]
    pub fn is(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        self.json()
    }

    /// Asserts status and message.
    #[track_caller]
    pub fn says(&self, status: u16, message: &str) {
        assert_eq!(self.is(status)["message"], message, "{self:?}");
    }
}

impl Http {
    /// Connects.
    pub fn connect(address: &str) -> Self {
        Self::try_connect(address).expect("the server listens")
    }

    /// Connects, if somebody listens there.
    pub fn try_connect(address: &str) -> Option<Self> {
        let stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.set_nodelay(true).expect("no delay");
        Some(Self { stream, buffer: Vec::new() })
    }

    /// Writes bytes as they are. A server that has closed the connection is no error here.
    pub fn write(&mut self, bytes: &[u8]) {
        if let Err(error) = self.stream.write_all(bytes) {
            let gone = matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset);
            assert!(gone, "cannot write: {error}");
        }
    }

    /// The connection, of which nothing was read yet.
    pub fn into_stream(self) -> TcpStream {
        assert!(self.buffer.is_empty(), "something was read");
        self.stream
    }

    /// No more will be written.
    pub fn half_close(&self) {
        self.stream.shutdown(Shutdown::Write).expect("it can be closed");
    }

    /// Sends a request with a JSON body, or none.
    pub fn send(&mut self, method: &str, target: &str, body: Option<&str>) {
        let mut text = format!("{method} {target} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
        if let Some(body) = body {
            text += &format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        } else {
            text += "\r\n";
        }
        self.write(text.as_bytes());
    }

    /// Sends a request and reads the answer.
    #[track_caller]
    pub fn ask(&mut self, method: &str, target: &str, body: Option<&str>) -> Response {
        self.send(method, target, body);
        self.read(method != "HEAD").expect("an answer")
    }

    /// Posts JSON.
    #[track_caller]
    pub fn post(&mut self, target: &str, body: &Value) -> Response {
        self.ask("POST", target, Some(&body.to_string()))
    }

    /// The next answer; `None` if the server has closed the connection.
    #[track_caller]
    pub fn read(&mut self, has_body: bool) -> Option<Response> {
        let head = loop {
            if let Some(end) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                let head: Vec<u8> = self.buffer.drain(..end + 4).collect();
                let head = String::from_utf8(head).expect("a head is text");
                if head.starts_with("HTTP/1.1 100 ") {
                    continue;
                }
                break head;
            }
            if !self.fill() {
                assert!(self.buffer.is_empty(), "an answer is cut off: {:?}", String::from_utf8_lossy(&self.buffer));
                return None;
            }
        };
        let mut lines = head.lines();
        let first = lines.next().unwrap_or_default();
        let status = first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status: {first:?}"));
        let header = |line: &str| line.split_once(": ").map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        let headers: Vec<(String, String)> = lines.filter_map(header).collect();
        let mut response = Response { status, headers, text: String::new() };
        let length: usize = response.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
        if has_body {
            while self.buffer.len() < length {
                assert!(self.fill(), "a body is cut off");
            }
            response.text = String::from_utf8(self.buffer.drain(..length).collect()).expect("a body is text");
        }
        Some(response)
    }

    /// Whether the server has closed the connection, and sent nothing more.
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        self.buffer.is_empty() && !self.fill()
    }

    /// Waits until something arrives, and leaves it there.
    #[track_caller]
    pub fn wait(&self) {
        self.stream.peek(&mut [0]).expect("something arrives");
    }

    fn fill(&mut self) -> bool {
        let mut bytes = [0; 64 << 10];
        match self.stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(read) => {
                self.buffer.extend_from_slice(&bytes[..read]);
                true
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("waited {PATIENCE:?} in vain for an answer: {error}"),
        }
    }
}

/// One request on a connection of its own.
#[track_caller]
pub fn ask(address: &str, method: &str, target: &str, body: Option<&str>) -> Response {
    Http::connect(address).ask(method, target, body)
}

/// Posts JSON on a connection of its own.
#[track_caller]
pub fn post(address: &str, target: &str, body: &Value) -> Response {
    Http::connect(address).post(target, body)
}
