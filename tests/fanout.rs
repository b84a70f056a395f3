//! Messages to as many inboxes as may be: what they cost in memory and in the checkpoint, and where it ends.

use bytes::{Bytes, BytesMut};
use restante::limits;
use restante::post_office::{Answer, Change, Effect, PostOffice};
use restante::wire::batch::{Batch, BatchHeader, encode_entry};
use restante::wire::client::SendFailure;
use restante::wire::command::Command;
use restante::wire::sharing::{Enlistment, Target, Terms};
use restante::wire::{Number, Origin, Quotas, Refusal, SendOutcome, SendRefusal, StreamId, Time};

const BODY: [u8; 1001] = [0; 1001];

struct Cluster {
    office: PostOffice,
    frames: BytesMut,
    commands: u32,
}

impl Cluster {
    fn new() -> Self {
        let mut cluster = Self { office: PostOffice::new(), frames: BytesMut::new(), commands: 0 };
        cluster.put(&Command::SetQuotas(Quotas::default()), b"");
        cluster
    }

    fn put(&mut self, command: &Command<'_>, content: &[u8]) {
        command.put(&mut self.frames, content);
        self.commands += 1;
    }

    /// Applies what was put, as one entry.
    fn apply(&mut self) -> Vec<Effect<'static>> {
        let index = self.office.applied() + 1;
        let frames: Bytes = self.frames.split().freeze();
        let (bytes, commands) = (frames.len() as u32, std::mem::take(&mut self.commands));
        let header = BatchHeader { origin: Origin { incarnation: 1, boot: 1 }, sequence: index, bytes, commands };
        let entry = encode_entry(Time(index), &[Batch { header, frames }]);
        let mut told = Vec::new();
        let see = &mut |effect: Effect<'_>| match effect {
            Effect::Sent { origin, stream, number, result, repeated } => {
                told.push(Effect::Sent { origin, stream, number, result, repeated });
            }
            Effect::Answered { origin, nonce, answer } => told.push(Effect::Answered { origin, nonce, answer }),
            Effect::Arrived { registration, position } => told.push(Effect::Arrived { registration, position }),
            Effect::Skipped { reason, .. } => panic!("{reason}"),
            _ => {}
        };
        self.office.apply_entry(index, &entry, see).expect("a good entry");
        told
    }

    /// So many clients, of whom all join one channel, and a stream of the first.
    fn with_members(members: usize) -> (Self, StreamId) {
        let mut cluster = Self::new();
        cluster.put(&Command::CreateChannel { nonce: 1, channel: "all" }, b"");
        for n in 0..members {
            let name = format!("client{n}");
            cluster.put(&Command::Register { nonce: n as u128, name: &name, home: "a" }, b"");
            if n % 1000 == 999 || n + 1 == members {
                cluster.apply();
            }
        }
        for n in 0..members {
            let name = format!("client{n}");
            let expected = cluster.office.registration(&name).expect("it is registered").registration.0;
            let change = Enlistment::Join("all");
            cluster.put(&Command::Enlist { nonce: 1 + n as u128, name: &name, expected, change }, b"");
            if n % 1000 == 999 || n + 1 == members {
                cluster.apply();
            }
        }
        cluster.put(&Command::OpenStream { nonce: 1, name: "client0" }, b"");
        let opened = cluster.apply();
        let [Effect::Answered { answer: Answer::StreamOpened { stream, .. }, .. }] = opened[..] else {
            panic!("{opened:?}")
        };
        (cluster, stream)
    }

    fn post(&mut self, stream: StreamId, number: u64, to: Target<'_>) {
        let (number, confirmed, terms) = (Number(number), Number(number - 1), Terms::default());
        self.put(&Command::Post { stream, number, confirmed, to, terms }, &BODY);
    }
}

fn results(told: &[Effect<'_>]) -> Vec<Result<SendOutcome, SendFailure>> {
    let result = |effect: &Effect<'_>| match effect {
        Effect::Sent { result, .. } => Some(result.clone()),
        _ => None,
    };
    told.iter().filter_map(result).collect()
}

#[test]
fn a_channel_of_ten_thousand_holds_a_body_once_and_an_entry_has_its_end() {
    const MEMBERS: usize = 10_000;
    let (mut cluster, stream) = Cluster::with_members(MEMBERS);
    cluster.office.take_changes();
    cluster.office.changes_durable();
    let fit = limits::FANOUT_ENTRY_MAX / MEMBERS;
    for number in 1..=fit as u64 + 2 {
        cluster.post(stream, number, Target::Channel("all"));
    }
    let told = cluster.apply();
    let reached = Ok(SendOutcome::Reached { inboxes: MEMBERS as u32, full: 0 });
    let results = results(&told);
    assert!(results[..fit].iter().all(|result| *result == reached), "{results:?}");
    assert_eq!(results[fit], Err(SendFailure::Unavailable(Refusal::Busy)));
    assert_eq!(results[fit + 1], Err(SendFailure::Gap { expected: Number(fit as u64 + 1) }), "no number is skipped");
    let arrived = told.iter().filter(|effect| matches!(effect, Effect::Arrived { .. })).count();
    assert_eq!(arrived, fit * MEMBERS);
    assert_eq!(cluster.office.totals().waiting, (fit * MEMBERS) as u64);
    assert!(cluster.office.totals().content_bytes_in_memory < (fit as u64 + 3) * 1200, "the bodies are in memory once");
    // Sent again, the one that was too much is taken.
    cluster.post(stream, fit as u64 + 1, Target::Channel("all"));
    assert!(cluster.apply().iter().any(|effect| matches!(effect, Effect::Sent { result: Ok(_), .. })));
    let changes = cluster.office.take_changes();
    let contents = changes.iter().filter(|change| matches!(change, Change::Put { content, .. } if !content.is_empty()));
    assert_eq!(contents.count(), fit + 1, "each body is written once");
}

#[test]
fn a_message_goes_to_so_many_inboxes_and_no_more() {
    let (mut cluster, stream) = Cluster::with_members(limits::FANOUT_MAX);
    cluster.post(stream, 1, Target::Everybody);
    let reached = Ok(SendOutcome::Reached { inboxes: limits::FANOUT_MAX as u32, full: 0 });
    assert_eq!(results(&cluster.apply()), [reached]);
    cluster.put(&Command::Register { nonce: 1, name: "one-more", home: "a" }, b"");
    cluster.apply();
    let expected = cluster.office.registration("one-more").expect("it is registered").registration.0;
    let change = Enlistment::Join("all");
    cluster.put(&Command::Enlist { nonce: 5, name: "one-more", expected, change }, b"");
    let full = Answer::Refused(Refusal::ChannelFull { limit: limits::FANOUT_MAX as u64 });
    assert!(matches!(&cluster.apply()[..], [Effect::Answered { answer, .. }] if *answer == full));
    let change = Enlistment::Subscribe("*");
    cluster.put(&Command::Enlist { nonce: 6, name: "one-more", expected: expected + 1, change }, b"");
    cluster.apply();
    let (inboxes, limit) = (limits::FANOUT_MAX as u32 + 1, limits::FANOUT_MAX as u32);
    let too_many = Ok(SendOutcome::Refused(SendRefusal::TooManyInboxes { inboxes, limit }));
    cluster.post(stream, 2, Target::Everybody);
    cluster.post(stream, 3, Target::Channel("all"));
    assert_eq!(results(&cluster.apply()), [too_many.clone(), too_many]);
}
