//! How fast frames, batches and entries are made and taken apart, on one core.
//!
//! `cargo bench --bench wire`. Every sample works through 1,024 sends of 256 bytes.

use bytes::{Bytes, BytesMut};
use divan::Bencher;
use divan::counter::{BytesCount, ItemsCount};
use restante::wire::batch::{Batch, BatchHeader, decode_entry, encode_entry};
use restante::wire::client::{Delivery, REPLY_KIND, Reply};
use restante::wire::command::{Command, encode_content};
use restante::wire::{Epoch, Id, Name, Number, Origin, Position, Time, frame};

const SENDS: usize = 1024;

fn main() {
    divan::main();
}

fn frames() -> Bytes {
    let content = encode_content(&Vec::new(), &[0; 256]);
    let mut frames = BytesMut::new();
    for number in 1..=SENDS as u64 {
        let send =
            Command::Send { stream: Id(1 << 16), number: Number(number), confirmed: Number(0), to: "recipient-1" };
        send.put(&mut frames, &content);
    }
    frames.freeze()
}

fn batches(frames: &Bytes) -> Vec<Batch> {
    let header = BatchHeader {
        origin: Origin { incarnation: 1, boot: 1 },
        sequence: 1,
        bytes: frames.len() as u32,
        commands: SENDS as u32,
    };
    vec![Batch { header, frames: frames.clone() }]
}

#[divan::bench]
fn put_sends(bencher: Bencher<'_, '_>) {
    let content = encode_content(&Vec::new(), &[0; 256]);
    bencher.counter(ItemsCount::new(SENDS)).with_inputs(|| BytesMut::with_capacity(1 << 20)).bench_values(
        |mut buffer| {
            for number in 1..=SENDS as u64 {
                let send = Command::Send {
                    stream: Id(1 << 16),
                    number: Number(number),
                    confirmed: Number(0),
                    to: "recipient-1",
                };
                send.put(&mut buffer, &content);
            }
            buffer
        },
    );
}

#[divan::bench]
fn split_and_decode_sends(bencher: Bencher<'_, '_>) {
    let frames = frames();
    bencher.counter(ItemsCount::new(SENDS)).bench(|| {
        let mut rest = frames.clone();
        let mut sends = 0;
        while let Ok(Some(next)) = frame::split_bytes(&mut rest) {
            let decoded = Command::decode(&next.payload);
            sends += usize::from(matches!(decoded, Ok((Command::Send { .. }, _))));
        }
        assert_eq!(sends, SENDS);
    });
}

#[divan::bench]
fn encode_an_entry(bencher: Bencher<'_, '_>) {
    let frames = frames();
    let batches = batches(&frames);
    bencher.counter(BytesCount::new(frames.len())).bench(|| encode_entry(Time(1), &batches));
}

#[divan::bench]
fn decode_an_entry(bencher: Bencher<'_, '_>) {
    let entry = encode_entry(Time(1), &batches(&frames()));
    bencher.counter(ItemsCount::new(SENDS)).bench(|| decode_entry(&entry));
}

#[divan::bench]
fn put_deliveries(bencher: Bencher<'_, '_>) {
    let Ok(from) = Name::new("sender-1") else { unreachable!("it is a name") };
    let body = vec![0; 257 * 512];
    bencher.counter(ItemsCount::new(512usize)).with_inputs(|| BytesMut::with_capacity(1 << 20)).bench_values(
        |mut buffer| {
            let delivery = |position| Delivery {
                position: Position(position),
                message: Id(position << 16),
                from: from.clone(),
                stream: Id(1 << 16),
                number: Number(position),
                time: Time(1),
                redelivered: false,
                content_bytes: 257,
                channel: None,
                notice: None,
            };
            let deliveries = (1..=512).map(delivery).collect();
            let reply = Reply::Deliver { registration: Id(1 << 16), epoch: Epoch(1), deliveries };
            frame::put(&mut buffer, REPLY_KIND, &reply, &body);
            buffer
        },
    );
}
