//! From bytes to frames, and from what one end wrote to what the other end read.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;
use restante::wire::frame;

use super::{Interpreter, Message, Recorded, Said, Sort};
use crate::history::SendKey;

/// No frame of ours is larger; one that claims to be is none.
const FRAME_BYTES_MAX: usize = 64 << 20;
/// How much of the first line is shown of what is not made of frames.
const LINE_BYTES_MAX: usize = 120;

/// All connections, by their labels.
#[derive(Debug, Default)]
pub(super) struct Wires(BTreeMap<Arc<str>, Wire>);

#[derive(Debug, Default)]
struct Wire {
    /// What whoever opened it writes, and the other direction.
    out: Direction,
    back: Direction,
    form: Form,
}

/// What a connection's bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Form {
    /// Too few bytes have been written.
    #[default]
    Unknown,
    Frames,
    Raw,
}

#[derive(Debug, Default)]
struct Direction {
    buffer: BytesMut,
    /// How many bytes are out of the buffer already.
    taken: u64,
    /// Messages that have not been read: where each ends, and which.
    waiting: VecDeque<(u64, usize)>,
}

/// `client:port>server:port`: the two hosts.
fn ends(connection: &str) -> Option<(&str, &str)> {
    let (one, other) = connection.split_once('>')?;
    Some((one.rsplit_once(':')?.0, other.rsplit_once(':')?.0))
}

impl Wires {
    /// Notes what was read, and that a connection begins.
    pub(super) fn see(&mut self, ordinal: u64, event: &Recorded, messages: &mut [Message]) {
        match &*event.kind {
            // Ports are used again only when all have been.
            "net.connected" => drop(self.0.insert(event.subject.clone(), Wire::default())),
            "net.read" => {
                let (Some(offset), Some(bytes)) = (event.field("offset"), event.field("bytes")) else { return };
                let Some(wire) = self.0.get_mut(&event.subject) else { return };
                let Some((opener, _)) = ends(&event.subject) else { return };
                let direction = if *opener == *event.host { &mut wire.back } else { &mut wire.out };
                while let Some((_, message)) = direction.waiting.pop_front_if(|(end, _)| *end <= offset + bytes) {
                    if let Some(message) = messages.get_mut(message) {
                        message.read = Some((event.at, ordinal));
                    }
                }
            }
            _ => {}
        }
    }

    /// Takes the messages out of what `from` wrote; `found` keeps one and says which it is.
    pub(super) fn written(
        &mut self,
        from: &str,
        connection: &Arc<str>,
        bytes: &[u8],
        interpreter: &mut dyn Interpreter,
        mut found: impl FnMut(&str, u64, u64, Said) -> usize,
    ) {
        let Some((opener, other)) = ends(connection) else { return };
        let is_opener = from == opener;
        let to = if is_opener { other } else { opener };
        let Wire { out, back, form } = self.0.entry(connection.clone()).or_default();
        let direction = if is_opener { out } else { back };
        direction.buffer.extend_from_slice(bytes);
        if *form == Form::Unknown && is_opener {
            let Some(first) = direction.buffer.first_chunk::<4>() else { return };
            match interpreter.prelude(first) {
                Some(skip) => {
                    *form = Form::Frames;
                    let _ = direction.buffer.split_to(skip.min(4));
                    direction.taken += skip.min(4) as u64;
                }
                None => *form = Form::Raw,
            }
        }
        if *form == Form::Frames {
            loop {
                let before = direction.buffer.len();
                match frame::split(&mut direction.buffer, FRAME_BYTES_MAX) {
                    Ok(None) => break,
                    Ok(Some(frame)) => {
                        let taken = (before - direction.buffer.len()) as u64;
                        let said = interpreter.said(connection, is_opener, &frame);
                        direction.keep(taken, |offset, bytes| found(to, offset, bytes, said));
                    }
                    Err(_) => {
                        *form = Form::Raw;
                        break;
                    }
                }
            }
        }
        if *form == Form::Raw && !direction.buffer.is_empty() {
            let bytes = direction.buffer.split();
            let said = raw(&bytes);
            direction.keep(bytes.len() as u64, |offset, bytes| found(to, offset, bytes, said));
        }
    }
}

impl Direction {
    fn keep(&mut self, bytes: u64, found: impl FnOnce(u64, u64) -> usize) {
        let message = found(self.taken, bytes);
        self.taken += bytes;
        self.waiting.push_back((self.taken, message));
    }
}

