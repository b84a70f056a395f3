//! A backup under traffic, whose home loses its power in the middle of it, and a cluster that begins with it: judged by
//! what the client wrote down.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use restante::backup::{check, restore};
use restante::client::{Client, ClientSettings, Delivery, Error};
use restante::server::{self, ServerError, Settings};
use restante::storage::OpenError;
use restante::wire::{ClusterId, Name, ServerAddress};
use restante::world::{BoxFuture, Disk, Host, OpenMode, World};
use restante_sim::disk::Drive;
use restante_sim::history::What;
use restante_sim::plan::Plan;
use restante_sim::run::{Outcome, Verdict, run};
use restante_sim::scenario::{ClientSeat, Ending, Scenario, ServerSeat, Stage};
use restante_sim::trace::Lines;
use restante_sim::world::SimWorld;

const OLD: [&str; 3] = ["a", "b", "c"];
const NEW: [&str; 3] = ["d", "e", "f"];
const MESSAGES: u64 = 160;
const BODY_BYTES: usize = 60_000;
/// So many are acknowledged before the backup.
const ACKNOWLEDGED: u64 = 20;
/// How long the client's disk takes for each part.
const SLOW: Duration = Duration::from_millis(200);

/// One cluster until there is a backup of it, and another one from then on.
#[derive(Default)]
struct TwoLives {
    file: Arc<Mutex<Option<Arc<dyn Disk>>>>,
    seen: Arc<Mutex<Seen>>,
}

/// What the client came by.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Seen {
    /// How often the backup was begun.
    attempts: u32,
    accepted_before: u64,
    accepted: u64,
    restored: u64,
}

impl Scenario for TwoLives {
    fn server(&self, seat: ServerSeat) -> BoxFuture<'static, Result<(), Ending>> {
        serve::<SimWorld>(seat, self.file.clone())
    }

    fn client(&self, seat: ClientSeat) -> BoxFuture<'static, Result<(), String>> {
        client::<SimWorld>(seat, self.file.clone(), self.seen.clone())
    }

    fn serves_with_a_majority(&self) -> bool {
        false
    }
}

fn named(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn address(server: &str) -> String {
    format!("{server}:8080")
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// Boxed while the world is a parameter, as in `restante_sim::cluster`.
fn serve<W: World>(
    seat: ServerSeat,
    file: Arc<Mutex<Option<Arc<dyn Disk>>>>,
) -> BoxFuture<'static, Result<(), Ending>> {
    Box::pin(async move {
        let is_old = OLD.contains(&&*seat.name);
        let disk = seat.host.disk.clone().expect("a server has a disk");
        if !is_old {
            let backup = loop {
                let there = file.lock().clone();
                match there {
                    Some(backup) => break backup,
                    None => W::sleep(Duration::from_millis(50)).await,
                }
            };
            let target = disk.clone();
            let restored = W::blocking(move || {
                if target.list("").map_err(words)?.iter().any(|name| name == "restored") {
                    return Ok(());
                }
                let file = backup.open("backup", OpenMode::Existing).map_err(words)?;
                restore::<W>(&*file, target).map(drop).map_err(words)
            });
            restored.await.map_err(Ending::Other)?;
        }
        let cluster = if is_old { OLD } else { NEW };
        let cluster = cluster.map(|name| ServerAddress { name: named(name), address: address(name) }).to_vec();
        let mut settings = Settings::new(named(&seat.name), address(&seat.name), cluster);
        settings.segment_bytes = 16 << 20;
        settings.checkpoint_log_bytes = 32 << 20;
        settings.body_memory_bytes = 64 << 10;
        let shutdown = seat.shutdown.clone();
        let ended = server::run::<W>(settings, seat.host, async move { shutdown.raised().await }).await;
        ended.map_err(|error| match error {
            ServerError::Disk(_) | ServerError::Data(OpenError::Io(_)) => Ending::Disk(error.to_string()),
            other => Ending::Other(other.to_string()),
        })
    })
}

async fn connect<W: World>(host: &Host, servers: [&str; 3], cluster: Option<ClusterId>) -> Result<Client<W>, Error> {
    let mut settings = ClientSettings::new(servers.map(address));
    settings.cluster = cluster;
    loop {
        match Client::start(settings.clone(), host.clone()).await {
            Err(Error::Unreachable { .. }) => W::sleep(Duration::from_millis(50)).await,
            started => return started,
        }
    }
}

fn body(number: u64) -> Vec<u8> {
    (0..BODY_BYTES).map(|at| (at as u64 * 7 + number * 131) as u8).collect()
}

fn client<W: World>(
    seat: ClientSeat,
    file: Arc<Mutex<Option<Arc<dyn Disk>>>>,
    seen: Arc<Mutex<Seen>>,
) -> BoxFuture<'static, Result<(), String>> {
    Box::pin(async move {
        let old = live_in_the_old_one::<W>(&seat, &file, &seen).await?;
        go_on_in_the_new_one::<W>(&seat, old, &seen).await?;
        seat.journal.write(&seat.process, What::Rested { stage: Stage::Calm });
        seat.stages.reached(Stage::Stop).await;
        Ok(())
    })
}

