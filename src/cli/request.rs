//! `restante request` and `restante reply`.

use std::process::Stdio;
use std::time::Duration;

use clap::Args;
use restante::client::{Client, Delivery, Inbox, Message, RequestError, Requester, SendStream};
use restante::limits;
use restante::wire::Name;
use tokio::io::AsyncWriteExt as _;

use super::failure::{Exit, Failure};
use super::interrupt::Interrupt;
use super::listen;
use super::output::{self, Output};
use super::reach::Reach;
use super::values;

/// Ask a client something, and print its reply.
///
/// A request to nobody fails at once. Without a reply by the deadline the command ends with 4; the request may still be
/// answered, to nobody. The reply comes into an inbox of its own, which lives as long as the command: whoever listens as the
/// sender is not disturbed.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante request --from alice --to bob 'what is the time?'
  restante request --from alice --to bob --deadline 500ms 'quick!' --json | jq -r .body")]
pub struct Request {
    /// The sender's name
    #[arg(long, value_name = "NAME")]
    from: Name,
    /// The recipient's name
    #[arg(long, value_name = "NAME")]
    to: Name,
    /// The question
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    text: String,
    /// How long to wait for the reply
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = values::duration)]
    deadline: Duration,
    /// A header of the request; may be given several times
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = values::header)]
    headers: Vec<(String, String)>,
    #[command(flatten)]
    output: Output,
}

impl Request {
    /// Asks.
    ///
    /// # Errors
    /// There is nobody of that name, or no reply by the deadline.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        let mut interrupt = Interrupt::new()?;
        let client = reach.connect(None).await?;
        let opened = Requester::open(&client, &self.from).await;
        let mut requester =
            opened.map_err(|error| Failure::from(error).while_doing(format_args!("cannot ask as {}", self.from)))?;
        let message = self
            .headers
            .iter()
            .fold(Message::from(self.text.as_str()), |message, (name, value)| message.header(name, value));
        let asked = tokio::select! {
            biased;
            _ = interrupt.next() => Err(Failure::interrupted()),
            reply = requester.request(&self.to, message, self.deadline) => reply.map_err(|error| self.unanswered(error)),
        };
        // Whatever came of it, its inbox goes.
        let closed = requester.close().await;
        client.close().await;
        output::print(&(listen::line(&asked?, self.output) + "\n"))?;
        if let Err(error) = closed {
            tracing::debug!(%error, "the inbox for replies was left");
        }
        Ok(())
    }

    fn unanswered(&self, error: RequestError) -> Failure {
        let failure = match error {
            RequestError::NotAsked(error) => error.into(),
            RequestError::Client(error) => error.into(),
            error @ RequestError::NoReply { .. } => Failure::new(Exit::Unavailable, error.to_string()),
        };
        failure.while_doing(format_args!("a request to {}", self.to))
    }
}

/// Answer requests, as they come.
///
/// Each request is answered with TEXT, or with what a program says that is started for it: it gets the request's body as its
/// standard input. A message that asks for no reply is left in the inbox's past, acknowledged and unanswered. A request is
/// acknowledged once its reply is safe, so that one whose answerer dies is answered by the next.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante reply bob 'ask me later'
  restante reply bob --exec date                 until Ctrl-C
  restante reply bob --exec ./answer --count 1")]
pub struct Reply {
    /// The client's name
    name: Name,
    /// What to answer
    #[arg(value_name = "TEXT", required_unless_present = "exec", allow_hyphen_values = true)]
    text: Option<String>,
    /// A program that answers: its standard output is the reply
    #[arg(long, value_name = "PROGRAM", conflicts_with = "text")]
    exec: Option<String>,
    /// End after so many requests
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

impl Reply {
    /// Answers.
    ///
    /// # Errors
    /// No such client, another reader took over, the program failed, or the cluster did not answer.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        let mut interrupt = Interrupt::new()?;
        let client = reach.connect(None).await?;
        let (stream, mut inbox) = self.ready(&client).await.map_err(|failure| self.ended(failure))?;
        let answered = tokio::select! {
            biased;
            _ = interrupt.next() => Ok(()),
            answered = self.answer_all(&stream, &mut inbox) => answered,
        };
        inbox.flush().await.map_err(Failure::from)?;
        inbox.close().await.map_err(Failure::from)?;
        stream.close().await.map_err(Failure::from)?;
        client.close().await;
        answered.map_err(|failure| self.ended(failure))
    }

    async fn ready(&self, client: &Client) -> Result<(SendStream, Inbox), Failure> {
        let stream = client.open_stream(&self.name).await?;
        let inbox = client.listen(&self.name, limits::READER_WINDOW_DEFAULT).await?;
        Ok((stream, inbox))
    }

    async fn answer_all(&self, stream: &SendStream, inbox: &mut Inbox) -> Result<(), Failure> {
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let Some(request) = inbox.next().await else { return Ok(()) };
            let request = request?;
            if let Some(to) = request.reply_to() {
                let reply = request.reply(self.body(&request).await?);
                // Whoever asked may have given up, and its inbox with it.
                match stream.send(&to, reply).await?.await {
                    Ok(_) => left -= 1,
                    Err(error) => tracing::info!(%to, %error, "a reply found nobody"),
                }
            }
            inbox.acknowledge(request.position);
        }
        Ok(())
    }

    async fn body(&self, request: &Delivery) -> Result<Vec<u8>, Failure> {
        let Some(program) = &self.exec else { return Ok(self.text.clone().unwrap_or_default().into_bytes()) };
        let failed = |what: &str| Failure::new(Exit::Failed, format!("{program} {what}"));
        let mut command = tokio::process::Command::new(program);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| failed(&format!("cannot be started: {error}")))?;
        let input = child.stdin.take();
        let feed = async {
            if let Some(mut input) = input {
                // It need not read it.
                let _ = input.write_all(&request.body).await;
            }
        };
        let (output, ()) = tokio::join!(child.wait_with_output(), feed);
        let output = output.map_err(|error| failed(&format!("cannot be waited for: {error}")))?;
        match output.status.success() && output.stdout.len() <= limits::BODY_BYTES_MAX {
            true => Ok(output.stdout),
            false if output.status.success() => Err(failed("said more than a message carries")),
            false => Err(failed(&format!("failed: {}", output.status))),
        }
    }

    fn ended(&self, failure: Failure) -> Failure {
        failure.while_doing(format_args!("cannot answer as {}", self.name))
    }
}