/// HTTP, mostly: the first line, and the send that the body tells.
fn raw(bytes: &[u8]) -> Said {
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
    let text = String::from_utf8_lossy(&line[..line.len().min(LINE_BYTES_MAX)]).into_owned();
    let body = bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| &bytes[at + 4..]);
    let sends = body.and_then(|body| SendKey::of_body(body).0).into_iter().collect();
    Said { sort: Sort::Client, text, sends }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Recorder;
    use super::*;
    use crate::trace::Event;

    struct Sizes;

    impl Interpreter for Sizes {
        fn prelude(&self, first: &[u8; 4]) -> Option<usize> {
            (first == b"RSTC").then_some(4)
        }
        fn said(&mut self, _: &str, opener: bool, frame: &frame::Frame) -> Said {
            Said::new(Sort::Other, format!("{opener} {}", frame.payload.len()))
        }
    }

    const LABEL: &str = "client1:49153>a:8080";

    fn at(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn frames(bytes: &mut Vec<u8>, lengths: &[u32]) {
        for length in lengths {
            bytes.extend((length + 1).to_le_bytes());
            bytes.extend(vec![7; *length as usize + 1]);
        }
    }

    fn write(recorder: &Recorder, ms: u64, host: &str, offset: u64, bytes: &[u8]) {
        recorder.write(at(ms), host, LABEL, bytes);
        let fields = [("offset", offset), ("bytes", bytes.len() as u64)];
        recorder.add(at(ms), host, &Event::new("net.write", LABEL, &fields));
    }

    fn read(recorder: &Recorder, ms: u64, host: &str, offset: u64, bytes: u64) {
        let fields = [("offset", offset), ("bytes", bytes)];
        recorder.add(at(ms), host, &Event::new("net.read", LABEL, &fields));
    }

    #[test]
    fn a_message_is_sent_with_its_last_byte_and_read_with_it_or_lost() {
        let recorder = Recorder::new(Box::new(Sizes));
        recorder.add(at(0), "client1", &Event::new("net.connected", LABEL, &[]));
        let mut bytes = b"RSTC".to_vec();
        frames(&mut bytes, &[10, 20, 30]);
        let ends = [4 + 15, 4 + 15 + 25, 4 + 15 + 25 + 35];
        assert_eq!(bytes.len(), ends[2]);
        // The second one is written in two pieces, and the third is never read.
        write(&recorder, 1, "client1", 0, &bytes[..30]);
        write(&recorder, 2, "client1", 30, &bytes[30..]);
        read(&recorder, 5, "a", 0, ends[0] as u64 + 1);
        let mut answer = Vec::new();
        frames(&mut answer, &[1]);
        write(&recorder, 6, "a", 0, &answer);
        read(&recorder, 7, "a", ends[0] as u64 + 1, 24);
        read(&recorder, 9, "client1", 0, 6);
        let seen: Vec<_> = recorder
            .take()
            .messages
            .iter()
            .map(|m| (m.from.to_string(), m.to.to_string(), m.said.text.clone(), m.sent, m.written, m.read))
            .collect();
        let row = |from: &str, to: &str, text: &str, sent, written, read: Option<(u64, u64)>| {
            (from.into(), to.into(), text.to_owned(), at(sent), written, read.map(|(ms, ordinal)| (at(ms), ordinal)))
        };
        assert_eq!(
            seen,
            [
                row("client1", "a", "true 10", 1, 2, Some((5, 4))),
                row("client1", "a", "true 20", 2, 3, Some((7, 6))),
                row("client1", "a", "true 30", 2, 3, None),
                row("a", "client1", "false 1", 6, 5, Some((9, 7))),
            ]
        );
    }

    #[test]
    fn what_is_not_made_of_frames_is_told_by_its_first_line() {
        let recorder = Recorder::new(Box::new(Sizes));
        let (body, _) = SendKey { sender: "client1".into(), stream: 2, number: 3 }.body(40);
        let request = [b"PUT /streams/7/3 HTTP/1.1\r\nhost: a\r\n\r\n", &body[..]].concat();
        write(&recorder, 1, "client1", 0, &request);
        write(&recorder, 2, "a", 0, b"HTTP/1.1 200 OK\r\n\r\n");
        let record = recorder.take();
        assert_eq!(record.messages[0].said.text, "PUT /streams/7/3 HTTP/1.1");
        assert_eq!(record.messages[0].said.sends[0].to_string(), "client1.2.3");
        assert_eq!(record.messages[1].said.text, "HTTP/1.1 200 OK");
    }
}