async fn live_in_the_old_one<W: World>(
    seat: &ClientSeat,
    file: &Mutex<Option<Arc<dyn Disk>>>,
    seen: &Arc<Mutex<Seen>>,
) -> Result<ClusterId, String> {
    let client = connect::<W>(&seat.host, OLD, None).await.map_err(words)?;
    let (sender, reader) = (named("sender"), named("reader"));
    client.register(&sender).await.map_err(words)?;
    client.register(&reader).await.map_err(words)?;
    let stream = client.open_stream(&sender).await.map_err(words)?;
    let mut inbox = client.listen(&reader, 4).await.map_err(words)?;
    let mut saving = None;
    for number in 1..=MESSAGES {
        let receipt = stream.send(&named("reader"), body(number)).await.map_err(words)?;
        let receipt = receipt.await.map_err(words)?;
        if receipt.position.0 != number {
            return Err(format!("{number} is at {}", receipt.position));
        }
        seen.lock().accepted = number;
        if number <= ACKNOWLEDGED {
            let delivery = inbox.next().await.ok_or("the reader has ended")?.map_err(words)?;
            inbox.acknowledge(delivery.position);
        }
        if number == ACKNOWLEDGED {
            inbox.flush().await.map_err(words)?;
        }
        if number == MESSAGES / 2 {
            seen.lock().accepted_before = number;
            let task: BoxFuture<'static, _> = Box::pin(save::<W>(seat.host.clone(), seen.clone()));
            saving = Some(W::spawn(task));
        }
        if number > MESSAGES / 2 {
            W::sleep(Duration::from_millis(20)).await;
        }
    }
    let saving = saving.ok_or("no backup was begun")?;
    let bytes = saving.await.map_err(words)??;
    // The library's own way, onto a disk that forgets what was not synced.
    let drive = Drive::new("the person's", seat.plan.seed, 1..=5);
    let disk: Arc<dyn Disk> = Arc::new(drive.attach());
    let summary = client.save_backup(disk.clone(), "again", |_| {}).await.map_err(words)?;
    drive.power_cut();
    let disk: Arc<dyn Disk> = Arc::new(drive.attach());
    let checking = disk.clone();
    let (contents, names) = W::blocking(move || {
        let file = checking.open("again", OpenMode::Existing)?;
        Ok::<_, std::io::Error>((check(&*file), checking.list("")?))
    })
    .await
    .map_err(words)?;
    let contents = contents.map_err(words)?;
    if contents.summary != summary || contents.totals.waiting != MESSAGES - ACKNOWLEDGED || names != ["again"] {
        return Err(format!("the power went after the backup was saved: {contents:?}, {names:?}"));
    }
    let cluster = client.status().await.map_err(words)?.cluster.ok_or("it has no cluster")?;
    client.close().await;
    let writing = disk.clone();
    W::blocking(move || writing.open("backup", OpenMode::CreateNew)?.write_at(0, &bytes)).await.map_err(words)?;
    *file.lock() = Some(disk);
    Ok(cluster)
}

/// Reads a backup from server a, as long as that lives, at the pace of a slow disk.
async fn save<W: World>(host: Host, seen: Arc<Mutex<Seen>>) -> Result<Vec<u8>, String> {
    let mut settings = ClientSettings::new(OLD.map(address));
    settings.home = Some(named("a"));
    let client = Client::<W>::start(settings, host).await.map_err(words)?;
    loop {
        seen.lock().attempts += 1;
        let mut bytes = Vec::new();
        let Ok(mut backup) = client.backup().await else { continue };
        loop {
            match backup.next().await {
                Ok(Some(part)) => bytes.extend_from_slice(&part),
                Ok(None) => return Ok(bytes),
                Err(_) => break,
            }
            W::sleep(SLOW).await;
        }
    }
}

