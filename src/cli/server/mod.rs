//! `restante server`: which servers belong to the cluster, and which of them serve.

mod progress;

use std::time::Duration;

use clap::{Args, Subcommand};
use restante::client::{Client, Error, StatusDetail};
use restante::wire::{Name, Refusal, ServerAddress};
use restante::world::{RealWorld, World};
use serde::Serialize;

use self::progress::Progress;
use super::failure::Failure;
use super::interrupt::Interrupt;
use super::output::Output;
use super::reach::Reach;
use super::status::{self, Server as Row, View, role, serves};
use super::table::{Side, render};
use super::values;

/// How often to look whether it is so.
const LOOK: Duration = Duration::from_millis(200);

/// List the servers; add, remove and drain them; choose who leads.
///
/// The membership changes one step at a time, each agreed on by a majority of the servers before and of those after it
/// (joint consensus). Everything may be repeated: what is so already changes nothing.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example: a rolling restart, which clients notice as a short pause; for each server in turn:
  restante server drain b      it leads no more, and its clients move
  (stop it, upgrade it, start it)
  restante server undrain b

Replacing server a by d:
  restante server add d=10.0.0.4:8080        then start d as it says
  restante server remove a")]
pub struct Server {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the servers: who leads, who votes, who serves
    List {
        #[command(flatten)]
        output: Output,
    },
    /// Let a server belong to the cluster, and wait until it votes
    ///
    /// It is started with an empty data directory and a --cluster list that names itself and at least one member. It
    /// catches up as a learner, without a vote, and votes once it has.
    #[command(after_long_help = "\
Example:
  restante server add d=127.0.0.1:8083
  restante serve --name d --cluster a=127.0.0.1:8080,d=127.0.0.1:8083 --data ./d     in another terminal")]
    Add {
        /// Its name and where the others reach it, as NAME=HOST:PORT
        #[arg(value_name = "NAME=ADDRESS", value_parser = values::server)]
        server: ServerAddress,
        /// Do not wait until it votes
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Let a server belong to the cluster no more
    ///
    /// When this returns well, it has no vote any more and ends by itself; its data is kept. Refused if too few of the
    /// servers that remain can be reached, since the cluster could stand still.
    Remove {
        /// Its name
        #[arg(value_name = "NAME")]
        server: Name,
        /// Even if too few of the others can be reached. The refusal prints the sentence to give
        #[arg(long, value_name = "SENTENCE")]
        force: Option<String>,
        #[command(flatten)]
        output: Output,
    },
    /// Let that server lead
    Transfer {
        /// Its name
        #[arg(value_name = "NAME")]
        server: Name,
        #[command(flatten)]
        output: Output,
    },
    /// Let a server serve no clients and not lead, so that it can be stopped without anybody noticing
    ///
    /// It stays a member with a vote, and stays drained until `undrain`, also when it is started again. Refused if no
    /// other server could serve in its place.
    Drain {
        /// Its name
        #[arg(value_name = "NAME")]
        server: Name,
        /// Do not wait until its clients have moved
        #[arg(long)]
        no_wait: bool,
        #[command(flatten)]
        output: Output,
    },
    /// Let a drained server serve and lead again
    Undrain {
        /// Its name
        #[arg(value_name = "NAME")]
        server: Name,
        #[command(flatten)]
        output: Output,
    },
}

/// What is so now, as JSON has it.
#[derive(Serialize)]
struct Outcome<'a> {
    server: &'a str,
    /// `added`, `votes`, `removed`, `leads`, `drained`, `serves`.
    is: &'static str,
}

#[derive(Serialize)]
struct Servers<'a> {
    leader: Option<&'a str>,
    servers: Vec<Listed<'a>>,
}

#[derive(Serialize)]
struct Listed<'a> {
    name: Option<&'a str>,
    address: &'a str,
    role: String,
    votes: bool,
    drained: bool,
    serves: Option<bool>,
    sessions: Option<u64>,
    lag: Option<u64>,
    incarnation: Option<u64>,
}

