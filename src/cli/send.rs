//! `restante send`.

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use restante::client::{Error, Fate, Message, PendingReceipt, Receipt, Recipients, SendError, SendStream, Tracked};
use restante::limits;
use restante::wire::{Name, SendRefusal};
use serde::Serialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

use super::channel;
use super::failure::{Exit, Failure};
use super::files;
use super::interrupt::Interrupt;
use super::output::{self, Output, grouped};
use super::reach::Reach;
use super::values;

/// Send a message, or many, and print the receipt.
///
/// The receipt says that the message is safe on the disks of a majority of the servers and which position it has in
/// the recipient's inbox. If no answer comes in time it is not known whether the message was accepted.
///
/// With --receipt delivered it waits until the recipient has acknowledged the message. If it is interrupted before, that
/// receipt comes into the sender's inbox.
///
/// All names must be registered. `send --from A` beside `listen A` disturbs nothing.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante send --from alice --to bob 'see you at eight'
  restante send --from alice --to bob --receipt delivered 'please sign'
  restante send --from alice --to bob --to carol 'both of you, or neither'
  restante send --from alice --channel orders.new.eu '3 chairs'
  restante send --from alice --everybody 'lunch is ready'
  restante send --from alice --to alice --deliver-after 2h 'call the dentist'
  restante send --from alice --to bob --file photo.jpg --content-type image/jpeg
  date | restante send --from alice --to bob -
  seq 10000 | restante send --from alice --to bob --lines")]
pub struct Send {
    /// The sender's name
    #[arg(long, value_name = "NAME")]
    from: Name,
    /// The recipient's name; several of them, each with a --to of its own, get it all or none
    #[arg(long, value_name = "NAME", required_unless_present_any = ["channel", "everybody"])]
    to: Vec<Name>,
    /// Send to everybody who has joined this channel or subscribed to a pattern that its name fits
    #[arg(long, value_name = "CHANNEL", value_parser = channel::channel, conflicts_with = "to")]
    channel: Option<Name>,
    /// Send to every registered client
    #[arg(long, conflicts_with_all = ["to", "channel"])]
    everybody: bool,
    /// What to wait for: that the message is safe, or also that its recipients acknowledged it
    #[arg(long, value_name = "WHICH", default_value = "accepted", conflicts_with = "lines")]
    receipt: Which,
    /// The message; - reads it from the standard input
    #[arg(value_name = "TEXT", required_unless_present_any = ["file", "lines"], allow_hyphen_values = true)]
    text: Option<String>,
    /// Read the message from a file
    #[arg(long, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
    /// Send each line of the standard input (or of --file) as a message of its own, many in flight at once
    #[arg(long)]
    lines: bool,
    /// A header of the message; may be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = values::header)]
    headers: Vec<(String, String)>,
    /// Let nobody get it any more so long after it came into the inbox, e.g. 30s
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    expires: Option<std::time::Duration>,
    /// Let it come into the inbox so long after it was accepted, e.g. 2h; --expires counts from then
    #[arg(long, value_name = "DURATION", value_parser = values::duration)]
    deliver_after: Option<std::time::Duration>,
    /// What the message is, e.g. application/json: its header content-type
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    #[command(flatten)]
    output: Output,
}

/// Which receipt is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Which {
    /// The message is safe on a majority of the servers
    Accepted,
    /// The recipients acknowledged it
    Delivered,
}

/// A receipt, as JSON has it.
#[derive(Serialize)]
struct Accepted<'a> {
    from: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    number: u64,
    /// Where it is in the inbox of its one recipient.
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    /// Otherwise: how many inboxes it is in, and how many were full.
    #[serde(skip_serializing_if = "Option::is_none")]
    inboxes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    full: Option<u32>,
    /// When it comes into the inboxes, if that is later.
    #[serde(skip_serializing_if = "Option::is_none")]
    deliver_at_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    delivered: Option<Delivered>,
}

/// A delivered receipt, as JSON has it.
#[derive(Serialize)]
struct Delivered {
    acknowledged: u32,
    ended: u32,
    expired: u32,
    dropped: u32,
}

type Input = Box<dyn AsyncRead + core::marker::Send + Unpin>;

