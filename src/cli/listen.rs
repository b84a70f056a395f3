//! `restante listen`.

use clap::Args;
use restante::client::{Delivery, Inbox};
use restante::limits;
use restante::wire::Name;
use serde::Serialize;

use super::failure::Failure;
use super::interrupt::Interrupt;
use super::output::{Body, Output, printable};
use super::reach::Reach;

/// Print what waits in an inbox, and what arrives, as it comes.
///
/// A message is acknowledged after it was printed: it leaves the inbox and is delivered to nobody again. An inbox has
/// one reader at a time: a newer one takes over, and the older one ends. Ctrl-C detaches cleanly.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante listen alice                          until Ctrl-C
  restante listen alice --count 1                the next message
  restante listen alice --json | jq -r .body
  restante listen alice --no-acknowledge         look, and leave everything there

A line of --json has position, message, from, stream, number, time_ms, redelivered, headers, and body
(or body_base64 if the body is not UTF-8); channel, if it was sent to one; and receipt, if it is no message but
tells what became of one that was sent with --receipt delivered.")]
pub struct Listen {
    /// The client's name
    name: Name,
    /// End after so many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Acknowledge nothing: what was printed stays in the inbox, and no more than 65,536 messages are shown
    #[arg(long)]
    no_acknowledge: bool,
    #[command(flatten)]
    output: Output,
}

/// A delivery, as JSON has it. Ids are texts, since they are too large for a number of JavaScript.
#[derive(Serialize)]
struct Shown<'a> {
    position: u64,
    message: String,
    from: &'a str,
    stream: String,
    number: u64,
    time_ms: u64,
    redelivered: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipt: Option<Receipt>,
    headers: &'a [(String, String)],
    #[serde(flatten)]
    body: Body,
}

/// A delivered receipt, as JSON has it: the message is none, but tells what became of one.
#[derive(Serialize)]
struct Receipt {
    stream: String,
    number: u64,
    acknowledged: u32,
    ended: u32,
    expired: u32,
    dropped: u32,
}

impl Listen {
    /// Listens.
    ///
    /// # Errors
    /// No such client, another reader took over, or the cluster did not answer.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        let mut interrupt = Interrupt::new()?;
        let listening = async {
            let client = reach.connect(None).await?;
            let window = if self.no_acknowledge { limits::READER_WINDOW_MAX } else { limits::READER_WINDOW_DEFAULT };
            let inbox = client.listen(&self.name, window).await.map_err(|error| self.ended(error.into()))?;
            Ok::<_, Failure>((client, inbox))
        };
        let (client, mut inbox) = tokio::select! {
            biased;
            _ = interrupt.next() => return Err(Failure::interrupted()),
            started = listening => started?,
        };
        let printed = tokio::select! {
            biased;
            _ = interrupt.next() => Ok(()),
            printed = self.print_all(&mut inbox) => printed,
        };
        // A second Ctrl-C does not wait for the cluster: what was not acknowledged will be delivered again.
        let detaching = async {
            if !self.no_acknowledge && printed.is_ok() {
                inbox.flush().await?;
            }
            inbox.close().await?;
            client.close().await;
            Ok::<_, Failure>(())
        };
        let detached = tokio::select! {
            biased;
            _ = interrupt.next() => Err(Failure::interrupted()),
            detached = detaching => detached.map_err(|failure| self.ended(failure)),
        };
        printed.and(detached)
    }

    async fn print_all(&self, inbox: &mut Inbox) -> Result<(), Failure> {
        let mut left = self.count.unwrap_or(u64::MAX);
        while left > 0 {
            let Some(delivery) = inbox.next().await else { return Ok(()) };
            let delivery = delivery.map_err(|error| self.ended(error.into()))?;
            let shown = shown(&delivery);
            self.output.print(&shown, |shown| text(shown, delivery.body.len()))?;
            if !self.no_acknowledge {
                inbox.acknowledge(delivery.position);
            }
            left -= 1;
        }
        Ok(())
    }

    fn ended(&self, failure: Failure) -> Failure {
        failure.while_doing(format_args!("cannot listen as {}", self.name))
    }
}

/// A delivery as a line.
pub fn line(delivery: &Delivery, output: Output) -> String {
    let shown = shown(delivery);
    if output.json { super::output::json(&shown) } else { text(&shown, delivery.body.len()) }
}

fn shown(delivery: &Delivery) -> Shown<'_> {
    Shown {
        position: delivery.position.0,
        message: delivery.message.to_string(),
        from: &delivery.from,
        stream: delivery.stream.to_string(),
        number: delivery.number.0,
        time_ms: delivery.time.0,
        redelivered: delivery.redelivered,
        channel: delivery.channel.as_deref(),
        receipt: delivery.notice.map(|notice| Receipt {
            stream: notice.stream.to_string(),
            number: notice.number.0,
            acknowledged: notice.fate.acknowledged,
            ended: notice.fate.ended,
            expired: notice.fate.expired,
            dropped: notice.fate.dropped,
        }),
        headers: &delivery.headers,
        body: Body::new(&delivery.body),
    }
}

fn text(shown: &Shown<'_>, bytes: usize) -> String {
    if let Some(Receipt { stream, number, acknowledged, ended, expired, dropped }) = &shown.receipt {
        let mut lost = if *ended > 0 { format!(", {ended} were gone") } else { String::new() };
        if *expired > 0 {
            lost.push_str(&format!(", {expired} were too late"));
        }
        if *dropped > 0 {
            lost.push_str(&format!(", {dropped} had to make room"));
        }
        let of = format!("what was sent as number {number} of stream {stream}");
        return format!("{:>6}  receipt: {acknowledged} acknowledged {of}{lost}", shown.position);
    }
    let channel = shown.channel.map_or(String::new(), |channel| format!(" in {channel}"));
    let again = if shown.redelivered { " (again)" } else { "" };
    let mut headers = String::new();
    for (name, value) in shown.headers {
        headers.push_str(&format!(" [{}={}]", printable(name), printable(value)));
    }
    format!("{:>6}  {}{channel}{again}:{headers} {}", shown.position, shown.from, shown.body.for_people(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(body: &[u8], redelivered: bool) -> Shown<'static> {
        Shown {
            position: 12,
            message: "65536".into(),
            from: "alice",
            stream: "131072".into(),
            number: 3,
            time_ms: 5,
            redelivered,
            channel: None,
            receipt: None,
            headers: &[],
            body: Body::new(body),
        }
    }

    #[test]
    fn text_is_one_line_and_marks_repeats() {
        assert_eq!(text(&one(b"hello\n", false), 6), "    12  alice: hello");
        assert_eq!(text(&one(b"hello", true), 5), "    12  alice (again): hello");
        let in_channel = Shown { channel: Some("orders"), ..one(b"hello", false) };
        assert_eq!(text(&in_channel, 5), "    12  alice in orders: hello");
        let receipt =
            Some(Receipt { stream: "7".into(), number: 3, acknowledged: 1, ended: 0, expired: 0, dropped: 0 });
        let receipt = Shown { receipt, ..one(b"", false) };
        assert_eq!(text(&receipt, 0), "    12  receipt: 1 acknowledged what was sent as number 3 of stream 7");
    }

    #[test]
    fn json_has_the_body_in_the_form_that_fits() {
        let json = super::super::output::json(&one(b"hello", false));
        assert!(json.contains(r#""position":12"#) && json.contains(r#""body":"hello""#), "{json}");
        assert!(super::super::output::json(&one(&[0xff], false)).contains(r#""body_base64":"/w==""#));
    }
}
