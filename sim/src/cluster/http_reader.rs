//! Reads a client's inbox by HTTP, with one reader after another: some are replaced while they read, and learn so.

use std::sync::Arc;
use std::time::Duration;

use rand::RngExt;
use restante::world::{BoxFuture, Instant, World};
use serde_json::{Value, json};

use super::client::{Me, branch};
use super::http::{Browser, nonce};
use crate::history::{SendKey, What};
use crate::scenario::{ClientSeat, Stage};

/// How long a look waits for messages, and how long its answer may take.
const WAIT: Duration = Duration::from_secs(2);
const ANSWER: Duration = Duration::from_millis(3500);
/// The pause after a look that had no answer.
const PAUSE: Duration = Duration::from_millis(40);

pub(super) async fn run<W: World>(mut seat: ClientSeat, me: Arc<Me>) -> Result<(), String> {
    let begun = W::now();
    let changes = seat.random.random_range(0..=if me.is_stolen_from { 8 } else { 3 });
    let mut moments: Vec<u64> = (0..changes).map(|_| seat.random.random_range(0..=seat.plan.duration.0)).collect();
    moments.sort_unstable();
    let mut moments = moments.into_iter().map(|at| begun + Duration::from_millis(at));
    let mut tasks = Vec::new();
    loop {
        let Some(reader) = Reader::attach::<W>(&mut seat, &me).await? else { break };
        let Some(moment) = moments.next() else {
            // The last one reads to the end, of one registration after another.
            match reader.boxed::<W>(None, false).await? {
                Left::RegistrationEnded => continue,
                Left::Done => break,
            }
        };
        if seat.random.random_bool(0.4) {
            reader.boxed::<W>(Some(moment), false).await?;
            continue;
        }
        // The next one comes while this one reads.
        tasks.push(W::spawn(reader.boxed::<W>(None, true)));
        W::sleep_until(moment).await;
    }
    for task in tasks {
        task.await.map_err(|error| error.to_string())??;
    }
    Ok(())
}

/// Why a reader reads no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Left {
    /// It left, or was replaced.
    Done,
    /// The registration has ended, so there is another inbox to read.
    RegistrationEnded,
}

/// One attachment.
struct Reader {
    browser: Browser,
    me: Arc<Me>,
    session: u64,
    registration: u64,
    epoch: u64,
    /// The last position that was seen.
    taken: u64,
    /// Whether what was seen is acknowledged.
    settled: bool,
    /// How likely it acknowledges after a look.
    all: f64,
}

impl Reader {
    /// Becomes the reader. `None` if the run ended first.
    async fn attach<W: World>(seat: &mut ClientSeat, me: &Arc<Me>) -> Result<Option<Self>, String> {
        let window = [2u32, 8, 64, 1024][seat.random.random_range(0..4)];
        let all = seat.random.random_range(0.2..1.0);
        let mut browser = Browser::new(branch(seat));
        loop {
            let (session, inbox) = (seat.journal.next_session(), me.name.to_string());
            browser.write(What::Attaching { session, inbox: inbox.clone(), window });
            // With the epoch that it found, a copy that is late can fence nobody.
            let (status, answer) =
                browser.insist::<W>("GET", &format!("/inbox/{}?limit=1", me.name), &Value::Null).await;
            let (status, answer) = match (status, answer["epoch"].as_u64()) {
                (200, Some(epoch)) => {
                    let registration = answer["registration"].clone();
                    let nonce = nonce(&mut browser.seat);
                    let body =
                        json!({ "window": window, "nonce": nonce, "epoch": epoch, "registration": registration });
                    browser.insist::<W>("POST", &format!("/inbox/{}/attach", me.name), &body).await
                }
                _ => (status, answer),
            };
            let number = |field: &str| answer[field].as_u64();
            if let (200, Some(registration), Some(epoch)) = (status, number("registration"), number("epoch")) {
                browser.write(What::Attached { session, inbox, registration });
                let (me, taken) = (me.clone(), number("acknowledged").unwrap_or(0));
                return Ok(Some(Self { browser, me, session, registration, epoch, taken, settled: true, all }));
            }
            browser.write(What::Ended { session, inbox });
            match (status, answer["reason"].as_str()) {
                // An earlier life of this client may have attached in between.
                (409, Some("fenced")) => {}
                (404, _) | (409, Some("registration_ended")) if me.renews => {}
                _ => return Err(format!("attaching was answered by {status} {answer}")),
            }
            if seat.stages.have_reached(Stage::Stop) {
                return Ok(None);
            }
            W::sleep(PAUSE).await;
        }
    }