impl Send {
    /// Sends.
    ///
    /// # Errors
    /// A message cannot be read, was refused, or nobody answered.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        let typed = self.content_type.as_ref().map_or(0, |content_type| content_type.len() + 20);
        let headers: usize =
            typed + self.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum::<usize>();
        if headers > limits::HEADERS_BYTES_MAX {
            let max = limits::HEADERS_BYTES_MAX;
            return Err(Failure::new(Exit::Usage, format!("the headers are larger than {max} bytes")));
        }
        if self.lines && self.text.as_deref().is_some_and(|text| text != "-") {
            return Err(Failure::new(Exit::Usage, "--lines reads the standard input or --file, and takes no TEXT"));
        }
        // What is to be sent is read before anything is opened at the cluster: a missing file costs nothing.
        let body = if self.lines { None } else { Some(self.body().await?) };
        let input = if self.lines { Some(BufReader::with_capacity(256 << 10, self.input()?)) } else { None };

        let client = reach.connect(None).await?;
        let stream = client
            .open_stream(&self.from)
            .await
            .map_err(|error| Failure::from(error).while_doing(format_args!("cannot send as {}", self.from)))?;
        let sent = match (body, input) {
            (Some(body), _) => self.send_one(&stream, body).await,
            (None, Some(input)) => self.send_lines(&stream, input).await,
            (None, None) => unreachable!("there is a body unless there are lines"),
        };
        // What was accepted stays accepted, whether or not the stream closes in good order: it expires by itself.
        let closed = stream.close().await;
        client.close().await;
        sent?;
        if let Err(error) = closed {
            tracing::debug!(%error, "the stream was left to expire");
        }
        Ok(())
    }

    async fn send_one(&self, stream: &SendStream, body: Bytes) -> Result<(), Failure> {
        let message = self.message(body);
        if self.receipt == Which::Delivered {
            return self.send_and_wait(stream, message).await;
        }
        let pending = self.hand_in(stream, message).await.map_err(|error| self.unsent(error.into()))?;
        let receipt = pending.await.map_err(|error| self.refused(error))?;
        self.output.print(&self.accepted(receipt), |accepted| self.text(accepted))
    }

    /// One message to one client goes as a plain send.
    async fn hand_in(&self, stream: &SendStream, message: Message) -> Result<PendingReceipt, Error> {
        match self.recipients() {
            Recipients::Client(to) => stream.send(&to, message).await,
            others => stream.post(others, message).await,
        }
    }

    /// Waits for both receipts, and tells each as it comes.
    async fn send_and_wait(&self, stream: &SendStream, message: Message) -> Result<(), Failure> {
        let mut interrupt = Interrupt::new()?;
        let sent = stream.post_with_receipt(self.recipients(), message).await;
        let Tracked { accepted, delivered } = sent.map_err(|error| self.unsent(error.into()))?;
        let receipt = accepted.await.map_err(|error| self.refused(error))?;
        let mut accepted = self.accepted(receipt);
        if !self.output.json {
            output::print(&(self.text(&accepted) + "\n"))?;
        }
        let fate = tokio::select! {
            biased;
            _ = interrupt.next() => {
                let hint = format!("It is accepted. Its receipt comes into {}'s inbox.", self.from);
                return Err(Failure::interrupted().hint(hint));
            }
            fate = delivered => fate.map_err(Failure::from)?,
        };
        let Fate { acknowledged, ended, expired, dropped } = fate;
        accepted.delivered = Some(Delivered { acknowledged, ended, expired, dropped });
        self.output.print(&accepted, |_| match (acknowledged, ended + expired + dropped) {
            (1, 0) => "delivered: acknowledged by its recipient".to_owned(),
            (acknowledged, 0) => format!("delivered: acknowledged by {} recipients", grouped(acknowledged.into())),
            (acknowledged, lost) => format!(
                "not delivered to all: acknowledged by {}; {} were gone, or it expired or had to make room there",
                grouped(acknowledged.into()),
                grouped(lost.into())
            ),
        })?;
        if fate.is_delivered() {
            return Ok(());
        }
        Err(Failure::new(Exit::Refused, "the message did not reach everybody that it was accepted for"))
    }

    fn recipients(&self) -> Recipients {
        match (&self.channel, &self.to[..]) {
            (Some(channel), _) => Recipients::Channel(channel.clone()),
            (None, _) if self.everybody => Recipients::Everybody,
            (None, [one]) => Recipients::Client(one.clone()),
            (None, several) => Recipients::Clients(several.to_vec()),
        }
    }

    /// Who it goes to, in words.
    fn whom(&self) -> String {
        match self.recipients() {
            Recipients::Client(name) => name.to_string(),
            Recipients::Clients(names) => names.iter().map(Name::as_str).collect::<Vec<_>>().join(", "),
            Recipients::Channel(name) => format!("channel {name}"),
            Recipients::Everybody => "everybody".to_owned(),
        }
    }

    fn text(&self, accepted: &Accepted<'_>) -> String {
        if let Some(after) = self.deliver_after.filter(|_| accepted.deliver_at_ms.is_some()) {
            return format!("accepted: comes to {} in {}", self.whom(), output::span(after));
        }
        match (accepted.position, accepted.inboxes, accepted.full) {
            (Some(position), ..) => format!("accepted: position {} in {}'s inbox", grouped(position), self.whom()),
            (None, inboxes, full) => {
                let (inboxes, full) = (inboxes.unwrap_or(0), full.unwrap_or(0));
                let without = if full > 0 { format!("; {} were full", grouped(full.into())) } else { String::new() };
                format!("accepted: in {} inboxes{without}", grouped(inboxes.into()))
            }
        }
    }

    async fn send_lines(&self, stream: &SendStream, mut input: impl AsyncBufRead + Unpin) -> Result<(), Failure> {
        let mut flying: VecDeque<PendingReceipt> = VecDeque::new();
        let mut tally = Tally::default();
        let mut line = Vec::new();
        let result = loop {
            // A line longer than a body may be is noticed at its first byte too many, not at its end.
            let read = (&mut input).take(limits::BODY_BYTES_MAX as u64 + 2).read_until(b'\n', &mut line).await;
            match read {
                Ok(0) => break Ok(()),
                Ok(_) => {}
                Err(error) => break Err(Failure::new(Exit::Failed, format!("cannot read the lines: {error}"))),
            }
            if line.last() == Some(&b'\n') {
                line.pop();
            }
            if line.len() > limits::BODY_BYTES_MAX {
                break Err(too_large(&format!("line {}", tally.sent + 1)));
            }
            match self.hand_in(stream, self.message(Bytes::copy_from_slice(&line))).await {
                Ok(pending) => flying.push_back(pending),
                Err(error) => break Err(error.into()),
            }
            line.clear();
            tally.sent += 1;
            // Receipts are taken in order while more is read; as many as the stream's window are in flight.
            while flying.len() >= limits::STREAM_WINDOW_DEFAULT as usize {
                if let Some(pending) = flying.pop_front() {
                    self.settle(pending, &mut tally).await?;
                }
            }
        };
        for pending in flying {
            self.settle(pending, &mut tally).await?;
        }
        if !self.output.json {
            output::print(&tally.text(&self.whom()))?;
        }
        result?;
        match tally.failure {
            Some(failure) => Err(self.unsent(failure).while_doing(format_args!(
                "{} of {} lines were not accepted; the first of them",
                grouped(tally.sent - tally.accepted),
                grouped(tally.sent)
            ))),
            None => Ok(()),
        }
    }

    async fn settle(&self, pending: PendingReceipt, tally: &mut Tally) -> Result<(), Failure> {
        match pending.await {
            Ok(receipt) => {
                tally.accepted += 1;
                let position = receipt.position.0;
                tally.reached = tally.reached.max(receipt.inboxes);
                tally.later |= receipt.scheduled.is_some();
                tally.positions = Some(tally.positions.map_or((position, position), |(first, _)| (first, position)));
                if self.output.json {
                    output::print(&(output::json(&self.accepted(receipt)) + "\n"))?;
                }
            }
            Err(error) => drop(tally.failure.get_or_insert_with(|| error.into())),
        }
        Ok(())
    }

    fn message(&self, body: Bytes) -> Message {
        let mut message = Message::new(body);
        if let Some(expires) = self.expires {
            message = message.expires_after(expires);
        }
        if let Some(delay) = self.deliver_after {
            message = message.deliver_after(delay);
        }
        if let Some(content_type) = &self.content_type {
            message = message.header("content-type", content_type);
        }
        self.headers.iter().fold(message, |message, (name, value)| message.header(name, value))
    }

    fn accepted(&self, receipt: Receipt) -> Accepted<'_> {
        let one = receipt.position.0 > 0;
        let many = !one && receipt.scheduled.is_none();
        Accepted {
            from: &self.from,
            to: self.to.first().filter(|_| one || self.to.len() == 1).map(Name::as_str),
            channel: self.channel.as_deref(),
            number: receipt.number.0,
            position: one.then_some(receipt.position.0),
            inboxes: many.then_some(receipt.inboxes),
            full: many.then_some(receipt.full),
            deliver_at_ms: receipt.scheduled.map(|time| time.0),
            delivered: None,
        }
    }

    /// Of several recipients, those who are in the way are named.
    fn refused(&self, error: SendError) -> Failure {
        let SendError::Refused(SendRefusal::Recipients(unreached)) = &error else { return self.unsent(error.into()) };
        let named = |bits: u64| {
            let names = self.to.iter().enumerate().filter(|(place, _)| bits >> place & 1 == 1);
            names.map(|(_, name)| name.as_str()).collect::<Vec<_>>().join(", ")
        };
        let mut why = Vec::new();
        if unreached.unknown > 0 {
            why.push(format!("not registered: {}", named(unreached.unknown)));
        }
        if unreached.full > 0 {
            why.push(format!("inbox full: {}", named(unreached.full)));
        }
        Failure::new(Exit::Refused, format!("a message to {} went to none of them; {}", self.whom(), why.join("; ")))
    }

    fn unsent(&self, failure: Failure) -> Failure {
        failure.while_doing(format_args!("a message to {}", self.whom()))
    }

    async fn body(&self) -> Result<Bytes, Failure> {
        if let Some(text) = self.text.as_deref().filter(|text| *text != "-") {
            return match text.len() {
                0..=limits::BODY_BYTES_MAX => Ok(Bytes::copy_from_slice(text.as_bytes())),
                _ => Err(too_large("the message")),
            };
        }
        let mut body = Vec::new();
        let read = self.input()?.take(limits::BODY_BYTES_MAX as u64 + 1).read_to_end(&mut body).await;
        read.map_err(|error| Failure::new(Exit::Failed, format!("cannot read the message: {error}")))?;
        if body.len() > limits::BODY_BYTES_MAX { Err(too_large("the message")) } else { Ok(body.into()) }
    }

    fn input(&self) -> Result<Input, Failure> {
        if let Some(path) = &self.file {
            return Ok(Box::new(tokio::fs::File::from_std(files::open(path)?)));
        }
        if std::io::stdin().is_terminal() {
            eprintln!("Type what to send; Ctrl-D ends it.");
        }
        Ok(Box::new(tokio::io::stdin()))
    }
}

/// What became of many lines.
#[derive(Default)]
struct Tally {
    sent: u64,
    accepted: u64,
    positions: Option<(u64, u64)>,
    /// They come later.
    later: bool,
    /// The most inboxes that one of them went to.
    reached: u32,
    failure: Option<Failure>,
}

impl Tally {
    fn text(&self, to: &str) -> String {
        let sent = grouped(self.sent);
        let accepted = grouped(self.accepted);
        match self.positions {
            Some((0, _)) if self.later => format!("sent {sent}, accepted {accepted}: they come to {to} later\n"),
            Some((0, _)) => {
                format!("sent {sent}, accepted {accepted}: in up to {} inboxes\n", grouped(self.reached.into()))
            }
            Some((first, last)) => format!(
                "sent {sent}, accepted {accepted}: positions {} to {} in {to}'s inbox\n",
                grouped(first),
                grouped(last)
            ),
            None => format!("sent {sent}, accepted {accepted}\n"),
        }
    }
}

fn too_large(what: &str) -> Failure {
    let max = output::size(limits::BODY_BYTES_MAX as u64);
    Failure::new(Exit::Usage, format!("{what} is larger than {max}, the most that one message carries"))
        .hint("Split it, or send a reference to where it is kept.")
}
