//! `restante chat`: reading and writing in one terminal.

mod terminal;

use std::collections::VecDeque;

use clap::Args;
use futures::FutureExt as _;
use restante::client::{Client, Error, Inbox, PendingReceipt, SendError, SendStream};
use restante::limits;
use restante::wire::{Name, ServerAddress};
use restante::world::WatchReceiver;

use self::terminal::{Input, Terminal};
use super::failure::{Exit, Failure};
use super::interrupt::Interrupt;
use super::listen;
use super::output::Output;
use super::reach::Reach;

/// Read and write in one terminal: what you type is sent, and what arrives is printed as it comes.
///
/// A message is acknowledged once it is printed. The chat goes on when its server dies. On a terminal what arrives does
/// not disturb the line that is being typed. Ctrl-D and Ctrl-C leave, after what was sent has its receipts.
#[derive(Debug, Args)]
#[command(after_long_help = "\
While it runs:
  /to NAME      send to that client from now on
  /quit         leave (so do Ctrl-D and Ctrl-C)
  /help         this
  //text        send a line that begins with a slash

Examples:
  restante chat alice --to bob
  restante chat bob                        and then: /to alice
  tail -f log | restante chat alice --to bob")]
pub struct Chat {
    /// Who you are
    name: Name,
    /// Whom to write to
    #[arg(long, value_name = "NAME")]
    to: Option<Name>,
    #[command(flatten)]
    output: Output,
}

const HELP: &str = "/to NAME  send to NAME    /quit  leave    //text  send a line that begins with a slash";

/// What a line means.
#[derive(Debug, PartialEq, Eq)]
enum Typed<'a> {
    Nothing,
    Say(&'a str),
    To(&'a str),
    Quit,
    Help,
    Unknown(&'a str),
}

fn typed(line: &str) -> Typed<'_> {
    let line = line.trim_end_matches(['\r', '\n']);
    let Some(command) = line.strip_prefix('/') else {
        return if line.trim().is_empty() { Typed::Nothing } else { Typed::Say(line) };
    };
    if command.starts_with('/') {
        return Typed::Say(command);
    }
    match command.trim().split_once(char::is_whitespace).unwrap_or((command.trim(), "")) {
        ("to", name) => Typed::To(name.trim()),
        ("quit" | "q" | "exit", "") => Typed::Quit,
        ("help" | "h" | "?", "") => Typed::Help,
        (other, _) => Typed::Unknown(other),
    }
}

impl Chat {
    /// Chats.
    ///
    /// # Errors
    /// No such client, another reader took over, or the cluster did not answer.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        let mut interrupt = Interrupt::new()?;
        let starting = async {
            let client = reach.connect(None).await?;
            let inbox = client.listen(&self.name, limits::READER_WINDOW_DEFAULT).await;
            let inbox = inbox.map_err(|error| self.ended(error.into()))?;
            let stream = client.open_stream(&self.name).await.map_err(|error| self.ended(error.into()))?;
            Ok::<_, Failure>((client, inbox, stream))
        };
        let (client, mut inbox, stream) = tokio::select! {
            biased;
            _ = interrupt.next() => return Err(Failure::interrupted()),
            started = starting => started?,
        };
        let (terminal, input) = terminal::open(&format!("{}> ", self.name))?;
        let mut talk = Talk { chat: self, to: self.to.clone(), terminal, flying: VecDeque::new(), at: None };
        talk.greet()?;
        let talked = talk.go_on(&client, &mut inbox, &stream, input, &mut interrupt).await;
        // A second Ctrl-C does not wait for the cluster.
        let leaving = async {
            let settled = talk.settle_all().await;
            if talked.is_ok() {
                inbox.flush().await.map_err(|error| self.ended(error.into()))?;
            }
            let closed = (stream.close().await, inbox.close().await);
            client.close().await;
            if let (Err(error), _) | (_, Err(error)) = closed {
                tracing::debug!(%error, "left without a farewell");
            }
            settled
        };
        let left = tokio::select! {
            biased;
            _ = interrupt.next() => Err(Failure::interrupted()),
            left = leaving => left,
        };
        talked.and(left)
    }

    fn ended(&self, failure: Failure) -> Failure {
        failure.while_doing(format_args!("cannot chat as {}", self.name))
    }
}

/// A chat that is under way.
struct Talk<'a> {
    chat: &'a Chat,
    to: Option<Name>,
    terminal: Terminal,
    /// Sends without a receipt yet, in order.
    flying: VecDeque<(Name, PendingReceipt)>,
    /// The server that it was at last.
    at: Option<ServerAddress>,
}

