//! What may not be: malformed commands, and what the quotas forbid.

use crate::limits;
use crate::wire::command::{self, Command};
use crate::wire::sharing::Target;
use crate::wire::{Quotas, frame};

/// Streams that one tick looks at, so that one entry's work is bounded. If more are due, the next tick is due at once.
pub(super) const TICK_STREAMS_MAX: usize = 1024;

/// Clients that one command moves away from a server that is down, so that one entry's work is bounded.
pub(super) const MOVED_CLIENTS_MAX: usize = 1024;

/// Acknowledged places that may stand between the first waiting message and the end of an inbox, beyond its quota of
/// messages. A reader that acknowledges everything but one message for ever must not make the inbox grow for ever.
const HOLES_MAX: u64 = limits::READER_WINDOW_MAX as u64;

/// A command that no server forwards; applying skips it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct MalformedCommand(pub &'static str);

/// Decodes a frame's command and its content, and checks everything that does not hang on the state. Servers call it
/// before they forward a frame, and applying calls it again, so that both agree on what is malformed.
///
/// # Errors
/// [`MalformedCommand`] says what is wrong.
pub fn check_command(kind: u8, payload: &[u8]) -> Result<(Command<'_>, &[u8]), MalformedCommand> {
    if kind != command::KIND {
        return Err(MalformedCommand("the frame is no command"));
    }
    let (command, content) =
        frame::take::<Command<'_>>(payload).map_err(|_| MalformedCommand("the command does not decode"))?;
    match &command {
        Command::Send { .. } if content.len() > limits::CONTENT_BYTES_MAX => {
            return Err(MalformedCommand("the content is larger than allowed"));
        }
        Command::Send { .. } => return Ok((command, content)),
        Command::Post { to, .. } => {
            if content.len() > limits::CONTENT_BYTES_MAX {
                return Err(MalformedCommand("the content is larger than allowed"));
            }
            if let Target::Clients(clients) = to
                && (clients.is_empty() || clients.len() > limits::RECIPIENTS_MAX)
            {
                return Err(MalformedCommand("a send names no recipients, or more than allowed"));
            }
            return Ok((command, content));
        }
        Command::Acknowledge { up_to, ranges, .. } | Command::AcknowledgeApart { up_to, ranges, .. } => {
            if ranges.len() > limits::ACKNOWLEDGE_RANGES_MAX {
                return Err(MalformedCommand("an acknowledgement has more ranges than allowed"));
            }
            let mut below = *up_to;
            for (from, to) in ranges {
                if *from <= below || to < from {
                    return Err(MalformedCommand("an acknowledgement's ranges are not ascending and apart"));
                }
                below = *to;
            }
        }
        _ => {}
    }
    if content.is_empty() { Ok((command, content)) } else { Err(MalformedCommand("bytes are left behind the command")) }
}

/// Whether an inbox of `waiting` messages and `waiting_bytes` that spans `span` places has no room for `bytes` more.
pub(super) fn inbox_is_full(quotas: &Quotas, waiting: u64, waiting_bytes: u64, span: u64, bytes: u32) -> bool {
    waiting >= quotas.inbox_messages
        || waiting_bytes.saturating_add(u64::from(bytes)) > quotas.inbox_bytes
        || span >= quotas.inbox_messages.saturating_add(HOLES_MAX)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;

    use super::*;
    use crate::wire::{Epoch, Id, Nonce, Number, Position};

    fn payload(command: &Command<'_>, content: &[u8]) -> Vec<u8> {
        let mut buffer = BytesMut::new();
        command.put(&mut buffer, content);
        buffer[frame::HEADER_BYTES..].to_vec()
    }

    fn acknowledge(up_to: u64, ranges: &[(u64, u64)]) -> Vec<u8> {
        let ranges = ranges.iter().map(|(a, b)| (Position(*a), Position(*b))).collect();
        let command = Command::Acknowledge { registration: Id(1), epoch: Epoch(1), up_to: Position(up_to), ranges };
        payload(&command, b"")
    }

    fn reason(payload: &[u8]) -> Option<&'static str> {
        check_command(command::KIND, payload).err().map(|e| e.0)
    }

    #[test]
    fn ranges_ascend_and_are_apart() {
        assert_eq!(reason(&acknowledge(3, &[(4, 4), (6, 9)])), None);
        for bad in [&[(3, 4)][..], &[(5, 4)], &[(5, 6), (6, 7)], &[(8, 9), (4, 5)]] {
            assert!(reason(&acknowledge(3, bad)).is_some(), "{bad:?}");
        }
        let most: Vec<_> = (0..limits::ACKNOWLEDGE_RANGES_MAX as u64).map(|i| (i * 2 + 1, i * 2 + 1)).collect();
        assert_eq!(reason(&acknowledge(0, &most)), None);
        let more: Vec<_> = (0..=limits::ACKNOWLEDGE_RANGES_MAX as u64).map(|i| (i * 2 + 1, i * 2 + 1)).collect();
        assert!(reason(&acknowledge(0, &more)).is_some());
    }

    #[test]
    fn only_sends_have_content_and_it_is_bounded() {
        let send = Command::Send { stream: Id(1), number: Number(1), confirmed: Number(0), to: "b" };
        assert_eq!(reason(&payload(&send, &vec![0; limits::CONTENT_BYTES_MAX])), None);
        assert!(reason(&payload(&send, &vec![0; limits::CONTENT_BYTES_MAX + 1])).is_some());
        let close = Command::CloseStream { nonce: 1 as Nonce, stream: Id(1) };
        assert_eq!(reason(&payload(&close, b"")), None);
        assert!(reason(&payload(&close, b"x")).is_some());
        assert!(check_command(command::KIND + 1, &payload(&close, b"")).is_err());
        assert!(reason(b"\xff\xff").is_some());
    }

    #[test]
    fn an_inbox_is_full_by_messages_bytes_or_holes() {
        let quotas = Quotas { inbox_messages: 2, inbox_bytes: 10, ..Quotas::default() };
        assert!(!inbox_is_full(&quotas, 1, 5, 1, 5));
        assert!(inbox_is_full(&quotas, 2, 2, 2, 0));
        assert!(inbox_is_full(&quotas, 1, 5, 1, 6));
        assert!(!inbox_is_full(&quotas, 1, 0, HOLES_MAX + 1, 0));
        assert!(inbox_is_full(&quotas, 1, 0, HOLES_MAX + 2, 0));
    }
}
