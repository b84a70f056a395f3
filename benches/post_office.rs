//! How fast the post office applies: commands per second on one core, frames decoded and contents digested.
//!
//! `cargo bench --bench post_office`. Entries are encoded beforehand; every sample applies all of them to a state that
//! was made ready before the clock starts.

use bytes::{Bytes, BytesMut};
use divan::counter::ItemsCount;
use restante::post_office::{Answer, Effect, PostOffice};
use restante::wire::batch::{Batch, BatchHeader, encode_entry};
use restante::wire::command::Command;
use restante::wire::{Epoch, Number, Origin, Position, Quotas, RegistrationId, StreamId, Time};

const RECIPIENTS: u64 = 64;
const ENTRY_COMMANDS: u64 = 256;
const ENTRIES: u64 = 1000;
const COMMANDS: u64 = ENTRIES * ENTRY_COMMANDS;
const BODY: [u8; 257] = [0; 257]; // no headers (one byte) and 256 bytes of body

fn main() {
    divan::main();
}

/// Encodes commands into entries behind each other.
struct Writer {
    index: u64,
    buffer: BytesMut,
    commands: u64,
    entries: Vec<(u64, Bytes)>,
}

impl Writer {
    fn after(office: &PostOffice) -> Self {
        Self { index: office.applied(), buffer: BytesMut::new(), commands: 0, entries: Vec::new() }
    }

    fn put(&mut self, command: &Command<'_>, content: &[u8]) {
        command.put(&mut self.buffer, content);
        self.commands += 1;
        if self.commands == ENTRY_COMMANDS {
            self.end();
        }
    }

    fn end(&mut self) {
        self.index += 1;
        let frames = self.buffer.split().freeze();
        let header = BatchHeader {
            origin: Origin { incarnation: 1, boot: 1 },
            sequence: self.index,
            bytes: frames.len() as u32,
            commands: self.commands as u32,
        };
        self.commands = 0;
        self.entries.push((self.index, encode_entry(Time(self.index), &[Batch { header, frames }])));
    }
}

/// 64 clients that read, and one stream of a sender.
fn ready() -> (PostOffice, StreamId, Vec<RegistrationId>) {
    let mut office = PostOffice::new();
    let mut writer = Writer::after(&office);
    let quotas = Quotas { stream_window: u32::MAX, ..Quotas::default() };
    writer.put(&Command::SetQuotas(quotas), b"");
    writer.put(&Command::Register { nonce: 1, name: "sender", home: "a" }, b"");
    writer.put(&Command::OpenStream { nonce: 2, name: "sender" }, b"");
    for recipient in 0..RECIPIENTS {
        let (name, nonce) = (format!("recipient-{recipient}"), 10 + u128::from(recipient));
        writer.put(&Command::Register { nonce, name: &name, home: "a" }, b"");
        let window = 1024;
        let attach = Command::Attach { nonce, name: &name, home: "a", expected: Epoch(0), resumes: None, window };
        writer.put(&attach, b"");
    }
    writer.end();
    let mut opened = None;
    let mut registrations = Vec::new();
    for (index, entry) in writer.entries {
        let mut see = |effect: Effect<'_>| match effect {
            Effect::Answered { answer: Answer::StreamOpened { stream, .. }, .. } => opened = Some(stream),
            Effect::Answered { answer: Answer::Attached { registration, .. }, .. } => registrations.push(registration),
            _ => {}
        };
        office.apply_entry(index, &entry, &mut see).expect("a good entry");
    }
    (office, opened.expect("a stream"), registrations)
}

fn send(writer: &mut Writer, stream: StreamId, number: u64) {
    // Receipts come back about four entries later.
    let confirmed = Number(number.saturating_sub(4 * ENTRY_COMMANDS));
    let to = format!("recipient-{}", number % RECIPIENTS);
    writer.put(&Command::Send { stream, number: Number(number), confirmed, to: &to }, &BODY);
}

fn acknowledge(writer: &mut Writer, registrations: &[RegistrationId], number: u64) {
    // The n-th message of a recipient has number n × 64 + its own.
    let registration = registrations[(number % RECIPIENTS) as usize];
    let up_to = Position((number - 1) / RECIPIENTS + 1);
    writer.put(&Command::Acknowledge { registration, epoch: Epoch(1), up_to, ranges: Vec::new() }, b"");
}

fn apply(office: &mut PostOffice, entries: &[(u64, Bytes)]) -> u64 {
    let mut effects = 0;
    for (index, entry) in entries {
        office.apply_entry(*index, entry, &mut |_| effects += 1).expect("a good entry");
    }
    effects
}

/// Sends to 64 recipients, 256-byte bodies, 256 commands an entry.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn sends(bencher: divan::Bencher<'_, '_>) {
    let (office, stream, _) = ready();
    let mut writer = Writer::after(&office);
    (1..=COMMANDS).for_each(|number| send(&mut writer, stream, number));
    bencher.counter(ItemsCount::new(COMMANDS)).with_inputs(|| ready().0).bench_local_refs(|office| {
        let effects = apply(office, &writer.entries);
        assert_eq!(effects, ENTRIES + 2 * COMMANDS, "every send is judged and arrives");
    });
}

/// Acknowledgements of one message each, for messages that were sent before.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn acknowledgements(bencher: divan::Bencher<'_, '_>) {
    let (office, stream, registrations) = ready();
    let mut writer = Writer::after(&office);
    (1..=COMMANDS).for_each(|number| send(&mut writer, stream, number));
    let sent = std::mem::take(&mut writer.entries);
    (1..=COMMANDS).for_each(|number| acknowledge(&mut writer, &registrations, number));
    let filled = || {
        let mut office = ready().0;
        apply(&mut office, &sent);
        office
    };
    bencher.counter(ItemsCount::new(COMMANDS)).with_inputs(filled).bench_local_refs(|office| {
        let effects = apply(office, &writer.entries);
        assert_eq!(effects, ENTRIES + COMMANDS, "every acknowledgement counts");
        assert_eq!(office.totals().waiting, 0);
    });
}

/// Half sends and half acknowledgements, each message acknowledged about four entries after it was sent.
#[divan::bench(sample_count = 20, sample_size = 1)]
fn sends_and_acknowledgements(bencher: divan::Bencher<'_, '_>) {
    let (office, stream, registrations) = ready();
    let mut writer = Writer::after(&office);
    for number in 1..=COMMANDS / 2 {
        send(&mut writer, stream, number);
        let earlier = number.saturating_sub(4 * ENTRY_COMMANDS).max(1);
        acknowledge(&mut writer, &registrations, earlier);
    }
    bencher.counter(ItemsCount::new(COMMANDS)).with_inputs(|| ready().0).bench_local_refs(|office| {
        let effects = apply(office, &writer.entries);
        assert_eq!(effects, ENTRIES + 3 * COMMANDS / 2, "every command counts");
    });
}