impl Server {
    /// Carries it out.
    ///
    /// # Errors
    /// The cluster refused, or did not answer.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        let mut interrupt = Interrupt::new()?;
        tokio::select! {
            biased;
            _ = interrupt.next() => Err(Failure::interrupted().hint(self.left_behind())),
            done = self.carry_out(reach) => done,
        }
    }

    /// What is so when the waiting is broken off.
    fn left_behind(&self) -> String {
        match &self.command {
            Command::List { .. } => String::new(),
            _ => "What was asked for may be under way; `restante server list` shows it. Asking again does no harm."
                .to_owned(),
        }
    }

    async fn carry_out(&self, reach: &Reach) -> Result<(), Failure> {
        match &self.command {
            Command::List { output } => list(reach, *output).await,
            Command::Add { server, no_wait, output } => add(reach, server, !no_wait, *output).await,
            Command::Remove { server, force, output } => remove(reach, server, force.as_deref(), *output).await,
            Command::Transfer { server, output } => {
                let done = ask(reach, async |client: &Client| client.transfer_leadership(server).await).await;
                done.map_err(|error| failed(error, "transfer leadership to", server))?;
                output.print(&Outcome { server, is: "leads" }, |_| format!("{server} leads"))
            }
            Command::Drain { server, no_wait, output } => drain(reach, server, !no_wait, *output).await,
            Command::Undrain { server, output } => {
                let done = ask(reach, async |client: &Client| client.undrain_server(server).await).await;
                done.map_err(|error| failed(error, "undrain", server))?;
                output.print(&Outcome { server, is: "serves" }, |_| format!("{server} serves and may lead"))
            }
        }
    }
}

/// One request over a connection of its own.
async fn ask(reach: &Reach, request: impl AsyncFnOnce(&Client) -> Result<(), Error>) -> Result<(), Error> {
    let client = super::reach::connect(super::reach::settings(reach.servers.0.clone(), None, reach.timeout)).await?;
    let done = request(&client).await;
    client.close().await;
    done
}

fn failed(error: Error, what: &str, server: &Name) -> Failure {
    let hint = match &error {
        Error::Refused(Refusal::NoSuchServer) => Some("`restante server list` shows the servers.".to_owned()),
        Error::Refused(Refusal::DrainedCannotLead) => Some(format!("restante server undrain {server}")),
        Error::Refused(Refusal::ServerElsewhere { .. }) => Some(format!("restante server remove {server}")),
        _ => None,
    };
    let failure = Failure::from(error).while_doing(format_args!("cannot {what} {server}"));
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

async fn list(reach: &Reach, output: Output) -> Result<(), Failure> {
    let mut view = status::look(reach, StatusDetail::default()).await?;
    // An address of --servers at which nobody answers may be nobody's.
    view.servers.retain(|row| row.name.is_some());
    let row = |row: &'_ Row| {
        let votes = row.voter == Some(true);
        [
            row.name.clone().unwrap_or_else(|| "?".to_owned()),
            row.address.clone(),
            role(row),
            if votes { "yes" } else { "no" }.to_owned(),
            serves(row),
            row.lag.map_or_else(|| "-".to_owned(), |lag| lag.to_string()),
        ]
    };
    let heads = [
        ("SERVER", Side::Left),
        ("ADDRESS", Side::Left),
        ("ROLE", Side::Left),
        ("VOTES", Side::Left),
        ("SERVES", Side::Left),
        ("LAG", Side::Right),
    ];
    let listed = view.servers.iter().map(|row| Listed {
        name: row.name.as_deref(),
        address: &row.address,
        role: role(row),
        votes: row.voter == Some(true),
        drained: row.drained,
        serves: row.serves,
        sessions: row.sessions,
        lag: row.lag,
        incarnation: row.incarnation,
    });
    let servers = Servers { leader: view.leader.as_deref(), servers: listed.collect() };
    output.print(&servers, |_| render(heads, &view.servers.iter().map(row).collect::<Vec<_>>()))
}

