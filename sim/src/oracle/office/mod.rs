//! What the log says, carried out once more by the naive model that the post office's own tests are held against
//! (`tests/post_office_model`): for each entry, servers must have told whoever waits the same as it tells.
//!
//! Clients see little of what a server does: an acknowledgement that should have counted for nothing changes nothing that
//! they would notice most of the time. Here every effect of every entry counts, the moment that the first server applies
//! it. What goes wrong is told as the promise to clients that the effect is for.

#[path = "../../../../tests/post_office_model/model.rs"]
#[allow(missing_docs, dead_code, unreachable_pub, reason = "a test's")]
mod model;
#[path = "../../../../tests/post_office_model/requests.rs"]
#[allow(missing_docs, unreachable_pub, reason = "a test's")]
mod requests;
#[path = "../../../../tests/post_office_model/sharing.rs"]
#[allow(missing_docs, unreachable_pub, reason = "a test's")]
mod sharing;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use restante::post_office::{BatchVerdict, Effect, check_command};
use restante::wire::batch::{Batch, decode_entry};
use restante::wire::{Id, Quotas, frame};

use super::{Promise, Violation};
use model::{Model, Told};

/// The model, and how far it has come. Feed it with what servers tell of the entries that they apply.
#[derive(Debug, Default)]
pub(crate) struct Office {
    /// The model, if the cluster began with nothing: one that began with a backup's state is not followed.
    model: Option<Model>,
    /// The last entry that was carried out.
    last: u64,
}

/// What a server told of an entry that it applied: its index, its bytes, and a line for each effect.
///
/// ```text
/// index=7 entry=BASE64
/// Batch { … }
/// Sent { … }
/// ```
struct Applied<'a> {
    index: u64,
    entry: Bytes,
    effects: Vec<&'a str>,
}

impl Office {
    /// Reads what a host told.
    ///
    /// # Errors
    /// The promise that is broken by what was told to somebody; or what cannot be read, as a promise that is not kept either.
    pub(crate) fn read(&mut self, host: &str, kind: &str, detail: &str) -> Result<(), Violation> {
        let read = match kind {
            "founded" => self.founded(detail),
            "entry" if self.model.is_some() => match Applied::read(detail) {
                // Another server was first: that both say the same is seen by their digests.
                Some(applied) if applied.index <= self.last => Some(()),
                Some(applied) => return self.follow(host, &applied),
                None => None,
            },
            _ => Some(()),
        };
        read.ok_or_else(|| Violation {
            promise: Promise::Honest,
            text: format!("{host} tells what cannot be read of an applied entry: {detail}"),
        })
    }

    /// `applied=0 quotas=BASE64`, and a line `incarnation name address` for each member.
    fn founded(&mut self, detail: &str) -> Option<()> {
        let mut lines = detail.lines();
        let first = lines.next()?;
        // Another cluster may be founded in place of one that has done nothing.
        if self.last > 0 || field(first, "applied")? != "0" {
            return Some(());
        }
        let mut model = Model::default();
        if let Some(quotas) = field(first, "quotas") {
            model.quotas = postcard::from_bytes::<Quotas>(&STANDARD.decode(quotas).ok()?).ok()?;
        }
        for line in lines {
            let mut words = line.split(' ');
            let (incarnation, name, address) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
            model.servers.push((name.to_owned(), address.to_owned(), Some(incarnation)));
        }
        self.model = Some(model);
        Some(())
    }

    fn follow(&mut self, host: &str, applied: &Applied<'_>) -> Result<(), Violation> {
        self.last = applied.index;
        let Some(model) = &mut self.model else { return Ok(()) };
        let Some(told) = carry_out(model, applied.index, &applied.entry) else {
            let text = format!("{host} applied entry {}, which cannot be read", applied.index);
            return Err(Violation { promise: Promise::Honest, text });
        };
        let expected: Vec<String> = told.iter().map(|effect| format!("{effect:?}")).collect();
        let expected = comparable(expected.iter().map(String::as_str));
        let seen = comparable(applied.effects.iter().copied());
        let Some(at) = (0..expected.len().max(seen.len())).find(|at| expected.get(*at) != seen.get(*at)) else {
            return Ok(());
        };
        let (expected, seen) = (expected.get(at).map(String::as_str), seen.get(at).map(String::as_str));
        Err(Violation {
            promise: promise_of(expected, seen),
            text: format!(
                "entry {} brought about, at {host}, {}, and should have brought about {}",
                applied.index,
                seen.unwrap_or("nothing more"),
                expected.unwrap_or("nothing more")
            ),
        })
    }
}

