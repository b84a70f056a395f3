//! The records of a checkpoint, changed in every way that a checksum would not notice because it was made afterwards:
//! the post office reads them back or says why not, and what it read it can go on from and write down again.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use arbitrary::{Arbitrary, Unstructured};
use bytes::{Bytes, BytesMut};
use restante::post_office::{Change, PostOffice};
use restante::wire::batch::{Batch, BatchHeader, encode_entry};
use restante::wire::command::Command;
use restante::wire::sharing::{Enlistment, InboxSettings, Overflow, Target, Terms};
use restante::wire::{Epoch, Id, Number, Origin, Position, Time};

type Records = BTreeMap<Vec<u8>, Bytes>;

#[derive(Debug, Arbitrary)]
enum Edit {
    Byte {
        record: u8,
        at: u8,
        value: u8,
    },
    Insert {
        record: u8,
        at: u8,
        bytes: Vec<u8>,
    },
    Cut {
        record: u8,
        at: u8,
    },
    Remove {
        record: u8,
    },
    /// The value of one record under the key of another.
    Copy {
        from: u8,
        to: u8,
    },
    /// A key that is off by a little.
    Rename {
        record: u8,
        at: u8,
        value: u8,
    },
    New {
        kind: u8,
        ids: [u8; 2],
        value: Vec<u8>,
    },
    Raw {
        key: Vec<u8>,
        value: Vec<u8>,
    },
}

/// Takes `data` for what happened to the records of a state.
pub fn records(data: &[u8]) {
    let mut input = Unstructured::new(data);
    let mut records = written().clone();
    while !input.is_empty() {
        let Ok(edit) = input.arbitrary::<Edit>() else { break };
        apply(&mut records, edit);
    }
    let Ok(mut office) = load(&records) else { return };
    assert_eq!(office.digest(), load(&records).expect("it did so before").digest(), "read twice, differently");
    // Indexes and times come from a log and a clock, which do not come near their ends.
    if office.applied() > 1 << 40 || office.time().0 > 1 << 40 {
        return;
    }
    let index = office.applied() + 1;
    let time = office.time().0 + 1;
    let mut told = 0;
    let entry = entry(time, office.last_sequence(ORIGIN).wrapping_add(1), &commands(index));
    office.apply_entry(index, &entry, &mut |_| told += 1).expect("an entry of our own");
    assert!(told > 0);
    store(&mut records, office.take_changes());
    office.changes_durable();
    let again = load(&records).expect("what was written down is read back");
    assert_eq!(again.digest(), office.digest(), "what was written down is another state");
}

const ORIGIN: Origin = Origin { incarnation: 1, boot: 1 };

fn load(records: &Records) -> Result<PostOffice, impl std::fmt::Debug> {
    PostOffice::load(records.iter().map(|(key, value)| (key.clone(), value.clone())))
}

fn apply(records: &mut Records, edit: Edit) {
    let key = |records: &Records, n: u8| records.keys().nth(usize::from(n) % records.len().max(1)).cloned();
    let mut change = |n: u8, work: &dyn Fn(&mut Vec<u8>)| {
        let Some(key) = key(records, n) else { return };
        let mut value = records[&key].to_vec();
        work(&mut value);
        records.insert(key, value.into());
    };
    match edit {
        Edit::Byte { record, at, value } => change(record, &|bytes| {
            if let Some(byte) = bytes.get_mut(usize::from(at)) {
                *byte = value;
            }
        }),
        Edit::Insert { record, at, bytes: more } => change(record, &|bytes| {
            let at = usize::from(at).min(bytes.len());
            bytes.splice(at..at, more.iter().copied());
        }),
        Edit::Cut { record, at } => change(record, &|bytes| bytes.truncate(at.into())),
        Edit::Remove { record } => {
            if let Some(key) = key(records, record) {
                records.remove(&key);
            }
        }
        Edit::Copy { from, to } => {
            if let (Some(from), Some(to)) = (key(records, from), key(records, to)) {
                let value = records[&from].clone();
                records.insert(to, value);
            }
        }
        Edit::Rename { record, at, value } => {
            let Some(mut key) = key(records, record) else { return };
            let content = records.remove(&key).unwrap_or_default();
            let at = usize::from(at) % key.len().max(1);
            if let Some(byte) = key.get_mut(at) {
                *byte = value;
            }
            records.insert(key, content);
        }
        Edit::New { kind, ids, value } => {
            let mut key = vec![0, 0, kind % 17];
            ids.iter().for_each(|id| key.extend_from_slice(&u64::from(*id).to_be_bytes()));
            records.insert(key, value.into());
        }
        Edit::Raw { key, value } => drop(records.insert(key, value.into())),
    }
}

