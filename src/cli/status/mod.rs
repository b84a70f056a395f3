//! `restante status`.

mod text;
mod view;
mod watch;

use std::time::Duration;

use clap::Args;
use restante::client::StatusDetail;

use super::failure::{Exit, Failure};
use super::observe::{self, Asked};
use super::output::Output;
use super::reach::Reach;

pub use text::{role, serves};
pub use view::{Server, View};

/// A server that is down must not make everybody wait for as long as a request may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Show the servers: who leads, who lags, how their disks are, what was set aside, and what is wrong.
///
/// Every server is asked for itself. When there is no leader, it says who cannot reach whom, and exits with 4.
#[derive(Debug, Args)]
#[command(after_long_help = "\
SERVES tells how many clients a server serves, or that it is drained. LAG is how many entries it lacks, as the
leader knows it. INCARNATION is the Raft id of the server's disk: another one, once it has another disk.

Examples:
  restante status
  restante status --watch                                        until Ctrl-C
  restante status --json | jq -r .leader
  restante status --digest                                       are the states equal?
  until restante status >/dev/null 2>&1; do sleep 0.1; done      wait until there is a leader")]
pub struct Status {
    /// Look again and again, until Ctrl-C: in place on a terminal; else print what has changed, when it has
    #[arg(long)]
    watch: bool,
    /// How often to look again
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = super::values::duration, requires = "watch")]
    interval: Duration,
    /// Compute a digest of each server's state: equal where the same entries were applied. It reads the whole state
    #[arg(long)]
    digest: bool,
    #[command(flatten)]
    output: Output,
}

impl Status {
    /// Shows the servers.
    ///
    /// # Errors
    /// No server answers, or there is no leader.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        if self.watch {
            return watch::watch(self.output, self.interval, || self.look(reach)).await;
        }
        let view = self.look(reach).await?;
        self.output.print(&view, text::text)?;
        match view.leader {
            Some(_) => Ok(()),
            None => Err(Failure::new(Exit::Unavailable, "there is no leader")),
        }
    }

    async fn look(&self, reach: &Reach) -> Result<View, Failure> {
        look(reach, StatusDetail { disk: true, digest: self.digest }).await
    }
}

/// The cluster as its servers see it now.
///
/// # Errors
/// No server answers.
pub async fn look(reach: &Reach, detail: StatusDetail) -> Result<View, Failure> {
    let patience = if detail.digest { reach.timeout } else { reach.timeout.min(PATIENCE) };
    let asked = observe::survey(&reach.servers.0, patience, detail).await;
    if asked.iter().all(|asked| asked.answer.is_err()) {
        return Err(nobody_answers(&asked));
    }
    Ok(view::view(&asked))
}

fn nobody_answers(asked: &[Asked]) -> Failure {
    let tried: Vec<String> = asked
        .iter()
        .map(|asked| format!("{}: {}", asked.address, asked.answer.as_ref().err().map_or("", |e| e)))
        .collect();
    Failure::new(Exit::Unavailable, "no server answers")
        .hint(format!("{}\nIs the cluster running? --servers names other servers.", tried.join("\n")))
}