async fn go_on_in_the_new_one<W: World>(seat: &ClientSeat, old: ClusterId, seen: &Mutex<Seen>) -> Result<(), String> {
    // A server that has not founded it yet greets everybody, and knows nothing.
    let told = match connect::<W>(&seat.host, NEW, Some(old)).await {
        Ok(client) => client.who().await.err(),
        Err(error) => Some(error),
    };
    if !matches!(told, Some(Error::WrongCluster { .. })) {
        return Err(format!("a client of the old cluster was not told so: {told:?}"));
    }
    let client = connect::<W>(&seat.host, NEW, None).await.map_err(words)?;
    let waiting = loop {
        match client.who().await {
            Ok(rows) => break rows.iter().find(|row| &*row.name == "reader").map_or(0, |row| row.waiting),
            Err(Error::TimedOut { .. } | Error::Unreachable { .. }) => {}
            Err(error) => return Err(error.to_string()),
        }
    };
    let Seen { accepted_before, accepted, .. } = seen.lock().clone();
    let last = ACKNOWLEDGED + waiting;
    if !(accepted_before..=accepted).contains(&last) {
        return Err(format!("{last} are there; {accepted_before} were accepted before it began, {accepted} ever"));
    }
    let mut inbox = client.listen(&named("reader"), 8).await.map_err(words)?;
    let judge = |delivery: &Delivery, number: u64, redelivered: bool| {
        let place = (delivery.position.0, delivery.number.0, delivery.redelivered);
        if place != (number, if redelivered { number } else { 1 }, redelivered) || delivery.body != body(number) {
            return Err(format!("{place:?} was delivered where {number} comes next"));
        }
        Ok(())
    };
    for number in ACKNOWLEDGED + 1..=last {
        let delivery = inbox.next().await.ok_or("the reader has ended")?.map_err(words)?;
        judge(&delivery, number, true)?;
        inbox.acknowledge(delivery.position);
    }
    let stream = client.open_stream(&named("sender")).await.map_err(words)?;
    let receipt = stream.send(&named("reader"), body(last + 1)).await.map_err(words)?.await.map_err(words)?;
    if receipt.position.0 != last + 1 {
        return Err(format!("the next message is at {}, not behind {last}", receipt.position));
    }
    let delivery = inbox.next().await.ok_or("the reader has ended")?.map_err(words)?;
    judge(&delivery, last + 1, false)?;
    inbox.acknowledge(delivery.position);
    inbox.flush().await.map_err(words)?;
    seen.lock().restored = last;
    client.close().await;
    Ok(())
}

fn passes(text: &str) -> (Outcome, Seen) {
    let plan: Plan = text.parse().expect("a plan");
    let scenario = TwoLives::default();
    let outcome = run(&plan, &scenario, Lines::Discard);
    assert_eq!(outcome.verdict, Verdict::Passed, "with the plan\n{plan}");
    let seen = scenario.seen.lock().clone();
    assert!(seen.restored >= seen.accepted_before && seen.accepted == MESSAGES, "{seen:?}");
    (outcome, seen)
}

const QUIET: &str = "servers a b c d e f\nclients 1\nduration 20s\nliveness 30s";

#[test]
fn a_backup_under_traffic_becomes_a_cluster_that_lost_nothing_and_doubled_nothing() {
    let (_, seen) = passes(QUIET);
    assert_eq!(seen.attempts, 1);
    assert!(seen.restored < MESSAGES, "it is as of when it began, and others were sent meanwhile: {seen:?}");
}

#[test]
fn a_backup_whose_home_loses_its_power_goes_on_at_another_and_so_do_the_restored_servers() {
    let mut attempts = 0;
    for seed in 0..4 {
        let plan = format!(
            "seed {seed}\n{QUIET}\nat 3s for 1s crash a\nat 4.5s for 500ms bounce b\nat 8s for 1s crash d\n\
             at 9.5s for 1s crash e\nat 11s for 500ms power-cut"
        );
        attempts += passes(&plan).1.attempts;
    }
    assert!(attempts > 4, "no backup was cut off in the middle");
}

#[test]
fn the_same_plan_is_the_same_run() {
    let plan = format!("seed 9\n{QUIET}\nat 3s for 1s crash a");
    let (one, other) = (passes(&plan), passes(&plan));
    assert_eq!((one.0.hash, one.0.events, one.1), (other.0.hash, other.0.events, other.1));
}
