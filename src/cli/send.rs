//! `restante send`.

use std::collections::VecDeque;
use std::io::IsTerminal as _;
use std::path::PathBuf;

use bytes::Bytes;
use clap::Args;
use restante::client::{Message, PendingReceipt, Receipt, SendStream};
use restante::limits;
use restante::wire::Name;
use serde::Serialize;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader};

use super::failure::{Exit, Failure};
use super::files;
use super::output::{self, Output, grouped};
use super::reach::Reach;
use super::values;

/// Send a message, or many, and print the receipt.
///
/// The receipt says that the message is safe on the disks of a majority of the servers and which position it has in
/// the recipient's inbox. If no answer comes in time it is not known whether the message was accepted.
///
/// Both names must be registered. `send --from A` beside `listen A` disturbs nothing.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante send --from alice --to bob 'see you at eight'
  restante send --from alice --to bob --file photo.jpg --header type=image/jpeg
  date | restante send --from alice --to bob -
  seq 10000 | restante send --from alice --to bob --lines")]
pub struct Send {
    /// The sender's name
    #[arg(long, value_name = "NAME")]
    from: Name,
    /// The recipient's name
    #[arg(long, value_name = "NAME")]
    to: Name,
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
    #[command(flatten)]
    output: Output,
}

/// A receipt, as JSON has it.
#[derive(Serialize)]
struct Accepted<'a> {
    from: &'a str,
    to: &'a str,
    number: u64,
    position: u64,
}

type Input = Box<dyn AsyncRead + core::marker::Send + Unpin>;

impl Send {
    /// Sends.
    ///
    /// # Errors
    /// A message cannot be read, was refused, or nobody answered.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        let headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 8).sum();
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
        let pending = stream.send(&self.to, self.message(body)).await.map_err(|error| self.unsent(error.into()))?;
        let receipt = pending.await.map_err(|error| self.unsent(error.into()))?;
        self.output.print(&self.accepted(receipt), |a| {
            format!("accepted: position {} in {}'s inbox", grouped(a.position), a.to)
        })
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
            match stream.send(&self.to, self.message(Bytes::copy_from_slice(&line))).await {
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
            output::print(&tally.text(&self.to))?;
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
        let message = Message::new(body);
        self.headers.iter().fold(message, |message, (name, value)| message.header(name, value))
    }

    fn accepted(&self, receipt: Receipt) -> Accepted<'_> {
        Accepted { from: &self.from, to: &self.to, number: receipt.number.0, position: receipt.position.0 }
    }

    fn unsent(&self, failure: Failure) -> Failure {
        failure.while_doing(format_args!("a message to {}", self.to))
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
    failure: Option<Failure>,
}

impl Tally {
    fn text(&self, to: &Name) -> String {
        let sent = grouped(self.sent);
        let accepted = grouped(self.accepted);
        match self.positions {
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