impl<'a> Applied<'a> {
    fn read(detail: &'a str) -> Option<Self> {
        let mut lines = detail.lines();
        let first = lines.next()?;
        let index = field(first, "index")?.parse().ok()?;
        let entry = STANDARD.decode(field(first, "entry")?).ok()?.into();
        Some(Self { index, entry, effects: lines.collect() })
    }
}

/// The value of a field in `name=value` words.
fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// What the model tells of an entry. `None`: that is no entry.
fn carry_out(model: &mut Model, index: u64, entry: &Bytes) -> Option<Told> {
    let (header, batches) = decode_entry(entry).ok()?;
    model.time = model.time.max(header.time.0);
    let mut told = Told::new();
    model.deliver_due(&mut told);
    model.expire(&mut told);
    let mut place = 0;
    for Batch { header, frames } in batches {
        let origin = header.origin;
        let verdict = model.batch(origin, header.sequence);
        told.push(Effect::Batch { origin, sequence: header.sequence, verdict });
        let mut frames = frames;
        let mut at = place;
        while verdict == BatchVerdict::Applied && !frames.is_empty() {
            let next = frame::split_bytes(&mut frames).ok().flatten();
            let command = next.as_ref().and_then(|next| check_command(next.kind, &next.payload).ok());
            match (command, u16::try_from(at)) {
                (Some((command, content)), Ok(ordinal)) if at - place < header.commands => {
                    model.command(origin, Id::at(index, ordinal), &command, content, &mut told);
                }
                _ => {
                    model.malformed += 1;
                    told.push(Effect::Skipped { origin, reason: "" });
                }
            }
            if next.is_none() {
                break;
            }
            at += 1;
        }
        place += header.commands;
    }
    Some(told)
}

/// Effects as both tell them: who comes and goes is judged elsewhere, why a command is malformed is not compared, and streams
/// that one tick closes come in any order.
fn comparable<'a>(effects: impl Iterator<Item = &'a str>) -> Vec<String> {
    let is_closed = |effect: &String| effect.starts_with("StreamClosed");
    let effects = effects.filter(|effect| !effect.starts_with("Presence"));
    let mut effects: Vec<String> = effects
        .map(|effect| match effect.split_once(", reason: ") {
            Some((skipped, _)) if effect.starts_with("Skipped") => skipped.to_owned(),
            _ => effect.to_owned(),
        })
        .collect();
    effects.chunk_by_mut(|a, b| is_closed(a) && is_closed(b)).for_each(|run| run.sort_unstable());
    effects
}

/// The promise that an effect is for: of the one that is missing, or of what came instead or besides. A batch is judged before
/// all that it brings about, so that one of another kind beside it is one too many, or missing.
fn promise_of(expected: Option<&str>, seen: Option<&str>) -> Promise {
    let kind = |effect: &str| effect.split([' ', '(']).next().unwrap_or_default().to_owned();
    let (expected, seen) = (expected.map(kind), seen.map(kind));
    match (expected.as_deref(), seen.as_deref()) {
        (Some("Batch"), Some("Batch")) => Promise::Once,
        (None | Some("Batch"), Some(besides)) => promise_of_one(besides, false),
        (Some(missing), None | Some("Batch")) => promise_of_one(missing, true),
        (Some("Arrived"), Some(other)) if other != "Arrived" => Promise::Durable,
        (Some(_), Some("Arrived")) => Promise::Once,
        (Some(expected), Some(seen)) => match promise_of_one(expected, true) {
            Promise::Honest => promise_of_one(seen, false),
            promise => promise,
        },
        (None, None) => Promise::Honest,
    }
}

