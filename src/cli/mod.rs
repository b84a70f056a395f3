//! The command line: one file per subcommand, and what they share.
//!
//! Whatever talks to a cluster does so through [`restante::client`] alone; `serve` hands over to [`restante::server`].
//! `cluster`, `demo` and `bench` run servers as child processes of this very program.

mod backup;
mod bench;
mod channel;
mod chat;
mod children;
mod cluster;
mod config;
mod demo;
mod deregister;
mod failure;
mod files;
mod generate;
mod inbox;
mod interrupt;
mod listen;
mod local;
mod logging;
mod observe;
mod output;
mod reach;
mod register;
mod request;
mod restore;
mod send;
mod serve;
mod server;
mod status;
mod table;
mod top;
mod values;
mod who;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::{Exit, Failure};

/// A fault-tolerant messaging cluster that keeps every message until its addressee calls for it.
///
/// A cluster is a few servers (three, usually). A client is a registered name with an inbox. A send that got its
/// receipt is safe on the disks of a majority of the servers, and reaches its recipient once and in order, whatever
/// dies in between.
#[derive(Debug, Parser)]
#[command(name = "restante", version, after_long_help = AFTER_HELP, max_term_width = 110)]
struct Arguments {
    /// A file of settings, TOML; options and the environment go before it
    #[arg(long, value_name = "FILE", env = "RESTANTE_CONFIG", global = true, help_heading = "Settings")]
    config: Option<PathBuf>,
    #[command(flatten)]
    logging: logging::Logging,
    #[command(flatten)]
    reach: reach::Reach,
    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
A first walk, in two terminals:
  restante cluster                              three servers, until Ctrl-C
  restante register alice                       in the other terminal
  restante register bob
  restante send --from alice --to bob 'hello'   prints the receipt
  restante listen bob --count 1                 prints the message
  restante status                               servers, leader, who lags
  restante top                                  the same, and what passes, as it happens

Every option with an [env: …] can stand in a file of settings, too: see `restante config --help`.

Exit codes:
  0 done            1 failed                     2 wrong arguments
  3 refused         4 no server or no answer     5 address in use
  6 data directory in use, or not empty          7 data of another version or cluster, or damaged
  8 counts of the demo or a benchmark are off    9 the server's disk failed
  130 interrupted";

#[derive(Debug, Subcommand)]
enum Command {
    Serve(Box<serve::Serve>),
    Cluster(cluster::Cluster),
    Register(register::Register),
    Deregister(deregister::Deregister),
    Send(send::Send),
    Listen(listen::Listen),
    Request(request::Request),
    Reply(request::Reply),
    Channel(channel::Channel),
    Inbox(inbox::Inbox),
    Replay(inbox::Replay),
    Chat(chat::Chat),
    Who(who::Who),
    Status(status::Status),
    Top(top::Top),
    Backup(backup::Backup),
    Restore(restore::Restore),
    Server(server::Server),
    Config(config::Config),
    Completions(generate::Completions),
    Man(generate::Man),
    Demo(demo::Demo),
    Bench(bench::Bench),
}

/// Runs the command that the process was given, and says how it ended.
pub fn main() -> ExitCode {
    match config::arguments().and_then(|arguments| start(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.print();
            failure.exit.code()
        }
    }
}

fn start(arguments: &Arguments) -> Result<(), Failure> {
    let serves = matches!(arguments.command, Command::Serve(_));
    arguments.logging.start(serves)?;
    // Everything else waits for servers. Child processes must all be started by a thread that lives as long as the process does, as this one:
    // Linux tells a child of its parent's death when that *thread* dies.
    let threads = match &arguments.command {
        Command::Serve(serve) => serve.threads().unwrap_or_else(default_threads),
        // The load comes from elsewhere, as it were: from as many threads as there are cores.
        Command::Bench(_) => std::thread::available_parallelism().map_or(1, usize::from),
        _ => 1,
    };
    let mut builder = match threads {
        1 => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    let runtime = builder
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Failed, format!("cannot start the runtime: {error}")))?;
    let result = runtime.block_on(run(arguments));
    // A thread may still be reading the standard input, which nothing can stop: it is not waited for.
    runtime.shutdown_background();
    result
}

/// Threads of a server: one for two cores, and no more than four. The disk has threads of its
/// own, and most of what a server does it does in one order. A message passes several tasks, and where another thread may
/// take the next one each step may cost waking it, which on few cores is more than the step (`docs/performance.md`).
fn default_threads() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, 4))
}

async fn run(arguments: &Arguments) -> Result<(), Failure> {
    let reach = &arguments.reach;
    match &arguments.command {
        Command::Serve(serve) => serve.run().await,
        Command::Cluster(cluster) => cluster.run(&arguments.logging, arguments.config.as_deref()).await,
        Command::Register(register) => register.run(reach).await,
        Command::Deregister(deregister) => deregister.run(reach).await,
        Command::Send(send) => send.run(reach).await,
        Command::Listen(listen) => listen.run(reach).await,
        Command::Request(request) => request.run(reach).await,
        Command::Reply(reply) => reply.run(reach).await,
        Command::Channel(channel) => channel.run(reach).await,
        Command::Inbox(inbox) => inbox.run(reach).await,
        Command::Replay(replay) => replay.run(reach).await,
        Command::Chat(chat) => chat.run(reach).await,
        Command::Who(who) => who.run(reach).await,
        Command::Status(status) => status.run(reach).await,
        Command::Top(top) => top.run(reach).await,
        Command::Backup(backup) => backup.run(reach).await,
        Command::Restore(restore) => restore.run().await,
        Command::Server(server) => server.run(reach).await,
        Command::Completions(completions) => completions.run(),
        Command::Man(man) => man.run(),
        Command::Config(config) => config.run(arguments.config.as_deref()),
        Command::Demo(demo) => demo.run().await,
        Command::Bench(bench) => bench.run(reach).await,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::Arguments;

    #[test]
    fn arguments_are_well_formed() {
        Arguments::command().debug_assert();
    }
}
