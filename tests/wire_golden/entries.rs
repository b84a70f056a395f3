//! Batches and log entries.

use bytes::{Bytes, BytesMut};
use restante::wire::batch::{Batch, BatchHeader, EntryHeader, decode_entry, encode_entry, take_batch};
use restante::wire::command::Command;
use restante::wire::{Number, Origin, Time, frame};

use crate::{Golden, ID};

fn batch(sequence: u64, commands: &[Command<'_>]) -> Batch {
    let mut frames = BytesMut::new();
    for command in commands {
        command.put(&mut frames, if matches!(command, Command::Send { .. }) { b"\x00x" } else { b"" });
    }
    let origin = Origin { incarnation: 3, boot: 1_700_000_000_000 };
    let header = BatchHeader { origin, sequence, bytes: frames.len() as u32, commands: commands.len() as u32 };
    Batch { header, frames: frames.freeze() }
}

fn examples() -> Vec<(&'static str, Vec<Batch>)> {
    let send = |number| Command::Send { stream: ID, number: Number(number), confirmed: Number(0), to: "bob" };
    let first = batch(1, &[send(1), send(2)]);
    let second = batch(2, &[Command::Tick]);
    vec![
        ("empty", vec![]),
        ("one", vec![first.clone()]),
        ("two", vec![first, second]),
        ("hollow", vec![batch(u64::MAX, &[])]),
    ]
}

#[test]
fn batches_and_entries() {
    let mut golden = Golden::open("entries.hex");
    for (label, batches) in examples() {
        let time = Time(1_700_000_123_456);
        let bytes = golden.check(&format!("entry.{label}"), &encode_entry(time, &batches));
        let (header, decoded) = decode_entry(&bytes).expect("the golden decodes");
        assert_eq!(header, EntryHeader { time, batches: batches.len() as u32 }, "{label}");
        assert_eq!(decoded, batches, "{label}");
        let Some(first) = batches.first() else { continue };
        // As a home server forwards it.
        let mut forwarded = BytesMut::new();
        frame::put(&mut forwarded, restante::wire::peer::FORWARD, &first.header, &first.frames);
        let mut bytes = golden.check(&format!("forward.{label}"), &forwarded);
        let mut payload: Bytes = frame::split_bytes(&mut bytes).expect("a frame").expect("a frame").payload;
        assert_eq!(take_batch(&mut payload).expect("the golden decodes"), *first, "{label}");
        assert!(payload.is_empty(), "{label}");
    }
    golden.finish();
}
