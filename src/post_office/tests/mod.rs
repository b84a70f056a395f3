//! Rules of the post office as a whole, one test each. The parts' own rules are tested beside them.

mod apart;
mod checkpoints;
mod rules;

use bytes::{Bytes, BytesMut};

use super::*;
use crate::wire::batch::{Batch, BatchHeader, encode_entry};
use crate::wire::command::Command;
use crate::wire::{Epoch, Id, Nonce, Number, Origin, Position, RegistrationId, StreamId};

const ORIGIN: Origin = Origin { incarnation: 1, boot: 1 };

/// A post office and the log that is written for it.
#[derive(Default)]
struct Log {
    office: PostOffice,
    sequence: u64,
    time: u64,
}

impl Log {
    /// Applies one entry with one batch of these commands; what it brought about, the batch's own verdict aside.
    fn run(&mut self, commands: &[(Command<'_>, &[u8])]) -> Vec<Effect<'static>> {
        let mut frames = BytesMut::new();
        commands.iter().for_each(|(command, content)| command.put(&mut frames, content));
        self.run_frames(frames.freeze(), commands.len() as u32)
    }

    fn run_frames(&mut self, frames: Bytes, commands: u32) -> Vec<Effect<'static>> {
        self.sequence += 1;
        let batch = batch(ORIGIN, self.sequence, frames, commands);
        let mut effects = self.entry(&[batch]);
        assert_eq!(
            effects.remove(0),
            Effect::Batch { origin: ORIGIN, sequence: self.sequence, verdict: BatchVerdict::Applied }
        );
        // Those are held against the model, and what they are about is told besides.
        effects.retain(|effect| !matches!(effect, Effect::Presence(_)));
        effects
    }

    fn entry(&mut self, batches: &[Batch]) -> Vec<Effect<'static>> {
        let mut effects = Vec::new();
        let entry = encode_entry(Time(self.time), batches);
        let index = self.office.applied() + 1;
        self.office.apply_entry(index, &entry, &mut |effect| effects.push(owned(&effect))).expect("a good entry");
        effects
    }

    /// Applies one command and gives its answer.
    fn ask(&mut self, command: Command<'_>) -> Answer {
        let answers: Vec<_> = self
            .run(&[(command, b"")])
            .into_iter()
            .filter_map(|effect| match effect {
                Effect::Answered { answer, .. } => Some(answer),
                _ => None,
            })
            .collect();
        let [answer] = <[Answer; 1]>::try_from(answers).expect("one answer");
        answer
    }

    fn register(&mut self, name: &str) -> RegistrationId {
        match self.ask(register(1, name)) {
            Answer::Registered { registration } => registration,
            other => panic!("{other:?}"),
        }
    }

    fn open(&mut self, nonce: Nonce, name: &str) -> StreamId {
        match self.ask(Command::OpenStream { nonce, name }) {
            Answer::StreamOpened { stream, .. } => stream,
            other => panic!("{other:?}"),
        }
    }

    fn send(&mut self, stream: StreamId, number: u64, to: &str, content: &[u8]) -> Vec<Effect<'static>> {
        self.run(&[(send(stream, number, 0, to), content)])
    }

    fn waiting(&self, registration: RegistrationId) -> Vec<(u64, bool)> {
        let waiting = self.office.waiting(registration, Position(0), usize::MAX, usize::MAX);
        waiting.iter().map(|w| (w.delivery.position.0, w.delivery.redelivered)).collect()
    }
}

fn batch(origin: Origin, sequence: u64, frames: Bytes, commands: u32) -> Batch {
    Batch { header: BatchHeader { origin, sequence, bytes: frames.len() as u32, commands }, frames }
}

fn register(nonce: Nonce, name: &str) -> Command<'_> {
    Command::Register { nonce, name, home: "home" }
}

fn send(stream: StreamId, number: u64, confirmed: u64, to: &str) -> Command<'_> {
    Command::Send { stream, number: Number(number), confirmed: Number(confirmed), to }
}

fn attach(nonce: Nonce, name: &str, expected: u64, window: u32) -> Command<'_> {
    Command::Attach { nonce, name, home: "home", expected: Epoch(expected), resumes: None, window }
}

fn acknowledge(registration: RegistrationId, epoch: u64, up_to: u64, ranges: &[(u64, u64)]) -> Command<'static> {
    let ranges = ranges.iter().map(|(a, b)| (Position(*a), Position(*b))).collect();
    Command::Acknowledge { registration, epoch: Epoch(epoch), up_to: Position(up_to), ranges }
}

/// The same effect, with nothing borrowed.
fn owned(effect: &Effect<'_>) -> Effect<'static> {
    match effect.clone() {
        Effect::Batch { origin, sequence, verdict } => Effect::Batch { origin, sequence, verdict },
        // Whether it is a repeat is held against the model.
        Effect::Sent { origin, stream, number, result, .. } => {
            Effect::Sent { origin, stream, number, result, repeated: false }
        }
        Effect::Answered { origin, nonce, answer } => Effect::Answered { origin, nonce, answer },
        Effect::Arrived { registration, position } => Effect::Arrived { registration, position },
        Effect::Acknowledged { registration, epoch, up_to } => Effect::Acknowledged { registration, epoch, up_to },
        Effect::Fenced { registration, epoch, by } => Effect::Fenced { registration, epoch, by },
        Effect::Left { registration, epoch, home } => Effect::Left { registration, epoch, home },
        Effect::StreamClosed { stream } => Effect::StreamClosed { stream },
        Effect::Withdrawn { registration, position, dropped } => Effect::Withdrawn { registration, position, dropped },
        Effect::Delivered { stream, sequence, number, fate } => Effect::Delivered { stream, sequence, number, fate },
        Effect::Presence(event) => Effect::Presence(event),
        Effect::Skipped { origin, .. } => Effect::Skipped { origin, reason: "" },
    }
}