fn store(records: &mut Records, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Put { key, head, content } => {
                records.insert(key, [&head[..], &content].concat().into());
            }
            Change::Remove { key } => drop(records.remove(&key)),
            Change::RemoveRange { from, to } => records.retain(|key, _| *key < from || *key >= to),
        }
    }
}

fn entry(time: u64, sequence: u64, commands: &[(Command<'_>, &[u8])]) -> Bytes {
    let mut frames = BytesMut::new();
    commands.iter().for_each(|(command, content)| command.put(&mut frames, content));
    let (bytes, commands) = (frames.len() as u32, commands.len() as u32);
    let header = BatchHeader { origin: ORIGIN, sequence, bytes, commands };
    encode_entry(Time(time), &[Batch { header, frames: frames.freeze() }])
}

/// Something of everything, for two clients; `index` is the entry's, so that its ids can be named.
fn commands(index: u64) -> Vec<(Command<'static>, &'static [u8])> {
    let nonce = u128::from(index) << 8;
    let stream = Id::at(index, 2);
    let send = |number: u64, to| Command::Send { stream, number: Number(number), confirmed: Number(number / 3), to };
    let post = |number: u64, to, receipt| Command::Post {
        stream,
        number: Number(number),
        confirmed: Number(number / 3),
        to,
        terms: Terms { receipt, expires_ms: number % 2 * 50, delay_ms: number / 10 * 1000 },
    };
    let enlist =
        |name, registration: Id, nonce, change| Command::Enlist { nonce, name, expected: registration.0, change };
    let (registration, epoch) = (Id::at(index, 1), Epoch(1));
    let attach = Command::Attach { nonce, name: "b", home: "s", expected: Epoch(0), resumes: None, window: 3 };
    let acknowledge =
        Command::Acknowledge { registration, epoch, up_to: Position(1), ranges: vec![(Position(3), Position(3))] };
    let keeping = InboxSettings { overflow: Overflow::DropOldest, keep_messages: 2, keep_ms: 5000 };
    vec![
        (Command::Register { nonce, name: "a", home: "s" }, b""),
        (Command::Register { nonce, name: "b", home: "s" }, b""),
        (Command::OpenStream { nonce, name: "a" }, b""),
        (attach, b""),
        (send(1, "b"), b"one"),
        (send(2, "b"), b"two"),
        (send(3, "b"), b"three"),
        (send(4, "nobody"), b""),
        (send(5, "a"), b"four"),
        (acknowledge, b""),
        (Command::AddServer { nonce, server: "s", address: "x:1" }, b""),
        (Command::AddServer { nonce, server: "t", address: "x:2" }, b""),
        (Command::Enroll { server: "s", address: "x:1", disk: 7 }, b""),
        (Command::Enroll { server: "t", address: "x:2", disk: nonce + 8 }, b""),
        (Command::SetDrained { nonce: nonce + 2, server: "s", drained: true }, b""),
        (Command::RemoveServer { nonce: nonce + 1, server: "t" }, b""),
        (Command::Vanished { registration, epoch, home: "s" }, b""),
        (Command::Tick, b""),
        (Command::CreateChannel { nonce, channel: "x.y" }, b""),
        (enlist("a", Id::at(index, 0), nonce + 1, Enlistment::Join("x.y")), b""),
        (enlist("b", Id::at(index, 1), nonce + 1, Enlistment::Subscribe("x.*")), b""),
        (enlist("b", Id(Id::at(index, 1).0 + 1), nonce + 2, Enlistment::SetInbox(keeping)), b""),
        (post(6, Target::Channel("x.y"), false), b"to many"),
        (post(7, Target::Client("b"), true), b"with a receipt"),
        (post(8, Target::Clients(vec!["a", "nobody"]), false), b"to none"),
        (post(9, Target::Client("b"), true), b"with another receipt"),
        (post(10, Target::Channel("x.y"), true), b"for later"),
        (post(11, Target::Clients(vec!["a", "b"]), false), b"for later, too"),
        (Command::Acknowledge { registration, epoch, up_to: Position(4), ranges: vec![] }, b""),
        (Command::Acknowledge { registration, epoch, up_to: Position(5), ranges: vec![] }, b""),
    ]
}

/// The records of a small state that has one of each kind.
fn written() -> &'static Records {
    static WRITTEN: OnceLock<Records> = OnceLock::new();
    WRITTEN.get_or_init(|| {
        let mut office = PostOffice::new();
        office.apply_entry(1, &entry(1000, 1, &commands(1)), &mut |_| {}).expect("an entry of our own");
        let mut records = Records::new();
        store(&mut records, office.take_changes());
        records
    })
}