fn promise_of_one(kind: &str, missing: bool) -> Promise {
    match (kind, missing) {
        ("Batch", _) | ("Arrived", false) => Promise::Once,
        ("Arrived", true) => Promise::Durable,
        ("Acknowledged" | "Fenced" | "Left", _) => Promise::OneReader,
        ("StreamClosed", _) => Promise::Available,
        _ => Promise::Honest,
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use restante::post_office::PostOffice;
    use restante::wire::batch::{BatchHeader, encode_entry};
    use restante::wire::command::Command;
    use restante::wire::{Origin, Time};

    use super::*;

    const ORIGIN: Origin = Origin { incarnation: 1, boot: 1 };

    /// What a server tells of these commands, one entry each.
    fn told(commands: &[(Command<'_>, &[u8])]) -> Vec<String> {
        let mut office = PostOffice::default();
        let one = |(n, (command, content)): (u64, &(Command<'_>, &[u8]))| {
            let mut frames = BytesMut::new();
            command.put(&mut frames, content);
            let header = BatchHeader { origin: ORIGIN, sequence: n, bytes: frames.len() as u32, commands: 1 };
            let entry = encode_entry(Time(n), &[Batch { header, frames: frames.freeze() }]);
            let mut text = format!("index={n} entry={}", STANDARD.encode(&entry));
            office.apply_entry(n, &entry, &mut |effect| text.push_str(&format!("\n{effect:?}"))).expect("an entry");
            text
        };
        (1..).zip(commands).map(one).collect()
    }

    /// Two clients, of whom one sends the other a message, who takes it.
    fn history() -> Vec<String> {
        let register = |nonce, name| (Command::Register { nonce, name, home: "a" }, &b""[..]);
        let stream = Id::at(3, 0);
        told(&[
            register(1, "alice"),
            register(2, "bob"),
            (Command::OpenStream { nonce: 3, name: "alice" }, b""),
            (
                Command::Attach {
                    nonce: 4,
                    name: "bob",
                    home: "a",
                    expected: restante::wire::Epoch(0),
                    resumes: None,
                    window: 9,
                },
                b"",
            ),
            (
                Command::Send {
                    stream,
                    number: restante::wire::Number(1),
                    confirmed: restante::wire::Number(0),
                    to: "bob",
                },
                b"hello",
            ),
            (
                Command::Acknowledge {
                    registration: Id::at(2, 0),
                    epoch: restante::wire::Epoch(1),
                    up_to: restante::wire::Position(1),
                    ranges: Vec::new(),
                },
                b"",
            ),
        ])
    }

    fn judge(entries: &[String]) -> Result<(), Violation> {
        let mut office = Office::default();
        office.read("a", "founded", "applied=0\n1 a a:1")?;
        entries.iter().try_for_each(|entry| office.read("a", "entry", entry))
    }

    #[test]
    fn what_servers_tell_of_a_history_is_accepted_once_or_thrice() {
        let history = history();
        assert_eq!(judge(&history), Ok(()));
        let thrice: Vec<String> = history.iter().flat_map(|entry| [entry, entry, entry]).cloned().collect();
        assert_eq!(judge(&thrice), Ok(()));
    }

    #[test]
    fn an_effect_that_is_another_one_or_missing_or_one_too_many_breaks_its_promise() {
        let history = history();
        for (at, from, to, promise) in [
            (4, "\nArrived", "\nPresence", Promise::Durable),
            (4, "Accepted(Position(1))", "Accepted(Position(2))", Promise::Honest),
            (4, "verdict: Applied", "verdict: Repeat", Promise::Once),
            (5, "up_to: Position(1)", "up_to: Position(0)", Promise::OneReader),
            (3, "epoch: Epoch(1)", "epoch: Epoch(2)", Promise::Honest),
        ] {
            let mut history = history.clone();
            let changed = history[at].replace(from, to);
            assert_ne!(history[at], changed, "{from} is there");
            history[at] = changed;
            assert_eq!(judge(&history).map_err(|violation| violation.promise), Err(promise), "{from}");
        }
        for (besides, promise) in [("Arrived", Promise::Once), ("Acknowledged", Promise::OneReader)] {
            let mut more = history.clone();
            more[4].push_str(&format!("\n{besides} {{ registration: Id(9), position: Position(1) }}"));
            assert_eq!(judge(&more).map_err(|violation| violation.promise), Err(promise));
        }
    }

    #[test]
    fn a_cluster_that_began_with_a_state_is_not_followed() {
        let mut office = Office::default();
        assert_eq!(office.read("a", "founded", "applied=70\n1 a a:1"), Ok(()));
        assert_eq!(office.read("a", "entry", "index=71 entry="), Ok(()));
        assert!(office.model.is_none());
    }
}