    fn boxed<W: World>(self, leaves: Option<Instant>, replaced: bool) -> BoxFuture<'static, Result<Left, String>> {
        Box::pin(self.read::<W>(leaves, replaced))
    }

    /// Reads until it is replaced, or until it leaves: at that moment, or when the run ends.
    async fn read<W: World>(mut self, leaves: Option<Instant>, replaced: bool) -> Result<Left, String> {
        let stages = self.browser.seat.stages.clone();
        loop {
            if stages.have_reached(Stage::Stop) || leaves.is_some_and(|moment| W::now() >= moment) {
                self.ended();
                return Ok(Left::Done);
            }
            let (status, answer) = match self.look::<W>(leaves).await {
                Some(answer) => answer,
                None => {
                    W::sleep(PAUSE).await;
                    continue;
                }
            };
            if status != 200 {
                return self.over(status, &answer, replaced);
            }
            self.take(&answer)?;
            let calm = stages.have_reached(Stage::Core);
            if self.settled || !(calm || self.browser.seat.random.random_bool(self.all)) {
                continue;
            }
            let (status, answer) = self.acknowledge::<W>().await;
            if status != 200 {
                return self.over(status, &answer, replaced);
            }
            self.browser.write(What::Confirmed { session: self.session, inbox: self.name(), to: self.taken });
            self.settled = true;
        }
    }

    async fn look<W: World>(&mut self, leaves: Option<Instant>) -> Option<(u64, Value)> {
        // With what it has not acknowledged its window may be full, and then nothing comes.
        let most = if self.settled { WAIT } else { Duration::from_millis(200) };
        let wait = leaves.map_or(most, |moment| moment.saturating_duration_since(W::now()).min(most));
        let query = format!("registration={}&epoch={}&after={}", self.registration, self.epoch, self.taken);
        let target = format!("/inbox/{}?{query}&wait={}", self.name(), wait.as_secs_f64());
        let answer = self.browser.ask::<W>("GET", &target, None, ANSWER).await;
        answer.filter(|(status, _)| *status != 503 && *status != 504)
    }

    fn take(&mut self, answer: &Value) -> Result<(), String> {
        for message in answer["messages"].as_array().into_iter().flatten() {
            let text = message["message"].as_str().map(|text| text.as_bytes().to_vec());
            let body = match text {
                Some(text) => text,
                None => {
                    use base64::Engine as _;
                    let text = message["message_base64"].as_str().unwrap_or_default();
                    base64::engine::general_purpose::STANDARD.decode(text).map_err(|error| error.to_string())?
                }
            };
            let (send, digest) = SendKey::of_body(&body);
            let number = |field: &str| message[field].as_u64().unwrap_or(0);
            self.taken = number("position");
            self.settled = false;
            self.browser.write(What::Delivered {
                session: self.session,
                inbox: self.name(),
                position: self.taken,
                redelivered: message["redelivered"] == true,
                from: message["sender_id"].as_str().unwrap_or_default().to_owned(),
                number: number("number"),
                send,
                digest,
                message: number("message_id"),
                channel: message["channel"].as_str().map(str::to_owned),
                notice: message["receipt"]["acknowledged"].as_u64().map(|acknowledged| {
                    let ended = message["receipt"]["ended"].as_u64().unwrap_or(0);
                    (acknowledged as u32, ended as u32)
                }),
                time: number("time"),
            });
        }
        Ok(())
    }

    async fn acknowledge<W: World>(&mut self) -> (u64, Value) {
        let (session, inbox, to) = (self.session, self.name(), self.taken);
        self.browser.write(What::Acknowledged { session, inbox, from: 1, to });
        let body = json!({ "registration": self.registration, "epoch": self.epoch, "up_to": to });
        let target = format!("/inbox/{}/acknowledge", self.name());
        self.browser.insist::<W>("POST", &target, &body).await
    }

    /// It may not read any more.
    fn over(&self, status: u64, answer: &Value, replaced: bool) -> Result<Left, String> {
        self.ended();
        let reason = answer["reason"].as_str().unwrap_or_default();
        match (status, reason) {
            (409, "fenced" | "read_by_session") if replaced => Ok(Left::Done),
            (409, "registration_ended") | (404, _) if self.me.renews => Ok(Left::RegistrationEnded),
            _ => Err(format!("attachment {} was told {status} {answer}", self.session)),
        }
    }

    fn ended(&self) {
        self.browser.write(What::Ended { session: self.session, inbox: self.name() });
    }

    fn name(&self) -> String {
        self.me.name.to_string()
    }
}