impl Talk<'_> {
    fn greet(&mut self) -> Result<(), Failure> {
        let to = self.to.as_ref().map_or_else(|| "/to NAME says to whom".to_owned(), |to| format!("to {to}"));
        self.note(&format!("{}, {to}; /help helps, Ctrl-D leaves", self.chat.name))
    }

    /// Something that we say ourselves: for people on a terminal alone.
    fn note(&mut self, text: &str) -> Result<(), Failure> {
        self.terminal.note(text)
    }

    async fn go_on(
        &mut self,
        client: &Client,
        inbox: &mut Inbox,
        stream: &SendStream,
        mut input: Input,
        interrupt: &mut Interrupt,
    ) -> Result<(), Failure> {
        let mut server = client.server();
        loop {
            let next = tokio::select! {
                biased;
                _ = interrupt.next() => return Ok(()),
                next = next_delivery(inbox) => Next::Delivery(next),
                sent = first(&mut self.flying) => Next::Sent(sent),
                _ = changed(&mut server) => Next::Moved,
                line = input.next() => Next::Line(line),
            };
            match next {
                Next::Delivery(None) => return Ok(()),
                Next::Delivery(Some(delivery)) => {
                    let delivery = delivery.map_err(|error| self.chat.ended(error.into()))?;
                    self.terminal.print(&listen::line(&delivery, self.chat.output))?;
                    inbox.acknowledge(delivery.position);
                }
                Next::Sent((to, sent)) => self.sent(&to, sent)?,
                Next::Moved => self.moved(&mut server)?,
                Next::Line(None) => return Ok(()),
                Next::Line(Some(line)) => {
                    if !self.take(&line?, stream).await? {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Carries a line out; false if it ends the chat.
    async fn take(&mut self, line: &str, stream: &SendStream) -> Result<bool, Failure> {
        match typed(line) {
            Typed::Nothing => {}
            Typed::Quit => return Ok(false),
            Typed::Help => self.note(HELP)?,
            Typed::Unknown(command) => self.complain(&format!("there is no /{command}; {HELP}"))?,
            Typed::To(name) => match Name::new(name) {
                Ok(name) => {
                    self.note(&format!("to {name} from now on"))?;
                    self.to = Some(name);
                }
                Err(bad) => self.complain(&bad.to_string())?,
            },
            Typed::Say(text) if text.len() > limits::BODY_BYTES_MAX => self.complain("that is too long")?,
            Typed::Say(text) => match self.to.clone() {
                None => self.complain("to whom? Say so first: /to NAME")?,
                Some(to) => {
                    let pending =
                        stream.send(&to, text.to_owned()).await.map_err(|error| self.chat.ended(error.into()))?;
                    self.flying.push_back((to, pending));
                }
            },
        }
        Ok(true)
    }

    /// Something is wrong with what was typed. Where nobody types, that ends the chat.
    fn complain(&mut self, text: &str) -> Result<(), Failure> {
        match self.terminal.is_interactive() {
            true => self.note(text),
            false => Err(Failure::new(Exit::Usage, text)),
        }
    }

    fn sent(&mut self, to: &Name, sent: Result<(), SendError>) -> Result<(), Failure> {
        match sent {
            Ok(()) => Ok(()),
            Err(error) => {
                let failure = Failure::from(error).while_doing(format_args!("a message to {to}"));
                if self.terminal.is_interactive() { self.note(&failure.text) } else { Err(failure) }
            }
        }
    }

    fn moved(&mut self, server: &mut WatchReceiver<Option<ServerAddress>>) -> Result<(), Failure> {
        use openraft_rt::watch::WatchReceiver as _;
        let now = server.borrow_and_update().clone();
        match (&self.at, now) {
            (None, Some(now)) => self.at = Some(now),
            (Some(before), Some(now)) if *before != now => {
                let text = format!("went on at server {} ({})", now.name, now.address);
                self.at = Some(now);
                self.note(&text)?;
            }
            (Some(before), None) => {
                let text = format!("server {} is gone; looking for another one", before.name);
                self.note(&text)?;
            }
            _ => {}
        }
        Ok(())
    }

    /// Waits for the receipts that are still to come.
    async fn settle_all(&mut self) -> Result<(), Failure> {
        self.terminal.close();
        while let Some((to, pending)) = self.flying.pop_front() {
            self.sent(&to, pending.await.map(drop))?;
        }
        Ok(())
    }
}

enum Next {
    Delivery(Option<Result<restante::client::Delivery, Error>>),
    Sent((Name, Result<(), SendError>)),
    Moved,
    Line(Option<Result<String, Failure>>),
}

async fn next_delivery(inbox: &mut Inbox) -> Option<Result<restante::client::Delivery, Error>> {
    inbox.next().await
}

/// Waits for the first receipt; for ever if there is nothing to wait for.
async fn first(flying: &mut VecDeque<(Name, PendingReceipt)>) -> (Name, Result<(), SendError>) {
    let Some((_, pending)) = flying.front_mut() else { return std::future::pending().await };
    let sent = pending.map(|receipt| receipt.map(drop)).await;
    match flying.pop_front() {
        Some((to, _)) => (to, sent),
        None => std::future::pending().await,
    }
}

async fn changed(server: &mut WatchReceiver<Option<ServerAddress>>) {
    use openraft_rt::watch::WatchReceiver as _;
    if server.changed().await.is_err() {
        // The client has ended, which its inbox says.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_said_unless_they_are_commands() {
        assert_eq!(typed("hello there\n"), Typed::Say("hello there"));
        assert_eq!(typed("  \n"), Typed::Nothing);
        assert_eq!(typed("//etc is a directory"), Typed::Say("/etc is a directory"));
        assert_eq!(typed("/to  bob "), Typed::To("bob"));
        assert_eq!(typed("/to"), Typed::To(""));
        assert_eq!(typed("/quit"), Typed::Quit);
        assert_eq!(typed("/help"), Typed::Help);
        assert_eq!(typed("/tobob x"), Typed::Unknown("tobob"));
    }
}
