//! Decoding against whoever may be at the other end: any bytes, cut anywhere, with lengths that lie.
//!
//! Nothing panics, and nothing allocates more than a small multiple of the bytes that are really there.
#![expect(unsafe_code, reason = "an allocator that counts is a trait with unsafe methods")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt::Debug;

use bytes::{BufMut as _, Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;
use restante::limits;
use restante::wire::batch::{Batch, BatchHeader, decode_entry, encode_entry, take_batch};
use restante::wire::client::{Reply, Request};
use restante::wire::command::{Command, decode_content, encode_content};
use restante::wire::frame::{self, BadFrame, Frame};
use restante::wire::peer::{Bootstrap, BootstrapReply, Hello, HelloReply};
use restante::wire::{Epoch, Id, Name, Number, Origin, Position, Time};

/// Counts what each thread asks for.
struct Counting;

thread_local! {
    static ALLOCATED: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: everything is handed to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let _ = ALLOCATED.try_with(|count| count.set(count.get() + layout.size()));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let _ = ALLOCATED.try_with(|count| count.set(count.get() + size));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Bytes that this thread asked for while `work` ran, those given back included.
fn allocated<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = ALLOCATED.get();
    let result = work();
    (result, ALLOCATED.get() - before)
}

/// Bytes that decoding `input` bytes may ask for. One byte can stand for an element of a list, which is some words in
/// memory, and a list that grows is asked for twice over; besides there is what an error's text takes.
fn allowance(input: usize) -> usize {
    4096 + input * 400
}

/// Decodes `bytes` as everything that could be meant, and returns what was asked for at most.
fn decode_all(bytes: &[u8]) -> usize {
    fn one<T>(bytes: &[u8], decode: impl FnOnce(&Bytes) -> T) -> usize {
        let bytes = Bytes::copy_from_slice(bytes);
        allocated(|| drop(decode(&bytes))).1
    }
    [
        one(bytes, |b| Command::decode(b).map(drop)),
        one(bytes, decode_content),
        one(bytes, |b| frame::take::<Request>(b).map(drop)),
        one(bytes, |b| frame::take::<Reply>(b).map(drop)),
        one(bytes, |b| frame::take::<Hello>(b).map(drop)),
        one(bytes, |b| frame::take::<HelloReply>(b).map(drop)),
        one(bytes, |b| frame::take::<Bootstrap>(b).map(drop)),
        one(bytes, |b| frame::take::<BootstrapReply>(b).map(drop)),
        one(bytes, decode_entry),
        one(bytes, |b| take_batch(&mut b.clone())),
        one(bytes, |b| frame::split_bytes(&mut b.clone())),
    ]
    .into_iter()
    .max()
    .unwrap_or(0)
}

/// Bytes of a real thing.
fn sample() -> impl Strategy<Value = Vec<u8>> {
    let name = "[A-Za-z0-9._-]{1,64}";
    let post = |value: &dyn Fn(&mut BytesMut)| {
        let mut buffer = BytesMut::new();
        value(&mut buffer);
        buffer.to_vec()
    };
    prop_oneof![
        (any::<u64>(), name, vec(any::<u8>(), 0..200)).prop_map(move |(n, to, content)| post(&|buffer| {
            let send = Command::Send { stream: Id(n), number: Number(n / 2), confirmed: Number(n / 3), to: &to };
            frame::put_postcard(buffer, &send);
            buffer.put_slice(&content);
        })),
        vec(any::<(u64, u64)>(), 0..100).prop_map(move |ranges| post(&|buffer| {
            let ranges = ranges.iter().map(|&(a, b)| (Position(a), Position(b))).collect();
            let (registration, epoch, up_to) = (Id(1), Epoch(1), Position(1));
            frame::put_postcard(buffer, &Command::Acknowledge { registration, epoch, up_to, ranges });
        })),
        entry().prop_map(|(time, batches)| encode_entry(time, &batches).to_vec()),
        (vec((".{0,20}", ".{0,20}"), 0..10), vec(any::<u8>(), 0..100))
            .prop_map(|(headers, body)| encode_content(&headers, &body).to_vec()),
    ]
}

fn batch() -> impl Strategy<Value = Batch> {
    (any::<(u64, u64, u64, u32)>(), vec(any::<u8>(), 0..200)).prop_map(
        |((incarnation, boot, sequence, commands), bytes)| {
            let origin = Origin { incarnation, boot };
            let header = BatchHeader { origin, sequence, bytes: bytes.len() as u32, commands };
            Batch { header, frames: bytes.into() }
        },
    )
}

fn entry() -> impl Strategy<Value = (Time, Vec<Batch>)> {
    (any::<u64>().prop_map(Time), vec(batch(), 0..20))
}

/// Takes frames off `buffer` until it ends or is bad.
fn split_all(buffer: &mut BytesMut, max: usize) -> Result<Vec<Frame>, BadFrame> {
    let mut frames = Vec::new();
    while let Some(frame) = frame::split(buffer, max)? {
        frames.push(frame);
    }
    Ok(frames)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn arbitrary_bytes_neither_panic_nor_allocate(bytes in vec(any::<u8>(), 0..2000)) {
        prop_assert!(decode_all(&bytes) <= allowance(bytes.len()));
    }

    /// Small numbers are valid tags and lengths more often than arbitrary ones.
    #[test]
    fn small_numbers_neither_panic_nor_allocate(bytes in vec(0u8..24, 0..2000)) {
        prop_assert!(decode_all(&bytes) <= allowance(bytes.len()));
    }

    #[test]
    fn what_is_cut_or_changed_neither_panics_nor_allocates(
        bytes in sample(),
        cut in any::<prop::sample::Index>(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let mut changed = bytes;
        for (at, byte) in changes {
            if !changed.is_empty() {
                let at = at.index(changed.len());
                changed[at] = byte;
            }
        }
        prop_assert!(decode_all(&changed) <= allowance(changed.len()));
        changed.truncate(cut.index(changed.len() + 1));
        prop_assert!(decode_all(&changed) <= allowance(changed.len()));
    }

    /// Whatever pieces a stream of frames arrives in, the same frames come out.
    #[test]
    fn frames_survive_being_cut_into_pieces(
        frames in vec((any::<u8>(), vec(any::<u8>(), 0..300)), 0..10),
        piece in 1usize..400,
    ) {
        let mut sent = BytesMut::new();
        for (kind, body) in &frames {
            frame::put(&mut sent, *kind, &(), body);
        }
        let mut whole = sent.clone().freeze();
        let (mut buffer, mut received) = (BytesMut::new(), Vec::new());
        for piece in sent.chunks(piece) {
            buffer.put_slice(piece);
            received.extend(split_all(&mut buffer, 301).unwrap());
        }
        prop_assert!(buffer.is_empty());
        let expected: Vec<_> =
            frames.into_iter().map(|(kind, body)| Frame { kind, payload: Bytes::from(body) }).collect();
        prop_assert_eq!(&received, &expected);
        let mut again = Vec::new();
        while let Some(frame) = frame::split_bytes(&mut whole).unwrap() {
            again.push(frame);
        }
        prop_assert_eq!(again, expected);
    }

    #[test]
    fn any_bytes_as_frames_end_in_frames_or_an_error(bytes in vec(any::<u8>(), 0..200), max in 1usize..100) {
        let mut buffer = BytesMut::from(&bytes[..]);
        if let Ok(frames) = split_all(&mut buffer, max) {
            prop_assert!(frames.iter().all(|frame| frame.payload.len() < max));
            prop_assert!(buffer.len() < 4 + max);
        }
    }

    #[test]
    fn entries_and_batches_come_back((time, batches) in entry()) {
        let encoded = encode_entry(time, &batches);
        let (header, decoded) = decode_entry(&encoded).unwrap();
        prop_assert_eq!(header.time, time);
        prop_assert_eq!(header.batches as usize, batches.len());
        prop_assert_eq!(decoded, batches);
    }

    /// An entry that is cut anywhere is an error, never a shorter entry.
    #[test]
    fn a_cut_entry_is_noticed((time, batches) in entry(), at in any::<prop::sample::Index>()) {
        let encoded = encode_entry(time, &batches);
        prop_assert!(decode_entry(&encoded.slice(..at.index(encoded.len()))).is_err());
    }

    #[test]
    fn contents_come_back(headers in vec((".{0,20}", ".{0,20}"), 0..10), body in vec(any::<u8>(), 0..200)) {
        let (decoded, rest) = decode_content(&encode_content(&headers, &body)).unwrap();
        prop_assert_eq!((decoded, &rest[..]), (headers, &body[..]));
    }

    #[test]
    fn names_are_what_they_say(text in prop_oneof!["[A-Za-z0-9._-]{0,70}", ".{0,70}"]) {
        let plain = |c: char| c.is_ascii_alphanumeric() || ".-_".contains(c);
        let good = !text.is_empty() && text.len() <= 64 && text.chars().all(plain);
        prop_assert_eq!(Name::new(&text).is_ok(), good);
        prop_assert_eq!(Name::is_valid(&text), good);
        // A name from the wire is checked like one from a person.
        let mut encoded = BytesMut::new();
        frame::put_postcard(&mut encoded, text.as_str());
        let decoded = frame::take::<Name>(&encoded);
        prop_assert_eq!(decoded.is_ok(), good);
        if let Ok((name, _)) = decoded {
            prop_assert_eq!(name.as_str(), text.as_str());
        }
    }
}

#[test]
fn a_length_that_is_too_large_is_refused_before_anything_is_allocated() {
    for (length, max) in
        [(u32::MAX, limits::PEER_FRAME_BYTES_MAX), (0x8000_0000, limits::CLIENT_FRAME_BYTES_MAX), (11, 10)]
    {
        let mut buffer = BytesMut::from(&length.to_le_bytes()[..]);
        let (refused, bytes) = allocated(|| frame::split(&mut buffer, max));
        assert_eq!(refused, Err(BadFrame::TooLarge { bytes: length as usize, max }));
        assert_eq!(bytes, 0);
    }
    let mut buffer = BytesMut::from(&[0, 0, 0, 0, 1][..]);
    assert_eq!(frame::split(&mut buffer, 10), Err(BadFrame::Empty));
}

/// A list's length is the sender's word. What is set aside for it must not be.
#[test]
fn lengths_of_lists_that_lie_allocate_nothing() {
    fn check<T: Debug>(what: &str, bytes: &[u8], decode: impl Fn(&Bytes) -> Result<T, String>) {
        let bytes = Bytes::copy_from_slice(bytes);
        let (decoded, asked) = allocated(|| decode(&bytes));
        assert!(decoded.is_err(), "{what}: {decoded:?}");
        assert!(asked <= allowance(bytes.len()), "{what}: {asked} bytes were asked for");
    }
    fn text(error: impl std::fmt::Display) -> String {
        error.to_string()
    }
    // 2^32 - 1 and 2^60 as postcard writes them.
    for huge in [&[0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10]] {
        let with = |front: &[u8]| [front, huge, &[1; 32]].concat();
        check("an acknowledgement's ranges", &with(&[1, 1, 1, 1]), |b| Command::decode(b).map(drop).map_err(text));
        check("a send's recipient", &with(&[0, 1, 1, 1]), |b| Command::decode(b).map(drop).map_err(text));
        check("headers", &with(&[]), |b| decode_content(b).map_err(text));
        check("a header's name", &with(&[1]), |b| decode_content(b).map_err(text));
        check("outcomes", &with(&[6, 1, 1]), |b| frame::take::<Reply>(b).map(drop).map_err(text));
        check("deliveries", &with(&[10, 1, 1]), |b| frame::take::<Reply>(b).map(drop).map_err(text));
        check("an agent", &with(&[0, 1, 0]), |b| frame::take::<Request>(b).map(drop).map_err(text));
        check("an entry's batches", &with(&[1]), |b| decode_entry(b).map(drop).map_err(text));
        check("a batch's bytes", &with(&[1, 1, 1]), |b| take_batch(&mut b.clone()).map(drop).map_err(text));
    }
}