async fn add(reach: &Reach, server: &ServerAddress, wait: bool, output: Output) -> Result<(), Failure> {
    let ServerAddress { name, address } = server;
    let done = ask(reach, async |client: &Client| client.add_server(name, address.as_str()).await).await;
    done.map_err(|error| failed(error, "add", name))?;
    if !wait {
        return output.print(&Outcome { server: name, is: "added" }, |_| {
            format!("{name} belongs to the cluster; started with an empty directory, it catches up and votes")
        });
    }
    let mut progress = Progress::new();
    loop {
        let view = status::look(reach, StatusDetail::default()).await;
        let told = match view.as_ref().map(|view| (view, view.server(name))) {
            Ok((_, Some(row))) if row.voter == Some(true) => break,
            Ok((view, row)) => standing(view, row, server),
            Err(failure) => failure.text.clone(),
        };
        progress.tell(&told);
        RealWorld::sleep(LOOK).await;
    }
    progress.end();
    output.print(&Outcome { server: name, is: "votes" }, |_| format!("{name} belongs to the cluster, and votes"))
}

/// How far a server is that was added.
fn standing(view: &View, row: Option<&Row>, server: &ServerAddress) -> String {
    let ServerAddress { name, address } = server;
    let member = view.servers.iter().find(|row| row.voter == Some(true) && row.answers);
    match row {
        None => format!("{name} was added; nobody knows it yet"),
        Some(_) if view.leader.is_none() => format!("{name} was added; it waits until there is a leader"),
        Some(row) if row.incarnation.is_none() => {
            let member =
                member.map_or_else(String::new, |m| format!("{}={},", m.name.as_deref().unwrap_or("?"), m.address));
            format!(
                "{name} was added and waits to be started: restante serve --name {name} --cluster {member}{name}={address} --data DIR"
            )
        }
        Some(row) if !row.answers => format!("{name} has joined, and does not answer"),
        Some(row) => match row.lag {
            Some(lag) if lag > 0 => format!("{name} catches up: it lacks {lag} entries"),
            _ => format!("{name} has caught up; its vote is being agreed on"),
        },
    }
}

async fn remove(reach: &Reach, server: &Name, force: Option<&str>, output: Output) -> Result<(), Failure> {
    let done = match ask(reach, async |client: &Client| client.remove_server(server).await).await {
        Err(Error::Refused(refusal @ Refusal::WouldLoseQuorum { voters, reachable })) => {
            let sentence = stake(server, voters, reachable);
            match force {
                Some(given) if given.trim() == sentence => {
                    ask(reach, async |client: &Client| client.remove_server_by_force(server).await).await
                }
                given => {
                    let lead = match given {
                        Some(_) => "That is not the sentence which says what is at stake now. If you accept it:",
                        None => "If you accept it:",
                    };
                    let hint = format!("{lead}\n  restante server remove {server} --force \"{sentence}\"");
                    return Err(failed(Error::Refused(refusal), "remove", server).hint(hint));
                }
            }
        }
        done => done,
    };
    done.map_err(|error| failed(error, "remove", server))?;
    output.print(&Outcome { server, is: "removed" }, |_| match force {
        None => format!("{server} does not belong to the cluster any more: its process ends by itself, and its data is kept"),
        Some(_) => format!(
            "{server} does not belong to the cluster any more. Its vote is taken and its process ends once enough of the \
             others can be reached"
        ),
    })
}

/// What somebody accepts who removes a server by force.
fn stake(server: &Name, voters: u64, reachable: u64) -> String {
    format!(
        "I accept that without {server} nothing may be accepted or delivered until more than {reachable} of the {voters} \
         remaining servers can be reached"
    )
}

async fn drain(reach: &Reach, server: &Name, wait: bool, output: Output) -> Result<(), Failure> {
    let done = ask(reach, async |client: &Client| client.drain_server(server).await).await;
    done.map_err(|error| failed(error, "drain", server))?;
    let mut down = false;
    let mut missed = None;
    if wait {
        let mut progress = Progress::new();
        loop {
            let view = status::look(reach, StatusDetail::default()).await;
            let told = match view.as_ref().map(|view| view.server(server)) {
                Ok(Some(row)) if !row.answers => {
                    down = true;
                    break;
                }
                Ok(Some(row)) if row.serves == Some(false) && row.sessions == Some(0) => {
                    missed = view.as_ref().ok().and_then(|view| would_miss(view, server));
                    break;
                }
                Ok(Some(row)) if row.serves == Some(true) && row.role.as_deref() == Some("leader") => {
                    format!("{server} is drained, but leads and serves as long as no other server can")
                }
                Ok(Some(row)) => format!("{server} still has {} clients", row.sessions.unwrap_or(0)),
                Ok(None) => format!("{server} is not to be seen"),
                Err(failure) => failure.text.clone(),
            };
            progress.tell(&told);
            RealWorld::sleep(LOOK).await;
        }
        progress.end();
    }
    output.print(&Outcome { server, is: "drained" }, |_| match (wait, down) {
        (true, false) => format!(
            "{server} is drained: it does not lead and has no clients; {}, and `restante server undrain {server}` afterwards",
            missed.unwrap_or_else(|| "stop it when you like".to_owned())
        ),
        (true, true) => format!("{server} is drained; it does not answer, and will serve nobody when it is back"),
        (false, _) => format!("{server} is drained: it does not lead, and its clients move"),
    })
}

/// Why a server should not be stopped although it is drained: its vote is needed.
fn would_miss(view: &View, server: &Name) -> Option<String> {
    let voters = view.servers.iter().filter(|row| row.voter == Some(true));
    let (all, others) = voters.fold((0, 0), |(all, others), row| {
        (all + 1, others + usize::from(row.answers && row.name.as_deref() != Some(server)))
    });
    (others <= all / 2).then(|| {
        format!(
            "but its vote is needed: without it {others} of {all} servers would be left, too few to go on. Stop it as \
             shortly as you can"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::status::Server as Row;
    use super::*;

    #[test]
    fn how_far_a_server_is_that_was_added() {
        let name = Name::new("d").unwrap();
        let server = ServerAddress { name, address: "h:4".to_owned() };
        let a = Row {
            name: Some("a".to_owned()),
            address: "h:1".to_owned(),
            answers: true,
            voter: Some(true),
            ..Row::default()
        };
        let with = |row: Row| {
            let row = Row { name: Some("d".to_owned()), ..row };
            let view = View {
                cluster: None,
                leader: Some("a".to_owned()),
                term: 1,
                clients: 0,
                waiting: 0,
                servers: vec![a.clone(), row],
                problems: vec![],
            };
            standing(&view, view.server("d"), &server)
        };
        assert!(with(Row::default()).contains("--cluster a=h:1,d=h:4"), "{}", with(Row::default()));
        let joined = Row { incarnation: Some(7), answers: true, ..Row::default() };
        assert!(with(Row { answers: false, ..joined.clone() }).contains("does not answer"));
        assert!(with(Row { lag: Some(12), ..joined.clone() }).contains("lacks 12 entries"));
        assert!(with(Row { lag: Some(0), ..joined }).contains("has caught up"));
    }

    #[test]
    fn a_drained_server_whose_vote_is_needed_is_told_from_one_that_can_go() {
        let row =
            |name: &str, answers| Row { name: Some(name.to_owned()), answers, voter: Some(true), ..Row::default() };
        let missed = |servers: Vec<Row>| {
            let view = View { cluster: None, leader: None, term: 1, clients: 0, waiting: 0, servers, problems: vec![] };
            would_miss(&view, &Name::new("b").unwrap())
        };
        assert_eq!(missed(vec![row("a", true), row("b", true), row("c", true)]), None);
        assert!(
            missed(vec![row("a", true), row("b", true), row("c", false)]).is_some_and(|why| why.contains("1 of 3"))
        );
        assert!(missed(vec![row("a", true), row("b", true)]).is_some());
    }

    #[test]
    fn the_sentence_says_what_is_at_stake() {
        let sentence = stake(&Name::new("b").unwrap(), 2, 1);
        assert!(sentence.contains("without b") && sentence.contains("more than 1 of the 2"), "{sentence}");
    }
}
